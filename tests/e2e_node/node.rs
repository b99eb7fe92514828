//! The node, the images on it, and the operator in a pod.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tenantry_test_support::{ClusterOptions, PATIENCE, Seen, TestCluster, wait_for};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::{
    common::{Setup, Stage, TUNES},
    helm::{Helm, chart},
};

/// The image's name, without its tag.
const IMAGE: &str = "localhost/tenantry";
/// The tag of what is installed first.
pub const TAG: &str = "e2e";
/// The same program under another tag: what an upgrade goes to.
pub const NEXT_TAG: &str = "e2e-next";

/// What the chart labels its pod with; fetch pods have another component.
const OPERATOR: &str = "app.kubernetes.io/component=operator";

/// The cluster with the node and both images, for as long as no other test of this process needs it.
pub async fn node() -> (&'static TestCluster, MutexGuard<'static, ()>) {
    // Static, as a stage wants it: it ends with this process.
    static NODE: OnceCell<TestCluster> = OnceCell::const_new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let guard = ONE_AT_A_TIME.lock().await;
    let cluster = NODE
        .get_or_init(async || {
            let options = ClusterOptions {
                node: true,
                ..ClusterOptions::default()
            };
            let cluster = TestCluster::start(options).await.expect("a cluster with a node");
            for tag in [TAG, NEXT_TAG] {
                let loaded = cluster.load_image(&image(tag)).await.expect("the image");
                assert_eq!(loaded, [format!("{IMAGE}:{tag}")]);
            }
            cluster
        })
        .await;
    (cluster, guard)
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
}

impl Installed {
    /// Installs the chart with these values besides those that every pod of this node needs.
    pub async fn with(setup: Setup, values: &[String]) -> Self {
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
        };
        installed.clear();
        installed.release(TAG, values).await;
        installed
    }

    /// Uninstalls what a test that failed has left.
    fn clear(&self) {
        let left = self.helm.ok(&["list", "--all-namespaces", "--output=json"]);
        let left: Vec<Value> = serde_json::from_str(&left).expect("a list");
        for release in left {
            let text = |key: &str| release[key].as_str().expect("text").to_owned();
            let place = format!("--namespace={}", text("namespace"));
            self.helm
                .ok(&["uninstall", &text("name"), &place, "--wait", "--timeout=5m"]);
        }
    }

    /// Installs the release, or upgrades it, and waits until its pod is ready.
    pub async fn release(&self, tag: &str, values: &[String]) {
        let place = format!("--namespace={}", &*self.stage.namespace);
        let [metrics, health] = self.ports;
        let port = self.stage.cluster.port().expect("a cluster of our own");
        let env = json!([
            {"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"},
            {"name": "KUBERNETES_SERVICE_PORT", "value": port.to_string()},
            {"name": "TENANTRY_TUNE", "value": TUNES.join(",")},
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
        let mut args: Vec<String> = ["upgrade", "--install", "tenantry", &chart(), &place]
            .map(str::to_owned)
            .into();
        args.extend(["--reset-values", "--wait", "--timeout=5m"].map(str::to_owned));
        args.extend(fixed.iter().chain(values).map(|value| format!("--set={value}")));
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

    /// Uninstalls the release and waits until its pod is gone, so that it disturbs no other test.
    pub async fn uninstall(self) {
        let place = format!("--namespace={}", &*self.stage.namespace);
        self.helm
            .ok(&["uninstall", "tenantry", &place, "--wait", "--timeout=5m"]);
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

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its number").port()
}
