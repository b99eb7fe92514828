//! What the end-to-end suites share: one stage per test, with a namespace, a simulator and an operator of its own, on the
//! real API server that all tests of a process share. Tests read: given a stage, when something is applied, then wait
//! until it is so. Nothing here waits for a time, only for conditions.
#![allow(dead_code)] // each suite uses its part

pub mod remote;
pub mod rights;
mod world;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tenantry::api::{ArtifactFetch, BuildRequest, TenantConnection, build_request::BuildPhase};
use tenantry_simulator::{Config, Role, Simulator, World};
use tenantry_test_support::{Namespace, Operator, OperatorBuilder, PATIENCE, Seen, TestCluster, wait_for};
#[allow(unused_imports)] // each suite uses its part
pub use world::{PASSWORD, PROJECT, USER, acme, scripted, shop, world};

/// Name of the TenantConnection.
pub const CONNECTION: &str = "ks";
/// How fast the simulated system's clock runs, so that suites are quick. Protocol times are not scaled.
pub const PACE: f64 = 0.1;

/// Deadlines that guard against minutes of trouble on a real remote, at the pace of this one.
pub const TUNES: [&str; 10] = [
    "missing-grace=600ms",
    "search-window=4s",
    "stale-after=4s",
    "log-interval=300ms",
    "collect-deadline=600s",
    "cleanup-deadline=100s",
    "stalled-resync=5s",
    "connection-resync=5s",
    "backoff-first=200ms",
    "backoff-cap=2s",
];

/// How a stage is set up.
pub struct Setup {
    /// The remote.
    pub world: World,
    /// The pace of the remote.
    pub config: fn(Config) -> Config,
    /// The operator's program. `None`: the one that cargo built.
    pub program: Option<PathBuf>,
    /// Times that are tuned.
    pub tunes: &'static [&'static str],
    /// More arguments of the operator.
    pub args: Vec<String>,
    /// Variables of the operator's environment, such as another `KUBECONFIG`.
    pub env: Vec<(String, String)>,
    /// What the operator logs.
    pub log: &'static str,
    /// Without an operator: it is started by the test.
    pub operator: bool,
    /// An API server of one's own; `None`: the one that all tests of the process share.
    pub cluster: Option<&'static TestCluster>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            world: world(Role::tenant()),
            config: |config| config,
            program: None,
            tunes: &TUNES,
            args: vec![],
            env: vec![],
            log: "info,tenantry=debug",
            operator: true,
            cluster: None,
        }
    }
}

/// A namespace, a simulator and an operator.
pub struct Stage {
    /// The API server, shared.
    pub cluster: &'static TestCluster,
    /// A client of it.
    pub client: Client,
    /// The namespace of this test.
    pub namespace: Namespace,
    /// The remote.
    pub simulator: Simulator,
    /// The operator, looking after this namespace only unless `scope` says otherwise.
    pub operator: Option<Operator>,
    /// Arguments that tell the next operator whom it looks after and as whom.
    pub scope: Vec<String>,
    program: PathBuf,
    tunes: &'static [&'static str],
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: &'static str,
}

impl Stage {
    /// A stage of the usual world.
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    /// A stage of the usual world in which the tenant has this role.
    pub async fn as_role(role: Role) -> Self {
        Self::with(Setup {
            world: world(role),
            ..Setup::default()
        })
        .await
    }

    /// A stage.
    pub async fn with(setup: Setup) -> Self {
        let cluster = match setup.cluster {
            Some(own) => own,
            None => TestCluster::shared().await.expect("a test cluster"),
        };
        cluster
            .apply_crds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crds"))
            .await
            .expect("CRDs");
        let namespace = cluster.namespace("e2e").await.expect("a namespace");
        let config = (setup.config)(Config::of(setup.world).with_time_scale(PACE));
        let simulator = Simulator::start(config).await.expect("a simulator");
        let client = cluster.client().await.expect("a client");
        let mut stage = Self {
            cluster,
            client,
            scope: vec!["--namespace".into(), namespace.to_string()],
            namespace,
            simulator,
            operator: None,
            program: setup
                .program
                .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tenantry"))),
            tunes: setup.tunes,
            args: setup.args,
            env: setup.env,
            log: setup.log,
        };
        stage.connect(&stage.simulator.url(), PASSWORD).await;
        if setup.operator {
            stage.start_operator().await;
        }
        stage
    }

