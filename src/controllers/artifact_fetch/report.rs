//! REPORT: status, conditions and Events from what came of a reconcile. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        ArtifactFetch, ArtifactFetchStatus, RECONCILE_REQUESTED_AT,
        artifact_fetch::FetchedFile,
        conditions::{self, ConditionType, Fact, Reason, bounded, find},
    },
    runtime::Requeue,
    trouble::{Remedy, Trouble},
};

use super::decide::is_final_reason;

/// Files that the status names; the ConfigMap has them all.
const MAX_FILES: usize = 100;
/// Bytes of all their names together, so that the whole object stays small (design §5).
const MAX_NAMES: usize = 32 * 1024;

/// What came of a reconcile.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    /// Everything is and stays as it was told.
    Unchanged,
    /// `spec.suspend` held it back.
    Suspended,
    /// Nothing can be done yet: says what is waited for, and how soon to look where nobody tells.
    Waiting {
        /// What is waited for.
        message: String,
        /// How soon to look again; `None` where a change wakes us.
        look_in: Option<Duration>,
    },
    /// The files are there already.
    Stored,
    /// The files were fetched just now.
    Fetched(Box<Fetched>),
    /// Something stands in the way.
    Failed {
        /// What.
        trouble: Trouble,
        /// The run that it was about, where that is known.
        revision: Option<String>,
    },
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The run.
    pub revision: String,
    /// Digest of run and selection.
    pub selection: String,
    /// The ConfigMap.
    pub config_map: String,
    /// All files, by path.
    pub files: Vec<FetchedFile>,
}

/// How the files of the status stand, seen before the reconcile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The ConfigMap holds what the status tells.
    pub told: bool,
    /// And that is what the spec wants, as far as is known.
    pub wanted: bool,
}

/// The status as it is to be written; `None` where it stays as it is.
pub fn status(object: &ArtifactFetch, held: Held, came: &Came, now: &Time) -> Option<ArtifactFetchStatus> {
    let before = object.status.clone().unwrap_or_default();
    let mut status = before.clone();
    if *came == Came::Unchanged {
        return None;
    }
    status.observed_generation = object.metadata.generation;
    let requested = object
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(RECONCILE_REQUESTED_AT));
    if let Some(requested) = requested {
        status.last_handled_reconcile_at = Some(bounded(requested, 253));
    }
    match came {
        Came::Fetched(fetched) => take(&mut status, fetched, now),
        Came::Failed { trouble, revision } => {
            if revision.is_some() {
                status.last_attempted_revision.clone_from(revision);
            }
            status.failures = Some(failures(&before, trouble));
        }
        Came::Stored => {
            status.failures = None;
            status.last_attempted_revision.clone_from(&status.revision);
        }
        Came::Waiting { .. } | Came::Suspended | Came::Unchanged => {}
    }
    let facts = facts(&status, held, came);
    conditions::replace(&mut status.conditions, &facts, object.metadata.generation, now);
    (object.status.as_ref() != Some(&status)).then_some(status)
}

fn take(status: &mut ArtifactFetchStatus, fetched: &Fetched, now: &Time) {
    // A new field has to be decided on here.
    let Fetched {
        revision,
        selection,
        config_map,
        files,
    } = fetched;
    status.revision = Some(revision.clone());
    status.last_attempted_revision = Some(revision.clone());
    status.selection_digest = Some(selection.clone());
    status.config_map = Some(config_map.clone());
    status.file_count = Some(i64::try_from(files.len()).unwrap_or(i64::MAX));
    status.total_bytes = Some(files.iter().map(|file| file.size).sum());
    status.failures = None;
    status.fetched_at = Some(now.clone());
    let mut room = MAX_NAMES;
    status.files = files
        .iter()
        .take(MAX_FILES)
        .take_while(|file| {
            let needed = file.path.len() + file.key.as_ref().map_or(0, String::len);
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        })
        .cloned()
        .collect();
}

