//! Two operators that share the work by labels.

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tenantry::api::{ArtifactFetch, BuildRequest, SETTLED, TenantConnection, build_request::BuildPhase};

use crate::{
    common::{self, CONNECTION, Setup, Stage, parameters},
    pair::{lease_args, shared},
};

const SHARD: &str = "tenantry.dev/shard";

fn build(name: &str, shard: Option<&str>) -> serde_json::Value {
    let given = parameters(&[("DURATION", "1"), ("ARTIFACTS", "a.txt:5")]);
    let mut object = common::build_request(
        name,
        json!({"parameters": given, "artifacts": {"include": ["*"]}}),
    );
    if let Some(shard) = shard {
        object["metadata"]["labels"] = json!({SHARD: shard, "app.kubernetes.io/instance": "somebody"});
    }
    object
}

#[tokio::test]
async fn each_shard_looks_after_its_own_objects_and_what_comes_of_them() {
    let (cluster, _) = shared().await;
    let stage = Stage::with(Setup {
        operator: false,
        cluster: Some(cluster),
        ..Setup::default()
    })
    .await;
    let operator = |shard: &str, selector: String| {
        let lease = format!("tenantry-{shard}");
        stage.builder().args(lease_args(&stage.namespace, &lease)).args([
            "--pod-name".to_owned(),
            shard.to_owned(),
            "--selector".to_owned(),
            selector,
        ])
    };
    let rest = json!({"matchExpressions": [{"key": SHARD, "operator": "NotIn", "values": ["a", "b"]}]});
    let a = operator("a", format!("{SHARD}=a"))
        .start()
        .await
        .expect("shard a");

    stage
        .try_apply::<BuildRequest>(build("in-a", Some("a")))
        .await
        .expect("taken");
    stage
        .try_apply::<BuildRequest>(build("in-none", None))
        .await
        .expect("taken");
    let done = stage.until_ready("in-a").await;
    assert_eq!(done.status.unwrap().phase, Some(BuildPhase::Succeeded));
    // Its ArtifactFetch is in the shard too, and wears nothing else of it.
    let fetch: ArtifactFetch = stage.api().get("in-a-artifacts").await.expect("an ArtifactFetch");
    let mut labels = fetch.metadata.labels.unwrap_or_default();
    labels.remove(SETTLED);
    assert_eq!(labels, [(SHARD.to_owned(), "a".to_owned())].into());
    // Shard a is awake, has worked its queue off, and let the other alone.
    assert_eq!(stage.get("in-none").await.status, None);
    let connection: TenantConnection = stage.api().get(CONNECTION).await.expect("the connection");
    assert!(connection.status.is_none(), "it is in no shard that runs");

    let others = operator("rest", rest.to_string())
        .start()
        .await
        .expect("the other shard");
    stage.until_ready("in-none").await;
    let fetch: ArtifactFetch = stage
        .api()
        .get("in-none-artifacts")
        .await
        .expect("an ArtifactFetch");
    let mut labels = fetch.metadata.labels.unwrap_or_default();
    labels.remove(SETTLED);
    assert!(labels.is_empty(), "{labels:?}");
    let connections = stage.api::<TenantConnection>();
    tenantry_test_support::wait_condition(&connections, CONNECTION, "Ready", "True")
        .await
        .unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(stage.built("build"), 2);

    // Moved while it waits: the one lets go of it, the other takes it up.
    let waiting = common::build_request("moved", json!({"suspend": true}));
    stage.try_apply::<BuildRequest>(waiting).await.expect("taken");
    stage.until_phase("moved", BuildPhase::Suspended).await;
    drop(others);
    let patch = Patch::Merge(json!({"metadata": {"labels": {SHARD: "a"}}, "spec": {"suspend": false}}));
    stage
        .api::<BuildRequest>()
        .patch("moved", &PatchParams::default(), &patch)
        .await
        .expect("a patch");
    stage.until_ready("moved").await;
    assert_eq!(stage.built("build"), 3);

    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), &stage.namespace);
    for lease in ["tenantry-a", "tenantry-rest"] {
        assert!(leases.get_opt(lease).await.expect("asked").is_some(), "{lease}");
    }
    drop(a);
}
