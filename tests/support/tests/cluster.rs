//! The test cluster does what a suite relies on: a real API server, its controllers, kubectl, RBAC, restarts.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    core::v1::ConfigMap,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use tenantry_test_support::{ClusterOptions, PATIENCE, Seen, TestCluster, wait_condition, wait_for};

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("key".to_owned(), "value".to_owned())])),
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn an_owned_object_goes_with_its_owner() -> Result<()> {
    let cluster = TestCluster::shared().await?;
    let namespace = cluster.namespace("garbage").await?;
    let maps = Api::<ConfigMap>::namespaced(cluster.client().await?, &namespace);

    let owner = maps.create(&PostParams::default(), &config_map("owner")).await?;
    let mut owned = config_map("owned");
    let uid = owner.uid().context("no uid")?;
    owned.metadata.owner_references = Some(vec![
        k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: "owner".to_owned(),
            uid,
            ..Default::default()
        },
    ]);
    maps.create(&PostParams::default(), &owned).await?;
    maps.delete("owner", &DeleteParams::background()).await?;

    wait_for("the owned ConfigMap to be collected", PATIENCE, async || {
        Ok(Seen::when(maps.get_opt("owned").await?.is_none(), || {
            "it is still there".to_owned()
        }))
    })
    .await
}

#[tokio::test]
async fn namespaces_are_unique_and_ready() -> Result<()> {
    let cluster = TestCluster::shared().await?;
    let (one, two) = (cluster.namespace("twin").await?, cluster.namespace("twin").await?);
    assert_ne!(&*one, &*two);
    assert!(one.starts_with("twin-"), "{one}");
    let account = cluster
        .kubectl(["get", "serviceaccount", "default", "-o", "name", "-n", &one])
        .await?;
    assert_eq!(account.trim(), "serviceaccount/default");
    Ok(())
}

#[tokio::test]
async fn kubectl_agrees_with_the_server_on_the_version() -> Result<()> {
    let cluster = TestCluster::shared().await?;
    let versions: serde_json::Value =
        serde_json::from_str(&cluster.kubectl(["version", "-o", "json"]).await?)?;
    let server = versions["serverVersion"]["gitVersion"]
        .as_str()
        .context("no server version")?;
    assert!(server.starts_with("v1."), "{versions}");
    let minor = cluster.client().await?.apiserver_version().await?.minor;
    assert!(
        minor.parse::<u32>().is_ok(),
        "a client must be able to read the minor version {minor:?}"
    );
    Ok(())
}

#[tokio::test]
async fn kubectl_tells_what_failed() -> Result<()> {
    let cluster = TestCluster::shared().await?;
    let error = cluster
        .kubectl(["get", "configmap", "absent", "-n", "default"])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("get configmap absent") && error.contains("not found"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn kubectl_reads_its_input() -> Result<()> {
    let cluster = TestCluster::shared().await?;
    let namespace = cluster.namespace("input").await?;
    let manifest = serde_json::to_string(&config_map("piped"))?;
    let printed = cluster
        .kubectl_with_input(["apply", "-n", &namespace, "-f", "-"], &manifest)
        .await?;
    assert_eq!(printed.trim(), "configmap/piped created");
    Ok(())
}

#[tokio::test]
async fn a_service_account_may_do_only_what_a_role_allows() -> Result<()> {
    let cluster = TestCluster::shared().await?;
    let namespace = cluster.namespace("rbac").await?;
    let reviews = Api::<SubjectAccessReview>::all(cluster.client().await?);
    let user = format!("system:serviceaccount:{namespace}:default");
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.clone()),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_string()),
                verb: Some("list".to_owned()),
                resource: Some("configmaps".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let allowed = async || -> Result<bool> {
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.context("no status")?.allowed)
    };
    assert!(!allowed().await?, "nothing is allowed before there is a role");

    cluster
        .kubectl([
            "create",
            "role",
            "reader",
            "--verb=list",
            "--resource=configmaps",
            "-n",
            &namespace,
        ])
        .await?;
    let account = format!("--serviceaccount={namespace}:default");
    cluster
        .kubectl([
            "create",
            "rolebinding",
            "reader",
            "--role=reader",
            &account,
            "-n",
            &namespace,
        ])
        .await?;
    wait_for("the role to be in force", PATIENCE, async || {
        Ok(Seen::when(allowed().await?, || "still denied".to_owned()))
    })
    .await?;

    let kubeconfig = cluster.kubeconfig_of(&namespace, "default").await?;
    let flag = format!("--kubeconfig={}", kubeconfig.display());
    let me = cluster
        .kubectl([
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username}",
            &flag,
        ])
        .await?;
    assert_eq!(me, user, "the token must speak for the ServiceAccount");
    Ok(())
}

