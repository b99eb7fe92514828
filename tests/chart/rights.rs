//! The operator as the chart's ServiceAccount: what it may do is enough, and nothing of it is too much, by the audit log of
//! the API server.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    events::v1::Event,
    rbac::v1::{PolicyRule, Role},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use tenantry::api::{BuildRequest, TenantConnection};
use tenantry_test_support::{ClusterOptions, PATIENCE, Seen, TestCluster, wait_condition, wait_for};
use tokio::sync::OnceCell;

use crate::{
    common::{CONNECTION, PASSWORD, Setup, Stage, USER, parameters},
    helm::{Helm, chart},
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

/// A thing that may be done: API group, resource with subresource, verb.
type Right = (String, String, String);

/// What rules allow, one by one.
fn rights(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let all = rules.iter().flat_map(|rule| {
        let groups = rule.api_groups.iter().flatten();
        groups.flat_map(move |group| {
            let resources = rule.resources.iter().flatten();
            resources.flat_map(move |resource| {
                let verbs = rule.verbs.iter();
                verbs.map(move |verb| (group.clone(), resource.clone(), verb.clone()))
            })
        })
    });
    all.collect()
}

/// What a user did, from the audit log: the rights that it took, and the requests that were refused.
struct Deeds {
    used: BTreeSet<Right>,
    refused: Vec<String>,
    /// URIs of lists and watches.
    lists: Vec<String>,
}

fn deeds(log: &Path, user: &str) -> Deeds {
    let mut deeds = Deeds {
        used: BTreeSet::new(),
        refused: Vec::new(),
        lists: Vec::new(),
    };
    let text = fs::read_to_string(log).expect("the audit log");
    // A last line that is being written does not parse.
    for event in text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        if event["user"]["username"] != user {
            continue;
        }
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
        let uri = word(&event["requestURI"]);
        let verb = word(&event["verb"]);
        if code == 403 || event["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            deeds.refused.push(format!("{verb} {uri}"));
        }
        let object = &event["objectRef"];
        // Discovery has none.
        let Some(resource) = object["resource"].as_str() else {
            continue;
        };
        if ["list", "watch"].contains(&verb.as_str()) {
            deeds.lists.push(uri);
        }
        let resource = match object["subresource"].as_str() {
            Some(part) => format!("{resource}/{part}"),
            None => resource.to_owned(),
        };
        let group = word(&object["apiGroup"]);
        // Server-side apply of what is not there yet needs the right to create as well.
        if verb == "patch" && code == 201 {
            deeds
                .used
                .insert((group.clone(), resource.clone(), "create".into()));
        }
        deeds.used.insert((group, resource, verb));
    }
    deeds
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

#[tokio::test]
async fn builds_run_with_the_rights_of_the_chart_and_use_each_of_them() {
    let (cluster, log) = audited().await;
    let mut stage = Stage::with(Setup {
        operator: false,
        cluster: Some(cluster),
        ..Setup::default()
    })
    .await;
    let system = cluster.namespace("system").await.expect("a namespace");
    let user = format!("system:serviceaccount:{}:tenantry", &*system);
    let helm = Helm::on(cluster);
    // No pod: this process starts the operator.
    let install = |values: &[String]| {
        let place = format!("--namespace={}", &*system);
        let fixed = [
            "upgrade",
            "--install",
            "tenantry",
            &chart(),
            &place,
            "--reset-values",
        ]
        .map(str::to_owned);
        let off =
            ["crds.install=false", "replicas=0", "fetcher.enabled=false"].map(|v| format!("--set-json={v}"));
        helm.ok(&[&fixed[..], &off[..], values].concat());
    };

    // Namespace-only: a Role in the namespace of the stage, and nothing on the cluster.
    install(&[format!("--set-json=watchNamespaces=[{:?}]", &*stage.namespace)]);
    until_allowed(cluster, &user, &format!("--namespace={}", &*stage.namespace)).await;
    let everywhere = cluster
        .kubectl([
            "auth",
            "can-i",
            "list",
            "secrets",
            "--all-namespaces",
            &format!("--as={user}"),
        ])
        .await;
    assert!(everywhere.is_err(), "{everywhere:?}");
    let kubeconfig = cluster.kubeconfig_of(&system, "tenantry").await.expect("a token");
    let whoami = ["--kubeconfig".to_owned(), kubeconfig.display().to_string()];
    stage.scope.extend(whoami.clone());
    stage.start_operator().await;
    everything_once(&stage).await;

    let role: Role = Api::namespaced(stage.client.clone(), &stage.namespace)
        .get("tenantry")
        .await
        .expect("the Role");
    let granted = rights(&role.rules.unwrap_or_default());
    assert!(granted.len() > 25, "{granted:?}");
    let done = deeds(log, &user);
    assert_eq!(done.refused, Vec::<String>::new(), "refused");
    let missing: Vec<_> = granted.difference(&done.used).collect();
    assert!(missing.is_empty(), "granted and never used: {missing:?}");
    let more: Vec<_> = done.used.difference(&granted).collect();
    assert!(more.is_empty(), "used by other rights than the chart's: {more:?}");
    let place = format!("/namespaces/{}/", &*stage.namespace);
    let outside: Vec<_> = done.lists.iter().filter(|uri| !uri.contains(&place)).collect();
    assert!(outside.is_empty(), "{outside:?}");

    // The same release in cluster mode, where the Role goes and a ClusterRole comes.
    stage.kill_operator();
    install(&[]);
    until_allowed(cluster, &user, "--all-namespaces").await;
    let roles: Api<Role> = Api::namespaced(stage.client.clone(), &stage.namespace);
    assert_eq!(roles.get_opt("tenantry").await.expect("asked"), None);
    stage.scope = whoami.into();
    stage.start_operator().await;
    stage
        .build(
            "everywhere",
            json!({"parameters": parameters(&[("DURATION", "1")])}),
        )
        .await;
    stage.until_ready("everywhere").await;
    let done = deeds(log, &user);
    assert_eq!(done.refused, Vec::<String>::new(), "refused");
    assert!(
        done.lists
            .iter()
            .any(|uri| uri.starts_with("/apis/tenantry.dev/v1alpha1/buildrequests?")),
        "{:?}",
        done.lists
    );
    // Whoever may edit a namespace may now declare builds in it.
    let editor = ["--as=somebody", &format!("--namespace={}", &*stage.namespace)].map(str::to_owned);
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
    // Kept where something above failed, for whoever looks into it.
    fs::remove_file(log).expect("the audit log");
}

/// Whatever needs a right happens at least once.
async fn everything_once(stage: &Stage) {
    // A finalizer, a log, an ArtifactFetch and its ConfigMap.
    let given = parameters(&[("DURATION", "1"), ("ARTIFACTS", "a.txt:5")]);
    stage
        .build(
            "b",
            json!({"deletionPolicy": "Abort", "parameters": given, "artifacts": {"include": ["*"]}}),
        )
        .await;
    stage.until_ready("b").await;
    // Another destination: the ArtifactFetch is updated, and the ConfigMap of before removed.
    stage
        .patch(
            "b",
            json!({"spec": {"artifacts": {"destination": {"configMap": {"name": "elsewhere"}}}}}),
        )
        .await;
    let maps = stage.api::<ConfigMap>();
    wait_for("the files to move", PATIENCE, async || {
        let (old, new) = (
            maps.get_opt("b-artifacts").await?,
            maps.get_opt("elsewhere").await?,
        );
        Ok(Seen::when(old.is_none() && new.is_some(), || {
            format!("old there: {}, new there: {}", old.is_some(), new.is_some())
        }))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    // Removed by the operator when its time is over.
    stage
        .build(
            "short",
            json!({"ttlAfterFinished": "1s", "parameters": parameters(&[("DURATION", "1")])}),
        )
        .await;
    wait_for("the end of spec.ttlAfterFinished", PATIENCE, async || {
        let left = stage.api::<BuildRequest>().get_opt("short").await?;
        Ok(Seen::when(left.is_none(), || "it is there".to_owned()))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    // The same Event twice: the first one is counted up.
    let (connections, secrets) = (stage.api::<TenantConnection>(), stage.api::<Secret>());
    for _ in 0..2 {
        secrets
            .delete("login", &DeleteParams::default())
            .await
            .expect("deleted");
        wait_condition(&connections, CONNECTION, "Stalled", "True")
            .await
            .unwrap_or_else(|e| panic!("{e:#}"));
        stage
            .secret("login", &[("username", USER), ("password", PASSWORD)])
            .await;
        wait_condition(&connections, CONNECTION, "Ready", "True")
            .await
            .unwrap_or_else(|e| panic!("{e:#}"));
    }
    let events = stage.api::<Event>();
    wait_for("an Event to be counted up", PATIENCE, async || {
        let all = events.list(&ListParams::default()).await?.items;
        let counted = all
            .iter()
            .any(|e| e.series.as_ref().is_some_and(|s| s.count >= 2));
        Ok(Seen::when(counted, || {
            format!(
                "{:?}",
                all.iter().map(|e| (&e.reason, &e.note)).collect::<Vec<_>>()
            )
        }))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
}
