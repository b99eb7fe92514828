//! Which project is meant: by full name, else by short name, else a clear word about why not.
use super::wire::project::Project;

/// Why a wanted project could not be picked from the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Several projects have this short name.
    #[error("project {wanted:?} matches {} projects ({}): use one of these full names", candidates.len(), candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The full names, sorted.
        candidates: Vec<String>,
    },
    /// None has this name.
    #[error("no project {wanted:?} among those this user may see ({})", shown(known))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is, as `full (short)`, sorted, at most 20.
        known: Vec<String>,
    },
}

fn shown(known: &[String]) -> String {
    if known.is_empty() {
        "there are none".into()
    } else {
        known.join(", ")
    }
}

/// What is known about a project that the list does not show (contract §3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectDiagnosis {
    /// It exists and may be read, but its namespace's workspace label names another workspace or none, so lists and
    /// role lookups miss it.
    LabelMismatch {
        /// The label's value.
        label: Option<String>,
    },
    /// It exists, may be read, and carries the right label: the list may just be behind, or a role is missing.
    NotListed,
    /// Not readable for this user: it does not exist, is in another cluster, or no role was granted. The gateway
    /// answers 403 for all of these.
    NotReadable,
}

/// Picks the project that `wanted` means: a full name first, else a short name that only one project has.
pub fn resolve_project<'a>(projects: &'a [Project], wanted: &str) -> Result<&'a Project, ResolveError> {
    if let Some(project) = projects.iter().find(|p| p.name.as_str() == wanted) {
        return Ok(project);
    }
    let mut matches = projects.iter().filter(|p| p.short_name == wanted);
    match (matches.next(), matches.next()) {
        (Some(project), None) => Ok(project),
        (Some(_), Some(_)) => {
            let all = projects.iter().filter(|p| p.short_name == wanted);
            let mut candidates: Vec<_> = all.map(|p| p.name.to_string()).collect();
            candidates.sort();
            Err(ResolveError::Ambiguous {
                wanted: wanted.into(),
                candidates,
            })
        }
        (None, _) => {
            let mut known: Vec<_> = projects
                .iter()
                .map(|p| format!("{} ({})", p.name, p.short_name))
                .collect();
            known.sort();
            known.truncate(20);
            Err(ResolveError::Unknown {
                wanted: wanted.into(),
                known,
            })
        }
    }
}

#[cfg(test)]
#[path = "projects_tests.rs"]
mod tests;
