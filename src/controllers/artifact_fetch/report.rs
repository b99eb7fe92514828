//! REPORT: status, conditions and Events from what came of a reconcile. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        ArtifactFetch, ArtifactFetchStatus, RECONCILE_REQUESTED_AT,
        artifact_fetch::{FetchedFile, Progress, VolumeStatus},
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
    /// A Job is bringing them.
    Working(Box<Working>),
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
        /// The Job that it was about, where the files go onto a volume.
        job: Option<FailedJob>,
    },
}

/// A Job that is bringing files.
#[derive(Clone, Debug, PartialEq)]
pub struct Working {
    /// Its name.
    pub job: String,
    /// The run.
    pub revision: Option<String>,
    /// What it is doing, or waits for.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Somebody should look: it does not go on by itself.
    pub stuck: bool,
    /// How soon to look again.
    pub look_in: Duration,
}

/// A Job that failed or could not be made.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedJob {
    /// Its name.
    pub name: String,
    /// How many failed so far, and when the next one is due; `None` for one that could not be made.
    pub failed: Option<(u32, Duration)>,
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The run.
    pub revision: String,
    /// Digest of run and selection.
    pub selection: String,
    /// Where they are.
    pub place: Place,
    /// How many files.
    pub count: i64,
    /// Their bytes together.
    pub bytes: i64,
    /// The files, by path; of a volume the first ones.
    pub files: Vec<FetchedFile>,
}

/// Where files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the ConfigMap of this name.
    ConfigMap(String),
    /// On a volume.
    Volume(VolumeStatus),
}

/// How the files of the status stand, seen before the reconcile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// What the status tells is there.
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
    if let Some(requested) = requested.filter(|_| is_handled(object, came)) {
        status.last_handled_reconcile_at = Some(bounded(requested, 253));
    }
    match came {
        Came::Fetched(fetched) => take(&mut status, fetched, now),
        Came::Failed {
            trouble,
            revision,
            job,
        } => {
            if revision.is_some() {
                status.last_attempted_revision.clone_from(revision);
            }
            let of_jobs = job.as_ref().and_then(|job| job.failed).map(|(failed, _)| failed);
            status.failures = of_jobs.or_else(|| Some(failures(&before, trouble)));
            if let Some(job) = job {
                status.job = Some(job.name.clone());
            }
        }
        Came::Working(working) => {
            status.job = Some(working.job.clone());
            if working.revision.is_some() {
                status.last_attempted_revision.clone_from(&working.revision);
            }
        }
        Came::Stored => {
            status.failures = None;
            status.job = None;
            status.last_attempted_revision.clone_from(&status.revision);
        }
        Came::Suspended => status.job = None,
        Came::Waiting { .. } | Came::Unchanged => {}
    }
    status.progress = match came {
        Came::Working(working) => working.progress.clone(),
        Came::Fetched(fetched) => all_of_it(fetched),
        // As it was told.
        Came::Stored | Came::Unchanged => status.progress,
        Came::Suspended | Came::Waiting { .. } | Came::Failed { .. } => None,
    };
    let facts = facts(&status, held, came);
    conditions::replace(&mut status.conditions, &facts, object.metadata.generation, now);
    (object.status.as_ref() != Some(&status)).then_some(status)
}

/// Whether a request to look was carried out. What is on a volume is not looked at before a Job was at least tried.
fn is_handled(object: &ArtifactFetch, came: &Came) -> bool {
    let to_volume = object.spec.files.destination.volume.is_some();
    !(to_volume && matches!(came, Came::Failed { job: None, .. }))
}

/// How far files on a volume are once they are there.
fn all_of_it(fetched: &Fetched) -> Option<Progress> {
    matches!(fetched.place, Place::Volume(_)).then(|| Progress {
        files: fetched.count,
        total_files: fetched.count,
        bytes: fetched.bytes,
        total_bytes: fetched.bytes,
        percent: Some("100%".into()),
    })
}

