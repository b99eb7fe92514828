//! Applications: what ks-devops' `argocd` controllers make of an Argo CD that plays its part (findings F-N).

mod common;

use common::{Client, PROJECT, recorded, until};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tenantry_simulator::{ArgoSetup, Simulator, world::ArgoScript};

fn kapis(rest: &str) -> String {
    format!("/kapis/gitops.kubesphere.io/v1alpha1/namespaces/{PROJECT}/{rest}")
}

fn apis(rest: &str) -> String {
    format!("/apis/gitops.kubesphere.io/v1alpha1/namespaces/{PROJECT}/{rest}")
}

fn spec() -> Value {
    json!({"kind": "argocd", "argoApp": {"spec": {
        "project": "default",
        "source": {"repoURL": "https://git.example/acme/deploy.git", "path": "prod", "targetRevision": "main"},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop"},
    }}})
}

fn application(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": spec()})
}

async fn start() -> (Simulator, Client) {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    (sim, alice)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    text(object, &format!("/metadata/labels/gitops.kubesphere.io~1{name}"))
}

/// What Argo said, from the string in the status.
fn said(object: &Value) -> Value {
    serde_json::from_str(text(object, "/status/argoApp")).unwrap_or_default()
}

/// Waits until an application is so.
async fn once(client: &Client, name: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    until(what, async || {
        let object = client.get(&kapis(&format!("applications/{name}"))).await.json();
        so(&object).then_some(object)
    })
    .await
}

#[tokio::test]
async fn an_application_is_compared_synced_and_settles() {
    let (sim, alice) = start().await;
    let created = alice.post(&kapis("applications"), &application("web")).await;
    assert_eq!(created.status, 200);
    assert!(
        created.json().get("kind").is_none(),
        "the answer to a create has no type"
    );
    let missing = once(&alice, "web", "compared", |o| {
        said(o)["sync"]["status"] == "OutOfSync"
    })
    .await;
    assert_eq!(label(&missing, "health-status"), "Missing");
    assert_eq!(text(&missing, "/spec/argoApp/spec/project"), PROJECT);
    let body = json!({"revision": "v2", "infos": [{"name": "why", "value": "release"}]});
    let synced = alice.post(&kapis("applications/web/sync"), &body).await.json();
    let operation = &synced["spec"]["argoApp"]["operation"];
    assert_eq!(operation["initiatedBy"]["username"], "alice");
    assert_eq!(operation["info"], body["infos"]);
    let again = alice.post(&kapis("applications/web/sync"), &json!({})).await;
    assert_eq!(
        (again.status, again.text.as_str()),
        (
            400,
            "[ServiceError:400] another operation is already in progress\n"
        )
    );
    let healthy = once(&alice, "web", "healthy", |o| {
        said(o)["health"]["status"] == "Healthy"
    })
    .await;
    assert_eq!(said(&healthy)["operationState"]["phase"], "Succeeded");
    assert_eq!(said(&healthy)["history"][0]["id"], 0);
    assert!(healthy.pointer("/spec/argoApp/operation").is_none());
    assert_eq!(label(&healthy, "sync-status"), "Synced");
    assert_eq!(
        sim.ledger().count("gitops.application.sync"),
        2,
        "the refused one counts as well"
    );
}

#[tokio::test]
async fn a_failed_sync_shows_in_the_operation_only() {
    let (sim, alice) = start().await;
    let script = ArgoScript {
        unknown_revisions: vec!["nope".into()],
        ..ArgoScript::default()
    };
    sim.control().argo_script(Some((PROJECT, "web")), script).unwrap();
    alice.post(&kapis("applications"), &application("web")).await;
    once(&alice, "web", "compared", |o| {
        label(o, "sync-status") == "OutOfSync"
    })
    .await;
    alice
        .post(&kapis("applications/web/sync"), &json!({"revision": "nope"}))
        .await;
    let failed = once(&alice, "web", "failed", |o| {
        said(o)["operationState"]["phase"] == "Error"
    })
    .await;
    assert_eq!(said(&failed)["conditions"][0]["type"], "SyncError");
    assert_eq!(
        (label(&failed, "sync-status"), label(&failed, "health-status")),
        ("OutOfSync", "Missing")
    );
}