#[tokio::test]
async fn crds_are_served_when_apply_crds_returns() -> Result<()> {
    let cluster = TestCluster::shared().await?;
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("widgets.yaml"), WIDGETS)?;
    cluster.apply_crds(dir.path()).await?;
    cluster.apply_crds(dir.path()).await?;
    let namespace = cluster.namespace("crds").await?;
    let printed = cluster
        .kubectl_with_input(
            ["create", "-n", &namespace, "-f", "-"],
            r#"{"apiVersion":"test.tenantry.dev/v1","kind":"Widget","metadata":{"name":"first"}}"#,
        )
        .await?;
    assert_eq!(printed.trim(), "widget.test.tenantry.dev/first created");
    Ok(())
}

#[tokio::test]
async fn apply_crds_refuses_other_kinds() -> Result<()> {
    let cluster = TestCluster::shared().await?;
    let dir = tempfile::tempdir()?;
    fs::write(
        dir.path().join("map.yaml"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: stray, namespace: default}\n",
    )?;
    let error = cluster.apply_crds(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("configmap/stray"), "{error}");
    let left = cluster
        .kubectl(["get", "configmap", "stray", "-n", "default"])
        .await;
    assert!(left.is_err(), "nothing may have been applied");
    Ok(())
}

#[tokio::test]
async fn a_wait_tells_the_conditions_seen() -> Result<()> {
    let cluster = TestCluster::shared().await?;
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(cluster.client().await?);
    let waiting = wait_condition(&namespaces, "default", "Ready", "True");
    // The deadline itself is proven in the crate; here it is enough that it does not find what is not there.
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(300), waiting)
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn a_cluster_of_ones_own_restarts_its_apiserver_and_leaves_nothing() -> Result<()> {
    if std::env::var_os("TENANTRY_TEST_KUBECONFIG").is_some_and(|path| !path.is_empty()) {
        eprintln!("skipped: it needs a cluster of its own");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let audit_log = dir.path().join("audit.log");
    let cluster = TestCluster::start(ClusterOptions {
        audit_log: Some(audit_log.clone()),
        ..ClusterOptions::default()
    })
    .await?;
    let namespace = cluster.namespace("restart").await?;
    let maps = Api::<ConfigMap>::namespaced(cluster.client().await?, &namespace);
    maps.create(&PostParams::default(), &config_map("kept")).await?;
    let before = cluster.pids();

    cluster.stop_apiserver().await?;
    assert!(
        maps.get("kept").await.is_err(),
        "a stopped API server must not answer"
    );
    cluster.start_apiserver().await?;
    maps.get("kept")
        .await
        .context("the data must outlive the API server")?;
    cluster.restart_apiserver().await?;
    maps.get("kept").await?;

    let after = cluster.pids();
    assert_ne!(before["kube-apiserver"], after["kube-apiserver"]);
    assert_eq!(before["etcd"], after["etcd"]);
    assert!(
        fs::read_to_string(&audit_log)?.contains(&*namespace),
        "the audit log must tell of the namespace"
    );

    let kubeconfig = cluster.kubeconfig().to_owned();
    drop(cluster);
    assert!(!kubeconfig.exists(), "{} must be removed", kubeconfig.display());
    for (name, pid) in after {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{name} (process {pid}) must have ended"
        );
    }
    Ok(())
}

const WIDGETS: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.test.tenantry.dev
spec:
  group: test.tenantry.dev
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object}
";