    /// An operator of this stage, not started.
    pub fn builder(&self) -> OperatorBuilder {
        let builder = self
            .cluster
            .operator(&self.program)
            .args(["operator", "--log-level", self.log])
            .args(self.scope.clone())
            .args(self.tunes.iter().flat_map(|tune| ["--tune", tune]))
            .args(self.args.clone());
        let set = |builder: OperatorBuilder, (key, value): &(String, String)| builder.env(key, value);
        self.env.iter().fold(builder, set)
    }

    /// Starts the operator and waits until it is ready.
    pub async fn start_operator(&mut self) {
        self.operator = Some(self.builder().start().await.expect("an operator"));
    }

    /// Kills the operator with no warning and starts another.
    pub async fn restart_operator(&mut self) {
        self.operator
            .as_mut()
            .expect("an operator")
            .restart()
            .await
            .expect("another operator");
    }

    /// Kills the operator with no warning.
    pub fn kill_operator(&mut self) {
        self.operator
            .as_mut()
            .expect("an operator")
            .kill9()
            .expect("it runs");
    }

    /// Makes the connection and its Secret, or changes them.
    pub async fn connect(&self, endpoint: &str, password: &str) {
        self.secret("login", &[("username", USER), ("password", password)])
            .await;
        self.apply::<TenantConnection>(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "TenantConnection", "metadata": {"name": CONNECTION},
            "spec": {
                "endpoint": endpoint, "workspace": "acme", "pollInterval": "1s",
                "limits": {"requestsPerSecond": 200, "burst": 400},
                "credentials": {"password": {"secretRef": {"name": "login"}}},
            },
        }))
        .await;
    }

    /// Changes the connection by merge patch.
    pub async fn patch_connection(&self, patch: Value) {
        self.api::<TenantConnection>()
            .patch(CONNECTION, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("a patch");
    }

    /// Applies an object, as `kubectl apply --server-side` does.
    pub async fn apply<K>(&self, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.try_apply(object).await.expect("the API server takes it")
    }

    /// Applies an object; the API server may refuse it.
    pub async fn try_apply<K>(&self, object: Value) -> kube::Result<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        self.api::<K>()
            .patch(
                &name,
                &PatchParams::apply("suite").force(),
                &Patch::Apply(&object),
            )
            .await
    }

    /// The objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes a Secret, or changes it.
    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> = data.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        self.apply::<Secret>(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}),
        )
        .await;
    }

    /// Applies a BuildRequest of `build` in `shop`; `spec` is laid over that.
    pub async fn build(&self, name: &str, spec: Value) -> BuildRequest {
        self.apply(build_request(name, spec)).await
    }

    /// The BuildRequest as it is.
    pub async fn get(&self, name: &str) -> BuildRequest {
        self.api().get(name).await.expect("the BuildRequest")
    }

    /// Changes a BuildRequest by merge patch.
    pub async fn patch(&self, name: &str, patch: Value) -> BuildRequest {
        self.api()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("a patch")
    }

    /// Asks for one more run.
    pub async fn rerun(&self, name: &str, value: &str) {
        self.patch(
            name,
            json!({"metadata": {"annotations": {"tenantry.dev/rerun-requested-at": value}}}),
        )
        .await;
    }

    /// Waits until `is` holds for the BuildRequest, and returns it then.
    pub async fn until(&self, name: &str, what: &str, is: impl Fn(&BuildRequest) -> bool) -> BuildRequest {
        self.until_within(PATIENCE, name, what, is).await
    }

    /// As [`until`](Self::until), for what takes longer than usual.
    pub async fn until_within(
        &self,
        deadline: Duration,
        name: &str,
        what: &str,
        is: impl Fn(&BuildRequest) -> bool,
    ) -> BuildRequest {
        let api = self.api::<BuildRequest>();
        wait_for(&format!("BuildRequest {name}: {what}"), deadline, async || {
            let object = api.get(name).await?;
            Ok(if is(&object) {
                Seen::Done(object)
            } else {
                Seen::NotYet(describe(&object))
            })
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Waits until the BuildRequest is in a phase.
    pub async fn until_phase(&self, name: &str, phase: BuildPhase) -> BuildRequest {
        self.until(name, &format!("phase {phase:?}"), |o| phase_of(o) == Some(phase))
            .await
    }

    /// Waits until the BuildRequest is `Ready`.
    pub async fn until_ready(&self, name: &str) -> BuildRequest {
        self.until(name, "Ready", |o| condition(o, "Ready").0 == "True")
            .await
    }

    /// Waits until the BuildRequest is marked as finished: nothing is written to it any more.
    pub async fn until_settled(&self, name: &str) -> BuildRequest {
        let is_marked = |o: &BuildRequest| o.labels().contains_key(tenantry::api::SETTLED);
        self.until(name, "marked as finished", is_marked).await
    }

    /// Waits until the BuildRequest is `Stalled`, and returns it with the message.
    pub async fn until_stalled(&self, name: &str, reason: &str) -> (BuildRequest, String) {
        let object = self
            .until(name, &format!("Stalled {reason}"), |o| {
                let (status, seen, _) = condition(o, "Stalled");
                status == "True" && seen == reason
            })
            .await;
        let message = condition(&object, "Stalled").2;
        (object, message)
    }

    /// Waits until the ArtifactFetch has a condition.
    pub async fn until_fetch(&self, name: &str, kind: &str, status: &str) -> ArtifactFetch {
        tenantry_test_support::wait_condition(&self.api::<ArtifactFetch>(), name, kind, status)
            .await
            .unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// A ConfigMap's key.
    pub async fn config_map(&self, name: &str, key: &str) -> String {
        let map: ConfigMap = self.api().get(name).await.expect("the ConfigMap");
        map.data
            .unwrap_or_default()
            .remove(key)
            .unwrap_or_else(|| panic!("ConfigMap {name} has no key {key}"))
    }

    /// The Events about an object, as `reason: message`.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let events = self
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .expect("Events");
        events
            .items
            .into_iter()
            .filter(|e| e.involved_object.name.as_deref() == Some(name))
            .map(|e| {
                format!(
                    "{}: {}",
                    e.reason.unwrap_or_default(),
                    e.message.unwrap_or_default()
                )
            })
            .collect()
    }

    /// How many builds Jenkins has started for a pipeline.
    pub fn built(&self, pipeline: &str) -> usize {
        self.simulator.ledger().builds_of(PROJECT, pipeline).len()
    }

    /// Lets time go by before a look at something that must *not* happen: long enough for a wrong operator to do it. A
    /// bystander shows that the operator is awake and has worked its queue off meanwhile.
    pub async fn while_nothing_happens(&self) {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let bystander = json!({"suspend": true, "pipeline": "bystander"});
        let name = "bystander";
        self.api::<BuildRequest>()
            .delete(name, &DeleteParams::default())
            .await
            .map_or_else(|error| assert!(is_gone(&error), "{error}"), |_| ());
        self.build(name, bystander).await;
        self.until_phase(name, BuildPhase::Suspended).await;
    }

    /// Forces a reconcile and waits until it is over.
    pub async fn reconcile(&self, name: &str, value: &str) {
        self.patch(
            name,
            json!({"metadata": {"annotations": {"tenantry.dev/reconcile-requested-at": value}}}),
        )
        .await;
        self.until(name, "the reconcile is handled", |o| {
            o.status
                .as_ref()
                .and_then(|s| s.last_handled_reconcile_at.as_deref())
                == Some(value)
        })
        .await;
    }
}

/// A BuildRequest of `build` in `shop` with `spec` laid over it.
pub fn build_request(name: &str, spec: Value) -> Value {
    let mut all = json!({"connectionRef": {"name": CONNECTION}, "project": "shop", "pipeline": "build"});
    if let (Some(all), Value::Object(spec)) = (all.as_object_mut(), spec) {
        all.extend(spec);
        all.retain(|_, v| !v.is_null());
    }
    json!({"apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest", "metadata": {"name": name}, "spec": all})
}

/// Parameters as the API writes them.
pub fn parameters(values: &[(&str, &str)]) -> Value {
    values
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The phase.
pub fn phase_of(object: &BuildRequest) -> Option<BuildPhase> {
    object.status.as_ref()?.phase
}

/// Status, reason and message of a condition; empty where there is none.
pub fn condition(object: &BuildRequest, kind: &str) -> (String, String, String) {
    let conditions = object
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    let found = conditions.iter().find(|c| c.type_ == kind);
    found
        .map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
        .unwrap_or_default()
}

/// What a failed wait tells of a BuildRequest.
pub fn describe(object: &BuildRequest) -> String {
    let run = object.status.as_ref().and_then(|s| s.run.as_ref());
    format!(
        "{} phase {:?}, Ready {:?}, Stalled {:?}, run {:?}",
        object.name_any(),
        phase_of(object),
        condition(object, "Ready"),
        condition(object, "Stalled"),
        run.map(|r| (r.state, &r.name, &r.id, r.outcome, r.attempt)),
    )
}

/// Creates an object that the API server must take.
pub async fn create<K>(api: &Api<K>, object: &K) -> K
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    api.create(&PostParams::default(), object).await.expect("created")
}
