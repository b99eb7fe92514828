//! CRDs that are missing, older than the operator, or taken away. That one is missing at the start, and `/readyz` names
//! it, is `tests/e2e_operator`.

use serde_json::{Value, json};
use tenantry::{
    api::{BuildRequest, build_request::BuildPhase},
    runtime::crds,
};
use tenantry_simulator::Role;
use tenantry_test_support::{PATIENCE, Seen, Select, TestCluster, wait_for};

use crate::{
    common::{Setup, world},
    stage::{Behind, own_cluster},
};

const NAME: &str = "buildrequests.tenantry.dev";

/// The CRD of BuildRequests as it is today.
fn today() -> Value {
    let files = crds::files().expect("CRDs");
    let (_, yaml) = files
        .iter()
        .find(|(name, _)| name == "buildrequests.yaml")
        .expect("it");
    serde_yaml_ng::from_str(yaml).expect("YAML")
}

/// An older one, which knows no run in the status.
fn older() -> Value {
    let mut crd = today();
    let versions = crd["spec"]["versions"].as_array_mut().expect("versions");
    for version in versions {
        let status = &mut version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
        let removed = status.as_object_mut().expect("fields").remove("run");
        assert!(removed.is_some(), "status.run is the field that all rests on");
    }
    crd
}

/// Installs a CRD, and waits until the API server keeps `status.run`, or does not any more.
async fn install(stage: &Behind, crd: &Value, keeps: bool) {
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    stage
        .cluster
        .kubectl_with_input(apply, &crd.to_string())
        .await
        .expect("applied");
    // What the schema does not know is refused by a strict dry run.
    let probe = json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest",
        "metadata": {"name": "probe", "namespace": &*stage.namespace},
        "spec": {"connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "build"},
        "status": {"run": {}},
    });
    let dry = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    let seen = wait_for("the schema to be taken up", PATIENCE, async || {
        let answer = stage.cluster.kubectl_with_input(dry, &probe.to_string()).await;
        let unknown = format!("{answer:?}").contains("unknown field");
        let served = answer.is_ok() || format!("{answer:?}").contains("status.run");
        Ok(Seen::when(served && unknown != keeps, || format!("{answer:?}")))
    })
    .await;
    seen.unwrap_or_else(|e| panic!("{e:#}"));
}

async fn on(cluster: &'static TestCluster, role: Role) -> Behind {
    let setup = Setup {
        world: world(role),
        cluster: Some(cluster),
        ..Setup::default()
    };
    Behind::with(&[], setup).await
}

/// The worst that an older CRD can do: to drop what says that a build was sent.
#[tokio::test]
async fn an_older_crd_is_told_of_and_nothing_is_sent_that_is_not_written_down() {
    let (cluster, _turn) = own_cluster().await;
    // The rung on which everything that is sent twice is built twice.
    let mut stage = on(cluster, Role::tenant().without(&["pipelineruns"], &["create"])).await;
    install(&stage, &older(), false).await;
    stage.long_build("b", json!({})).await;
    let told = wait_for("the CRD to be named", PATIENCE, async || {
        let events = stage.events("b").await;
        let told = events
            .iter()
            .any(|e| e.contains("is older than this operator") && e.contains(NAME));
        Ok(Seen::when(told, || format!("{events:#?}")))
    })
    .await;
    told.unwrap_or_else(|e| panic!("{e:#}"));
    // It tries again, ever more rarely, and does not wake itself.
    let writes = Select::of("update buildrequests/status");
    let tried = stage.proxy.count(&writes);
    let again = wait_for("another try", PATIENCE, async || {
        let now = stage.proxy.count(&writes);
        Ok(Seen::when(now >= tried + 2, || format!("{now}")))
    })
    .await;
    again.unwrap_or_else(|e| panic!("{e:#}"));
    let tries = stage.proxy.count(&writes);
    assert!(tries < 40, "{tries} writes");
    assert_eq!(stage.builds_for("b"), Vec::<u64>::new());

    install(&stage, &today(), true).await;
    stage.finish("b", "SUCCESS").await;
    stage.assert_built_once_and_whole("b").await;
    stage.assert_same_operator_is_ready().await;
}

/// With the CRD go its objects: their builds are nobody's then, and what is made later under the same name is another.
#[tokio::test]
async fn a_crd_that_is_deleted_while_a_build_runs_is_named_and_all_goes_on_when_it_is_back() {
    let (cluster, _turn) = own_cluster().await;
    let mut stage = on(cluster, Role::tenant()).await;
    stage.long_build("b", json!({"deletionPolicy": "Abort"})).await;
    stage.until_running("b").await;
    cluster
        .kubectl(["delete", "crd", NAME])
        .await
        .expect("deleted, with its objects");
    // The finalizer did its work: the build was stopped.
    let number = stage.assert_built_once("b");
    let ended = wait_for("the build to be stopped", PATIENCE, async || {
        let builds = stage.simulator.control().builds(crate::common::PROJECT, "build");
        let builds = builds.map_err(|e| anyhow::anyhow!("{e:?}"))?;
        let build = builds.iter().find(|build| build.number == number);
        let result = build.map(|build| build.result.clone());
        Ok(Seen::when(result.as_deref() == Some("ABORTED"), || {
            format!("{result:?}")
        }))
    })
    .await;
    ended.unwrap_or_else(|e| panic!("{e:#}"));
    let missing = crds::not_installed("buildrequests");
    stage
        .until_readyz("the CRD is missing", |status, body| {
            status == 503 && body.contains(&missing)
        })
        .await;
    install(&stage, &today(), true).await;
    stage.until_readyz("200", |status, _| status == 200).await;
    stage.long_build("again", json!({})).await;
    stage.until_phase("again", BuildPhase::Running).await;
    stage.finish("again", "SUCCESS").await;
    stage.assert_built_once_and_whole("again").await;
    let left = stage.api::<BuildRequest>().get_opt("b").await.expect("an answer");
    assert!(left.is_none(), "{left:?}");
    stage.assert_same_operator_is_ready().await;
}
