//! A real API server takes what the chart and the kustomizations make; Helm installs, upgrades and uninstalls it.

use std::{fs, path::Path};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::Value;
use tempfile::TempDir;
use tenantry_test_support::{ClusterOptions, Namespace, PATIENCE, Seen, TestCluster, wait_for};

use crate::{
    common::build_request,
    helm::{Helm, chart, objects, repository, template},
    render::SETS,
};

const BUILDS: &str = "buildrequests.tenantry.dev";

/// Makes the API server refuse pods in the namespace that are not `restricted`.
pub async fn restrict(cluster: &TestCluster, namespace: &str) {
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster
        .kubectl(["label", "namespace", namespace, label])
        .await
        .expect("labelled");
}

/// Waits for a pod of the operator. Without a node it is never scheduled: that it is there means it was admitted.
async fn until_admitted(cluster: &TestCluster, namespace: &str) -> Pod {
    let pods: Api<Pod> = Api::namespaced(cluster.client().await.expect("a client"), namespace);
    let sets: Api<ReplicaSet> = Api::namespaced(pods.clone().into_client(), namespace);
    wait_for("a pod of the operator", PATIENCE, async || {
        let ours = ListParams::default().labels("app.kubernetes.io/name=tenantry");
        if let Some(pod) = pods.list(&ours).await?.items.pop() {
            return Ok(Seen::Done(pod));
        }
        let conditions = sets
            .list(&ours)
            .await?
            .items
            .into_iter()
            .map(|set| set.status.unwrap_or_default().conditions);
        Ok(Seen::NotYet(format!(
            "none; its ReplicaSets say {:?}",
            conditions.collect::<Vec<_>>()
        )))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"))
}

#[tokio::test]
async fn pods_pass_pod_security_restricted_unless_they_use_the_nodes_network() {
    let cluster = TestCluster::shared().await.expect("a cluster");
    let namespace = cluster.namespace("restricted").await.expect("a namespace");
    restrict(cluster, &namespace).await;
    let helm = Helm::on(cluster);
    let chart = chart();
    let install = |more: &'static str| {
        let place = format!("--namespace={}", &*namespace);
        helm.ok(&[
            "upgrade",
            "--install",
            &namespace,
            &chart,
            &place,
            "--set=crds.install=false",
            more,
        ]);
    };
    install("--set=operator.logFormat=json");
    let pod = until_admitted(cluster, &namespace).await;
    let container = &pod.spec.expect("a spec").containers[0];
    assert_eq!(
        container.image.as_deref(),
        Some(&*format!("localhost/tenantry:{}", env!("CARGO_PKG_VERSION")))
    );

    install("--set=hostNetwork=true");
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client().await.expect("a client"), &namespace);
    wait_for(
        "the pod on the node's network to be refused",
        PATIENCE,
        async || {
            let sets = sets.list(&ListParams::default()).await?.items;
            let said: Vec<_> = sets
                .iter()
                .filter_map(|set| set.status.as_ref()?.conditions.as_ref())
                .flatten()
                .filter_map(|condition| condition.message.clone())
                .collect();
            let refused = said
                .iter()
                .any(|m| m.contains("violates PodSecurity") && m.contains("hostNetwork"));
            Ok(Seen::when(refused, || format!("{said:?}")))
        },
    )
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    helm.ok(&["uninstall", &namespace, &format!("--namespace={}", &*namespace)]);
}

#[tokio::test]
async fn the_api_server_takes_every_object() {
    let cluster = TestCluster::shared().await.expect("a cluster");
    let (system, a, b) = (
        cluster.namespace("system").await.expect("a namespace"),
        cluster.namespace("team-a").await.expect("a namespace"),
        cluster.namespace("team-b").await.expect("a namespace"),
    );
    let here = |value: &str| {
        let quoted = |namespace: &Namespace| format!("{:?}", &**namespace);
        value
            .replace(r#""system""#, &quoted(&system))
            .replace(r#""team-a""#, &quoted(&a))
            .replace(r#""team-b""#, &quoted(&b))
    };
    for (what, values) in SETS {
        let values: Vec<_> = values.iter().map(|value| here(value)).collect();
        let yaml = template(&system, &values.iter().map(String::as_str).collect::<Vec<_>>());
        let apply = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
        ];
        let said = cluster
            .kubectl_with_input(apply, &yaml)
            .await
            .unwrap_or_else(|e| panic!("{what}: {e:#}"));
        assert_eq!(said.lines().count(), objects(&yaml).len(), "{what}: {said}");
    }
}

/// The chart as it was before, in a folder of its own: its BuildRequests have no short name.
fn older_chart(place: &Path) -> String {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let (from, to) = entry
                .map(|e| (e.path(), to.join(e.file_name())))
                .expect("an entry");
            if from.is_dir() {
                copy(&from, &to);
            } else {
                fs::copy(&from, &to).expect("copied");
            }
        }
    }
    copy(&repository("charts/tenantry"), place);
    let file = place.join("files/crds/buildrequests.yaml");
    let crd = fs::read_to_string(&file).expect("the CRD");
    let older = crd.replace("    shortNames:\n    - breq\n", "");
    assert_ne!(crd, older);
    fs::write(file, older).expect("written");
    place.display().to_string()
}

