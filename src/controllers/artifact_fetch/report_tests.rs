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
        key: Some(format!("out.{n}")),
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
