//! DECIDE: from the object and what was seen, the one next thing. Pure.

use sha2::{Digest, Sha256};

use super::target::Target;
use crate::{
    api::{
        ArtifactFetch, ArtifactFetchStatus, RECONCILE_REQUESTED_AT,
        artifact_fetch::FileSelection,
        conditions::{ConditionType, Reason, find, is_true},
    },
    sinks::{config_map::Mine, files::is_intact},
    trouble::Trouble,
};

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The run that the object is about.
    pub source: SourceSeen,
    /// What is under the destination's name.
    pub stored: StoredSeen,
}

/// The run that the object is about, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceSeen {
    /// The remote would have to be asked.
    Unasked,
    /// The BuildRequest does not exist.
    Missing {
        /// Its name.
        name: String,
    },
    /// There is no run yet that ended and can have files: says what it waits for.
    Waiting(String),
    /// It ended.
    Ended(Box<Target>),
}

/// What is under the destination's name.
#[derive(Clone, Debug)]
pub enum StoredSeen {
    /// Nothing.
    Nothing,
    /// A ConfigMap of ours.
    Ours(Box<Mine>),
    /// Something that is not ours.
    Foreign(Trouble),
}

/// The next thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing, and there is nothing to say either.
    Rest,
    /// Nothing, because `spec.suspend` says so.
    Suspend,
    /// Nothing: the files are there.
    Stored,
    /// Nothing can be done before somebody or something changes.
    Wait(String),
    /// Nothing, because this stands in the way.
    Stuck(Trouble),
    /// Ask the remote which run is meant.
    Resolve,
    /// Bring the files of this run home.
    Fetch(Box<Target>),
}

/// Decides on `object`.
pub fn decide(object: &ArtifactFetch, seen: &Seen) -> Decision {
    if object.metadata.deletion_timestamp.is_some() {
        // What we made goes with us: it has an owner.
        return Decision::Rest;
    }
    match unless_suspended(object, seen) {
        // Which run it is cannot be asked now; what is here is what was wanted when it could.
        Decision::Resolve if object.spec.suspend && holds_selection(object, ours(&seen.stored)) => {
            Decision::Stored
        }
        Decision::Resolve | Decision::Fetch(_) | Decision::Wait(_) if object.spec.suspend => {
            Decision::Suspend
        }
        other => other,
    }
}

/// The ConfigMap, where it is ours.
pub fn ours(stored: &StoredSeen) -> Option<&Mine> {
    match stored {
        StoredSeen::Ours(mine) => Some(mine),
        StoredSeen::Nothing | StoredSeen::Foreign(_) => None,
    }
}

fn unless_suspended(object: &ArtifactFetch, seen: &Seen) -> Decision {
    if let StoredSeen::Foreign(trouble) = &seen.stored {
        return Decision::Stuck(trouble.clone());
    }
    let mine = ours(&seen.stored);
    match &seen.source {
        SourceSeen::Waiting(what) => Decision::Wait(what.clone()),
        SourceSeen::Missing { .. } if holds_selection(object, mine) => Decision::Stored,
        SourceSeen::Missing { name } => Decision::Stuck(Trouble::user(
            Reason::SourceNotFound,
            format!("there is no BuildRequest {name:?} in this namespace: create it, or correct spec.source"),
        )),
        SourceSeen::Unasked if is_settled(object) && holds_selection(object, mine) => Decision::Stored,
        SourceSeen::Unasked if is_final(object) && !wants_latest(object) => Decision::Rest,
        SourceSeen::Unasked => Decision::Resolve,
        SourceSeen::Ended(target) if holds(object, mine, &selection_digest(object, target)) => {
            Decision::Stored
        }
        SourceSeen::Ended(target) if is_final(object) && was_attempted(object, target) => Decision::Rest,
        SourceSeen::Ended(target) => Decision::Fetch(target.clone()),
    }
}

/// Digest of which files of which run are wanted: 32 digits for the files, 32 for the run.
pub fn selection_digest(object: &ArtifactFetch, target: &Target) -> String {
    files_digest(object) + &digest_of(&target.identity())
}

/// What of the selection makes other files of the same run. Bounds do not: they are checked against what is stored.
fn files_digest(object: &ArtifactFetch) -> String {
    // A new field has to be decided on here.
    let FileSelection {
        include,
        exclude,
        destination: _,
        verify,
        max_bytes: _,
        max_files: _,
        prune: _,
        parallel: _,
    } = &object.spec.files;
    digest_of(&(include, exclude, verify))
}

