//! The run whose files are wanted, once it is known which one that is.

use crate::{
    api::{
        BuildRequest,
        build_request::{CurrentRun, Outcome, RunState},
    },
    controllers::build_request::{decide::title, outcome::may_have_files},
    gateway::{EncodedBranch, ProjectName, RunId, RunRef},
};

/// A run that ended, with all that is needed to fetch its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The TenantConnection to fetch through.
    pub connection: String,
    /// The cluster; `None` is the one that the gateway is in.
    pub cluster: Option<String>,
    /// Full name of the project.
    pub project: ProjectName,
    /// Where Jenkins keeps the build.
    pub run: RunRef,
    /// Name of the PipelineRun, where there (still) is one.
    pub run_name: Option<String>,
    /// `PROJECT/PIPELINE[/BRANCH]#ID`, as a BuildRequest writes it too.
    pub revision: String,
    /// Tells the build from one of the same number of a pipeline that was made anew, where that is known.
    pub incarnation: String,
}

impl Target {
    /// What makes this run another than any other.
    pub fn identity(&self) -> (&str, Option<&str>, &str, &str) {
        let cluster = self.cluster.as_deref();
        (&self.connection, cluster, &self.revision, &self.incarnation)
    }
}

/// The latest run of a BuildRequest, where it ended and can have files; else what is waited for.
pub fn of_build_request(name: &str, request: &BuildRequest) -> Result<Target, String> {
    let Some(run) = request.status.as_ref().and_then(|status| status.run.as_ref()) else {
        return Err(format!("BuildRequest {name:?} has no run yet"));
    };
    if run.state != RunState::Ended {
        return Err(format!("the run of BuildRequest {name:?} has not ended yet"));
    }
    let outcome = run.outcome.unwrap_or(Outcome::Indeterminate);
    if !may_have_files(outcome) {
        return Err(format!(
            "the latest run of BuildRequest {name:?} ended as {outcome:?} and has no files: waiting for its next run"
        ));
    }
    of_run(&request.spec.connection_ref.name, run).ok_or_else(|| {
        format!("the latest run of BuildRequest {name:?} never became a build: waiting for its next run")
    })
}

fn of_run(connection: &str, run: &CurrentRun) -> Option<Target> {
    Some(Target {
        connection: connection.into(),
        cluster: run.cluster.clone(),
        project: ProjectName::new(&run.project).ok()?,
        run: RunRef {
            pipeline: run.pipeline.clone(),
            branch: run.encoded_branch.clone().map(EncodedBranch::from_remote),
            id: RunId::new(run.id.clone()?).ok()?,
        },
        run_name: run.name.clone(),
        revision: title(run),
        incarnation: run.token.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(run: &Value) -> BuildRequest {
        serde_json::from_value(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest", "metadata": {"name": "b"},
            "spec": {"connectionRef": {"name": "shop"}, "project": "shop", "pipeline": "hello"},
            "status": {"run": run},
        }))
        .expect("a BuildRequest")
    }

    fn ended(more: &Value) -> Value {
        let mut run = json!({
            "token": "t1", "attempt": 1, "inputsDigest": "d", "state": "Ended", "trigger": "ChosenName",
            "project": "shopx7k2p", "pipeline": "hello", "name": "b-1", "id": "7", "outcome": "Succeeded",
            "intendedAt": "2026-11-22T12:00:00Z",
        });
        let more = more.as_object().expect("an object").clone();
        run.as_object_mut().expect("an object").extend(more);
        run
    }

    #[test]
    fn a_run_that_ended_is_the_target() {
        let target = of_build_request("b", &request(&ended(&json!({})))).unwrap();
        assert_eq!(target.revision, "shopx7k2p/hello#7");
        assert_eq!(
            (target.connection.as_str(), target.run_name.as_deref()),
            ("shop", Some("b-1"))
        );
        let branch =
            json!({"branch": "feature/login", "encodedBranch": "feature%2Flogin", "outcome": "Failed"});
        let target = of_build_request("b", &request(&ended(&branch))).unwrap();
        assert_eq!(target.revision, "shopx7k2p/hello/feature/login#7");
    }

    #[test]
    fn anything_else_is_waited_for() {
        for (more, word) in [
            (json!({"state": "Started"}), "not ended"),
            (json!({"outcome": "TriggerFailed", "id": null}), "TriggerFailed"),
            (json!({"outcome": "Lost"}), "Lost"),
            (json!({"id": null}), "never became a build"),
        ] {
            let why = of_build_request("b", &request(&ended(&more))).expect_err("waits");
            assert!(why.contains(word) && why.contains("\"b\""), "{why}");
        }
        let mut none = request(&ended(&json!({})));
        none.status = None;
        assert!(of_build_request("b", &none).is_err());
    }

    #[test]
    fn runs_of_the_same_number_can_be_told_apart() {
        let one = of_build_request("b", &request(&ended(&json!({})))).unwrap();
        let other = of_build_request("b", &request(&ended(&json!({"token": "t2"})))).unwrap();
        assert_eq!(one.revision, other.revision);
        assert_ne!(one.identity(), other.identity());
    }
}
