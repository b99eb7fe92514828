//! DECIDE: from the object and what was seen, the one next thing. Pure.

use sha2::{Digest, Sha256};

use super::target::Target;
use crate::{
    api::{
        ArtifactFetch, ArtifactFetchStatus, RECONCILE_REQUESTED_AT,
        artifact_fetch::{Destination, FileSelection},
        conditions::{ConditionType, Reason, find, is_true},
    },
    controllers::fetch_jobs::{JobSeen, JobState},
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
    /// The Jobs that were made for the object, where its files go onto a volume and are not known to be there.
    pub jobs: Vec<JobSeen>,
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
    /// A volume: nothing of it can be seen from here, what is on it is what the status says.
    Volume,
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
    /// Have a Job bring the files of this run onto a volume; `None` where a Job for what is asked is at work already.
    Transfer(Option<Box<Target>>),
}

/// Decides on `object`.
pub fn decide(object: &ArtifactFetch, seen: &Seen) -> Decision {
    if object.metadata.deletion_timestamp.is_some() {
        // What we made goes with us: it has an owner.
        return Decision::Rest;
    }
    match unless_suspended(object, seen) {
        // Which run it is cannot be asked now; what is here is what was wanted when it could.
        Decision::Resolve if object.spec.suspend && holds_selection(object, &seen.stored) => Decision::Stored,
        Decision::Resolve | Decision::Fetch(_) | Decision::Transfer(_) | Decision::Wait(_)
            if object.spec.suspend =>
        {
            Decision::Suspend
        }
        other => other,
    }
}

/// The ConfigMap, where it is ours.
pub fn ours(stored: &StoredSeen) -> Option<&Mine> {
    match stored {
        StoredSeen::Ours(mine) => Some(mine),
        StoredSeen::Nothing | StoredSeen::Foreign(_) | StoredSeen::Volume => None,
    }
}

fn unless_suspended(object: &ArtifactFetch, seen: &Seen) -> Decision {
    if let StoredSeen::Foreign(trouble) = &seen.stored {
        return Decision::Stuck(trouble.clone());
    }
    let stored = &seen.stored;
    let to_volume = object.spec.files.destination.volume.is_some();
    match &seen.source {
        SourceSeen::Waiting(what) => Decision::Wait(what.clone()),
        SourceSeen::Missing { .. } if holds_selection(object, stored) => Decision::Stored,
        SourceSeen::Missing { name } => Decision::Stuck(Trouble::user(
            Reason::SourceNotFound,
            format!("there is no BuildRequest {name:?} in this namespace: create it, or correct spec.source"),
        )),
        SourceSeen::Unasked if is_settled(object) && holds_selection(object, stored) => Decision::Stored,
        SourceSeen::Unasked if is_final(object) && !wants_latest(object) => Decision::Rest,
        // The remote is not asked again which run it is while a Job brings its files.
        SourceSeen::Unasked if to_volume && seen.jobs.iter().any(|job| is_under_way(object, job)) => {
            Decision::Transfer(None)
        }
        SourceSeen::Unasked => Decision::Resolve,
        SourceSeen::Ended(target) if holds(object, stored, &selection_digest(object, target)) => {
            Decision::Stored
        }
        SourceSeen::Ended(target) if is_final(object) && was_attempted(object, target) => Decision::Rest,
        SourceSeen::Ended(target) if to_volume => Decision::Transfer(Some(target.clone())),
        SourceSeen::Ended(target) => Decision::Fetch(target.clone()),
    }
}

fn is_under_way(object: &ArtifactFetch, job: &JobSeen) -> bool {
    matches!(job.state, JobState::Active | JobState::Complete) && job.asked == asked(object)
}

/// Whether Jobs have to be looked at: the files go onto a volume and are not known to be there, or one may be at work for
/// a volume that they went to before.
pub fn needs_jobs(object: &ArtifactFetch) -> bool {
    let has_job = object.status.as_ref().is_some_and(|status| status.job.is_some());
    if object.spec.files.destination.volume.is_some() {
        return has_job || !holds_selection(object, &StoredSeen::Volume);
    }
    // The status that names a Job may not have been written any more.
    has_job || (object.metadata.generation > Some(1) && !is_settled(object))
}

/// Whether something may be left over of what this spec does not ask for any more: another ConfigMap, a Job for a volume.
pub fn may_have_left_overs(object: &ArtifactFetch) -> bool {
    object.spec.files.destination.volume.is_none() && !is_settled(object)
}

/// Digest of what the object asks a Job for, as far as that is known without the remote: each spec, and each request to look
/// again, has Jobs of its own.
pub fn asked(object: &ArtifactFetch) -> String {
    let annotations = object.metadata.annotations.as_ref();
    let requested = annotations.and_then(|all| all.get(RECONCILE_REQUESTED_AT));
    digest_of(&(&object.metadata.uid, object.metadata.generation, requested))
}

/// Digest that tells which files of which run a pod is to bring, wherever they go: what is on a volume already under it
/// is not fetched again.
pub fn content_digest(object: &ArtifactFetch, target: &Target) -> String {
    let FileSelection {
        include,
        exclude,
        verify,
        ..
    } = &object.spec.files;
    digest_of(&(include, exclude, verify)) + &digest_of(&target.identity())
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
        destination: Destination {
            config_map: _,
            volume,
        },
        verify,
        max_bytes: _,
        max_files: _,
        prune,
        parallel: _,
    } = &object.spec.files;
    match volume {
        // A ConfigMap of another name is seen to lack them; so is one that holds more than is wanted.
        None => digest_of(&(include, exclude, verify)),
        Some(volume) => digest_of(&(include, exclude, verify, volume, prune)),
    }
}

fn digest_of(value: &impl serde::Serialize) -> String {
    // Plain data always serialises.
    let text = serde_json::to_vec(value).unwrap_or_default();
    crate::sinks::hex(&Sha256::digest(text)[..16])
}

/// Whether the files of `selection` are there, within what the spec allows now.
fn holds(object: &ArtifactFetch, stored: &StoredSeen, selection: &str) -> bool {
    let Some(status) = &object.status else {
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
    let is_there = match stored {
        StoredSeen::Ours(mine) => is_intact(
            mine,
            selection,
            usize::try_from(files).unwrap_or_default(),
            *prune,
        ),
        // Until a Job that was asked to look again has ended, it is not known.
        StoredSeen::Volume => {
            status.volume.is_some() && status.job.is_none() && !is_requested(object, status)
        }
        StoredSeen::Nothing | StoredSeen::Foreign(_) => false,
    };
    is_there
        && status.selection_digest.as_deref() == Some(selection)
        && max_bytes.is_none_or(|max| bytes <= max)
        && files <= *max_files
}

/// Whether the wanted files are there of the run that they were fetched from, whichever that was.
pub fn holds_selection(object: &ArtifactFetch, stored: &StoredSeen) -> bool {
    stored_selection(object).is_some_and(|selection| {
        selection.starts_with(&files_digest(object)) && holds(object, stored, selection)
    })
}

/// Whether what the status tells is still there, be that wanted or not.
pub fn holds_what_was_told(object: &ArtifactFetch, stored: &StoredSeen) -> bool {
    let Some(status) = &object.status else {
        return false;
    };
    if matches!(stored, StoredSeen::Volume) {
        return status.volume.is_some();
    }
    let Some(mine) = ours(stored) else {
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
        .is_some_and(|stalled| stalled.status == "True" && is_final_reason(&stalled.reason))
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
pub fn is_final_reason(reason: &str) -> bool {
    FINAL.iter().any(|known| known.as_str() == reason)
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
