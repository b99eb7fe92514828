//! What the README promises, by an operator in a pod under the ServiceAccount of its chart.

use std::fmt::Debug;

use k8s_openapi::{
    ClusterResourceScope,
    api::{
        batch::v1::Job,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role},
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tenantry::api::{ArtifactFetch, build_request::BuildPhase};
use tenantry_simulator::{World, world::BuildScript};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::{
    bench::Bench,
    common::{
        PASSWORD, Setup, Stage, parameters,
        rights::{everything_once, rights},
    },
    helm::repository,
    node::{Installed, Reach, node},
};

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn the_samples_become_what_they_say_in_cluster_mode() {
    let (cluster, _turn) = node(Reach::Cluster).await;
    let setup = Setup {
        cluster: Some(cluster),
        world: World::demo(),
        ..Setup::default()
    };
    let installed = Installed::with(setup, Reach::Cluster, &[]).await;
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
async fn roles_alone_are_enough_for_some_namespaces_and_each_right_is_used() {
    // So slow that it can be stopped on its way.
    let script = BuildScript {
        artifact_bps: 200_000,
        ..BuildScript::default()
    };
    let bench = Bench::new(Reach::Namespace, script).await;
    let stage = &bench.installed.stage;
    let named = stage.namespace.to_string();
    for bound in [
        of_the_chart::<ClusterRole>(stage, &named).await,
        of_the_chart::<ClusterRoleBinding>(stage, &named).await,
    ] {
        assert_eq!(bound, [""; 0], "on the whole cluster");
    }

    let given = parameters(&[
        ("DURATION", "2"),
        ("ARTIFACTS", "out/app.bin:30000000"),
        ("LOG_BYTES", "20000"),
    ]);
    let volume = json!({"volume": {"claimName": "data"}});
    stage
        .build(
            "here",
            json!({"parameters": given, "logs": {"destination": volume}, "artifacts": {"destination": volume}}),
        )
        .await;
    let fetches = stage.api::<ArtifactFetch>();
    bench.until_ready("here").await;
    assert_eq!(stage.built("build"), 1);
    let failing = parameters(&[("DURATION", "1"), ("RESULT", "FAILURE")]);
    stage.build("fails", json!({"parameters": failing})).await;
    stage.until_phase("fails", BuildPhase::Failed).await;

    // Once more, and stopped on its way.
    let again = json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch", "metadata": {"name": "again"},
        "spec": {
            "source": {"buildRequestRef": {"name": "here"}},
            "destination": {"volume": {"claimName": "data", "subPath": "again"}},
        },
    });
    stage.apply::<ArtifactFetch>(again).await;
    wait_for("its progress", PATIENCE, async || {
        let status = fetches.get("again").await?.status.unwrap_or_default();
        let seen = status
            .progress
            .as_ref()
            .is_some_and(|progress| progress.bytes > 0);
        Ok(Seen::when(seen, || format!("{status:?}")))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    let suspended = Patch::Merge(json!({"spec": {"suspend": true}}));
    fetches
        .patch("again", &PatchParams::default(), &suspended)
        .await
        .expect("a patch");
    wait_for("its Job to be stopped", PATIENCE, async || {
        let jobs = stage.api::<Job>().list(&ListParams::default()).await?.items;
        let left = jobs
            .iter()
            .map(ResourceExt::name_any)
            .filter(|name| name.starts_with("again"));
        let left: Vec<_> = left.collect();
        Ok(Seen::when(left.is_empty(), || format!("{left:?}")))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));

    everything_once(stage).await;
    let roles: Api<Role> = stage.api();
    let mut rules = Vec::new();
    for name in ["tenantry", "tenantry-lease"] {
        let role = roles.get(name).await.expect("the Role");
        rules.extend(role.rules.unwrap_or_default());
    }
    let granted = rights(&rules);
    bench.installed.deeds().are_just(&granted);
    bench.installed.uninstall().await;
}

/// Names of the objects of a kind that the chart made on the whole cluster for the release in `namespace`.
async fn of_the_chart<K>(stage: &Stage, namespace: &str) -> Vec<String>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(stage.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=tenantry");
    let mut found = api.list(&ours).await.expect("asked").items;
    found.retain(|object| {
        let release = object.annotations().get("meta.helm.sh/release-namespace");
        release.is_some_and(|release| release == namespace)
    });
    found.iter().map(ResourceExt::name_any).collect()
}
