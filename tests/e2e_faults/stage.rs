//! The stage of these tests: the usual one, with a proxy between the operator and its API server.

use std::ops::Deref;

use serde_json::{Value, json};
use tenantry::api::{BuildRequest, build_request::BuildPhase};
use tenantry_test_support::{FaultProxy, Operator, PATIENCE, Seen, TestCluster, wait_for};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::common::{PROJECT, Setup, Stage, parameters};

/// Two files, one of them no text.
pub const FILES: [(&str, usize); 2] = [("dist/a.txt", 500), ("dist/b.bin", 2000)];
/// Longer than any test: such builds end when the test says so.
const LONG: &str = "60000";

/// A stage, and what stands between its operator and the API server.
pub struct Behind {
    stage: Stage,
    pub proxy: FaultProxy,
    /// The operator that was started first: none of these faults may end it.
    pid: u32,
}

impl Deref for Behind {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

/// A cluster for tests that stop its API server or take its CRDs away: one of them at a time.
pub async fn own_cluster() -> (&'static TestCluster, MutexGuard<'static, ()>) {
    static CLUSTER: OnceCell<TestCluster> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let start = async || TestCluster::start(Default::default()).await.expect("a cluster");
    (CLUSTER.get_or_init(start).await, turn)
}

impl Behind {
    /// A stage on the cluster that the tests share.
    pub async fn new() -> Self {
        Self::with(&[], Setup::default()).await
    }

    /// One whose operator has other times.
    pub async fn tuned(tunes: &[&str]) -> Self {
        Self::with(tunes, Setup::default()).await
    }

    /// One as `setup` says, whose operator has other times.
    pub async fn with(tunes: &[&str], setup: Setup) -> Self {
        let cluster = match setup.cluster {
            Some(own) => own,
            None => TestCluster::shared().await.expect("a test cluster"),
        };
        let proxy = FaultProxy::start(cluster.kubeconfig()).await.expect("a proxy");
        let tunes = tunes.iter().flat_map(|tune| ["--tune", *tune]).map(str::to_owned);
        let kubeconfig = ("KUBECONFIG".to_owned(), proxy.kubeconfig().display().to_string());
        let stage = Stage::with(Setup {
            args: setup.args.into_iter().chain(tunes).collect(),
            env: setup.env.into_iter().chain([kubeconfig]).collect(),
            ..setup
        })
        .await;
        let pid = stage.operator.as_ref().and_then(Operator::pid).expect("it runs");
        Self { stage, proxy, pid }
    }

    /// The operator.
    pub fn operator(&mut self) -> &mut Operator {
        self.stage.operator.as_mut().expect("an operator")
    }

    /// Waits until `/readyz` says this.
    pub async fn until_readyz(&self, what: &str, says: impl Fn(u16, &str) -> bool) {
        let operator = self.stage.operator.as_ref().expect("an operator");
        let seen = wait_for(&format!("/readyz: {what}"), PATIENCE, async || {
            let answer = operator.readyz().await?;
            Ok(Seen::when(says(answer.status, &answer.body), || {
                format!("{answer:?}")
            }))
        })
        .await;
        seen.unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// The operator is ready, or becomes it, and is the process that was started first.
    pub async fn assert_same_operator_is_ready(&mut self) {
        self.until_readyz("200", |status, _| status == 200).await;
        let first = self.pid;
        let operator = self.operator();
        let ended = operator.exited().expect("known");
        assert!(
            ended.is_none() && operator.pid() == Some(first),
            "it ended: {ended:?}"
        );
    }

    /// Applies a build that runs until [`finish`](Self::finish), with a log and two files; `spec` is laid over that.
    pub async fn long_build(&self, name: &str, spec: Value) -> BuildRequest {
        self.build(name, long(name, spec)).await
    }

    /// The build of an object runs, says the object.
    pub async fn until_running(&self, name: &str) -> BuildRequest {
        self.until_phase(name, BuildPhase::Running).await
    }

    /// The numbers of the builds that Jenkins has begun for an object, by the ledger.
    pub fn builds_for(&self, name: &str) -> Vec<u64> {
        let builds = self.simulator.ledger().builds_of(PROJECT, "build");
        let is_its = |(key, value): &(String, String)| key == "VERSION" && value == name;
        builds
            .iter()
            .filter(|build| build.parameters.iter().any(is_its))
            .map(|build| build.number)
            .collect()
    }

    /// Waits until Jenkins runs the build of an object, and ends it there.
    pub async fn finish(&self, name: &str, result: &str) {
        let control = self.simulator.control();
        let ended = wait_for(&format!("a build of {name} to end"), PATIENCE, async || {
            Ok(match self.builds_for(name).last() {
                None => Seen::NotYet("there is none".to_owned()),
                Some(number) => match control.finish_build(PROJECT, "build", None, *number, result) {
                    Ok(()) => Seen::Done(()),
                    Err(error) => Seen::NotYet(format!("{error:?}")),
                },
            })
        })
        .await;
        ended.unwrap_or_else(|e| panic!("{e:#}"));
    }
}

/// The spec of a build that runs until it is ended.
pub fn long(name: &str, spec: Value) -> Value {
    let files = FILES.map(|(path, size)| format!("{path}:{size}")).join(",");
    let mut all = json!({
        "parameters": parameters(&[
            ("VERSION", name), ("DURATION", LONG), ("LOG_BYTES", "20000"), ("ARTIFACTS", &files),
        ]),
        "artifacts": {"include": ["dist/**"]},
    });
    if let (Some(all), Value::Object(spec)) = (all.as_object_mut(), spec) {
        all.extend(spec);
    }
    all
}