#[tokio::test]
async fn crds_are_upgraded_with_the_chart_and_outlive_it_with_the_objects_of_tenants() {
    let cluster = TestCluster::start(ClusterOptions::default())
        .await
        .expect("a cluster");
    let client = cluster.client().await.expect("a client");
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let short = async || {
        crds.get(BUILDS)
            .await
            .map(|crd| crd.spec.names.short_names.unwrap_or_default())
    };
    let helm = Helm::on(&cluster);
    let folder = TempDir::new().expect("a folder");
    let older = older_chart(folder.path());
    let chart = chart();
    let place = "--namespace=tenantry-system";

    helm.ok(&["install", "tenantry", &older, place, "--create-namespace"]);
    assert_eq!(short().await.expect("the CRD"), Vec::<String>::new());
    wait_for("the CRD to be served", PATIENCE, async || {
        let build = build_request("precious", Value::Null).to_string();
        cluster
            .kubectl_with_input(["apply", "-f", "-"], &build)
            .await
            .map(Seen::Done)
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));

    let notes = helm.ok(&["upgrade", "tenantry", &chart, place]);
    assert_eq!(short().await.expect("the CRD"), ["breq"]);
    assert!(notes.contains("looks after all namespaces"), "{notes}");

    helm.ok(&["uninstall", "tenantry", place]);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "tenantry-system");
    assert_eq!(
        deployments
            .get_opt("tenantry")
            .await
            .expect("asked")
            .map(|d| d.name_any()),
        None
    );
    let precious = async || cluster.kubectl(["get", BUILDS, "precious", "-o", "name"]).await;
    precious().await.expect("still there");

    // The same release takes them up again; another one has to be told to.
    helm.ok(&["install", "tenantry", &chart, place]);
    helm.ok(&["uninstall", "tenantry", place]);
    let other = ["install", "other", &chart, place];
    let refused = helm.run(&other).expect_err("somebody else's CRDs");
    assert!(refused.contains("invalid ownership metadata"), "{refused}");
    helm.ok(&[&other[..], &["--take-ownership"]].concat());
    helm.ok(&["uninstall", "other", place]);
    precious().await.expect("still there");

    // Without keep they go, and what is of them.
    helm.ok(&["install", "other", &chart, place, "--set=crds.keep=false"]);
    helm.ok(&["uninstall", "other", place]);
    wait_for("the CRD to go", PATIENCE, async || {
        Ok(Seen::when(crds.get_opt(BUILDS).await?.is_none(), || {
            "it is there".to_owned()
        }))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));

    kustomizations_work(&cluster).await;
}

/// On the cluster of the test above, which by now is empty.
async fn kustomizations_work(cluster: &TestCluster) {
    cluster
        .kubectl(["delete", "namespace", "tenantry-system"])
        .await
        .expect("deleted");
    let folder = repository("config/default").display().to_string();
    // Once more where a kind was not served yet, as kubectl itself advises.
    wait_for("config/default to be applied", PATIENCE, async || {
        cluster
            .kubectl(["apply", "--server-side", "-k", &folder])
            .await
            .map(Seen::Done)
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    // Its namespace enforces pod security "restricted".
    until_admitted(cluster, "tenantry-system").await;
    cluster.kubectl(["get", BUILDS]).await.expect("served");

    // For one namespace of somebody's own: whatever names a namespace follows.
    let mine = TempDir::new().expect("a folder");
    let base = mine.path().join("base");
    fs::create_dir(&base).expect("a folder");
    for file in ["kustomization.yaml", "operator.yaml"] {
        fs::copy(repository("config/namespaced").join(file), base.join(file)).expect("copied");
    }
    fs::write(
        mine.path().join("kustomization.yaml"),
        "namespace: my-team\nresources: [base]\n",
    )
    .expect("written");
    let made = cluster
        .kubectl(["kustomize", &mine.path().display().to_string()])
        .await
        .expect("kustomized");
    for object in objects(&made) {
        assert_eq!(object["metadata"]["namespace"], "my-team", "{object}");
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(subject["namespace"], "my-team", "{object}");
        }
    }
    cluster
        .kubectl(["create", "namespace", "my-team"])
        .await
        .expect("made");
    restrict(cluster, "my-team").await;
    cluster
        .kubectl_with_input(["apply", "--server-side", "-f", "-"], &made)
        .await
        .expect("applied");
    let pod = until_admitted(cluster, "my-team").await;
    let env = pod.spec.expect("a spec").containers[0]
        .env
        .clone()
        .unwrap_or_default();
    let own = env
        .iter()
        .find(|e| e.name == "TENANTRY_NAMESPACE")
        .and_then(|e| e.value_from.as_ref()?.field_ref.as_ref());
    assert_eq!(
        own.map(|field| field.field_path.as_str()),
        Some("metadata.namespace")
    );

    let monitoring = repository("config/monitoring").display().to_string();
    let made = objects(
        &cluster
            .kubectl(["kustomize", &monitoring])
            .await
            .expect("kustomized"),
    );
    let kinds: Vec<_> = made
        .iter()
        .map(|o| o["kind"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(kinds, ["ConfigMap", "PrometheusRule", "ServiceMonitor"]);
}
