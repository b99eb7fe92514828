//! What the API server refuses at apply time, with which words, and what it takes: each rule of the schema once, on a real
//! API server.

mod builds;
mod connections;
mod fetches;
mod references;

use std::path::Path;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, PostParams},
};
use serde_json::{Value, json};
use tenantry::api::{ArtifactFetch, BuildRequest, TenantConnection};
use tenantry_test_support::TestCluster;

/// A good object of a kind, to be spoilt.
fn good(kind: &str) -> Value {
    let spec = match kind {
        "TenantConnection" => json!({
            "endpoint": "https://ks.example.org",
            "workspace": "demo",
            "credentials": {"password": {"secretRef": {"name": "ks"}}},
        }),
        "BuildRequest" => json!({
            "connectionRef": {"name": "ks"},
            "project": "shop",
            "pipeline": "hello",
        }),
        "ArtifactFetch" => json!({"source": {"buildRequestRef": {"name": "build"}}}),
        other => panic!("no kind {other}"),
    };
    json!({
        "apiVersion": "tenantry.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x"},
        "spec": spec,
    })
}

/// `good(kind)` with each of `changes` merged into its spec, as a JSON merge patch.
fn with(kind: &str, change: &Value) -> Value {
    let mut object = good(kind);
    merge(&mut object["spec"], change);
    object
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn resource(kind: &str) -> ApiResource {
    match kind {
        "TenantConnection" => ApiResource::erase::<TenantConnection>(&()),
        "BuildRequest" => ApiResource::erase::<BuildRequest>(&()),
        "ArtifactFetch" => ApiResource::erase::<ArtifactFetch>(&()),
        other => panic!("no kind {other}"),
    }
}

/// Creates `object` without storing it: the object as it would be stored, or the API server's words.
async fn try_create(cluster: &TestCluster, object: Value) -> Result<Value, String> {
    let kind = object["kind"].as_str().expect("a kind").to_owned();
    let client = cluster.client().await.expect("a client");
    let api: Api<DynamicObject> = Api::namespaced_with(client, "default", &resource(&kind));
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    match api.create(&params, &object).await {
        Ok(stored) => Ok(serde_json::to_value(stored).expect("JSON")),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("the API server did not say yes or no: {error}"),
    }
}

async fn cluster() -> &'static TestCluster {
    let cluster = TestCluster::shared().await.expect("a cluster");
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    cluster.apply_crds(&crds).await.expect("the CRDs");
    cluster
}

/// Tries every row and tells all that went wrong.
async fn refused(kind: &str, rows: Vec<(Value, &str)>) {
    let cluster = cluster().await;
    let mut wrong = Vec::new();
    for (change, says) in rows {
        match try_create(cluster, with(kind, &change)).await {
            Ok(_) => wrong.push(format!("{change} was taken; it should be refused with {says:?}")),
            Err(words) if !words.contains(says) => {
                wrong.push(format!("{change}: {says:?} is not in: {words}"));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{kind}:\n{}", wrong.join("\n"));
}

async fn taken(kind: &str, rows: Vec<Value>) {
    let cluster = cluster().await;
    let mut wrong = Vec::new();
    for change in rows {
        if let Err(words) = try_create(cluster, with(kind, &change)).await {
            wrong.push(format!("{change} was refused: {words}"));
        }
    }
    assert!(wrong.is_empty(), "{kind}:\n{}", wrong.join("\n"));
}

/// A long list of `n` elements that `make` makes.
fn many(n: usize, make: impl Fn(usize) -> Value) -> Value {
    (0..n).map(make).collect()
}

#[tokio::test]
async fn what_is_left_out_gets_its_default() {
    let cluster = cluster().await;
    let stored = async |kind: &str| try_create(cluster, good(kind)).await.expect(kind)["spec"].clone();
    let connection = stored("TenantConnection").await;
    assert_eq!(
        connection["limits"],
        json!({"requestsPerSecond": 20, "burst": 40, "concurrentRequests": 16})
    );
    assert_eq!(connection["pollInterval"], "5s");
    assert_eq!(
        connection["credentials"]["password"],
        json!({
            "secretRef": {"name": "ks"}, "usernameKey": "username", "passwordKey": "password", "clientId": "kubesphere"
        })
    );
    let build = stored("BuildRequest").await;
    assert_eq!(build["timeouts"], json!({"trigger": "10m", "run": "6h"}));
    assert_eq!(
        build["retry"],
        json!({"limit": 0, "backoff": "30s", "outcomes": ["Failure", "TriggerFailed", "TimedOut", "Lost"]})
    );
    assert_eq!(build["deletionPolicy"], "Retain");
    assert_eq!(build["logs"]["maxBytes"], 1_048_576);
    assert_eq!(build["logs"]["tailLines"], 20);
    let fetch = stored("ArtifactFetch").await;
    assert_eq!(fetch["include"], json!(["**"]));
    assert_eq!(fetch.get("maxBytes"), None, "as much as the destination holds");
    assert_eq!(
        fetch["destination"],
        json!({}),
        "a ConfigMap, and not in the way of a volume"
    );
    assert_eq!(build["logs"]["destination"], json!({}));
    assert_eq!(fetch["maxFiles"], 1000);
    assert_eq!(fetch["prune"], true);
}

#[tokio::test]
async fn what_is_stored_is_what_our_types_read() {
    let cluster = cluster().await;
    let connection = try_create(cluster, good("TenantConnection"))
        .await
        .expect("taken");
    let build = try_create(cluster, good("BuildRequest")).await.expect("taken");
    let fetch = try_create(cluster, good("ArtifactFetch")).await.expect("taken");
    serde_json::from_value::<TenantConnection>(connection).expect("TenantConnection");
    serde_json::from_value::<BuildRequest>(build).expect("BuildRequest");
    serde_json::from_value::<ArtifactFetch>(fetch).expect("ArtifactFetch");
}

#[tokio::test]
async fn each_kind_has_its_short_name_and_is_of_our_category() {
    let cluster = cluster().await;
    for (short, plural) in [
        ("tconn", "tenantconnections"),
        ("breq", "buildrequests"),
        ("afetch", "artifactfetches"),
    ] {
        let resources = cluster
            .kubectl([
                "api-resources",
                "--api-group=tenantry.dev",
                "--no-headers",
                "-o",
                "wide",
            ])
            .await
            .expect("api-resources");
        let line = resources
            .lines()
            .find(|l| l.starts_with(plural))
            .unwrap_or_else(|| panic!("no {plural} in:\n{resources}"));
        assert!(line.contains(short) && line.contains("tenantry"), "{line}");
    }
}
