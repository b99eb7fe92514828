use serde_json::{Value, json};

use super::*;
use crate::{
    api::conditions::{Fact, replace},
    gateway::{ProjectName, RunId, RunRef},
};

fn target(id: &str) -> Target {
    Target {
        connection: "shop".into(),
        cluster: None,
        project: ProjectName::new("shopx7k2p").unwrap(),
        run: RunRef {
            pipeline: "hello".into(),
            branch: None,
            id: RunId::new(id).unwrap(),
        },
        run_name: Some("b-1".into()),
        revision: format!("shopx7k2p/hello#{id}"),
        incarnation: "t".into(),
    }
}

fn ended(id: &str) -> SourceSeen {
    SourceSeen::Ended(Box::new(target(id)))
}

/// A change of a spec.
type Change = fn(&mut ArtifactFetch);

/// An ArtifactFetch of generation 2 with this spec, which nothing was done for yet.
fn fresh(spec: Value) -> ArtifactFetch {
    serde_json::from_value(json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch",
        "metadata": {"name": "files", "namespace": "team", "uid": "u", "generation": 2},
        "spec": spec,
    }))
    .expect("an ArtifactFetch")
}

fn of_build_request() -> Value {
    json!({"source": {"buildRequestRef": {"name": "b"}}, "include": ["out/**"]})
}

fn by_id() -> Value {
    let run = json!({"connectionRef": {"name": "shop"}, "project": "shop", "pipeline": "hello", "id": "7"});
    json!({"source": {"run": run}, "include": ["out/**"]})
}

fn latest() -> Value {
    let run = json!({"connectionRef": {"name": "shop"}, "project": "shop", "pipeline": "hello", "latestSuccess": true});
    json!({"source": {"run": run}, "include": ["out/**"]})
}

fn told(object: &mut ArtifactFetch, facts: &[Fact]) {
    let status = object.status.get_or_insert_default();
    status.observed_generation = Some(2);
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
    replace(&mut status.conditions, facts, Some(2), &now);
}

/// The same after the two files of run 7 were stored.
fn done(spec: Value) -> ArtifactFetch {
    let mut object = fresh(spec);
    let selection = selection_digest(&object, &target("7"));
    object.status = Some(ArtifactFetchStatus {
        revision: Some(target("7").revision),
        last_attempted_revision: Some(target("7").revision),
        selection_digest: Some(selection),
        file_count: Some(2),
        total_bytes: Some(100),
        ..ArtifactFetchStatus::default()
    });
    told(
        &mut object,
        &[Fact::yes(ConditionType::Ready, Reason::ArtifactsStored, "")],
    );
    object
}

/// The same after run 7 was refused for `reason`.
fn refused(spec: Value, reason: Reason) -> ArtifactFetch {
    let mut object = fresh(spec);
    object.status = Some(ArtifactFetchStatus {
        last_attempted_revision: Some(target("7").revision),
        ..ArtifactFetchStatus::default()
    });
    told(
        &mut object,
        &[
            Fact::no(ConditionType::Ready, reason, ""),
            Fact::yes(ConditionType::Stalled, reason, ""),
        ],
    );
    object
}

/// The ConfigMap with two files of `selection`, of which `untouched` are as we wrote them.
fn map(selection: &str, untouched: usize) -> StoredSeen {
    let keys: serde_json::Map<_, _> = (0..untouched).map(|i| (format!("f:{i}"), json!({}))).collect();
    let meta = json!({
        "name": "files",
        "annotations": {"tenantry.dev/selection-sha256": selection, "tenantry.dev/keys": "2"},
        "managedFields": [{"manager": "tenantry", "operation": "Apply", "fieldsV1": {"f:data": keys}}],
    });
    StoredSeen::Ours(Box::new(Mine(serde_json::from_value(meta).unwrap())))
}

fn its_map(object: &ArtifactFetch) -> StoredSeen {
    map(stored_selection(object).expect("stored"), 2)
}

fn decided(object: &ArtifactFetch, source: SourceSeen, stored: StoredSeen) -> Decision {
    let jobs = Vec::new();
    decide(object, &Seen { source, stored, jobs })
}

fn fetch(id: &str) -> Decision {
    Decision::Fetch(Box::new(target(id)))
}

fn missing() -> SourceSeen {
    SourceSeen::Missing { name: "b".into() }
}

fn edit(mut object: ArtifactFetch, change: impl FnOnce(&mut ArtifactFetch)) -> ArtifactFetch {
    change(&mut object);
    object.metadata.generation = Some(3);
    object
}

#[test]
fn a_run_that_ended_is_fetched_once() {
    let object = fresh(of_build_request());
    assert_eq!(decided(&object, ended("7"), StoredSeen::Nothing), fetch("7"));
    let object = done(of_build_request());
    assert_eq!(decided(&object, ended("7"), its_map(&object)), Decision::Stored);
}

