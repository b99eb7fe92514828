//! From what people write to what the remote has: project, pipeline, branch; or a word about why not.

use crate::trouble::Trouble;
use crate::{
    api::conditions::Reason,
    gateway::{
        Branch, ErrorKind, GitBranch, Pipeline, ProjectDiagnosis, ProjectName, ProjectScope, ResolveError,
        Scope, resolve_project,
    },
};

/// The project that `wanted` means in `workspace`: a full name first, else a short name that only one project has.
pub async fn resolve(scope: &Scope, workspace: &str, wanted: &str) -> Result<ProjectName, Trouble> {
    let projects = match scope.projects(workspace).await {
        Ok(projects) => projects,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {
            return Err(Trouble::user(
                Reason::WorkspaceNotFound,
                format!(
                    "workspace {workspace:?} does not exist: correct spec.workspace of the TenantConnection"
                ),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let unknown = match resolve_project(&projects, wanted) {
        Ok(project) => return Ok(project.name.clone()),
        Err(ambiguous @ ResolveError::Ambiguous { .. }) => {
            return Err(Trouble::user(
                Reason::ProjectAmbiguous,
                format!("spec.project: {ambiguous}"),
            ));
        }
        Err(unknown @ ResolveError::Unknown { .. }) => unknown,
    };
    Err(match scope.diagnose_project(workspace, wanted).await? {
        ProjectDiagnosis::LabelMismatch { label } => {
            let label = label.map_or_else(|| "is missing".into(), |label| format!("is {label:?}"));
            Trouble::user(
                Reason::ProjectMislabelled,
                format!(
                    "project {wanted:?} exists, but workspace {workspace:?} does not list it: the label \
                     kubesphere.io/workspace of its namespace {label}: ask an administrator to set it to {workspace:?}"
                ),
            )
        }
        ProjectDiagnosis::NotListed => Trouble::user(
            Reason::ProjectNotFound,
            format!(
                "project {wanted:?} exists, but workspace {workspace:?} does not list it for this user: ask for a role \
                 in the project"
            ),
        ),
        ProjectDiagnosis::NotReadable => {
            Trouble::user(Reason::ProjectNotFound, format!("spec.project: {unknown}"))
        }
    })
}

/// The pipeline of this name, or a word about what there is instead.
pub async fn find_pipeline(project: &ProjectScope, name: &str) -> Result<Pipeline, Trouble> {
    match project.pipeline(name).await {
        Ok(pipeline) if pipeline.deleting => Err(Trouble::user(
            Reason::PipelineNotFound,
            format!("pipeline {name:?} of project {} is being deleted", project.name()),
        )),
        Ok(pipeline) => Ok(pipeline),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut names: Vec<_> = project
                .pipelines()
                .await
                .unwrap_or_default()
                .into_iter()
                .map(|pipeline| pipeline.name)
                .collect();
            names.sort();
            names.truncate(20);
            let known = if names.is_empty() {
                "it has none".into()
            } else {
                format!("it has {}", names.join(", "))
            };
            Err(Trouble::user(
                Reason::PipelineNotFound,
                format!("project {} has no pipeline {name:?}: {known}", project.name()),
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// The branch that git knows under this name, or a word about what there is instead.
pub fn find_branch<'a>(
    branches: &'a [Branch],
    pipeline: &Pipeline,
    name: &str,
) -> Result<&'a Branch, Trouble> {
    let trouble = |message| Trouble::user(Reason::BranchNotFound, message);
    match Branch::find(branches, &GitBranch::new(name)) {
        Some(branch) if branch.disabled => Err(trouble(format!(
            "branch {name:?} of pipeline {:?} is disabled: Jenkins does not build it",
            pipeline.name
        ))),
        Some(branch) => Ok(branch),
        None => {
            let known: Vec<_> = branches.iter().take(20).map(|b| b.git.to_string()).collect();
            let known = if known.is_empty() {
                "none yet".into()
            } else {
                known.join(", ")
            };
            Err(trouble(format!(
                "pipeline {:?} has no branch {name:?} (it has {known}): push it, or scan the pipeline",
                pipeline.name
            )))
        }
    }
}
