//! What one build's life costs: reconciles, writes, requests to our own API server and to the gateway, with a log, two
//! stages and one file into a ConfigMap.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tenantry::api::{BuildRequest, TenantConnection};
use tenantry_simulator::{Role, world::Stage as RunStage};
use tenantry_test_support::{FaultProxy, TestCluster, bench::gauges, wait_condition};

use super::{bill::Bill, seen::Builds};
use crate::common::{CONNECTION, Setup, Stage, acme, parameters, scripted, shop};

/// What it cost.
#[derive(Clone, Debug)]
pub struct Life {
    /// Reconciles of the BuildRequest.
    pub reconciles: usize,
    /// Those of its ArtifactFetch.
    pub fetch_reconciles: usize,
    /// Writes of the BuildRequest's status.
    pub status_writes: usize,
    /// What each of them changed, as far as the driver's watch saw it.
    pub changes: Vec<String>,
    /// Requests to our own API server about anything.
    pub bill: Bill,
    /// Requests to the gateway, by class in the order of arrival.
    pub gateway: Vec<&'static str>,
}

/// Builds once, for so many seconds.
pub async fn measure(program: Option<PathBuf>, seconds: u32) -> Result<Life> {
    let cluster = TestCluster::shared().await?;
    let proxy = FaultProxy::start(cluster.kubeconfig()).await?;
    let pipeline = scripted("two-stages").script(|script| {
        let stage = |name: &str, percent| RunStage {
            name: name.into(),
            percent,
        };
        script.stages = vec![stage("Build", 60), stage("Publish", 40)];
    });
    let mut stage = Stage::with(Setup {
        world: acme([shop(Role::tenant()).pipeline(pipeline)]),
        config: |config| config.with_time_scale(1.0),
        program,
        tunes: &[],
        env: vec![("KUBECONFIG".into(), proxy.kubeconfig().display().to_string())],
        log: "info,tenantry=debug",
        operator: false,
        ..Setup::default()
    })
    .await;
    stage
        .patch_connection(json!({"spec": {"pollInterval": "5s"}}))
        .await;
    stage.start_operator().await;
    // The connection is at rest before anything is counted.
    wait_condition(&stage.api::<TenantConnection>(), CONNECTION, "Ready", "True").await?;
    let builds = Builds::watch(stage.api());
    let statuses = statuses(&stage);
    let operator = stage.operator.as_ref().context("an operator")?;
    let before = operator.metrics_text().await?;
    let (asked, gateway) = (proxy.seen().len(), stage.simulator.ledger().len());
    let length = seconds.to_string();
    let script = [
        ("DURATION", length.as_str()),
        ("LOG_BYTES", "4000"),
        ("ARTIFACTS", "dist/app.txt:500"),
    ];
    let spec = json!({
        "pipeline": "two-stages", "parameters": parameters(&script),
        "artifacts": {"include": ["dist/**"], "destination": {"configMap": {}}},
    });
    stage.build("life", spec).await;
    stage.until_ready("life").await;
    // What comes after the end belongs to it too.
    let total = async || Ok(gauges::metric(&operator.metrics_text().await?, RECONCILES, ""));
    super::finished::until_still("reconciles", std::time::Duration::from_secs(5), total).await?;
    let after = operator.metrics_text().await?;
    let reconciles = |kind: &str| {
        let of = |text: &str| gauges::metric(text, RECONCILES, &format!("kind=\"{kind}\""));
        whole(of(&after) - of(&before))
    };
    let seen = proxy.seen();
    let bill = Bill::of(
        seen[asked..]
            .iter()
            .filter(|seen| !seen.request.resource.is_empty()),
    );
    let writes =
        bill.sum(|name| matches!(name, "update buildrequests/status" | "patch buildrequests/status"));
    let well = builds.all().remove("life").is_some_and(|build| build.well);
    anyhow::ensure!(well, "the build did not end well: {builds:?}");
    Ok(Life {
        reconciles: reconciles("BuildRequest"),
        fetch_reconciles: reconciles("ArtifactFetch"),
        status_writes: writes.requests,
        changes: changes(&statuses.lock().unwrap_or_else(PoisonError::into_inner)),
        bill,
        gateway: stage.simulator.ledger().requests("*")[gateway..]
            .iter()
            .map(|r| r.class)
            .collect(),
    })
}

const RECONCILES: &str = "tenantry_reconciles_total";

/// The status at each version that a watch sees.
fn statuses(stage: &Stage) -> Arc<Mutex<Vec<Value>>> {
    let all = Arc::<Mutex<Vec<Value>>>::default();
    let taken = all.clone();
    let objects = watcher(stage.api::<BuildRequest>(), watcher::Config::default()).applied_objects();
    tokio::spawn(objects.for_each(move |object| {
        let status = object
            .ok()
            .and_then(|object| serde_json::to_value(object.status).ok());
        taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(status);
        std::future::ready(())
    }));
    all
}

/// What changed from each status to the next, by its path.
fn changes(statuses: &[Value]) -> Vec<String> {
    let pairs = statuses.windows(2).map(|pair| {
        let mut paths = Vec::new();
        differences(&pair[0], &pair[1], "", &mut paths);
        paths.join(", ")
    });
    pairs.filter(|change| !change.is_empty()).collect()
}

fn differences(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                differences(&before[key], &after[key], &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (n, (old, new)) in old.iter().zip(new).enumerate() {
                differences(old, new, &format!("{path}[{n}]"), found);
            }
        }
        _ if before != after => {
            let short: String = after.to_string().chars().take(60).collect();
            found.push(format!("{path}={short}"));
        }
        _ => {}
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // counters are whole numbers
fn whole(value: f64) -> usize {
    value.round() as usize
}
