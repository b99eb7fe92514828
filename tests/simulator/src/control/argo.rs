//! Argo CD under control: what it says, how it plays, and whether ks-devops listens to it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Answer, done, parse};
use super::{Control, ControlError};
use crate::clock;
use crate::gitops::controller::ArgoSetup;
use crate::store::{APPLICATIONS, name, namespace};
use crate::world::ArgoScript;

impl Control {
    /// How the `argocd` controllers of ks-devops are set up.
    pub fn argo_setup(&self, setup: ArgoSetup) -> Result<(), ControlError> {
        self.here(|cluster| {
            let keys: Vec<_> = cluster
                .store
                .list(&APPLICATIONS, None)
                .map(|a| (namespace(a).to_owned(), name(a).to_owned()))
                .collect();
            cluster.gitops.set_up(setup, keys.into_iter(), clock::now());
            Ok(())
        })
    }

    /// Whether the ks-devops controller runs: neither stopped nor gone by itself.
    pub fn controller_runs(&self) -> bool {
        self.here(|cluster| Ok(!cluster.controller.down))
            .unwrap_or_default()
    }

    /// How Argo treats an application of a project from its next act on; without one, all that have no script.
    pub fn argo_script(
        &self,
        application: Option<(&str, &str)>,
        script: ArgoScript,
    ) -> Result<(), ControlError> {
        self.here(|cluster| {
            let owner = application.map(|(project, app)| (project.to_owned(), app.to_owned()));
            cluster.gitops.argo.set_script(owner, script);
            Ok(())
        })
    }

    /// Makes Argo say this of an application; `operation_over` takes its operation away as well. Without a status only
    /// that is done, which nothing tells ks-devops (finding F-N6).
    pub fn argo_says(
        &self,
        project: &str,
        app: &str,
        status: Option<Value>,
        operation_over: bool,
    ) -> Result<(), ControlError> {
        self.here(|cluster| {
            let owner = (project.to_owned(), app.to_owned());
            if cluster.gitops.argo.say(&owner, status, operation_over) {
                Ok(())
            } else {
                Err(no_application(project, app))
            }
        })
    }

    /// Argo's Application for a KubeSphere one: the one that is not being deleted, if there are several.
    pub fn argo_application(&self, project: &str, app: &str) -> Option<Value> {
        let owner = (project.to_owned(), app.to_owned());
        let found = self.here(|cluster| Ok(cluster.gitops.argo.of(&owner).map(|(p, a)| a.object(p))));
        found.ok().flatten()
    }

    /// Removes Argo's Application, past KubeSphere; also one that is still removing its resources.
    pub fn remove_argo_application(&self, project: &str, app: &str) -> Result<(), ControlError> {
        self.here(|cluster| {
            let owner = (project.to_owned(), app.to_owned());
            if cluster.gitops.argo.remove(&owner) {
                Ok(())
            } else {
                Err(no_application(project, app))
            }
        })
    }
}

fn no_application(project: &str, app: &str) -> ControlError {
    ControlError(format!("Argo CD has no application for {project}/{app}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    status: Option<Value>,
    #[serde(default)]
    operation_over: bool,
}

/// `argo/setup`, `argo/script`, `argo/{project}/{app}[/script|/status]`
pub(super) fn route(control: &Control, method: &str, segments: &[&str], body: &[u8]) -> Option<Answer> {
    Some(match (method, segments) {
        ("PUT", ["argo", "setup"]) => {
            parse::<ArgoSetup>(body).and_then(|setup| done(control.argo_setup(setup)))
        }
        ("PUT", ["argo", "script"]) => {
            parse::<ArgoScript>(body).and_then(|script| done(control.argo_script(None, script)))
        }
        ("GET", ["argo", project, app]) => Ok(json!(control.argo_application(project, app))),
        ("DELETE", ["argo", project, app]) => done(control.remove_argo_application(project, app)),
        ("PUT", ["argo", project, app, "script"]) => parse::<ArgoScript>(body)
            .and_then(|script| done(control.argo_script(Some((project, app)), script))),
        ("PUT", ["argo", project, app, "status"]) => parse::<Said>(body)
            .and_then(|said| done(control.argo_says(project, app, said.status, said.operation_over))),
        _ => return None,
    })
}
