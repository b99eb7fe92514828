use serde_json::json;

use super::*;

fn run(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"pipelineRef": {"name": "p"}}})
}

#[test]
fn a_write_without_a_change_is_no_change() {
    let mut store = Store::default();
    let object = store.create(&RUNS, run("a"), "m", false).unwrap();
    let version = store.version();
    store.update(&RUNS, object, Writer::main("m")).unwrap();
    assert_eq!(store.version(), version);
}

#[test]
fn an_old_version_is_a_conflict_and_no_version_is_not() {
    let mut store = Store::default();
    let first = store.create(&RUNS, run("a"), "m", false).unwrap();
    let mut second = first.clone();
    second["metadata"]["labels"] = json!({"x": "1"});
    store.update(&RUNS, second.clone(), Writer::main("m")).unwrap();
    second["metadata"]["labels"] = json!({"x": "2"});
    let error = store
        .update(&RUNS, second.clone(), Writer::main("m"))
        .unwrap_err();
    assert_eq!(error.code, 409);
    second["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    store.update(&RUNS, second, Writer::main("m")).unwrap();
}

#[test]
fn status_and_spec_are_written_apart() {
    let mut store = Store::default();
    let mut object = store.create(&RUNS, run("a"), "m", false).unwrap();
    object["status"] = json!({"phase": "Running"});
    let object = store.update(&RUNS, object, Writer::main("m")).unwrap();
    assert!(object.get("status").is_none());
    let mut with_status = object.clone();
    with_status["status"] = json!({"phase": "Running"});
    with_status["spec"]["pipelineRef"]["name"] = json!("q");
    let object = store.update(&RUNS, with_status, Writer::status("m")).unwrap();
    assert_eq!(
        (&object["status"]["phase"], &object["spec"]["pipelineRef"]["name"]),
        (&json!("Running"), &json!("p"))
    );
    assert_eq!(object["metadata"]["generation"], 1);
}

#[test]
fn finalizers_hold_an_object_until_they_are_gone() {
    let mut store = Store::default();
    let mut object = run("a");
    object["metadata"]["finalizers"] = json!(["f"]);
    store.create(&RUNS, object, "m", false).unwrap();
    let (mut object, gone) = store.delete(&RUNS, "ns", "a", 0).unwrap();
    assert!(!gone && object["metadata"]["generation"] == 2);
    object["metadata"]["finalizers"] = json!([]);
    store.update(&RUNS, object, Writer::main("m")).unwrap();
    assert!(store.get(&RUNS, "ns", "a").is_none());
    let kinds: Vec<_> = store.changes(0).map(|c| c.what).collect();
    assert_eq!(
        kinds,
        [ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted]
    );
}

#[test]
fn dependents_go_with_their_owner() {
    let mut store = Store::default();
    let owner = store
        .create(
            &PIPELINES,
            json!({"metadata": {"name": "p", "namespace": "ns"}}),
            "m",
            false,
        )
        .unwrap();
    let mut object = run("a");
    object["metadata"]["ownerReferences"] = json!([{"uid": owner["metadata"]["uid"]}]);
    store.create(&RUNS, object, "m", false).unwrap();
    store.delete(&PIPELINES, "ns", "p", 0).unwrap();
    assert!(store.get(&RUNS, "ns", "a").is_none());
}

#[test]
fn a_compacted_log_says_so() {
    let mut store = Store::default();
    store.create(&RUNS, run("a"), "m", false).unwrap();
    let seen = store.version();
    store.create(&RUNS, run("b"), "m", false).unwrap();
    assert_eq!(store.changes(seen).count(), 1);
    store.compact();
    assert!(seen < store.compacted());
}

#[test]
fn generated_names_can_be_chosen_in_advance() {
    let mut store = Store::default();
    store.suffixes.push_back("h6gkg".into());
    let mut object = run("");
    object["metadata"]["generateName"] = json!("hello-");
    assert_eq!(
        name(&store.create(&RUNS, object, "m", false).unwrap()),
        "hello-h6gkg"
    );
}
