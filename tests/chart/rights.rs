//! The operator as the chart's ServiceAccount: what it may do is enough, and nothing of it is too much, by the audit log of
//! the API server. With fetch Jobs, whose pods a namespace admits that enforces pod security `restricted`.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tempfile::NamedTempFile;
use tenantry::api::ArtifactFetch;
use tenantry_test_support::{
    ClusterOptions, Namespace, PATIENCE, Seen, TestCluster, wait_condition, wait_for,
};
use tokio::sync::OnceCell;

use crate::{
    common::{
        Setup, Stage,
        rights::{Right, deeds, everything_once, rights},
    },
    helm::{Helm, chart, only, rendered},
    install::restrict,
    kubelet::{End, plan},
};

/// An API server that writes down who did what.
async fn audited() -> &'static (TestCluster, PathBuf) {
    // Static, as a stage wants it: it ends with this process.
    static CLUSTER: OnceCell<(TestCluster, PathBuf)> = OnceCell::const_new();
    CLUSTER
        .get_or_init(async || {
            let log = Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join(format!("chart-audit-{}.log", std::process::id()));
            let options = ClusterOptions {
                audit_log: Some(log.clone()),
                ..ClusterOptions::default()
            };
            (TestCluster::start(options).await.expect("a cluster"), log)
        })
        .await
}

