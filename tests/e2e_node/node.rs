//! The node, the images on it, and the operator in a pod.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use tenantry_test_support::{ClusterOptions, PATIENCE, Seen, TestCluster, wait_for};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{
    common::{
        Setup, Stage, TUNES,
        rights::{Deeds, deeds},
    },
    helm::{Helm, chart},
};

/// The image's name, without its tag.
const IMAGE: &str = "localhost/tenantry";
/// The tag of what is installed first.
pub const TAG: &str = "e2e";
/// The same program under another tag: what an upgrade goes to.
pub const NEXT_TAG: &str = "e2e-next";

/// Times that these suites shorten besides.
const MORE_TUNES: [&str; 2] = ["fetch-interval=500ms", "pod-deadline=10s"];

/// What the chart labels its pod with; fetch pods have another component.
const OPERATOR: &str = "app.kubernetes.io/component=operator";

/// What the operator of a test looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All namespaces: no other operator may run meanwhile.
    Cluster,
    /// The namespace of its test, with Roles alone.
    Namespace,
}

/// Held by a test for as long as it has an operator on the node.
#[allow(dead_code)] // all that matters is when they are dropped
pub enum Turn {
    Alone(RwLockWriteGuard<'static, ()>),
    Beside(RwLockReadGuard<'static, ()>),
}

/// The cluster with the node and both images, as soon as an operator of this reach may run there.
pub async fn node(reach: Reach) -> (&'static TestCluster, Turn) {
    node_with(reach, &[TAG, NEXT_TAG]).await
}

/// The same with these images, if it is the first to ask.
pub async fn node_with(reach: Reach, tags: &[&str]) -> (&'static TestCluster, Turn) {
    // Static, as a stage wants it: it ends with this process.
    static NODE: OnceCell<TestCluster> = OnceCell::const_new();
    static TURNS: RwLock<()> = RwLock::const_new(());
    let turn = match reach {
        Reach::Cluster => Turn::Alone(TURNS.write().await),
        Reach::Namespace => Turn::Beside(TURNS.read().await),
    };
    let cluster = NODE
        .get_or_init(async || {
            let options = ClusterOptions {
                node: true,
                ..ClusterOptions::default()
            };
            let cluster = TestCluster::start(options).await.expect("a cluster with a node");
            for tag in tags {
                let loaded = cluster.load_image(&image(tag)).await.expect("the image");
                assert_eq!(loaded, [format!("{IMAGE}:{tag}")]);
            }
            cluster
        })
        .await;
    (cluster, turn)
}

/// The image's archive, which `hack/e2e.sh` has built.
fn image(tag: &str) -> PathBuf {
    let folder = std::env::var_os("TENANTRY_E2E_IMAGES").expect("TENANTRY_E2E_IMAGES: run `make e2e`");
    let archive = Path::new(&folder).join(format!("{tag}.tar"));
    let bytes = archive.metadata().expect("an archive").len();
    assert!(
        bytes < 25_000_000,
        "the image has {bytes} bytes, 25 MB is the most"
    );
    archive
}

/// A stage whose operator runs in a pod, from a release of the chart in the stage's namespace.
pub struct Installed {
    /// The stage, without an operator process of its own.
    pub stage: Stage,
    helm: Helm,
    ports: [u16; 2],
    reach: Reach,
}

impl Installed {
    /// Installs the chart with these values besides those that every pod of this node needs.
    pub async fn with(setup: Setup, reach: Reach, values: &[String]) -> Self {
        let stage = Stage::with(Setup {
            operator: false,
            ..setup
        })
        .await;
        let installed = Self {
            helm: Helm::on(stage.cluster),
            // Of the machine, as the pod uses its network.
            ports: [free_port(), free_port()],
            stage,
            reach,
        };
        installed.release(TAG, values).await;
        installed
    }

    /// Installs the release, or upgrades it, and waits until its pod is ready.
    pub async fn release(&self, tag: &str, values: &[String]) {
        let place = format!("--namespace={}", &*self.stage.namespace);
        let [metrics, health] = self.ports;
        let port = self.stage.cluster.port().expect("a cluster of our own");
        let tunes = [&TUNES[..], &MORE_TUNES].concat().join(",");
        let env = json!([
            {"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"},
            {"name": "KUBERNETES_SERVICE_PORT", "value": port.to_string()},
            {"name": "TENANTRY_TUNE", "value": tunes},
        ]);
        let fixed = [
            format!("image.repository={IMAGE}"),
            format!("image.tag={tag}"),
            "image.pullPolicy=Never".into(),
            "crds.install=false".into(),
            "hostNetwork=true".into(),
            "operator.listenAddress=127.0.0.1".into(),
            format!("operator.metricsPort={metrics}"),
            format!("operator.healthPort={health}"),
            "operator.logLevel=debug".into(),
        ];
        let only_here = format!("watchNamespaces={{{}}}", &*self.stage.namespace);
        let reach = (self.reach == Reach::Namespace).then_some(only_here);
        let mut args: Vec<String> = ["upgrade", "--install", "tenantry", &chart(), &place]
            .map(str::to_owned)
            .into();
        args.extend(["--reset-values", "--wait", "--timeout=5m"].map(str::to_owned));
        args.extend(
            fixed
                .iter()
                .chain(&reach)
                .chain(values)
                .map(|value| format!("--set={value}")),
        );
        args.push(format!("--set-json=operator.extraEnv={env}"));
        if let Err(error) = self.helm.run(&args) {
            panic!("{error}\n{}", self.explain().await);
        }
    }

    /// The pod of the operator.
    pub async fn pod(&self) -> Pod {
        let pods: Api<Pod> = self.stage.api();
        wait_for("one pod of the operator", PATIENCE, async || {
            let ours = ListParams::default().labels(OPERATOR);
            let mut all = pods.list(&ours).await?.items;
            all.retain(|pod| pod.metadata.deletion_timestamp.is_none());
            let names: Vec<_> = all.iter().map(ResourceExt::name_any).collect();
            Ok(match all.pop() {
                Some(pod) if all.is_empty() => Seen::Done(pod),
                _ => Seen::NotYet(format!("{names:?}")),
            })
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The log of the operator.
    pub async fn log(&self) -> String {
        let place = format!("--namespace={}", &*self.stage.namespace);
        self.stage
            .cluster
            .kubectl(["logs", "deployment/tenantry", &place, "--tail=-1"])
            .await
            .expect("the log")
    }

    /// What a person would look at when the pod does not come up.
    async fn explain(&self) -> String {
        let place = format!("--namespace={}", &*self.stage.namespace);
        let ask = async |args: &[&str]| {
            let args = [args, &[&*place]].concat();
            self.stage
                .cluster
                .kubectl(args)
                .await
                .unwrap_or_else(|e| format!("{e:#}"))
        };
        format!(
            "{}\n{}\n{}",
            ask(&["describe", "pods"]).await,
            ask(&["get", "events"]).await,
            ask(&["logs", "deployment/tenantry", "--tail=50"]).await,
        )
    }

    /// What the operator did so far, by the API server's audit log.
    pub fn deeds(&self) -> Deeds {
        let log = self.stage.cluster.audit_log().expect("a node has one");
        let user = format!("system:serviceaccount:{}:tenantry", &*self.stage.namespace);
        deeds(&log, 0, &user)
    }

    /// Uninstalls the release and waits until its pod is gone, so that it disturbs no other test. Nothing may have been
    /// refused to it.
    pub async fn uninstall(self) {
        let place = format!("--namespace={}", &*self.stage.namespace);
        // Before its rights go: its pod ends a moment later.
        let Deeds { used, refused, .. } = self.deeds();
        self.helm
            .ok(&["uninstall", "tenantry", &place, "--wait", "--timeout=5m"]);
        assert_eq!(refused, Vec::<String>::new(), "refused to the ServiceAccount");
        assert!(used.len() > 5, "the audit log tells of {used:?} only");
        let pods: Api<Pod> = self.stage.api();
        wait_for("the pod to go", PATIENCE, async || {
            let ours = ListParams::default().labels(OPERATOR);
            let left = pods.list(&ours).await?.items;
            Ok(Seen::when(left.is_empty(), || {
                format!("{} are there", left.len())
            }))
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}"));
    }
}

impl Drop for Installed {
    /// What a test that failed has left would disturb the next one.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let place = format!("--namespace={}", &*self.stage.namespace);
            let _ = self
                .helm
                .run(&["uninstall", "tenantry", &place, "--wait", "--timeout=5m"]);
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its number").port()
}
