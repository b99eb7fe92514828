//! What the API server refuses at apply time, with which words, and what it takes: each rule of the schema once, on a real
//! API server.

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
async fn a_tenant_connection_that_cannot_work_is_refused() {
    const ENDPOINT: &str = "endpoint must be the URL of the KubeSphere gateway";
    const ONE_KIND: &str =
        "set exactly one of credentials.password, credentials.token and credentials.kubeconfig";
    let secret = json!({"secretRef": {"name": "ks"}});
    refused(
        "TenantConnection",
        vec![
            (json!({"endpoint": null}), "spec.endpoint: Required value"),
            (json!({"endpoint": "ks.example.org"}), ENDPOINT),
            (json!({"endpoint": "ftp://ks.example.org"}), ENDPOINT),
            (json!({"endpoint": "https://"}), ENDPOINT),
            (json!({"endpoint": "https://ks.example.org/?a=b"}), ENDPOINT),
            (
                json!({"endpoint": "https://alice:secret@ks.example.org"}),
                "endpoint must not contain a user name or password",
            ),
            (json!({"workspace": null}), "spec.workspace: Required value"),
            (json!({"workspace": ""}), "spec.workspace"),
            (json!({"workspace": "Demo"}), "spec.workspace"),
            (json!({"cluster": ""}), "spec.cluster"),
            (json!({"credentials": null}), "spec.credentials: Required value"),
            (json!({"credentials": {"password": null}}), ONE_KIND),
            (json!({"credentials": {"token": secret}}), ONE_KIND),
            (json!({"credentials": {"kubeconfig": secret}}), ONE_KIND),
            (
                json!({"credentials": {"password": {"secretRef": {"name": ""}}}}),
                "spec.credentials.password.secretRef.name",
            ),
            (
                json!({"credentials": {"password": {"usernameKey": ""}}}),
                "spec.credentials.password.usernameKey",
            ),
            (
                json!({"credentials": {"password": {"clientSecretRef": {"name": "a", "key": "a b"}}}}),
                "spec.credentials.password.clientSecretRef.key",
            ),
            (
                json!({"tls": {"insecureSkipVerify": true, "caRef": {"secret": {"name": "a", "key": "ca.crt"}}}}),
                "set tls.caRef or tls.insecureSkipVerify, not both",
            ),
            (
                json!({"tls": {"caRef": {}}}),
                "set exactly one of caRef.secret and caRef.configMap",
            ),
            (
                json!({"tls": {"caRef": {"secret": {"name": "a", "key": "k"}, "configMap": {"name": "a", "key": "k"}}}}),
                "set exactly one of caRef.secret and caRef.configMap",
            ),
            (
                json!({"limits": {"requestsPerSecond": 0}}),
                "spec.limits.requestsPerSecond",
            ),
            (json!({"limits": {"burst": 0}}), "spec.limits.burst"),
            (json!({"limits": {"concurrentRuns": 0}}), "spec.limits.concurrentRuns"),
            (json!({"pollInterval": "soon"}), "spec.pollInterval"),
            (json!({"pollInterval": "-5s"}), "spec.pollInterval"),
            (
                json!({"pollInterval": "10ms"}),
                "pollInterval must be between 1s and 10m",
            ),
            (
                json!({"pollInterval": "1h"}),
                "pollInterval must be between 1s and 10m",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_good_tenant_connection_is_taken() {
    taken(
        "TenantConnection",
        vec![
            json!({}),
            json!({"endpoint": "http://10.0.0.1:30880"}),
            json!({"endpoint": "https://ks.example.org/gateway"}),
            json!({"endpoint": "http://[::1]:9090"}),
            json!({"cluster": "member-1", "limits": {"concurrentRuns": 3}, "pollInterval": "1m30s"}),
            json!({"credentials": {"password": null, "token": {"secretRef": {"name": "sa"}, "key": "jwt"}}}),
            json!({"credentials": {"password": null, "kubeconfig": {"secretRef": {"name": "kc"}}}}),
            json!({"tls": {"caRef": {"configMap": {"name": "ca", "key": "ca.crt"}}}}),
            json!({"tls": {"insecureSkipVerify": true}}),
            json!({"suspend": true}),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_build_request_that_cannot_work_is_refused() {
    const BRANCH: &str = "branch must be written as git shows it, like feature/login";
    const ONE_VALUE: &str = "set exactly one of value and valueFrom";
    const ONE_SOURCE: &str = "set exactly one of valueFrom.secretKeyRef and valueFrom.configMapKeyRef";
    let parameter = |rest: Value| {
        let mut parameter = json!({"name": "VERSION"});
        merge(&mut parameter, &rest);
        json!({"parameters": [parameter]})
    };
    let key = json!({"name": "a", "key": "k"});
    refused(
        "BuildRequest",
        vec![
            (
                json!({"connectionRef": null}),
                "spec.connectionRef: Required value",
            ),
            (json!({"connectionRef": {"name": ""}}), "spec.connectionRef.name"),
            (json!({"project": null}), "spec.project: Required value"),
            (json!({"project": ""}), "spec.project"),
            (json!({"project": "../other"}), "spec.project"),
            (json!({"pipeline": ""}), "spec.pipeline"),
            (json!({"pipeline": "a/b"}), "spec.pipeline"),
            (json!({"branch": ""}), "spec.branch"),
            (json!({"branch": "refs/heads/main"}), BRANCH),
            (json!({"branch": "feature%2Flogin"}), BRANCH),
            (json!({"branch": "a branch"}), BRANCH),
            (json!({"branch": "a\nb"}), BRANCH),
            (json!({"branch": "a[b"}), BRANCH),
            (json!({"branch": "a\\b"}), BRANCH),
            (parameter(json!({})), ONE_VALUE),
            (
                parameter(json!({"value": "1", "valueFrom": {"secretKeyRef": key}})),
                ONE_VALUE,
            ),
            (parameter(json!({"valueFrom": {}})), ONE_SOURCE),
            (
                parameter(json!({"valueFrom": {"secretKeyRef": key, "configMapKeyRef": key}})),
                ONE_SOURCE,
            ),
            (
                parameter(json!({"name": "", "value": "1"})),
                "spec.parameters[0].name",
            ),
            (parameter(json!({"value": 1})), "spec.parameters[0].value"),
            (
                json!({"parameters": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
                "Duplicate value",
            ),
            (
                json!({"parameters": many(65, |i| json!({"name": format!("P{i}"), "value": "1"}))}),
                "spec.parameters: Too many",
            ),
            (
                json!({"correlationParameter": "ID", "parameters": [{"name": "ID", "value": "1"}]}),
                "correlationParameter is set by the operator: do not list it in parameters",
            ),
            (
                json!({"correlationParameter": "1 D"}),
                "spec.correlationParameter",
            ),
            (
                json!({"timeouts": {"trigger": "ten minutes"}}),
                "spec.timeouts.trigger",
            ),
            (
                json!({"timeouts": {"trigger": "0s"}}),
                "timeouts.trigger must be at least 1s",
            ),
            (
                json!({"timeouts": {"run": "10ms"}}),
                "timeouts.run must be at least 1s",
            ),
            (json!({"retry": {"limit": -1}}), "spec.retry.limit"),
            (json!({"retry": {"limit": 21}}), "spec.retry.limit"),
            (
                json!({"retry": {"outcomes": ["Whenever"]}}),
                "spec.retry.outcomes[0]: Unsupported value",
            ),
            (
                json!({"retry": {"outcomes": ["Failure", "Failure"]}}),
                "Duplicate value",
            ),
            (json!({"logs": {"maxBytes": 100}}), "spec.logs.maxBytes"),
            (json!({"logs": {"maxBytes": 8_388_609}}), "spec.logs.maxBytes"),
            (json!({"logs": {"tailLines": 101}}), "spec.logs.tailLines"),
            (
                json!({"logs": {"destination": {"configMap": {"name": "A"}}}}),
                "spec.logs.destination.configMap.name",
            ),
            (
                json!({"artifacts": {"include": ["/etc/passwd"]}}),
                "a glob is relative to the artifact root",
            ),
            (json!({"ttlAfterFinished": "later"}), "spec.ttlAfterFinished"),
            (
                json!({"deletionPolicy": "Shred"}),
                "spec.deletionPolicy: Unsupported value",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_good_build_request_is_taken() {
    taken(
        "BuildRequest",
        vec![
            json!({}),
            json!({"branch": "feature/login"}),
            json!({"branch": "été"}),
            json!({"branch": "release-1.2_rc#3"}),
            json!({"parameters": many(64, |i| json!({"name": format!("P{i}"), "value": "x".repeat(1000)}))}),
            json!({"parameters": [
                {"name": "EMPTY", "value": ""},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a.b_c-d"}}},
            ]}),
            json!({"correlationParameter": "RUN_ID", "parameters": [{"name": "A", "value": "1"}]}),
            json!({"timeouts": {"trigger": "90s", "run": "1h30m"}, "retry": {"limit": 20, "backoff": "0s"}}),
            json!({"retry": {"outcomes": ["Failure", "Unstable", "Aborted", "TriggerFailed", "TimedOut", "Lost"]}}),
            json!({"logs": {"maxBytes": 8_388_608, "tailLines": 0, "destination": {"configMap": {"name": "log"}}}}),
            json!({"artifacts": {"include": ["out/**/*.{tar,zip}"], "destination": {"configMap": {"name": "a"}}}}),
            json!({"ttlAfterFinished": "24h", "deletionPolicy": "Abort", "suspend": true, "cancel": true}),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_artifact_fetch_that_cannot_work_is_refused() {
    const ONE_SOURCE: &str = "set exactly one of source.buildRequestRef and source.run";
    const ONE_RUN: &str = "set exactly one of run.name, run.id and run.latestSuccess";
    const RELATIVE: &str = "is relative to the artifact root and must not climb out with '..'";
    const UNBALANCED: &str = "a glob has an unbalanced [ ] or { }";
    let run = |rest: Value| {
        let mut run = json!({"connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "hello"});
        merge(&mut run, &rest);
        json!({"source": {"buildRequestRef": null, "run": run}})
    };
    let verify = |path: &str, digest: String| json!({"verify": [{"path": path, "sha256": digest}]});
    let digest = "a".repeat(64);
    refused(
        "ArtifactFetch",
        vec![
            (json!({"source": {"buildRequestRef": null}}), ONE_SOURCE),
            (
                json!({"source": {"run": {
                    "connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "hello", "id": "1"
                }}}),
                ONE_SOURCE,
            ),
            (run(json!({})), ONE_RUN),
            (run(json!({"latestSuccess": false})), ONE_RUN),
            (run(json!({"id": "1", "name": "hello-1"})), ONE_RUN),
            (run(json!({"id": "1", "latestSuccess": true})), ONE_RUN),
            (run(json!({"id": "latest"})), "spec.source.run.id"),
            (run(json!({"id": "0"})), "spec.source.run.id"),
            (
                run(json!({"id": "1", "project": "a/b"})),
                "spec.source.run.project",
            ),
            (
                run(json!({"id": "1", "branch": "refs/heads/main"})),
                "branch must be written as git shows it",
            ),
            (json!({"include": []}), "spec.include"),
            (json!({"include": [""]}), "spec.include[0]"),
            (json!({"include": ["/out"]}), RELATIVE),
            (json!({"include": ["../out"]}), RELATIVE),
            (json!({"include": ["a/../../b"]}), RELATIVE),
            (json!({"include": ["out/["]}), UNBALANCED),
            (json!({"include": ["out/{a,b"]}), UNBALANCED),
            (json!({"include": ["out/a}"]}), UNBALANCED),
            (
                json!({"include": many(33, |i| json!(format!("f{i}")))}),
                "spec.include: Too many",
            ),
            (json!({"exclude": ["../x"]}), RELATIVE),
            (json!({"exclude": ["["]}), UNBALANCED),
            (verify("../x", digest.clone()), RELATIVE),
            (verify("/x", digest.clone()), RELATIVE),
            (verify("", digest.clone()), "spec.verify[0].path"),
            (verify("x", "abc".into()), "spec.verify[0].sha256"),
            (verify("x", "A".repeat(64)), "spec.verify[0].sha256"),
            (
                json!({"verify": [{"path": "x", "sha256": digest}, {"path": "x", "sha256": digest}]}),
                "Duplicate value",
            ),
            (json!({"maxBytes": 0}), "spec.maxBytes"),
            (json!({"maxFiles": 0}), "spec.maxFiles"),
            (
                json!({"destination": {"configMap": {"name": "Not A Name"}}}),
                "spec.destination.configMap.name",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_good_artifact_fetch_is_taken() {
    let run = |rest: Value| {
        let mut run = json!({"connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "hello"});
        merge(&mut run, &rest);
        json!({"source": {"buildRequestRef": null, "run": run}})
    };
    taken(
        "ArtifactFetch",
        vec![
            json!({}),
            run(json!({"name": "hello-abc12"})),
            run(json!({"id": "42", "branch": "feature/login", "cluster": "member"})),
            run(json!({"latestSuccess": true})),
            run(json!({"id": "7", "latestSuccess": false})),
            json!({"include": ["**", "out/*.tar", "a..b", "[abc]/x", "{a,b}/{c,d}", "..."], "exclude": ["**/*.tmp"]}),
            json!({"include": many(32, |_| json!("x".repeat(512)))}),
            json!({"verify": many(64, |i| json!({"path": format!("out/f{i}"), "sha256": "0".repeat(64)}))}),
            json!({"maxBytes": 1, "maxFiles": 1, "prune": false, "suspend": true}),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_left_out_gets_its_default() {
    let cluster = cluster().await;
    let stored = async |kind: &str| try_create(cluster, good(kind)).await.expect(kind)["spec"].clone();
    let connection = stored("TenantConnection").await;
    assert_eq!(
        connection["limits"],
        json!({"requestsPerSecond": 20, "burst": 40})
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
    assert_eq!(fetch["maxBytes"], 921_600);
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