/// Waits until the ServiceAccount may watch BuildRequests: roles take a moment to be known.
async fn until_allowed(cluster: &TestCluster, user: &str, place: &str) {
    let as_user = format!("--as={user}");
    wait_for("the roles to be known", PATIENCE, async || {
        let said = cluster
            .kubectl([
                "auth",
                "can-i",
                "watch",
                "buildrequests.tenantry.dev",
                &as_user,
                place,
            ])
            .await?;
        Ok(Seen::when(said.trim() == "yes", || said))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
}

/// A stage in a namespace that is `restricted`, whose operator fills volumes as the chart has it do.
async fn stage(cluster: &'static TestCluster, template: &Path) -> Stage {
    let args = [
        "--fetcher-image",
        "registry.invalid/tenantry:1",
        "--fetcher-pod-template",
        &template.display().to_string(),
        "--tune",
        "fetch-interval=200ms",
    ];
    let stage = Stage::with(Setup {
        operator: false,
        cluster: Some(cluster),
        args: args.map(str::to_owned).into(),
        ..Setup::default()
    })
    .await;
    restrict(cluster, &stage.namespace).await;
    stage
}

/// Installs the release without a pod: this process starts the operator.
fn install(helm: &Helm, system: &Namespace, values: &[String]) {
    let place = format!("--namespace={}", &**system);
    let fixed = [
        "upgrade",
        "--install",
        "tenantry",
        &chart(),
        &place,
        "--reset-values",
    ]
    .map(str::to_owned);
    let off = ["crds.install=false", "replicas=0"].map(|v| format!("--set-json={v}"));
    helm.ok(&[&fixed[..], &off[..], values].concat());
}

#[tokio::test]
async fn builds_run_with_the_rights_of_the_chart_and_use_each_of_them() {
    let (cluster, log) = audited().await;
    let so_far = || usize::try_from(log.metadata().expect("the audit log").len()).expect("a size");
    let mut template = NamedTempFile::new().expect("a file");
    let text = only(&rendered(&[]), "ConfigMap")["data"]["pod-template.yaml"].clone();
    template
        .write_all(text.as_str().expect("a template").as_bytes())
        .expect("written");
    let mut here = stage(cluster, template.path()).await;
    let system = cluster.namespace("system").await.expect("a namespace");
    let user = format!("system:serviceaccount:{}:tenantry", &*system);
    let helm = Helm::on(cluster);

    // Namespace-only: a Role in the namespace of the stage, and nothing on the cluster.
    let values = format!("--set-json=watchNamespaces=[{:?}]", &*here.namespace);
    install(&helm, &system, &[values]);
    until_allowed(cluster, &user, &format!("--namespace={}", &*here.namespace)).await;
    let as_user = format!("--as={user}");
    let everywhere = ["auth", "can-i", "list", "secrets", "--all-namespaces", &as_user];
    let everywhere = cluster.kubectl(everywhere).await;
    assert!(everywhere.is_err(), "{everywhere:?}");
    let kubeconfig = cluster.kubeconfig_of(&system, "tenantry").await.expect("a token");
    let whoami = ["--kubeconfig".to_owned(), kubeconfig.display().to_string()];
    let lease = [
        "--leader-elect".to_owned(),
        format!("--lease-namespace={}", &*system),
    ];
    here.scope.extend(whoami.iter().chain(&lease).cloned());
    here.start_operator().await;
    everything_once(&here).await;
    a_volume_once(&here).await;

    let roles: Api<Role> = Api::namespaced(here.client.clone(), &here.namespace);
    let role = roles.get("tenantry").await.expect("the Role");
    let mut granted: BTreeSet<Right> = rights(&role.rules.unwrap_or_default());
    let leases: Api<Role> = Api::namespaced(here.client.clone(), &system);
    let role = leases.get("tenantry-lease").await.expect("the Role of the lease");
    let lease_rights = rights(&role.rules.unwrap_or_default());
    granted.extend(lease_rights.clone());
    let done = deeds(log, 0, &user);
    done.are_just(&granted);
    let place = format!("/namespaces/{}/", &*here.namespace);
    let outside: Vec<_> = done.lists.iter().filter(|uri| !uri.contains(&place)).collect();
    assert!(outside.is_empty(), "{outside:?}");
    here.kill_operator();

    // The same release in cluster mode, where the Role goes and a ClusterRole comes, for another namespace.
    let mut there = stage(cluster, template.path()).await;
    install(&helm, &system, &[]);
    until_allowed(cluster, &user, "--all-namespaces").await;
    assert_eq!(roles.get_opt("tenantry").await.expect("asked"), None);
    let before = so_far();
    // So that it is made once more, and nobody waits for it to run out.
    let place = format!("--namespace={}", &*system);
    cluster
        .kubectl(["delete", "lease", "tenantry", &place])
        .await
        .expect("deleted");
    there.scope = whoami.into_iter().chain(lease).collect();
    there.start_operator().await;
    everything_once(&there).await;
    a_volume_once(&there).await;
    let roles: Api<ClusterRole> = Api::all(there.client.clone());
    let role = roles.get("tenantry").await.expect("the ClusterRole");
    let done = deeds(log, before, &user);
    let mut granted = rights(&role.rules.unwrap_or_default());
    granted.extend(lease_rights);
    done.are_just(&granted);
    let all = |uri: &String| uri.starts_with("/apis/tenantry.dev/v1alpha1/buildrequests?");
    assert!(done.lists.iter().any(all), "{:?}", done.lists);

    may_be_edited_by_editors(cluster, &there.namespace).await;
    // Kept where something above failed, for whoever looks into it.
    fs::remove_file(log).expect("the audit log");
}

/// Whoever may edit a namespace may declare builds in it.
async fn may_be_edited_by_editors(cluster: &TestCluster, namespace: &str) {
    let editor = ["--as=somebody", &format!("--namespace={namespace}")].map(str::to_owned);
    let bind = [
        "create",
        "rolebinding",
        "editor",
        "--clusterrole=edit",
        "--user=somebody",
        &editor[1],
    ];
    cluster.kubectl(bind).await.expect("bound");
    wait_for("the right to be aggregated", PATIENCE, async || {
        let can = [
            "auth",
            "can-i",
            "create",
            "buildrequests.tenantry.dev",
            &editor[0],
            &editor[1],
        ];
        cluster.kubectl(can).await.map(Seen::Done)
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
}

/// The files of `b` go onto a volume: a Job is made, followed and stopped, and another one ends well.
async fn a_volume_once(stage: &Stage) {
    let fetches = stage.api::<ArtifactFetch>();
    stage.claim("data").await;
    stage
        .apply::<ArtifactFetch>(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch", "metadata": {"name": "files"},
            "spec": {
                "source": {"buildRequestRef": {"name": "b"}}, "destination": {"volume": {"claimName": "data"}},
            },
        }))
        .await;
    let first = stage.until_attempt(1).await;
    // That there is one says that it was admitted.
    let pod = stage.until_pod(&first).await;
    let host = pod.spec.as_ref().and_then(|spec| spec.host_network);
    assert_eq!(host, None);
    stage.runs(&pod).await;
    let runs = format!("pod {} runs", pod.name_any());
    wait_for("its pod to be looked at", PATIENCE, async || {
        let status = fetches.get("files").await?.status.unwrap_or_default();
        let said = status.conditions.iter().any(|c| c.message == runs);
        Ok(Seen::when(said, || format!("{:?}", status.conditions)))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    let suspend = async |suspend: bool| {
        let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
        let params = PatchParams::default();
        fetches.patch("files", &params, &patch).await.expect("a patch");
    };
    suspend(true).await;
    wait_for("no Job", PATIENCE, async || {
        let left = stage.jobs().await.len();
        Ok(Seen::when(left == 0, || format!("{left} Jobs")))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    suspend(false).await;
    let other = stage
        .until_job("after it", |job| job.metadata.uid != first.metadata.uid)
        .await;
    let end = End::files(&plan(&other).revision);
    stage.ends(&stage.until_pod(&other).await, &end).await;
    wait_condition(&fetches, "files", "Ready", "True")
        .await
        .unwrap_or_else(|e| panic!("{e:#}"));
}
