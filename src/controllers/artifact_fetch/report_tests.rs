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
        place: Place::ConfigMap("files".into()),
        count: i64::try_from(files).unwrap(),
        bytes: 10 * i64::try_from(files).unwrap(),
        files: (0..files).map(file).collect(),
    }))
}

fn failed(trouble: Trouble, revision: Option<&str>) -> Came {
    Came::Failed {
        trouble,
        revision: revision.map(Into::into),
        job: None,
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
        place: Place::ConfigMap("c".into()),
        count: 100,
        bytes: 1000,
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

mod volumes {
    use super::*;

    fn volume_object() -> ArtifactFetch {
        let mut object = object();
        object.spec.files.destination =
            serde_json::from_value(json!({"volume": {"claimName": "data", "subPath": "shop"}})).unwrap();
        object
    }

    fn working(reason: Reason, stuck: bool) -> Came {
        Came::Working(Box::new(Working {
            job: "files-1".into(),
            revision: Some("shopx7k2p/hello#7".into()),
            reason,
            message: "half way".into(),
            progress: serde_json::from_value(json!({
                "files": 1, "totalFiles": 2, "bytes": 5, "totalBytes": 10, "percent": "50%",
            }))
            .unwrap(),
            stuck,
            look_in: Duration::from_secs(5),
        }))
    }

    fn stored() -> Came {
        Came::Fetched(Box::new(Fetched {
            revision: "shopx7k2p/hello#7".into(),
            selection: "abc".into(),
            place: Place::Volume(VolumeStatus {
                claim_name: "data".into(),
                sub_path: Some("shop".into()),
                manifest: ".tenantry/m.json".into(),
            }),
            count: 2000,
            bytes: 20_000,
            files: vec![],
        }))
    }

    fn job_failed(trouble: Trouble, failed: Option<(u32, Duration)>) -> Came {
        Came::Failed {
            trouble,
            revision: Some("shopx7k2p/hello#7".into()),
            job: Some(FailedJob {
                name: "files-2".into(),
                failed,
            }),
        }
    }

    #[test]
    fn a_job_at_work_shows_how_far_it_is_and_at_the_end_that_all_is_there() {
        let object = after(volume_object(), NOTHING, &working(Reason::Fetching, false));
        assert_eq!(
            conditions(&object),
            [
                "Ready=False:Fetching",
                "Reconciling=True:Fetching",
                "ArtifactsStored=False:Fetching"
            ]
        );
        let status = object.status.as_ref().unwrap();
        assert_eq!(
            (status.job.as_deref(), status.last_attempted_revision.as_deref()),
            (Some("files-1"), Some("shopx7k2p/hello#7"))
        );
        assert_eq!(status.progress.as_ref().unwrap().percent.as_deref(), Some("50%"));
        assert_eq!(status.last_handled_reconcile_at.as_deref(), Some("now"));
        let object = after(object, NOTHING, &stored());
        assert_eq!(
            conditions(&object),
            [
                "Ready=True:ArtifactsStored",
                "ArtifactsStored=True:ArtifactsStored"
            ]
        );
        let status = object.status.as_ref().unwrap();
        assert_eq!((&status.job, &status.config_map), (&None, &None));
        let all = json!({
            "files": 2000, "totalFiles": 2000, "bytes": 20_000, "totalBytes": 20_000, "percent": "100%",
        });
        assert_eq!(serde_json::to_value(&status.progress).unwrap(), all);
        let object = after(object.clone(), NOTHING, &Came::Stored);
        assert_eq!(
            serde_json::to_value(&object.status.as_ref().unwrap().progress).unwrap(),
            all
        );
        let status = object.status.as_ref().unwrap();
        assert_eq!(status.destination.as_deref(), Some("pvc/data:shop"));
        assert_eq!(status.file_count, Some(2000));
        let ready = find(&status.conditions, ConditionType::Ready).unwrap();
        assert_eq!(
            ready.message,
            "2000 files (20000 bytes) of shopx7k2p/hello#7 on claim data, directory shop"
        );
    }

    #[test]
    fn what_does_not_go_on_by_itself_is_for_a_person_and_told_once() {
        let stuck = working(Reason::ClaimNotBound, true);
        let object = after(volume_object(), OLDER, &stuck);
        assert_eq!(
            conditions(&object),
            [
                "Ready=False:ClaimNotBound",
                "Stalled=True:ClaimNotBound",
                "ArtifactsStored=True:ArtifactsStored"
            ]
        );
        let waits = working(Reason::ClaimNotBound, false);
        let note = |object: &ArtifactFetch, came: &Came| note(object, came, &ArtifactFetchStatus::default());
        assert!(note(&volume_object(), &waits).is_some_and(|note| note.warning));
        assert_eq!(note(&object, &waits), None, "told already");
        assert_eq!(note(&volume_object(), &working(Reason::Fetching, false)), None);
    }

    #[test]
    fn the_failures_told_are_those_of_jobs_and_looking_again_adds_none() {
        let full = || Trouble::user(Reason::VolumeFull, "full");
        let came = job_failed(full(), Some((3, Duration::from_secs(60))));
        let object = after(volume_object(), NOTHING, &came);
        let status = object.status.clone().unwrap();
        assert_eq!(
            (status.failures, status.job.as_deref()),
            (Some(3), Some("files-2"))
        );
        assert_eq!(
            super::super::status(&object, NOTHING, &came, &at(99)),
            None,
            "nothing to write"
        );
        let resync = Duration::from_secs(300);
        assert_eq!(
            requeue(&came, resync),
            Requeue::After(Duration::from_secs(60)),
            "when the next Job is due"
        );
        let not_made = job_failed(full(), None);
        assert_eq!(requeue(&not_made, resync), Requeue::After(resync));
        let for_good = job_failed(stalled(), Some((1, Duration::from_secs(60))));
        assert_eq!(requeue(&for_good, resync), Requeue::OnChange);
    }

    #[test]
    fn a_request_to_look_is_not_handled_before_a_job_was_tried() {
        let handled = |came: &Came| {
            after(volume_object(), NOTHING, came)
                .status
                .unwrap()
                .last_handled_reconcile_at
        };
        assert_eq!(handled(&failed(passing(), None)), None);
        assert_eq!(handled(&job_failed(passing(), None)).as_deref(), Some("now"));
        let in_a_map = after(object(), NOTHING, &failed(passing(), None)).status.unwrap();
        assert_eq!(in_a_map.last_handled_reconcile_at.as_deref(), Some("now"));
    }
}
