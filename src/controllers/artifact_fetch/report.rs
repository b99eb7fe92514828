//! REPORT: status, conditions and Events from what came of a reconcile. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        ArtifactFetch, ArtifactFetchStatus, RECONCILE_REQUESTED_AT,
        artifact_fetch::FetchedFile,
        conditions::{self, ConditionType, Fact, Reason, bounded, find},
    },
    controllers::{Remedy, Trouble},
    runtime::Requeue,
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
            let needed = file.path.len() + file.key.len();
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
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;

    const NOTHING: Held = Held {
        told: false,
        wanted: false,
    };
    const OLDER: Held = Held {
        told: true,
        wanted: false,
    };
    const ALL: Held = Held {
        told: true,
        wanted: true,
    };

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn object() -> ArtifactFetch {
        serde_json::from_value(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch",
            "metadata": {"name": "files", "namespace": "team", "generation": 2,
                         "annotations": {RECONCILE_REQUESTED_AT: "now"}},
            "spec": {"source": {"buildRequestRef": {"name": "b"}}},
        }))
        .unwrap()
    }

    fn file(n: usize) -> FetchedFile {
        FetchedFile {
            path: format!("out/{n}"),
            key: format!("out.{n}"),
            size: 10,
            sha256: "0".repeat(64),
        }
    }

    fn fetched(files: usize) -> Came {
        Came::Fetched(Box::new(Fetched {
            revision: "shopx7k2p/hello#7".into(),
            selection: "abc".into(),
            config_map: "files".into(),
            files: (0..files).map(file).collect(),
        }))
    }

    fn failed(trouble: Trouble, revision: Option<&str>) -> Came {
        Came::Failed {
            trouble,
            revision: revision.map(Into::into),
        }
    }

    fn stalled() -> Trouble {
        Trouble::user(Reason::NoMatch, "nothing matches")
    }

    fn passing() -> Trouble {
        Trouble::passing(Reason::RemoteUnavailable, "no answer")
    }

    /// The object after `came` was reported.
    fn after(mut object: ArtifactFetch, held: Held, came: &Came) -> ArtifactFetch {
        object.status = status(&object, held, came, &at(10)).or(object.status);
        object
    }

    /// `Type=Status:Reason` of every condition.
    fn conditions(object: &ArtifactFetch) -> Vec<String> {
        let conditions = object.status.iter().flat_map(|status| &status.conditions);
        conditions
            .map(|c| format!("{}={}:{}", c.type_, c.status, c.reason))
            .collect()
    }

    #[test]
    fn every_end_has_its_conditions() {
        let waiting = Came::Waiting {
            message: "not ended".into(),
            look_in: None,
        };
        let cases: [(&str, Came, Held, &[&str]); 9] = [
            (
                "fetched",
                fetched(2),
                NOTHING,
                &[
                    "Ready=True:ArtifactsStored",
                    "ArtifactsStored=True:ArtifactsStored",
                ],
            ),
            (
                "stored",
                Came::Stored,
                ALL,
                &[
                    "Ready=True:ArtifactsStored",
                    "ArtifactsStored=True:ArtifactsStored",
                ],
            ),
            (
                "waiting",
                waiting.clone(),
                NOTHING,
                &[
                    "Ready=False:WaitingForRun",
                    "Reconciling=True:WaitingForRun",
                    "ArtifactsStored=False:WaitingForRun",
                ],
            ),
            (
                "waiting for the next",
                waiting,
                ALL,
                &[
                    "Ready=False:WaitingForRun",
                    "Reconciling=True:WaitingForRun",
                    "ArtifactsStored=True:ArtifactsStored",
                ],
            ),
            (
                "suspended",
                Came::Suspended,
                NOTHING,
                &["Ready=False:Suspended", "ArtifactsStored=False:Suspended"],
            ),
            (
                "refused",
                failed(stalled(), Some("r#7")),
                NOTHING,
                &[
                    "Ready=False:NoMatch",
                    "Stalled=True:NoMatch",
                    "ArtifactsStored=False:NoMatch",
                ],
            ),
            (
                "refused, older files here",
                failed(stalled(), Some("r#8")),
                OLDER,
                &[
                    "Ready=False:NoMatch",
                    "Stalled=True:NoMatch",
                    "ArtifactsStored=True:ArtifactsStored",
                ],
            ),
            (
                "unavailable, for a run whose files are not here",
                failed(passing(), Some("r#8")),
                OLDER,
                &[
                    "Ready=False:RemoteUnavailable",
                    "Reconciling=True:RemoteUnavailable",
                    "ArtifactsStored=True:ArtifactsStored",
                ],
            ),
            (
                "unavailable, while looking for news",
                failed(passing(), None),
                ALL,
                &[
                    "Ready=True:ArtifactsStored",
                    "Reconciling=True:RemoteUnavailable",
                    "ArtifactsStored=True:ArtifactsStored",
                ],
            ),
        ];
        for (what, came, held, expected) in cases {
            assert_eq!(conditions(&after(object(), held, &came)), expected, "{what}");
        }
    }

    #[test]
    fn what_was_fetched_is_told_and_bounded() {
        let object = after(object(), NOTHING, &fetched(130));
        let status = object.status.unwrap();
        assert_eq!((status.file_count, status.total_bytes), (Some(130), Some(1300)));
        assert_eq!(status.files.len(), MAX_FILES);
        assert_eq!(status.revision.as_deref(), Some("shopx7k2p/hello#7"));
        assert_eq!(status.last_attempted_revision, status.revision);
        assert_eq!(status.fetched_at, Some(at(10)));
        assert_eq!(
            (
                status.observed_generation,
                status.last_handled_reconcile_at.as_deref()
            ),
            (Some(2), Some("now"))
        );
        let ready = find(&status.conditions, ConditionType::Ready).unwrap();
        assert_eq!(
            ready.message,
            "130 files (1300 bytes) of shopx7k2p/hello#7 in ConfigMap files"
        );
    }

    #[test]
    fn long_names_do_not_blow_up_the_object() {
        let files = (0..100).map(|n| FetchedFile {
            path: format!("{n}{}", "x".repeat(2000)),
            ..file(n)
        });
        let came = Came::Fetched(Box::new(Fetched {
            revision: "r".into(),
            selection: "s".into(),
            config_map: "c".into(),
            files: files.collect(),
        }));
        let status = after(object(), NOTHING, &came).status.unwrap();
        assert!(serde_json::to_string(&status).unwrap().len() < 64 * 1024);
        assert_eq!(status.file_count, Some(100));
    }

    #[test]
    fn a_failure_keeps_what_is_known_of_the_files() {
        let object = after(object(), NOTHING, &fetched(2));
        let failed = after(
            object.clone(),
            OLDER,
            &failed(stalled(), Some("shopx7k2p/hello#8")),
        );
        let status = failed.status.unwrap();
        assert_eq!(status.revision.as_deref(), Some("shopx7k2p/hello#7"));
        assert_eq!(
            status.last_attempted_revision.as_deref(),
            Some("shopx7k2p/hello#8")
        );
        assert_eq!(status.file_count, Some(2));
        assert_eq!(status.failures, Some(1));
    }

    #[test]
    fn saying_the_same_again_writes_nothing() {
        let object = after(object(), NOTHING, &fetched(2));
        assert_eq!(status(&object, ALL, &Came::Stored, &at(99)), None);
        assert_eq!(status(&object, ALL, &Came::Unchanged, &at(99)), None);
        let waiting = Came::Waiting {
            message: "x".into(),
            look_in: None,
        };
        let object = after(object, ALL, &waiting);
        assert_eq!(status(&object, ALL, &waiting, &at(99)), None);
    }

    #[test]
    fn failures_are_counted_until_something_is_different() {
        let mut object = object();
        for expected in 1..4 {
            object = after(object, NOTHING, &failed(passing(), None));
            assert_eq!(object.status.as_ref().unwrap().failures, Some(expected));
        }
        let other = Trouble::passing(Reason::Throttled, "slow down");
        object = after(object, NOTHING, &failed(other, None));
        assert_eq!(object.status.as_ref().unwrap().failures, Some(1));
        object = after(object, NOTHING, &fetched(1));
        assert_eq!(object.status.as_ref().unwrap().failures, None);
    }

    #[test]
    fn events_tell_of_changes_only() {
        let said = |object: &ArtifactFetch, came: &Came| {
            let status = status(object, NOTHING, came, &at(1)).unwrap_or_default();
            note(object, came, &status).map(|note| (note.warning, note.reason))
        };
        let new = object();
        assert_eq!(said(&new, &fetched(1)), Some((false, Reason::ArtifactsStored)));
        assert_eq!(
            said(&new, &failed(stalled(), None)),
            Some((true, Reason::NoMatch))
        );
        assert_eq!(said(&new, &Came::Stored), None);
        let told = after(new, NOTHING, &failed(passing(), None));
        assert_eq!(said(&told, &failed(passing(), None)), None);
        assert_eq!(
            said(&told, &failed(stalled(), None)),
            Some((true, Reason::NoMatch))
        );
    }

    #[test]
    fn it_is_looked_at_again_when_that_can_help() {
        let resync = Duration::from_secs(300);
        let denied = Trouble::user(Reason::AccessDenied, "");
        let until = Trouble::until(Reason::LockedOut, "", Duration::from_secs(60));
        let soon = Some(Duration::from_secs(5));
        for (came, expected) in [
            (fetched(1), Requeue::OnChange),
            (failed(stalled(), None), Requeue::OnChange),
            (failed(denied, None), Requeue::After(resync)),
            (failed(passing(), None), Requeue::Backoff { at_least: None }),
            (
                failed(until, None),
                Requeue::Backoff {
                    at_least: Some(Duration::from_secs(60)),
                },
            ),
            (
                Came::Waiting {
                    message: String::new(),
                    look_in: soon,
                },
                Requeue::After(Duration::from_secs(5)),
            ),
        ] {
            assert_eq!(requeue(&came, resync), expected, "{came:?}");
        }
    }
}
