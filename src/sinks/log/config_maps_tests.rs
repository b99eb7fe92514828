//! Storing logs, against an API server that counts.

use serde_json::json;

use super::*;
use crate::{
    api::BuildRequest,
    sinks::{
        LogAssembly,
        fake_api::{FakeApi, NAMESPACE},
        log::Masks,
    },
};

fn owner(uid: &str) -> BuildRequest {
    let object = json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest",
        "metadata": {"name": "hello", "namespace": NAMESPACE, "uid": uid},
        "spec": {"connectionRef": {"name": "c"}, "project": "shop", "pipeline": "hello"},
    });
    serde_json::from_value(object).expect("a BuildRequest")
}

fn image(text: &str) -> LogImage {
    let mut log = LogAssembly::new(8 * 1024 * 1024, Masks::default());
    log.push(text.as_bytes());
    log.finish();
    log.image()
}

async fn store(api: &FakeApi, revision: &str, text: &str) -> Result<StoredLog, Trouble> {
    let maps = ConfigMaps::of(api.client(), &owner("uid-of-hello")).expect("an owner");
    store_log(&maps, "hello-log", revision, &image(text)).await
}

/// Text for `parts` ConfigMaps.
fn long(parts: usize) -> String {
    "0123456\n".repeat(PART_BYTES / 8 * (parts - 1) + 1)
}

#[tokio::test]
async fn a_log_is_stored_once() {
    let api = FakeApi::default();
    let stored = store(&api, "p/hello#1", "hello\n").await.unwrap();
    assert_eq!(
        (stored.config_maps, stored.written),
        (vec!["hello-log".into()], 1)
    );
    assert_eq!(api.calls(), ["LIST", "GET hello-log", "PATCH hello-log"]);
    let map = api.get("hello-log").unwrap();
    assert_eq!(map["data"], json!({"log": "hello\n"}));
    assert_eq!(map["metadata"]["ownerReferences"][0]["uid"], "uid-of-hello");
    assert_eq!(map["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!(map["metadata"]["annotations"][REVISION], "p/hello#1");

    let again = store(&api, "p/hello#1", "hello\n").await.unwrap();
    assert_eq!((again.written, again.removed), (0, 0));
    assert_eq!(api.calls(), ["LIST"]);
}

#[tokio::test]
async fn a_log_that_is_elsewhere_by_now_leaves_nothing() {
    let api = FakeApi::default();
    store(&api, "p/hello#1", &long(2)).await.unwrap();
    let maps = ConfigMaps::of(api.client(), &owner("uid-of-another")).unwrap();
    assert_eq!(remove_log(&maps).await, Ok(0), "somebody else's");
    let maps = ConfigMaps::of(api.client(), &owner("uid-of-hello")).unwrap();
    assert_eq!(remove_log(&maps).await, Ok(2));
    assert_eq!((api.get("hello-log"), api.get("hello-log-1")), (None, None));
    assert_eq!(remove_log(&maps).await, Ok(0));
}

#[tokio::test]
async fn of_a_growing_log_only_the_last_part_is_written_again() {
    let api = FakeApi::default();
    assert_eq!(store(&api, "p/hello#1", &long(3)).await.unwrap().written, 3);
    api.calls();
    let grown = store(&api, "p/hello#1", &(long(3) + "more\n")).await.unwrap();
    assert_eq!(grown.written, 1);
    assert_eq!(api.calls(), ["LIST", "PATCH hello-log-2"]);
    assert_eq!(grown.config_maps, ["hello-log", "hello-log-1", "hello-log-2"]);
}

#[tokio::test]
async fn a_shorter_log_of_the_next_run_takes_the_surplus_away() {
    let api = FakeApi::default();
    store(&api, "p/hello#1", &long(3)).await.unwrap();
    let next = store(&api, "p/hello#2", "short\n").await.unwrap();
    assert_eq!((next.written, next.removed), (1, 2));
    assert_eq!(api.names(), ["hello-log"]);
}

#[tokio::test]
async fn the_same_text_of_another_run_is_marked_as_its_own() {
    let api = FakeApi::default();
    store(&api, "p/hello#1", "same\n").await.unwrap();
    assert_eq!(store(&api, "p/hello#2", "same\n").await.unwrap().written, 1);
    assert_eq!(
        api.get("hello-log").unwrap()["metadata"]["annotations"][REVISION],
        "p/hello#2"
    );
}

#[tokio::test]
async fn what_was_edited_or_deleted_by_hand_is_written_again() {
    let api = FakeApi::default();
    store(&api, "p/hello#1", "hello\n").await.unwrap();
    api.edit("hello-log", "log", "tampered");
    assert_eq!(store(&api, "p/hello#1", "hello\n").await.unwrap().written, 1);
    assert_eq!(api.get("hello-log").unwrap()["data"]["log"], "hello\n");
    api.delete("hello-log");
    assert_eq!(store(&api, "p/hello#1", "hello\n").await.unwrap().written, 1);
}

#[tokio::test]
async fn what_belongs_to_others_is_not_touched() {
    let foreign = json!({"metadata": {"name": "hello-log", "uid": "x"}, "data": {"theirs": "1"}});
    let of_old = |kind: &str| {
        let owner = json!({"apiVersion": "tenantry.dev/v1alpha1", "kind": kind, "name": "hello",
                           "uid": "uid-of-old", "controller": true});
        json!({"metadata": {"name": "hello-log", "uid": "x", "ownerReferences": [owner]}})
    };
    for (object, stalled) in [
        (foreign, true),
        (of_old("ArtifactFetch"), true),
        (of_old("BuildRequest"), false),
    ] {
        let api = FakeApi::default();
        api.put("hello-log", object.clone());
        let trouble = store(&api, "p/hello#1", "hello\n").await.unwrap_err();
        assert_eq!(trouble.reason, Reason::DestinationConflict);
        assert_eq!(trouble.is_stalled(), stalled, "{trouble}");
        assert_eq!(api.get("hello-log").unwrap(), object);
    }
}

#[tokio::test]
async fn a_refused_write_is_told() {
    let api = FakeApi::default();
    api.refuse("PATCH", 403, "exceeded quota: team");
    let trouble = store(&api, "p/hello#1", "hello\n").await.unwrap_err();
    assert_eq!(trouble.reason, Reason::StorageUnavailable);
    assert!(
        trouble.message.contains("team/hello-log") && trouble.message.contains("quota"),
        "{trouble}"
    );
}
