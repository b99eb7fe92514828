//! From what people write in `spec.project` to a project's full name, or a word about why not.

use super::Trouble;
use crate::{
    api::conditions::Reason,
    gateway::{ErrorKind, ProjectDiagnosis, ProjectName, ResolveError, Scope, resolve_project},
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
