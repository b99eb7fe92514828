//! Other writers of the same objects: controllers that label, annotate and judge them many times a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tenantry::api::{ArtifactFetch, BuildRequest};
use tenantry_simulator::Role;
use tenantry_test_support::{PATIENCE, Seen, Select, wait_for};
use tokio::task::JoinHandle;

use crate::{
    common::{Setup, world},
    stage::Behind,
};

/// The condition of somebody else.
const CHECKED: &str = "example.org/Checked";

/// Somebody who writes to one object without end.
struct Storm {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
    writer: JoinHandle<usize>,
}

impl Storm {
    /// Labels and annotates it, and with `judges` sets a condition of its own beside ours.
    fn over<K>(api: Api<K>, name: &str, judges: bool) -> Self
    where
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted, name) = (Arc::clone(&stop), Arc::clone(&writes), name.to_owned());
        let writer = tokio::spawn(async move {
            let mut number = 0;
            while !stopped.load(SeqCst) {
                let word = (number + 1).to_string();
                let metadata = json!({"metadata": {"labels": {"storm": word}, "annotations": {"example.org/storm": word}}});
                // What is not there yet is waited for.
                match api
                    .patch(&name, &PatchParams::default(), &Patch::Merge(&metadata))
                    .await
                {
                    Ok(_) => number += 1,
                    Err(kube::Error::Api(status)) if status.code == 404 => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                }
                if judges {
                    judge(&api, &name, &word).await;
                }
                counted.store(number, SeqCst);
            }
            number
        });
        Self { stop, writes, writer }
    }

    /// Waits until it has written so often more.
    async fn goes_on(&self, times: usize) {
        let until = self.writes.load(SeqCst) + times;
        let seen = wait_for(&format!("{until} writes"), PATIENCE, async || {
            let writes = self.writes.load(SeqCst);
            Ok(Seen::when(writes >= until, || format!("{writes}")))
        })
        .await;
        seen.unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// Ends it. How often it wrote.
    async fn ends(self) -> usize {
        self.stop.store(true, SeqCst);
        self.writer.await.expect("it wrote to its end")
    }
}

/// Sets its own condition beside ours, as a controller does: read, changed, written under the version that was read.
async fn judge<K: Clone + std::fmt::Debug + Serialize + DeserializeOwned>(
    api: &Api<K>,
    name: &str,
    word: &str,
) {
    let object = api.get(name).await.expect("there");
    let mut object = serde_json::to_value(&object).expect("JSON");
    let Some(conditions) = object["status"]["conditions"].as_array_mut() else {
        return;
    };
    conditions.retain(|condition| condition["type"] != CHECKED);
    conditions.push(json!({
        "type": CHECKED, "status": "True", "reason": "Looked", "message": word,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }));
    let object: K = serde_json::from_value(object).expect("an object");
    match api.replace_status(name, &PostParams::default(), &object).await {
        Ok(_) => {}
        // Someone was quicker: the next turn is soon.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => panic!("{error}"),
    }
}

/// What the operator wrote to the API server about one kind.
fn written(stage: &Behind, plural: &str) -> usize {
    ["update", "patch", "create"]
        .iter()
        .flat_map(|verb| [format!("{verb} {plural}"), format!("{verb} {plural}/status")])
        .map(|select| stage.proxy.count(&Select::of(&select)))
        .sum()
}

/// How often BuildRequests were reconciled.
async fn reconciles(stage: &Behind) -> f64 {
    let operator = stage.operator.as_ref().expect("it runs");
    let text = operator.metrics_text().await.expect("metrics");
    let ours =
        |line: &&str| line.starts_with("tenantry_reconciles_total") && line.contains("kind=\"BuildRequest\"");
    let counts = text
        .lines()
        .filter(ours)
        .filter_map(|line| line.rsplit(' ').next());
    counts.filter_map(|count| count.parse::<f64>().ok()).sum()
}

fn judged(object: &BuildRequest) -> Value {
    let object = serde_json::to_value(object).expect("JSON");
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|c| c["type"] == CHECKED);
    found.cloned().unwrap_or_default()
}

async fn storm(role: Role) {
    let setup = Setup {
        world: world(role),
        ..Setup::default()
    };
    let mut stage = Behind::with(&[], setup).await;
    let over_build = Storm::over(stage.api::<BuildRequest>(), "b", true);
    let over_fetch = Storm::over(stage.api::<ArtifactFetch>(), "b-artifacts", false);
    let over_log = Storm::over(stage.api::<ConfigMap>(), "b-log", false);
    // One with a finalizer, which is one more thing to be written into the storm.
    stage.long_build("b", json!({"deletionPolicy": "Abort"})).await;
    over_build.goes_on(1).await;
    stage.until_running("b").await;
    // Long enough that whoever acts on each write would have been seen to.
    let before = (reconciles(&stage).await, over_build.writes.load(SeqCst));
    over_build.goes_on(200).await;
    over_log.goes_on(1).await;
    let reconciles = reconciles(&stage).await - before.0;
    let writes = over_build.writes.load(SeqCst) - before.1;
    println!("{writes} writes of another while it ran, {reconciles} reconciles");
    #[allow(clippy::cast_precision_loss)]
    let half = writes as f64 / 2.0;
    assert!(
        reconciles > 0.0 && reconciles < half,
        "{reconciles} reconciles on {writes} writes"
    );
    stage.finish("b", "SUCCESS").await;
    stage.assert_built_once_and_whole("b").await;

    // At rest nothing of this is worth a write; that a related object changed is worth a look.
    let kinds = ["buildrequests", "artifactfetches", "configmaps"];
    let before = kinds.map(|plural| written(&stage, plural));
    for storm in [&over_build, &over_fetch, &over_log] {
        storm.goes_on(100).await;
    }
    let after = kinds.map(|plural| written(&stage, plural));
    assert_eq!(before, after, "writes about {kinds:?}");

    // Nothing that the other wrote is lost.
    let (build, fetch, log) = (
        over_build.ends().await,
        over_fetch.ends().await,
        over_log.ends().await,
    );
    let object = stage.get("b").await;
    let word = |labels: &std::collections::BTreeMap<String, String>| labels.get("storm").cloned();
    assert_eq!(word(object.labels()), Some(build.to_string()));
    assert_eq!(
        object.annotations().get("example.org/storm"),
        Some(&build.to_string())
    );
    assert_eq!(judged(&object)["reason"], "Looked", "{object:?}");
    let of_fetch = stage
        .api::<ArtifactFetch>()
        .get("b-artifacts")
        .await
        .expect("there");
    assert_eq!(word(of_fetch.labels()), Some(fetch.to_string()));
    let of_log = stage.api::<ConfigMap>().get("b-log").await.expect("there");
    assert_eq!(word(of_log.labels()), Some(log.to_string()));
    stage.assert_built_once_and_whole("b").await;
    stage.assert_same_operator_is_ready().await;
}

#[tokio::test]
async fn a_storm_of_other_writers_costs_no_build_and_no_word_of_theirs() {
    storm(Role::tenant()).await;
}

#[tokio::test]
async fn a_storm_of_other_writers_costs_no_build_that_was_posted() {
    storm(Role::tenant().without(&["pipelineruns"], &["create"])).await;
}