fn take(status: &mut ArtifactFetchStatus, fetched: &Fetched, now: &Time) {
    // A new field has to be decided on here.
    let Fetched {
        revision,
        selection,
        place,
        count,
        bytes,
        files,
    } = fetched;
    status.revision = Some(revision.clone());
    status.last_attempted_revision = Some(revision.clone());
    status.selection_digest = Some(selection.clone());
    (status.config_map, status.volume) = match place {
        Place::ConfigMap(name) => (Some(name.clone()), None),
        Place::Volume(volume) => (None, Some(volume.clone())),
    };
    status.destination = Some(place.short());
    status.file_count = Some(*count);
    status.total_bytes = Some(*bytes);
    status.failures = None;
    status.job = None;
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

impl Place {
    /// As `kubectl get` shows it.
    fn short(&self) -> String {
        match self {
            Self::ConfigMap(name) => format!("configmap/{name}"),
            Self::Volume(VolumeStatus {
                claim_name, sub_path, ..
            }) => {
                let path = sub_path.as_ref().map(|path| format!(":{path}"));
                format!("pvc/{claim_name}{}", path.unwrap_or_default())
            }
        }
    }
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
        Came::Working(working) => {
            let Working {
                reason,
                message,
                stuck,
                ..
            } = working.as_ref();
            let busy = if *stuck { Stalled } else { Reconciling };
            vec![
                Fact::no(Ready, *reason, message),
                Fact::yes(busy, *reason, message),
                still(*reason, message),
            ]
        }
        Came::Failed {
            trouble, revision, ..
        } => {
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
    let place = match &status.volume {
        Some(volume) => {
            let path = volume.sub_path.as_ref().map(|path| format!(", directory {path}"));
            format!("on claim {}{}", volume.claim_name, path.unwrap_or_default())
        }
        None => format!(
            "in ConfigMap {}",
            status.config_map.as_deref().unwrap_or_default()
        ),
    };
    format!(
        "{files} {} ({} bytes) of {} {place}",
        if files == 1 { "file" } else { "files" },
        status.total_bytes.unwrap_or_default(),
        status.revision.as_deref().unwrap_or_default(),
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
        Came::Failed { trouble, .. } => warning(object, trouble.reason, &trouble.message),
        Came::Working(working) if working.reason != Reason::Fetching => {
            warning(object, working.reason, &working.message)
        }
        Came::Working(_) | Came::Unchanged | Came::Suspended | Came::Waiting { .. } | Came::Stored => None,
    }
}

/// A Warning, where that is not what was told last.
fn warning(object: &ArtifactFetch, reason: Reason, message: &str) -> Option<Note> {
    let told = object.status.as_ref().and_then(|status| {
        find(&status.conditions, ConditionType::Stalled)
            .or_else(|| find(&status.conditions, ConditionType::Reconciling))
    });
    let is_news = told.is_none_or(|told| told.reason != reason.as_str());
    is_news.then(|| Note {
        warning: true,
        reason,
        message: message.to_owned(),
    })
}

/// When to look again.
pub fn requeue(came: &Came, stalled_resync: Duration) -> Requeue {
    match came {
        Came::Unchanged | Came::Suspended | Came::Stored | Came::Fetched(_) => Requeue::OnChange,
        Came::Waiting { look_in, .. } => look_in.map_or(Requeue::OnChange, Requeue::After),
        Came::Working(working) => Requeue::After(working.look_in),
        Came::Failed { trouble, job, .. } => {
            let next_job = job.as_ref().and_then(|job| job.failed).map(|(_, due_in)| due_in);
            match (trouble.remedy, next_job) {
                (Remedy::User, _) if is_final_reason(trouble.reason.as_str()) => Requeue::OnChange,
                (_, Some(due_in)) => Requeue::After(due_in),
                (Remedy::User, None) => Requeue::After(stalled_resync),
                (Remedy::Time(at_least), None) => Requeue::Backoff { at_least },
                (Remedy::Gateway(after), None) => Requeue::After(after),
            }
        }
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