#[test]
fn the_next_run_is_fetched_and_waited_for() {
    let object = done(of_build_request());
    let waiting = SourceSeen::Waiting("not ended".into());
    assert_eq!(
        decided(&object, waiting, its_map(&object)),
        Decision::Wait("not ended".into())
    );
    assert_eq!(decided(&object, ended("8"), its_map(&object)), fetch("8"));
}

#[test]
fn what_was_deleted_or_edited_by_hand_is_fetched_again() {
    for spec in [of_build_request(), by_id()] {
        let object = done(spec);
        assert_eq!(decided(&object, ended("7"), StoredSeen::Nothing), fetch("7"));
        let edited = map(stored_selection(&object).unwrap(), 1);
        assert_eq!(decided(&object, ended("7"), edited), fetch("7"));
        // A ConfigMap of another selection, though the status says otherwise: a status that was lost or forged.
        assert_eq!(decided(&object, ended("7"), map("other", 2)), fetch("7"));
    }
}

#[test]
fn a_finished_object_asks_nothing_of_the_remote() {
    for spec in [by_id(), latest()] {
        let object = done(spec);
        assert_eq!(
            decided(&object, SourceSeen::Unasked, its_map(&object)),
            Decision::Stored
        );
        assert_eq!(
            decided(&object, SourceSeen::Unasked, StoredSeen::Nothing),
            Decision::Resolve
        );
    }
    assert_eq!(
        decided(&fresh(by_id()), SourceSeen::Unasked, StoredSeen::Nothing),
        Decision::Resolve
    );
}

#[test]
fn a_look_that_was_asked_for_or_did_not_end_is_taken() {
    let ask = |object: &mut ArtifactFetch| {
        object.metadata.annotations = Some([(RECONCILE_REQUESTED_AT.to_owned(), "now".to_owned())].into());
    };
    let mut asked = done(latest());
    ask(&mut asked);
    assert_eq!(
        decided(&asked, SourceSeen::Unasked, its_map(&asked)),
        Decision::Resolve
    );
    assert_eq!(
        decided(&asked, ended("7"), its_map(&asked)),
        Decision::Stored,
        "the same run"
    );
    asked.status.as_mut().unwrap().last_handled_reconcile_at = Some("now".into());
    assert_eq!(
        decided(&asked, SourceSeen::Unasked, its_map(&asked)),
        Decision::Stored
    );

    let mut stuck = refused(by_id(), Reason::NoMatch);
    ask(&mut stuck);
    assert_eq!(decided(&stuck, ended("7"), StoredSeen::Nothing), fetch("7"));

    let mut midway = done(latest());
    told(
        &mut midway,
        &[
            Fact::yes(ConditionType::Ready, Reason::ArtifactsStored, ""),
            Fact::yes(ConditionType::Reconciling, Reason::RemoteUnavailable, ""),
        ],
    );
    assert_eq!(
        decided(&midway, SourceSeen::Unasked, its_map(&midway)),
        Decision::Resolve
    );
}

#[test]
fn a_change_of_the_selection_fetches_and_a_change_of_bounds_only_where_they_are_broken() {
    let object = done(of_build_request());
    let stored = its_map(&object);
    let cases: [(&str, Change, bool); 9] = [
        ("include", |o| o.spec.files.include = vec!["**".into()], true),
        ("exclude", |o| o.spec.files.exclude = vec!["x".into()], true),
        (
            "verify",
            |o| o.spec.files.verify = serde_json::from_value(json!([{"path": "a", "sha256": "0"}])).unwrap(),
            true,
        ),
        ("maxBytes broken", |o| o.spec.files.max_bytes = Some(99), true),
        ("maxBytes met", |o| o.spec.files.max_bytes = Some(100), false),
        ("maxFiles broken", |o| o.spec.files.max_files = 1, true),
        ("maxFiles met", |o| o.spec.files.max_files = 2, false),
        ("prune", |o| o.spec.files.prune = false, false),
        ("nothing", |_| {}, false),
    ];
    for (what, change, fetches) in cases {
        let object = edit(object.clone(), change);
        let expected = if fetches { fetch("7") } else { Decision::Stored };
        assert_eq!(decided(&object, ended("7"), stored.clone()), expected, "{what}");
    }
}

#[test]
fn what_was_kept_is_pruned_when_that_is_wanted() {
    let mut object = done(of_build_request());
    object.status.as_mut().unwrap().file_count = Some(1);
    object.spec.files.prune = false;
    assert_eq!(decided(&object, ended("7"), its_map(&object)), Decision::Stored);
    object.spec.files.prune = true;
    assert_eq!(decided(&object, ended("7"), its_map(&object)), fetch("7"));
}

