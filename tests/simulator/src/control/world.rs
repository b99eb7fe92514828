//! Edits of the world: people, workspaces, projects, pipelines, branches, roles, scripts.

use super::{Control, ControlError};
use crate::config::{AuthConfig, Quirks, Timings};
use crate::controller::pipelines;
use crate::rbac::Role;
use crate::state::WORKSPACE_LABEL;
use crate::store::{NAMESPACES, PIPELINES, PROJECTS, Writer};
use crate::world::{
    Branch, BuildScript, Parameter, PipelineWorld, Project, ServiceAccount, User, UserState, Workspace,
};

impl Control {
    /// Adds or replaces a user.
    pub fn add_user(&self, user: User) {
        self.state(|state| state.sessions.add_user(user));
    }

    /// Suspends, locks or frees a user.
    pub fn set_user_state(&self, user: &str, to: UserState) -> Result<(), ControlError> {
        let known = self.state(|state| state.sessions.set_state(user, to));
        if known {
            Ok(())
        } else {
            Err(ControlError(format!("there is no user {user}")))
        }
    }

    /// Changes a password; tokens stay good.
    pub fn set_password(&self, user: &str, password: &str) -> Result<(), ControlError> {
        let known = self.state(|state| state.sessions.set_password(user, password));
        if known {
            Ok(())
        } else {
            Err(ControlError(format!("there is no user {user}")))
        }
    }

    /// Forgets every token, access and refresh, as a restart of ks-apiserver does.
    pub fn flush_tokens(&self) {
        self.state(|state| state.sessions.flush());
    }

    /// Changes lifetimes, multi-login and lock-out from now on.
    pub fn set_auth(&self, auth: AuthConfig) {
        self.state(|state| state.auth = auth);
    }

    /// Changes lengths of time from now on.
    pub fn set_timings(&self, timings: Timings) {
        self.state(|state| state.context.timings = timings);
    }

    /// Changes what installations differ in from now on.
    pub fn set_quirks(&self, quirks: Quirks) {
        self.state(|state| state.context.quirks = quirks);
    }

    /// Adds a ServiceAccount and returns its static token.
    pub fn add_service_account(&self, namespace: &str, name: &str) -> String {
        self.state(|state| {
            let account = ServiceAccount {
                namespace: namespace.into(),
                name: name.into(),
            };
            state.sessions.add_service_account(account);
            state.sessions.static_token(namespace, name).unwrap_or_default()
        })
    }

