//! The object API through kube's own client: what an operator does with it.

mod common;

use common::{Client as Http, PROJECT, recorded, until};
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use kube::{Client, Config};
use serde_json::json;
use tenantry_simulator::Simulator;

fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("devops.kubesphere.io", "v1alpha3", "PipelineRun"),
        "pipelineruns",
    )
}

async fn runs(sim: &Simulator, prefix: &str) -> Api<DynamicObject> {
    let alice = Http::alice(sim).await;
    let mut config = Config::new(format!("{}{prefix}", sim.url()).parse().unwrap());
    config.auth_info.token = Some(alice.token.into());
    Api::namespaced_with(Client::try_from(config).unwrap(), PROJECT, &resource())
}

fn run(name: &str) -> DynamicObject {
    let mut object = DynamicObject::new(name, &resource()).within(PROJECT).data(json!({
        "spec": {"pipelineRef": {"kind": "Pipeline", "namespace": PROJECT, "name": "hello"}},
    }));
    object.metadata.annotations =
        Some([("devops.kubesphere.io/creator".to_owned(), "alice".to_owned())].into());
    object
}

#[tokio::test]
async fn a_chosen_name_can_be_created_once() {
    let sim = recorded().await;
    for prefix in ["", "/clusters/host"] {
        let api = runs(&sim, prefix).await;
        let name = if prefix.is_empty() { "own-1" } else { "own-2" };
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        api.create(&dry, &run(name)).await.unwrap();
        assert!(
            api.get_opt(name).await.unwrap().is_none(),
            "a dry run stores nothing"
        );
        api.create(&PostParams::default(), &run(name)).await.unwrap();
        let again = api.create(&PostParams::default(), &run(name)).await.unwrap_err();
        let kube::Error::Api(status) = again else {
            panic!("{again:?}")
        };
        assert_eq!((status.code, status.reason.as_str()), (409, "AlreadyExists"));
        until("it ends", async || {
            let object = api.get(name).await.unwrap();
            (object.data["status"]["phase"] == "Succeeded").then_some(())
        })
        .await;
    }
    assert_eq!(sim.ledger().builds().len(), 2);
}

#[tokio::test]
async fn bad_objects_are_refused() {
    let sim = recorded().await;
    let api = runs(&sim, "").await;
    let mut missing = run("no-ref");
    missing.data = json!({"spec": {"parameters": []}});
    let code = |e: kube::Error| match e {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("{other:?}"),
    };
    let (status, message) = code(api.create(&PostParams::default(), &missing).await.unwrap_err());
    let text = "PipelineRun.devops.kubesphere.io \"no-ref\" is invalid: spec.pipelineRef: Required value";
    assert_eq!((status, message.as_str()), (422, text));
    assert_eq!(
        code(
            api.create(&PostParams::default(), &run("Bad_Name"))
                .await
                .unwrap_err()
        )
        .0,
        422
    );
}

#[tokio::test]
async fn patches_apply_and_versions_conflict() {
    let sim = recorded().await;
    sim.control().controller(false).unwrap();
    let api = runs(&sim, "").await;
    let apply = PatchParams::apply("tester");
    let body = json!({
        "apiVersion": "devops.kubesphere.io/v1alpha3", "kind": "PipelineRun",
        "metadata": {"name": "applied", "labels": {"a": "1"}}, "spec": {"pipelineRef": {"name": "hello"}},
    });
    let first = api.patch("applied", &apply, &Patch::Apply(&body)).await.unwrap();
    let same = api.patch("applied", &apply, &Patch::Apply(&body)).await.unwrap();
    assert_eq!(
        first.metadata.resource_version, same.metadata.resource_version,
        "nothing changed"
    );
    let merge = Patch::Merge(json!({"metadata": {"labels": {"b": "2"}}}));
    let merged = api
        .patch("applied", &PatchParams::default(), &merge)
        .await
        .unwrap();
    assert_eq!(merged.metadata.labels.as_ref().unwrap().len(), 2);
    let mut old = first.clone();
    old.metadata.labels = Some([("c".to_owned(), "3".to_owned())].into());
    let conflict = api
        .replace("applied", &PostParams::default(), &old)
        .await
        .unwrap_err();
    assert!(
        matches!(&conflict, kube::Error::Api(s) if s.code == 409 && s.reason == "Conflict"),
        "{conflict:?}"
    );
}

#[tokio::test]
async fn a_watcher_sees_the_life_of_a_run_and_survives_a_compaction() {
    let sim = recorded().await;
    let api = runs(&sim, "").await;
    let config = watcher::Config::default()
        .fields("metadata.name=watched")
        .any_semantic();
    let mut events = watcher(api.clone(), config).boxed();
    let mut phases = Vec::new();
    let mut created = false;
    while phases.last().map(String::as_str) != Some("Succeeded") {
        let event = tokio::time::timeout(std::time::Duration::from_secs(60), events.next()).await;
        match event
            .expect("an event within a minute")
            .expect("the stream goes on")
        {
            Ok(watcher::Event::InitDone) if !created => {
                created = true;
                api.create(&PostParams::default(), &run("watched")).await.unwrap();
            }
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let phase = object.data["status"]["phase"]
                    .as_str()
                    .unwrap_or("none")
                    .to_owned();
                if phase == "Running" && !phases.contains(&phase) {
                    // The watch is now too old: the watcher has to list again.
                    sim.control().compact().unwrap();
                }
                if phases.last() != Some(&phase) {
                    phases.push(phase);
                }
            }
            _ => {}
        }
    }
    assert_eq!(phases, ["none", "Running", "Succeeded"]);
}