#[tokio::test]
async fn an_operation_that_argo_drops_in_silence_stays_until_the_next_status() {
    let (sim, alice) = start().await;
    let control = sim.control();
    control.argo_script(None, ArgoScript::still()).unwrap();
    alice.post(&kapis("applications"), &application("web")).await;
    once(&alice, "web", "handed to Argo", |o| {
        text(o, "/status/argoApp") == "null"
    })
    .await;
    alice.post(&kapis("applications/web/sync"), &json!({})).await;
    until("Argo has it", async || {
        let argo = control.argo_application(PROJECT, "web")?;
        argo.get("operation").cloned()
    })
    .await;
    control.argo_says(PROJECT, "web", None, true).unwrap();
    // Something else that the controllers do afterwards: by then they have seen this as well.
    alice.post(&kapis("applications"), &application("other")).await;
    once(&alice, "other", "handed to Argo", |o| {
        text(o, "/status/argoApp") == "null"
    })
    .await;
    let stuck = alice.post(&kapis("applications/web/sync"), &json!({})).await;
    assert_eq!(stuck.status, 400, "{stuck:?}");
    let status = json!({"health": {"status": "Healthy"}, "sync": {"status": "Synced"}});
    control.argo_says(PROJECT, "web", Some(status), false).unwrap();
    once(&alice, "web", "free again", |o| {
        o.pointer("/spec/argoApp/operation").is_none()
    })
    .await;
    assert_eq!(
        alice
            .post(&kapis("applications/web/sync"), &json!({}))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_put_of_the_users_own_body_cuts_the_object_off() {
    let (sim, alice) = start().await;
    sim.control().argo_script(None, ArgoScript::still()).unwrap();
    alice.post(&kapis("applications"), &application("web")).await;
    once(&alice, "web", "handed to Argo", |o| {
        text(o, "/status/argoApp") == "null"
    })
    .await;
    let put = async |body: &Value| {
        let request = alice.request("PUT", &kapis("applications/web")).json(body);
        alice.try_send(request).await.unwrap()
    };
    let bare = put(&application("web")).await;
    assert_eq!(
        (bare.status, bare.text.as_str()),
        (
            500,
            "an empty namespace may not be set when a resource name is provided\n"
        )
    );
    let mut own = application("web");
    own["metadata"]["namespace"] = json!(PROJECT);
    let wiped = put(&own).await.json();
    assert!(wiped["metadata"].get("labels").is_none(), "{wiped}");
    assert!(wiped["metadata"].get("finalizers").is_none(), "{wiped}");
    assert_eq!(
        alice.delete(&kapis("applications/web?cascade=true")).await.status,
        200
    );
    assert_eq!(
        alice.get(&kapis("applications/web")).await.status,
        404,
        "gone at once"
    );
    assert!(
        sim.control().argo_application(PROJECT, "web").is_some(),
        "and left behind in Argo"
    );
    alice.post(&kapis("applications"), &application("web")).await;
    let second = once(&alice, "web", "handed to Argo", |o| {
        !label(o, "argocd-application").is_empty()
    })
    .await;
    let name = label(&second, "argocd-application");
    assert!(name.starts_with("web") && name.len() == 8, "{name}");
}

#[tokio::test]
async fn a_cascade_takes_its_time_in_argo_and_only_true_is_one() {
    let (sim, alice) = start().await;
    let control = sim.control();
    for (name, query, left) in [
        ("one", "", false),
        ("two", "?cascade=1", false),
        ("three", "?cascade=true", true),
    ] {
        let script = ArgoScript {
            plays: false,
            ..ArgoScript::default()
        };
        control.argo_script(Some((PROJECT, name)), script).unwrap();
        alice.post(&kapis("applications"), &application(name)).await;
        once(&alice, name, "handed to Argo", |o| {
            !label(o, "argocd-application").is_empty()
                && o.pointer("/metadata/finalizers").is_some()
                && text(o, "/status/argoApp") == "null"
        })
        .await;
        let path = kapis(&format!("applications/{name}{query}"));
        let answer = alice.delete(&path).await.json();
        assert!(
            answer.pointer("/metadata/deletionTimestamp").is_none(),
            "the object as it was"
        );
        until("gone for the tenant", async || {
            let answer = alice.get(&kapis(&format!("applications/{name}"))).await;
            (answer.status == 404).then_some(())
        })
        .await;
        let removed = control.remove_argo_application(PROJECT, name);
        assert_eq!(removed.is_ok(), left, "{name}");
    }
}

#[tokio::test]
async fn lists_filter_by_label_exactly_and_ignore_selectors() {
    let (sim, alice) = start().await;
    let control = sim.control();
    control.argo_script(None, ArgoScript::still()).unwrap();
    for (name, health) in [("a", "Degraded"), ("b", "Healthy"), ("c", "")] {
        alice.post(&kapis("applications"), &application(name)).await;
        once(&alice, name, "handed to Argo", |o| {
            text(o, "/status/argoApp") == "null"
        })
        .await;
        if !health.is_empty() {
            let status = json!({"health": {"status": health}, "sync": {"status": "Synced"}});
            control.argo_says(PROJECT, name, Some(status), false).unwrap();
            once(&alice, name, "told", |o| said(o)["health"]["status"] == health).await;
        }
    }
    for (query, total) in [
        ("", 3),
        ("?healthStatus=Degraded", 1),
        ("?healthStatus=degraded", 0),
        ("?healthStatus=Degraded,Healthy", 0),
        ("?syncStatus=Synced", 2),
        ("?syncStatus=Synced&healthStatus=Healthy", 1),
        ("?name=b", 1),
        (
            "?labelSelector=gitops.kubesphere.io%2Fhealth-status%3DDegraded",
            3,
        ),
    ] {
        let list = alice.get(&kapis(&format!("applications{query}"))).await.json();
        assert_eq!(list["totalItems"], total, "{query}");
        assert!(list["items"].is_array(), "{query}: never null");
    }
    let selected = apis("applications?labelSelector=gitops.kubesphere.io%2Fhealth-status%3DDegraded");
    let selected = alice.get(&selected).await.json();
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(1));
    let summary = alice.get(&kapis("application-summary")).await.json();
    assert_eq!(
        summary,
        json!({"total": 3, "healthStatus": {"Degraded": 1, "Healthy": 1}, "syncStatus": {"Synced": 2}})
    );
}

#[tokio::test]
async fn the_object_route_needs_the_location_label_and_can_start_a_sync() {
    let (sim, alice) = start().await;
    sim.control().argo_script(None, ArgoScript::still()).unwrap();
    let mut direct = application("direct");
    let created = alice.post(&apis("applications"), &direct).await;
    assert_eq!(created.status, 201);
    until("an Event says why nothing happens", async || {
        let events =
            format!("/api/v1/namespaces/{PROJECT}/events?fieldSelector=involvedObject.name%3Ddirect");
        let list = alice.get(&events).await.json();
        (list.pointer("/items/0/reason")? == "Invalid").then_some(())
    })
    .await;
    direct["metadata"]["name"] = json!("direct2");
    direct["metadata"]["labels"] = json!({"gitops.kubesphere.io/argocd-location": "argocd"});
    direct["spec"]["argoApp"]["spec"]["destination"]["name"] = json!("in-cluster");
    alice.post(&apis("applications"), &direct).await;
    once(&alice, "direct2", "handed to Argo", |o| {
        text(o, "/status/argoApp") == "null"
    })
    .await;
    let patch = json!({"spec": {"argoApp": {"operation": {"sync": {"revision": "main"}}}}});
    let request = alice
        .request("PATCH", &apis("applications/direct2"))
        .header(CONTENT_TYPE, "application/merge-patch+json")
        .body(patch.to_string());
    assert_eq!(alice.try_send(request).await.unwrap().status, 200);
    let argo = until("Argo has the operation", async || {
        let argo = sim.control().argo_application(PROJECT, "direct2")?;
        argo.get("operation").is_some().then_some(argo)
    })
    .await;
    assert!(
        argo.pointer("/spec/destination/server").is_none(),
        "of server and name only the name is left: {argo}"
    );
    assert_eq!(argo.pointer("/spec/project"), Some(&json!(PROJECT)));
}

#[tokio::test]
async fn without_argos_crds_the_whole_controller_exits() {
    let (sim, alice) = start().await;
    let control = sim.control();
    control.argo_setup(ArgoSetup::CrdsMissing).unwrap();
    let run = alice.trigger("hello", &[("DURATION", "0.1")]).await;
    alice.finished(&run).await;
    for _ in 0..2 {
        until("it exits", async || (!control.controller_runs()).then_some(())).await;
        control.controller(true).unwrap();
        assert!(control.controller_runs(), "a restart helps for a while");
    }
}

#[tokio::test]
async fn bad_requests_are_refused_as_recorded_or_read() {
    let (_sim, alice) = start().await;
    let bob_sim = recorded().await;
    let bob = Client::login(&bob_sim, "bob", "viewer-Passw0rd").await;
    alice.post(&kapis("applications"), &application("web")).await;
    let duplicate = alice.post(&kapis("applications"), &application("web")).await;
    assert_eq!(
        (duplicate.status, duplicate.text.as_str()),
        (409, "applications.gitops.kubesphere.io \"web\" already exists\n")
    );
    let raw = async |method: &str, path: &str, body: &str| {
        let request = alice
            .request(method, &kapis(path))
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_owned());
        let answer = alice.try_send(request).await.unwrap();
        (answer.status, answer.text)
    };
    let invalid = "[ServiceError:400] invalid application sync request\n";
    for body in ["{nope", "[]", r#"{"prune":"yes"}"#, ""] {
        assert_eq!(
            raw("POST", "applications/web/sync", body).await,
            (400, invalid.into()),
            "{body}"
        );
    }
    let missing = (
        404,
        "Application.gitops.kubesphere.io \"nope\" not found\n".to_owned(),
    );
    for (method, path, body) in [
        ("POST", "applications/nope/sync", "{}"),
        (
            "PUT",
            "applications/nope",
            r#"{"metadata":{"name":"nope","namespace":"demo2snmj"}}"#,
        ),
        ("DELETE", "applications/nope", ""),
        ("GET", "applications/nope", ""),
    ] {
        assert_eq!(raw(method, path, body).await, missing, "{method} {path}");
    }
    assert_eq!(raw("PATCH", "applications/web", "{}").await.0, 405);
    assert_eq!(raw("POST", "applications", "{nope").await.0, 500);
    assert_eq!(
        bob.post(&kapis("applications/web/sync"), &json!({})).await.status,
        403
    );
    assert_eq!(bob.get(&kapis("applications")).await.status, 200);
}
