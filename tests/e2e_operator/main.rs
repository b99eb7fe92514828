//! The operator as a process on a real API server, without any gateway: what it waits for, what it survives, which
//! namespaces it serves, how it leaves.

mod stored;

use std::path::{Path, PathBuf};

use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tenantry::{
    api::{TenantConnection, conditions},
    runtime::crds,
};
use tenantry_test_support::{
    ClusterOptions, OperatorBuilder, PATIENCE, Seen, TestCluster, http_get, wait_condition, wait_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tenantry");

fn crd_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")
}

fn operator(cluster: &TestCluster) -> OperatorBuilder {
    cluster
        .operator(PROGRAM)
        .args(["operator", "--log-level", "info,tenantry=debug"])
}

/// A connection whose Secret does not exist: whoever looks at it says so, and needs no gateway for that.
fn connection(name: &str) -> TenantConnection {
    serde_json::from_value(json!({
        "apiVersion": "tenantry.dev/v1alpha1",
        "kind": "TenantConnection",
        "metadata": {"name": name},
        "spec": {
            "endpoint": "https://ks.example.org",
            "workspace": "demo",
            "credentials": {"password": {"secretRef": {"name": "nobody-made-this"}}},
        },
    }))
    .expect("a connection")
}

async fn connections(cluster: &TestCluster, namespace: &str) -> Api<TenantConnection> {
    Api::namespaced(cluster.client().await.expect("a client"), namespace)
}

/// Makes a connection and waits until the operator has looked at it.
async fn make_and_wait(api: &Api<TenantConnection>, name: &str) {
    api.create(&PostParams::default(), &connection(name))
        .await
        .expect("made");
    let seen = wait_condition(api, name, "Stalled", "True")
        .await
        .expect("looked at");
    let conditions = seen.status.expect("a status").conditions;
    let stalled = conditions::find(&conditions, conditions::ConditionType::Stalled).expect("Stalled");
    assert_eq!(stalled.reason, "ReferenceNotFound");
}

#[tokio::test]
async fn readyz_names_a_missing_crd_until_it_is_there_also_after_it_was_removed() {
    let cluster = TestCluster::start(ClusterOptions::default())
        .await
        .expect("a cluster");
    let mut operator = operator(&cluster).start_unready().await.expect("started");
    let name = |plural: &str| crds::not_installed(plural);
    wait_for("all three to be missed", PATIENCE, async || {
        let answer = operator.readyz().await?;
        let all = ["tenantconnections", "buildrequests", "artifactfetches"].map(name);
        let named = all.iter().all(|line| answer.body.contains(line));
        Ok(Seen::when(answer.status == 503 && named, || {
            format!("{answer:?}")
        }))
    })
    .await
    .expect("readyz");
    let healthz = http_get(operator.health(), "/healthz").await.expect("healthz");
    assert_eq!(healthz.status, 200, "waiting is healthy");

    for file in ["tenantconnections.yaml", "artifactfetches.yaml"] {
        let file = crd_folder().join(file).display().to_string();
        cluster
            .kubectl(["apply", "--server-side", "-f", &file])
            .await
            .expect("applied");
    }
    wait_for("only one to be missed", PATIENCE, async || {
        let answer = operator.readyz().await?;
        let only = answer.body.trim() == name("buildrequests");
        Ok(Seen::when(only, || format!("{answer:?}")))
    })
    .await
    .expect("readyz");
    cluster.apply_crds(&crd_folder()).await.expect("the CRDs");
    operator.wait_ready().await.expect("ready");
    let api = connections(&cluster, "default").await;
    make_and_wait(&api, "before").await;

    cluster
        .kubectl(["delete", "crd", "tenantconnections.tenantry.dev"])
        .await
        .expect("deleted");
    wait_for("the removed one to be missed", PATIENCE, async || {
        let answer = operator.readyz().await?;
        Ok(Seen::when(
            answer.body.contains(&name("tenantconnections")),
            || format!("{answer:?}"),
        ))
    })
    .await
    .expect("readyz");
    let folder = crd_folder().display().to_string();
    cluster
        .kubectl(["apply", "--server-side", "-f", &folder])
        .await
        .expect("applied");
    operator.wait_ready().await.expect("ready again");
    wait_for("the kind to be served again", PATIENCE, async || {
        api.list(&ListParams::default())
            .await
            .map(|_| Seen::Done(()))
            .map_err(Into::into)
    })
    .await
    .expect("served");
    make_and_wait(&api, "after").await;
}