#[tokio::test]
async fn a_watch_resumes_where_it_left_off() {
    let sim = recorded().await;
    sim.control().controller(false).unwrap();
    let api = runs(&sim, "").await;
    let before = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    api.create(&PostParams::default(), &run("one")).await.unwrap();
    api.create(&PostParams::default(), &run("two")).await.unwrap();
    api.delete("one", &DeleteParams::default()).await.unwrap();
    let params = kube::api::WatchParams::default().timeout(1);
    let events: Vec<_> = api
        .watch(&params, &before)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let told: Vec<String> = events
        .iter()
        .map(|e| match e {
            kube::api::WatchEvent::Added(o) => format!("+{}", o.metadata.name.as_deref().unwrap_or_default()),
            kube::api::WatchEvent::Deleted(o) => {
                format!("-{}", o.metadata.name.as_deref().unwrap_or_default())
            }
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["+one", "+two", "-one"]);
    sim.control().compact().unwrap();
    let late: Vec<_> = api
        .watch(&params, &before)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(
        matches!(&late[..], [kube::api::WatchEvent::Error(s)] if s.code == 410),
        "{late:?}"
    );
}

#[tokio::test]
async fn lists_come_in_pages() {
    let sim = recorded().await;
    sim.control().controller(false).unwrap();
    let api = runs(&sim, "").await;
    for i in 0..5 {
        api.create(&PostParams::default(), &run(&format!("p{i}")))
            .await
            .unwrap();
    }
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(2);
    loop {
        let page = api.list(&params).await.unwrap();
        names.extend(page.items.iter().map(|o| o.metadata.name.clone().unwrap()));
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4"]);
}

#[tokio::test]
async fn an_apply_stops_at_what_others_own() {
    let sim = recorded().await;
    let api = runs(&sim, "").await;
    let applied = |action: &str| {
        let mut run = run("ssa");
        run.data["spec"]["action"] = json!(action);
        Patch::Apply(run)
    };
    let first = api
        .patch("ssa", &PatchParams::apply("first"), &applied("Stop"))
        .await
        .unwrap();
    let same = api
        .patch("ssa", &PatchParams::apply("second"), &applied("Stop"))
        .await;
    assert!(same.is_ok(), "the same value is nobody's conflict");
    let other = api
        .patch("ssa", &PatchParams::apply("second"), &applied("Pause"))
        .await;
    let Err(kube::Error::Api(status)) = other else {
        panic!("{other:?}")
    };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"first\": .spec.action"
    );
    let cause = &status.details.as_ref().unwrap().causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.field.as_str()),
        ("FieldManagerConflict", ".spec.action")
    );
    let forced = api
        .patch("ssa", &PatchParams::apply("second").force(), &applied("Pause"))
        .await
        .unwrap();
    assert_eq!(forced.data["spec"]["action"], "Pause");
    assert_eq!(forced.metadata.uid, first.metadata.uid);
    // It is the second one's alone now: the first one is in its way no longer.
    let back = api
        .patch("ssa", &PatchParams::apply("second"), &applied("Resume"))
        .await;
    assert!(back.is_ok(), "{back:?}");
}

#[tokio::test]
async fn tables_are_as_a_real_server_gives_them() {
    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";
    let sim = recorded().await;
    sim.control().controller(false).unwrap();
    let alice = Http::alice(&sim).await;
    let path = format!("/apis/devops.kubesphere.io/v1alpha3/namespaces/{PROJECT}/pipelineruns");
    let ask = async |query: &str| {
        let url = format!("{}{path}?{query}", sim.url());
        let request = reqwest::Client::new()
            .get(url)
            .header("Accept", TABLE)
            .bearer_auth(&alice.token);
        request.send().await.unwrap().text().await.unwrap()
    };
    let list: serde_json::Value = serde_json::from_str(&ask("includeObject=None").await).unwrap();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let names: Vec<_> = list["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["Name", "ID", "Phase", "Age"]);

    let api = runs(&sim, "").await;
    api.create(&PostParams::default(), &run("one")).await.unwrap();
    api.delete("one", &DeleteParams::default()).await.unwrap();
    let watched = async |include: &str| {
        let query = format!("watch=1&resourceVersion={version}&timeoutSeconds=1&includeObject={include}");
        let text = ask(&query).await;
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<serde_json::Value>>()
    };
    let lines = watched("None").await;
    let kinds: Vec<_> = lines.iter().map(|line| &line["type"]).collect();
    assert_eq!(kinds, ["ADDED", "DELETED"]);
    // The columns come once; what there is none of is null.
    assert!(lines[0]["object"]["columnDefinitions"].is_array(), "{lines:?}");
    assert!(lines[1]["object"]["columnDefinitions"].is_null(), "{lines:?}");
    let row = &lines[0]["object"]["rows"][0];
    assert_eq!((&row["cells"][0], &row["object"]), (&json!("one"), &json!(null)));
    assert_eq!((&row["cells"][1], &row["cells"][2]), (&json!(null), &json!(null)));
    assert!(lines[0]["object"]["metadata"]["resourceVersion"].is_string());
    let metadata = &watched("Metadata").await[0]["object"]["rows"][0]["object"];
    assert_eq!(metadata["kind"], "PartialObjectMetadata");
    assert!(ask("includeObject=All").await.contains("Invalid value"));

    let initial =
        ask("watch=1&sendInitialEvents=true&allowWatchBookmarks=true&timeoutSeconds=1&includeObject=None")
            .await;
    let last: serde_json::Value = serde_json::from_str(initial.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["object"]["rows"][0]["cells"][0]),
        (&json!("BOOKMARK"), &json!(""))
    );
    let ends = &last["object"]["rows"][0]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
    assert_eq!(ends, "true");
}