/// Failures in a row; another reason starts anew.
fn failures(before: &ArtifactFetchStatus, trouble: &Trouble) -> u32 {
    let told = find(&before.conditions, ConditionType::Reconciling)
        .or_else(|| find(&before.conditions, ConditionType::Stalled));
    match told {
        Some(told) if told.reason == trouble.reason.as_str() => {
            before.failures.unwrap_or(0).saturating_add(1)
        }
        _ => 1,
    }
}

fn facts(status: &ArtifactFetchStatus, held: Held, came: &Came) -> Vec<Fact> {
    use ConditionType::{ArtifactsStored, Ready, Reconciling, Stalled};
    let stored = summary(status);
    let still = |reason: Reason, message: &str| {
        if held.told {
            Fact::yes(ArtifactsStored, Reason::ArtifactsStored, &stored)
        } else {
            Fact::no(ArtifactsStored, reason, message)
        }
    };
    match came {
        Came::Stored | Came::Fetched(_) => vec![
            Fact::yes(Ready, Reason::ArtifactsStored, &stored),
            Fact::yes(ArtifactsStored, Reason::ArtifactsStored, &stored),
        ],
        Came::Suspended => {
            let message = "suspended: set spec.suspend to false to go on";
            vec![
                Fact::no(Ready, Reason::Suspended, message),
                still(Reason::Suspended, message),
            ]
        }
        Came::Waiting { message, .. } => vec![
            Fact::no(Ready, Reason::WaitingForRun, message),
            Fact::yes(Reconciling, Reason::WaitingForRun, message),
            still(Reason::WaitingForRun, message),
        ],
        Came::Failed { trouble, revision } => {
            let Trouble { reason, message, .. } = trouble;
            let busy = if trouble.is_stalled() {
                Stalled
            } else {
                Reconciling
            };
            // What is here is what was wanted when we could last ask: not being able to ask again does not take it away.
            let ready = if held.wanted && revision.is_none() && !trouble.is_stalled() {
                Fact::yes(Ready, Reason::ArtifactsStored, &stored)
            } else {
                Fact::no(Ready, *reason, message)
            };
            vec![ready, Fact::yes(busy, *reason, message), still(*reason, message)]
        }
        Came::Unchanged => Vec::new(),
    }
}

/// What is stored, in a sentence.
fn summary(status: &ArtifactFetchStatus) -> String {
    let files = status.file_count.unwrap_or_default();
    format!(
        "{files} {} ({} bytes) of {} in ConfigMap {}",
        if files == 1 { "file" } else { "files" },
        status.total_bytes.unwrap_or_default(),
        status.revision.as_deref().unwrap_or_default(),
        status.config_map.as_deref().unwrap_or_default(),
    )
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Somebody should look.
    pub warning: bool,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// The Event that a reconcile is worth: new files, and what begins to stand in the way.
pub fn note(object: &ArtifactFetch, came: &Came, after: &ArtifactFetchStatus) -> Option<Note> {
    match came {
        Came::Fetched(_) => Some(Note {
            warning: false,
            reason: Reason::ArtifactsStored,
            message: summary(after),
        }),
        Came::Failed { trouble, .. } => {
            let told = object.status.as_ref().and_then(|status| {
                find(&status.conditions, ConditionType::Stalled)
                    .or_else(|| find(&status.conditions, ConditionType::Reconciling))
            });
            let is_news = told.is_none_or(|told| told.reason != trouble.reason.as_str());
            is_news.then(|| Note {
                warning: true,
                reason: trouble.reason,
                message: trouble.message.clone(),
            })
        }
        Came::Unchanged | Came::Suspended | Came::Waiting { .. } | Came::Stored => None,
    }
}

/// When to look again.
pub fn requeue(came: &Came, stalled_resync: Duration) -> Requeue {
    match came {
        Came::Unchanged | Came::Suspended | Came::Stored | Came::Fetched(_) => Requeue::OnChange,
        Came::Waiting { look_in, .. } => look_in.map_or(Requeue::OnChange, Requeue::After),
        Came::Failed { trouble, .. } => match trouble.remedy {
            Remedy::User if is_final_reason(trouble.reason) => Requeue::OnChange,
            Remedy::User => Requeue::After(stalled_resync),
            Remedy::Time(at_least) => Requeue::Backoff { at_least },
        },
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
