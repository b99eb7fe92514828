//! Two operators that stand in for each other.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::Value;
use tempfile::TempPath;
use tenantry_test_support::{ClusterOptions, FaultProxy, Operator, PATIENCE, Seen, TestCluster, wait_for};
use tokio::sync::OnceCell;

use crate::{
    common::{Setup, Stage, acme, scripted, shop},
    load::PIPELINES,
};

/// The one that leads at first, behind a proxy.
pub const FIRST: &str = "first";
/// The one that stands by at first.
pub const SECOND: &str = "second";
/// How long a leader that says nothing is waited for. Long beside what this machine may hold a process up.
pub const LOSS: Duration = Duration::from_secs(10);
const LEASE: &str = "shop";

/// Two operators, of which the first leads.
pub struct Pair {
    pub stage: Stage,
    pub first: Operator,
    pub second: Operator,
    /// Between the first and the API server.
    pub proxy: FaultProxy,
    audit: PathBuf,
    _kubeconfigs: [TempPath; 2],
}

async fn audited(name: &str) -> (TestCluster, PathBuf) {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-audit-{}.log", std::process::id()));
    let options = ClusterOptions {
        audit_log: Some(log.clone()),
        ..ClusterOptions::default()
    };
    (TestCluster::start(options).await.expect("a cluster"), log)
}

/// An API server that writes down who did what, for all tests that leave it running.
pub async fn shared() -> &'static (TestCluster, PathBuf) {
    static CLUSTER: OnceCell<(TestCluster, PathBuf)> = OnceCell::const_new();
    CLUSTER.get_or_init(|| audited("ha")).await
}

/// Arguments of a replica.
pub fn lease_args(namespace: &str, lease: &str) -> Vec<String> {
    let duration = format!("{}s", LOSS.as_secs());
    [
        "--leader-elect",
        "--lease-name",
        lease,
        "--lease-namespace",
        namespace,
        "--lease-duration",
        &duration,
        "--lease-renew-deadline",
        "7s",
        "--lease-retry-period",
        "500ms",
    ]
    .map(str::to_owned)
    .into()
}

impl Pair {
    /// Two operators and load for them.
    pub async fn start(name: &str) -> Self {
        let (cluster, audit) = shared().await;
        Self::on(cluster, audit.clone(), name).await
    }

    /// The same, on an API server of their own.
    pub async fn start_on_its_own(name: &str) -> Self {
        static CLUSTER: OnceCell<(TestCluster, PathBuf)> = OnceCell::const_new();
        let (cluster, audit) = CLUSTER.get_or_init(|| audited("ha-own")).await;
        Self::on(cluster, audit.clone(), name).await
    }

    async fn on(cluster: &'static TestCluster, audit: PathBuf, name: &str) -> Self {
        let project = PIPELINES
            .iter()
            .fold(shop(tenantry_simulator::Role::tenant()), |project, pipeline| {
                project.pipeline(scripted(pipeline))
            });
        let stage = Stage::with(Setup {
            world: acme([project]),
            operator: false,
            cluster: Some(cluster),
            ..Setup::default()
        })
        .await;
        let mut kubeconfigs = Vec::new();
        for replica in [FIRST, SECOND] {
            let place = format!("--namespace={}", &*stage.namespace);
            cluster
                .kubectl(["create", "serviceaccount", replica, &place])
                .await
                .expect("made");
            let role = format!("{name}-{replica}-{}", &*stage.namespace);
            let whom = format!("--serviceaccount={}:{replica}", &*stage.namespace);
            cluster
                .kubectl([
                    "create",
                    "clusterrolebinding",
                    &role,
                    "--clusterrole=cluster-admin",
                    &whom,
                ])
                .await
                .expect("bound");
            kubeconfigs.push(
                cluster
                    .kubeconfig_of(&stage.namespace, replica)
                    .await
                    .expect("a token"),
            );
        }
        let [of_first, direct]: [TempPath; 2] = kubeconfigs.try_into().expect("two");
        let proxy = FaultProxy::start(&of_first).await.expect("a proxy");
        let operator = |replica: &str, kubeconfig: &Path| {
            stage
                .builder()
                .args(lease_args(&stage.namespace, LEASE))
                .args(["--pod-name".to_owned(), replica.to_owned()])
                .args(["--tune", "log-interval=2s"])
                .args(["--kubeconfig".to_owned(), kubeconfig.display().to_string()])
        };
        let first = operator(FIRST, proxy.kubeconfig())
            .start()
            .await
            .expect("an operator");
        let mut pair = Self {
            second: operator(SECOND, &direct).start_unready().await.expect("another"),
            first,
            proxy,
            audit,
            _kubeconfigs: [of_first, direct],
            stage,
        };
        pair.until_held_by(FIRST).await;
        // Whoever stands by is ready, and says so.
        pair.second.wait_ready().await.expect("ready to stand by");
        for (operator, leads) in [
            (&pair.first, "tenantry_leader 1"),
            (&pair.second, "tenantry_leader 0"),
        ] {
            let metrics = operator.metrics_text().await.expect("metrics");
            assert!(metrics.lines().any(|line| line == leads), "{leads}:\n{metrics}");
        }
        pair.load().await;
        pair
    }

