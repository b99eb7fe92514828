//! What the README promises, by an operator in a pod under the ServiceAccount of its chart.

use std::fmt::Debug;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::json;
use tenantry::api::build_request::BuildPhase;
use tenantry_simulator::World;
use tenantry_test_support::wait_condition;

use crate::{
    common::{PASSWORD, Setup, parameters},
    helm::repository,
    node::{Installed, node},
};

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn the_samples_become_what_they_say_in_cluster_mode() {
    let (cluster, _alone) = node().await;
    let setup = Setup {
        cluster: Some(cluster),
        world: World::demo(),
        ..Setup::default()
    };
    let installed = Installed::with(setup, &[]).await;
    let stage = &installed.stage;

    let before = stage.simulator.ledger().builds().len();
    let samples = repository("config/samples").display().to_string();
    let yaml = cluster
        .kubectl(["kustomize", &samples])
        .await
        .expect("the samples");
    let yaml = yaml.replace("http://127.0.0.1:30880", &stage.simulator.url());
    let place = format!("--namespace={}", &*stage.namespace);
    cluster
        .kubectl_with_input(["apply", "--filename=-", &place], &yaml)
        .await
        .expect("applied");
    stage.until_ready("shop-1.4.2").await;
    stage.until_ready("web-login").await;
    stage.until_stalled("broken", "BuildFailed").await;
    stage.until_fetch("shop-package", "Ready", "True").await;
    let builds = stage.simulator.ledger().builds().len() - before;
    // One for each BuildRequest, and one more for the one that fails and is tried again.
    assert_eq!(builds, 4);
    assert!(!stage.config_map("web-login-log", "log").await.is_empty());

    let pod = installed.pod().await;
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!(spec.service_account_name.as_deref(), Some("tenantry"));
    let statuses = pod.status.and_then(|s| s.container_statuses).unwrap_or_default();
    assert_eq!(statuses.iter().map(|s| s.restart_count).collect::<Vec<_>>(), [0]);
    let log = installed.log().await;
    assert!(log.contains("tenantry starts"), "{log}");
    assert!(!log.contains(PASSWORD), "the log shows a password");
    installed.uninstall().await;
}

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn roles_alone_are_enough_for_some_namespaces() {
    let (cluster, _alone) = node().await;
    let setup = Setup {
        cluster: Some(cluster),
        ..Setup::default()
    };
    // The namespace is known only once there is a stage: first without a pod.
    let installed = Installed::with(setup, &["replicas=0".into()]).await;
    let stage = &installed.stage;
    let only_here = format!("watchNamespaces={{{}}}", &*stage.namespace);
    installed.release(crate::node::TAG, &[only_here]).await;

    let roles: Api<ClusterRole> = Api::all(stage.client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(stage.client.clone());
    assert_eq!(of_the_chart(&roles).await, [""; 0], "on the whole cluster");
    assert_eq!(of_the_chart(&bindings).await, [""; 0], "on the whole cluster");

    let given = parameters(&[
        ("DURATION", "2"),
        ("ARTIFACTS", "out/app.bin:2048"),
        ("LOG_BYTES", "20000"),
    ]);
    stage
        .build(
            "here",
            json!({"parameters": given, "artifacts": {"include": ["out/**"]}}),
        )
        .await;
    stage.until_ready("here").await;
    wait_condition(
        &stage.api::<tenantry::api::ArtifactFetch>(),
        "here-artifacts",
        "Ready",
        "True",
    )
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(stage.built("build"), 1);
    let failing = parameters(&[("DURATION", "1"), ("RESULT", "FAILURE")]);
    stage.build("fails", json!({"parameters": failing})).await;
    stage.until_phase("fails", BuildPhase::Failed).await;
    installed.uninstall().await;
}

/// Names of the objects of a kind that the chart made.
async fn of_the_chart<K>(api: &Api<K>) -> Vec<String>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let ours = ListParams::default().labels("app.kubernetes.io/name=tenantry");
    let found = api.list(&ours).await.expect("asked");
    found.iter().map(ResourceExt::name_any).collect()
}