#[tokio::test]
async fn only_the_named_namespaces_are_served_and_rights_in_them_are_enough() {
    let cluster = TestCluster::shared().await.expect("a cluster");
    cluster.apply_crds(&crd_folder()).await.expect("the CRDs");
    let home = cluster.namespace("served").await.expect("a namespace");
    let other = cluster.namespace("served").await.expect("a namespace");
    let foreign = cluster.namespace("foreign").await.expect("a namespace");
    cluster
        .kubectl(["create", "serviceaccount", "tenantry", "-n", &home])
        .await
        .expect("an account");
    for namespace in [&home, &other] {
        let rights = json!({"apiVersion": "v1", "kind": "List", "items": [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                "metadata": {"name": "tenantry", "namespace": &**namespace},
                "rules": [
                    {"apiGroups": ["tenantry.dev"], "resources": ["*"], "verbs": ["*"]},
                    {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["*"]},
                    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["get", "create", "patch"]},
                ],
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "tenantry", "namespace": &**namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenantry"},
                "subjects": [{"kind": "ServiceAccount", "name": "tenantry", "namespace": &*home}],
            },
        ]});
        cluster
            .kubectl_with_input(["create", "-f", "-"], &rights.to_string())
            .await
            .expect("rights");
    }
    let nobody_looks = connections(cluster, &foreign).await;
    nobody_looks
        .create(&PostParams::default(), &connection("ks"))
        .await
        .expect("made");
    let kubeconfig = cluster
        .kubeconfig_of(&home, "tenantry")
        .await
        .expect("a kubeconfig");
    let operator = operator(cluster)
        .env("KUBECONFIG", kubeconfig.as_os_str())
        .args(["--namespace", &home, "--namespace", &other])
        .start()
        .await
        .expect("ready");
    for namespace in [&home, &other] {
        make_and_wait(&connections(cluster, namespace).await, "ks").await;
    }
    let untouched = nobody_looks.get("ks").await.expect("there");
    assert_eq!(untouched.status, None, "{foreign} is nobody's to serve");
    drop(operator);
}

#[tokio::test]
async fn rights_that_are_missing_are_named() {
    let cluster = TestCluster::shared().await.expect("a cluster");
    cluster.apply_crds(&crd_folder()).await.expect("the CRDs");
    let home = cluster.namespace("no-rights").await.expect("a namespace");
    let kubeconfig = cluster
        .kubeconfig_of(&home, "default")
        .await
        .expect("a kubeconfig");
    let operator = operator(cluster)
        .env("KUBECONFIG", kubeconfig.as_os_str())
        .args(["--namespace", &home])
        .start_unready()
        .await
        .expect("started");
    let line = format!("tenantry may not list and watch secrets in namespace {home}: check its role");
    wait_for("the missing right to be named", PATIENCE, async || {
        let answer = operator.readyz().await?;
        Ok(Seen::when(answer.body.contains(&line), || format!("{answer:?}")))
    })
    .await
    .expect("readyz");
}

#[tokio::test]
async fn it_goes_on_where_the_api_server_was_away() {
    let cluster = TestCluster::start(ClusterOptions::default())
        .await
        .expect("a cluster");
    cluster.apply_crds(&crd_folder()).await.expect("the CRDs");
    let mut operator = operator(&cluster).start().await.expect("ready");
    let api = connections(&cluster, "default").await;
    make_and_wait(&api, "before").await;
    cluster.stop_apiserver().await.expect("stopped");
    assert!(operator.exited().expect("known").is_none(), "it waits");
    cluster.start_apiserver().await.expect("started");
    make_and_wait(&connections(&cluster, "default").await, "after").await;
    assert!(
        operator.exited().expect("known").is_none(),
        "it is the same process"
    );
}

#[tokio::test]
async fn it_leaves_with_success_when_asked_to() {
    let cluster = TestCluster::shared().await.expect("a cluster");
    cluster.apply_crds(&crd_folder()).await.expect("the CRDs");
    let namespace = cluster.namespace("leaves").await.expect("a namespace");
    let mut operator = operator(cluster)
        .args(["--namespace", &namespace, "--log-format", "json"])
        .start()
        .await
        .expect("ready");
    make_and_wait(&connections(cluster, &namespace).await, "ks").await;
    let status = operator.terminate().await.expect("left");
    assert!(status.success(), "{status}");
    let logs = operator.logs().expect("logs");
    let lines: Vec<Value> = logs
        .lines()
        .filter(|line| !line.starts_with("---"))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in the log line {line:?}")))
        .collect();
    let said = |text: &str| {
        lines
            .iter()
            .any(|l| l["message"].as_str().is_some_and(|m| m.contains(text)))
    };
    assert!(said("SIGTERM") && said("tenantry has stopped"), "{logs}");
}

#[test]
fn a_kubeconfig_that_is_not_there_is_named() {
    let out = std::process::Command::new(PROGRAM)
        .args(["operator", "--kubeconfig", "/nonexistent/kubeconfig"])
        .args([
            "--health-address",
            "127.0.0.1:0",
            "--metrics-address",
            "127.0.0.1:0",
        ])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    assert!(
        said.contains("tenantry: cannot read kubeconfig /nonexistent/kubeconfig"),
        "{said}"
    );
}