    async fn load(&self) {
        crate::load::apply(&self.stage).await;
    }

    /// Who holds the lease; empty where nobody does.
    pub async fn holder(&self) -> String {
        let leases: Api<Lease> = Api::namespaced(self.stage.client.clone(), &self.stage.namespace);
        let lease = leases.get(LEASE).await.expect("the lease");
        let identity = lease.spec.and_then(|s| s.holder_identity).unwrap_or_default();
        identity.split('_').next().unwrap_or_default().to_owned()
    }

    async fn until_held_by(&self, replica: &str) {
        let held = wait_for(&format!("{replica} to lead"), PATIENCE, async || {
            let holder = self.holder().await;
            Ok(Seen::when(holder == replica, || format!("{holder:?} leads")))
        })
        .await;
        held.unwrap_or_else(|e| panic!("{e:#}\n{}", self.second.logs().unwrap_or_default()));
    }

    /// Waits until the second leads, which did nothing before.
    pub async fn until_second_leads(&self) {
        self.until_held_by(SECOND).await;
    }

    /// How often the remote was written to, whoever did it.
    pub fn remote_writes(&self) -> usize {
        let all = self.stage.simulator.ledger().snapshot().requests;
        all.iter()
            .filter(|r| r.method != "GET" && r.class != "oauth.token")
            .count()
    }

    /// When and what a replica changed on the API server, by its audit log. The Lease aside; and what was refused, since a
    /// write that was between the fence and the wire when the process was stopped still leaves it, to be answered with 409.
    fn writes_of(&self, replica: &str) -> Vec<(String, String)> {
        let user = format!("system:serviceaccount:{}:{replica}", &*self.stage.namespace);
        let text = fs::read_to_string(&self.audit).expect("the audit log");
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut writes: Vec<_> = events
            .filter(|e| e["user"]["username"] == *user)
            .filter(|e| !["get", "list", "watch"].contains(&e["verb"].as_str().unwrap_or_default()))
            .filter(|e| e["objectRef"]["resource"] != "leases")
            .filter(|e| {
                e["responseStatus"]["code"]
                    .as_u64()
                    .is_some_and(|code| code < 400)
            })
            .map(|e| {
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (
                    word(&e["requestReceivedTimestamp"]),
                    format!("{} {}", word(&e["verb"]), word(&e["requestURI"])),
                )
            })
            .collect();
        writes.sort();
        writes
    }

    /// The first wrote to the API server while it led, and nothing after the second began; and the second nothing before.
    pub async fn assert_first_wrote_nothing_after_its_time(&self) {
        let seen = wait_for("both to be in the audit log", PATIENCE, async || {
            let both = [self.writes_of(FIRST), self.writes_of(SECOND)];
            Ok(match both {
                [first, second] if !first.is_empty() && !second.is_empty() => Seen::Done((first, second)),
                [first, second] => Seen::NotYet(format!("{} and {}", first.len(), second.len())),
            })
        })
        .await;
        let (first, second) = seen.unwrap_or_else(|e| panic!("{e:#}"));
        let (last, begin) = (first.last().expect("some"), second.first().expect("some"));
        assert!(
            last.0 < begin.0,
            "{FIRST} wrote {last:?} after {SECOND} began with {begin:?}"
        );
    }
}
