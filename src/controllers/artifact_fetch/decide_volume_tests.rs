use super::*;
use crate::controllers::fetch_jobs::testing;

fn to_volume(mut spec: Value) -> Value {
    spec["destination"] = json!({"volume": {"claimName": "data", "subPath": "shop"}});
    spec
}

/// The same after a Job has stored the two files of run 7.
fn stored(spec: Value) -> ArtifactFetch {
    let mut object = done(to_volume(spec));
    let volume = json!({"claimName": "data", "subPath": "shop", "manifest": ".tenantry/m.json"});
    object.status.as_mut().unwrap().volume = serde_json::from_value(volume).unwrap();
    object
}

fn decided(object: &ArtifactFetch, source: SourceSeen, jobs: Vec<JobSeen>) -> Decision {
    let stored = StoredSeen::Volume;
    decide(object, &Seen { source, stored, jobs })
}

fn transfer(id: &str) -> Decision {
    Decision::Transfer(Some(Box::new(target(id))))
}

fn job(asked: &str, condition: Option<&str>) -> JobSeen {
    let status = condition.map_or(
        json!({}),
        |kind| json!({"conditions": [{"type": kind, "status": "True"}]}),
    );
    let mut job = JobSeen::of(&testing::job("s", 1, &status));
    job.asked = asked.into();
    job
}

#[test]
fn what_is_stored_is_not_looked_at_again_and_costs_no_look_at_jobs() {
    for (spec, source) in [
        (of_build_request(), ended("7")),
        (of_build_request(), missing()),
        (by_id(), SourceSeen::Unasked),
        (latest(), SourceSeen::Unasked),
    ] {
        let object = stored(spec);
        assert!(!needs_jobs(&object));
        assert_eq!(decided(&object, source, vec![]), Decision::Stored);
    }
    assert_eq!(
        decided(&stored(of_build_request()), ended("8"), vec![]),
        transfer("8")
    );
}

#[test]
fn what_changes_where_or_which_files_needs_a_job() {
    let cases: [(&str, Change, bool); 9] = [
        ("include", |o| o.spec.files.include = vec!["**".into()], true),
        (
            "claim",
            |o| o.spec.files.destination.volume.as_mut().unwrap().claim_name = "x".into(),
            true,
        ),
        (
            "path",
            |o| o.spec.files.destination.volume.as_mut().unwrap().sub_path = None,
            true,
        ),
        ("prune", |o| o.spec.files.prune = false, true),
        ("maxBytes broken", |o| o.spec.files.max_bytes = Some(99), true),
        ("maxBytes met", |o| o.spec.files.max_bytes = Some(100), false),
        ("maxFiles", |o| o.spec.files.max_files = 1, true),
        ("parallel", |o| o.spec.files.parallel = Some(1), false),
        ("nothing", |_| {}, false),
    ];
    for (what, change, needs) in cases {
        let object = edit(stored(of_build_request()), change);
        assert_eq!(needs_jobs(&object), needs, "{what}");
        let expected = if needs { transfer("7") } else { Decision::Stored };
        assert_eq!(decided(&object, ended("7"), vec![]), expected, "{what}");
    }
}

#[test]
fn a_job_for_a_volume_that_is_wanted_no_more_is_looked_for_until_the_change_is_settled() {
    let mut object = edit(stored(of_build_request()), |o| {
        o.spec.files.destination.volume = None;
    });
    assert!(needs_jobs(&object) && may_have_left_overs(&object), "not settled");
    let generation = object.metadata.generation;
    object.status.as_mut().unwrap().observed_generation = generation;
    assert!(!needs_jobs(&object) && !may_have_left_overs(&object), "settled");
    object.status.as_mut().unwrap().job = Some("files-1".into());
    assert!(needs_jobs(&object), "one is named");
}

#[test]
fn a_request_to_look_is_answered_by_a_job_and_not_before_it_has_ended() {
    let mut object = stored(of_build_request());
    let before = asked(&object);
    object.metadata.annotations = Some([(RECONCILE_REQUESTED_AT.to_owned(), "now".to_owned())].into());
    assert!(needs_jobs(&object));
    assert_ne!(asked(&object), before, "what ended before is not the answer");
    assert_eq!(decided(&object, ended("7"), vec![]), transfer("7"));
    let status = object.status.as_mut().unwrap();
    status.last_handled_reconcile_at = Some("now".into());
    status.job = Some("files-1".into());
    assert!(needs_jobs(&object), "it is at work");
    assert_eq!(decided(&object, ended("7"), vec![]), transfer("7"));
    object.status.as_mut().unwrap().job = None;
    assert_eq!(decided(&object, ended("7"), vec![]), Decision::Stored);
}

#[test]
fn the_remote_is_not_asked_which_run_it_is_while_a_job_is_at_work() {
    let object = fresh(to_volume(latest()));
    let this = asked(&object);
    for (jobs, expected) in [
        (vec![], Decision::Resolve),
        (vec![job(&this, None)], Decision::Transfer(None)),
        (vec![job(&this, Some("Complete"))], Decision::Transfer(None)),
        (vec![job(&this, Some("Failed"))], Decision::Resolve),
        (vec![job("of another spec", None)], Decision::Resolve),
    ] {
        assert_eq!(
            decided(&object, SourceSeen::Unasked, jobs.clone()),
            expected,
            "{jobs:?}"
        );
    }
}

#[test]
fn a_suspended_fetch_begins_nothing() {
    let object = edit(fresh(to_volume(of_build_request())), |o| o.spec.suspend = true);
    assert_eq!(decided(&object, ended("7"), vec![]), Decision::Suspend);
    let this = job(&asked(&object), None);
    assert_eq!(decided(&object, ended("7"), vec![this]), Decision::Suspend);
    let object = edit(stored(of_build_request()), |o| o.spec.suspend = true);
    assert_eq!(decided(&object, ended("7"), vec![]), Decision::Stored);
}

#[test]
fn a_refusal_for_good_is_not_tried_again() {
    let object = refused(to_volume(of_build_request()), Reason::NoMatch);
    assert_eq!(decided(&object, ended("7"), vec![]), Decision::Rest);
    assert_eq!(decided(&object, ended("8"), vec![]), transfer("8"));
    let object = refused(to_volume(of_build_request()), Reason::VolumeFull);
    assert_eq!(
        decided(&object, ended("7"), vec![]),
        transfer("7"),
        "somebody may have made room"
    );
}