fn digest_of(value: &impl serde::Serialize) -> String {
    // Plain data always serialises.
    let text = serde_json::to_vec(value).unwrap_or_default();
    crate::sinks::hex(&Sha256::digest(text)[..16])
}

/// Whether the ConfigMap holds the files of `selection`, within what the spec allows now.
fn holds(object: &ArtifactFetch, mine: Option<&Mine>, selection: &str) -> bool {
    let (Some(mine), Some(status)) = (mine, &object.status) else {
        return false;
    };
    let FileSelection {
        max_bytes,
        max_files,
        prune,
        ..
    } = &object.spec.files;
    let (Some(files), Some(bytes)) = (status.file_count, status.total_bytes) else {
        return false;
    };
    status.selection_digest.as_deref() == Some(selection)
        && max_bytes.is_none_or(|max| bytes <= max)
        && files <= *max_files
        && is_intact(
            mine,
            selection,
            usize::try_from(files).unwrap_or_default(),
            *prune,
        )
}

/// Whether the ConfigMap holds the wanted files of the run that they were fetched from, whichever that was.
pub fn holds_selection(object: &ArtifactFetch, mine: Option<&Mine>) -> bool {
    stored_selection(object)
        .is_some_and(|stored| stored.starts_with(&files_digest(object)) && holds(object, mine, stored))
}

/// Whether the ConfigMap still holds what the status tells, be that wanted or not.
pub fn holds_what_was_told(object: &ArtifactFetch, stored: &StoredSeen) -> bool {
    let (Some(mine), Some(status)) = (ours(stored), &object.status) else {
        return false;
    };
    let files = status.file_count.and_then(|files| usize::try_from(files).ok());
    stored_selection(object)
        .zip(files)
        .is_some_and(|(selection, files)| is_intact(mine, selection, files, false))
}

fn stored_selection(object: &ArtifactFetch) -> Option<&str> {
    object.status.as_ref()?.selection_digest.as_deref()
}

/// The status, where it speaks of this spec and nobody asked for another look since.
fn current_status(object: &ArtifactFetch) -> Option<&ArtifactFetchStatus> {
    object.status.as_ref().filter(|status| {
        status.observed_generation == object.metadata.generation && !is_requested(object, status)
    })
}

/// Whether somebody asked for another look.
fn is_requested(object: &ArtifactFetch, status: &ArtifactFetchStatus) -> bool {
    let annotations = object.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(RECONCILE_REQUESTED_AT))
        .is_some_and(|wanted| status.last_handled_reconcile_at.as_ref() != Some(wanted))
}

fn is_settled(object: &ArtifactFetch) -> bool {
    current_status(object).is_some_and(|status| {
        is_true(&status.conditions, ConditionType::Ready)
            && !is_true(&status.conditions, ConditionType::Reconciling)
    })
}

/// Whether the last look ended in something that the same look would end in again.
fn is_final(object: &ArtifactFetch) -> bool {
    current_status(object)
        .and_then(|status| find(&status.conditions, ConditionType::Stalled))
        .is_some_and(|stalled| {
            stalled.status == "True" && FINAL.iter().any(|reason| reason.as_str() == stalled.reason)
        })
}

/// What is so for good, for one run and one spec: neither files nor digests of a run that ended change.
const FINAL: [Reason; 6] = [
    Reason::NoMatch,
    Reason::ArtifactsTooLarge,
    Reason::TooManyFiles,
    Reason::DigestMismatch,
    Reason::VerifyPathMissing,
    Reason::InvalidSpec,
];

/// Whether looking again would end the same.
pub fn is_final_reason(reason: Reason) -> bool {
    FINAL.contains(&reason)
}

fn was_attempted(object: &ArtifactFetch, target: &Target) -> bool {
    object
        .status
        .as_ref()
        .and_then(|status| status.last_attempted_revision.as_ref())
        .is_some_and(|attempted| *attempted == target.revision)
}

/// Whether another run may be the right one by now.
fn wants_latest(object: &ArtifactFetch) -> bool {
    let run = object.spec.source.run.as_ref();
    run.is_some_and(|run| run.latest_success == Some(true))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