#[test]
fn a_refusal_for_good_is_not_tried_again_before_something_changes() {
    for reason in FINAL {
        let object = refused(of_build_request(), reason);
        assert_eq!(
            decided(&object, ended("7"), StoredSeen::Nothing),
            Decision::Rest,
            "{reason:?}"
        );
        assert_eq!(
            decided(&object, ended("8"), StoredSeen::Nothing),
            fetch("8"),
            "another run"
        );
        let changed = edit(object, |_| {});
        assert_eq!(
            decided(&changed, ended("7"), StoredSeen::Nothing),
            fetch("7"),
            "another spec"
        );
        let coordinates = refused(by_id(), reason);
        assert_eq!(
            decided(&coordinates, SourceSeen::Unasked, StoredSeen::Nothing),
            Decision::Rest
        );
        let latest = refused(latest(), reason);
        assert_eq!(
            decided(&latest, SourceSeen::Unasked, StoredSeen::Nothing),
            Decision::Resolve
        );
    }
    let object = refused(of_build_request(), Reason::AccessDenied);
    assert_eq!(
        decided(&object, ended("7"), StoredSeen::Nothing),
        fetch("7"),
        "a role may have come"
    );
}

#[test]
fn a_source_that_is_gone_does_not_matter_once_its_files_are_here() {
    let object = done(of_build_request());
    assert_eq!(decided(&object, missing(), its_map(&object)), Decision::Stored);
    let suspended = edit(object.clone(), |o| o.spec.suspend = true);
    assert_eq!(
        decided(&suspended, missing(), its_map(&object)),
        Decision::Stored,
        "another generation"
    );
    let other = edit(object.clone(), |o| o.spec.files.include = vec!["**".into()]);
    for (object, stored) in [
        (&fresh(of_build_request()), StoredSeen::Nothing),
        (&object, StoredSeen::Nothing),
        (&other, its_map(&object)),
    ] {
        let Decision::Stuck(trouble) = decided(object, missing(), stored) else {
            panic!("not stuck")
        };
        assert_eq!(
            (trouble.reason, trouble.is_stalled()),
            (Reason::SourceNotFound, true)
        );
    }
}

#[test]
fn what_is_not_ours_is_not_written() {
    let foreign = Trouble::user(Reason::DestinationConflict, "theirs");
    let object = fresh(of_build_request());
    let decision = decided(&object, ended("7"), StoredSeen::Foreign(foreign.clone()));
    assert_eq!(decision, Decision::Stuck(foreign));
}

#[test]
fn a_suspended_object_does_nothing_and_stays_ready_if_it_was() {
    let suspend = |spec: Value| edit(fresh(spec), |o| o.spec.suspend = true);
    assert_eq!(
        decided(&suspend(of_build_request()), ended("7"), StoredSeen::Nothing),
        Decision::Suspend
    );
    assert_eq!(
        decided(&suspend(by_id()), SourceSeen::Unasked, StoredSeen::Nothing),
        Decision::Suspend
    );
    let waiting = SourceSeen::Waiting(String::new());
    assert_eq!(
        decided(&suspend(of_build_request()), waiting, StoredSeen::Nothing),
        Decision::Suspend
    );
    for (spec, source) in [
        (of_build_request(), ended("7")),
        (by_id(), SourceSeen::Unasked),
        (latest(), SourceSeen::Unasked),
    ] {
        let object = edit(done(spec), |o| o.spec.suspend = true);
        assert_eq!(
            decided(&object, source.clone(), its_map(&object)),
            Decision::Stored
        );
        assert_eq!(decided(&object, source, StoredSeen::Nothing), Decision::Suspend);
    }
    let object = edit(done(of_build_request()), |o| o.spec.suspend = true);
    assert_eq!(decided(&object, ended("8"), its_map(&object)), Decision::Suspend);
}

#[test]
fn an_object_that_is_being_deleted_is_left_alone() {
    let mut object = fresh(of_build_request());
    object.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
    ));
    assert_eq!(decided(&object, ended("7"), StoredSeen::Nothing), Decision::Rest);
}

#[test]
fn the_digest_tells_runs_and_selections_apart() {
    let object = fresh(of_build_request());
    let base = selection_digest(&object, &target("7"));
    assert_eq!(base.len(), 64);
    let other = Target {
        incarnation: "made anew".into(),
        ..target("7")
    };
    let elsewhere = Target {
        cluster: Some("member".into()),
        ..target("7")
    };
    for run in [target("8"), other, elsewhere] {
        let digest = selection_digest(&object, &run);
        assert!(digest != base && digest[..32] == base[..32], "{run:?}");
    }
}

#[path = "decide_volume_tests.rs"]
mod volumes;