    /// The static token of a ServiceAccount of the world.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> Option<String> {
        self.state(|state| state.sessions.static_token(namespace, name))
    }

    /// Removes a ServiceAccount; its token is worthless from now on.
    pub fn remove_service_account(&self, namespace: &str, name: &str) {
        self.state(|state| state.sessions.remove_service_account(namespace, name));
    }

    /// Adds a cluster.
    pub fn add_cluster(&self, name: &str, direct: bool) {
        self.state(|state| state.add_cluster(name, direct));
    }

    /// Adds or replaces a workspace.
    pub fn add_workspace(&self, workspace: Workspace) {
        self.state(|state| state.add_workspace(workspace));
    }

    /// Adds a project (on the cluster it names) and returns its full name.
    pub fn add_project(&self, project: &Project) -> String {
        self.state(|state| {
            let name = state.add_project(project);
            let now = crate::clock::now();
            if let Some(cluster) = state.cluster(&project.cluster) {
                pipelines::sync_all(cluster, now);
            }
            name
        })
    }

    /// The full names of the projects with this short name, in this cluster.
    pub fn project_names(&self, short_name: &str) -> Vec<String> {
        self.here(|cluster| {
            let projects = cluster.store.list(&PROJECTS, None);
            Ok(projects
                .filter(|p| p["metadata"]["generateName"] == short_name)
                .filter_map(|p| p["metadata"]["name"].as_str().map(str::to_owned))
                .collect())
        })
        .unwrap_or_default()
    }

    /// Gives a user this role in a project instead of the one before; `None` takes it away.
    pub fn set_role(&self, project: &str, user: &str, role: Option<Role>) -> Result<(), ControlError> {
        self.here(|cluster| {
            let members = cluster.members.entry(project.to_owned()).or_default();
            match role {
                Some(role) => members.insert(user.to_owned(), role),
                None => members.remove(user),
            };
            Ok(())
        })
    }

    /// Sets or removes the workspace label of a project (what lists go by) and of its namespace (what roles go by).
    pub fn set_workspace_labels(
        &self,
        project: &str,
        on_project: Option<&str>,
        on_namespace: Option<&str>,
    ) -> Result<(), ControlError> {
        self.here(|cluster| {
            for (kind, workspace) in [(&PROJECTS, on_project), (&NAMESPACES, on_namespace)] {
                cluster.edit(kind, "", project, Writer::main("control"), |o| match workspace {
                    Some(workspace) => {
                        if !o["metadata"]["labels"].is_object() {
                            o["metadata"]["labels"] = serde_json::json!({});
                        }
                        o["metadata"]["labels"][WORKSPACE_LABEL] = workspace.into();
                    }
                    None => {
                        if let Some(labels) = o["metadata"]["labels"].as_object_mut() {
                            labels.remove(WORKSPACE_LABEL);
                        }
                    }
                });
            }
            Ok(())
        })
    }

    /// Adds a pipeline, synced at once.
    pub fn add_pipeline(&self, project: &str, pipeline: &PipelineWorld) -> Result<(), ControlError> {
        let now = crate::clock::now();
        self.here(|cluster| {
            cluster.add_pipeline(project, pipeline);
            pipelines::sync_all(cluster, now);
            Ok(())
        })
    }

    /// Removes a pipeline with its runs and Jenkins jobs at once.
    pub fn remove_pipeline(&self, project: &str, pipeline: &str) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster.jenkins.remove_pipeline(project, pipeline);
            cluster.edit(&PIPELINES, project, pipeline, Writer::main("control"), |o| {
                o["metadata"]["finalizers"] = serde_json::json!([]);
            });
            cluster
                .store
                .delete(&PIPELINES, project, pipeline, crate::clock::now())
                .map(|_| ())
                .map_err(|e| ControlError(e.message))
        })
    }

    /// How builds of a pipeline go from now on.
    pub fn set_script(&self, project: &str, pipeline: &str, script: BuildScript) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster
                .scripts
                .insert((project.to_owned(), pipeline.to_owned()), script.clone());
            for (id, job) in &mut cluster.jenkins.jobs {
                if id.project == project && id.pipeline == pipeline {
                    job.script = script.clone();
                }
            }
            Ok(())
        })
    }

    /// The branches of a multi-branch pipeline from now on; builds of branches that stay are kept.
    pub fn set_branches(&self, project: &str, pipeline: &str, branches: &[&str]) -> Result<(), ControlError> {
        let now = crate::clock::now();
        self.here(|cluster| {
            cluster.set_branches(
                project,
                pipeline,
                branches.iter().map(|b| Branch::new(b)).collect(),
            );
            pipelines::sync_all(cluster, now);
            Ok(())
        })
    }

    /// What Jenkins knows of a job's parameters from now on, whatever the Pipeline object says.
    pub fn set_job_parameters(
        &self,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
        parameters: Vec<Parameter>,
    ) -> Result<(), ControlError> {
        let now = crate::clock::now();
        self.here(|cluster| {
            let id = Self::job(cluster, project, pipeline, branch)?;
            if let Some(job) = cluster.jenkins.jobs.get_mut(&id) {
                job.parameters = parameters;
            }
            pipelines::sync_all(cluster, now);
            Ok(())
        })
    }

    /// Disables or enables a Jenkins job: triggers of a disabled one are refused.
    pub fn disable_job(&self, project: &str, pipeline: &str, disabled: bool) -> Result<(), ControlError> {
        self.here(|cluster| {
            for (id, job) in &mut cluster.jenkins.jobs {
                if id.project == project && id.pipeline == pipeline {
                    job.disabled = disabled;
                }
            }
            Ok(())
        })
    }
}
