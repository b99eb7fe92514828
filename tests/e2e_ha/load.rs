//! A dozen builds, and what has to be true of them in the end whoever looked after them.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use tenantry::api::build_request::BuildPhase;
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::{
    common::{PROJECT, Stage, condition, describe, parameters, phase_of, remote},
    pair::Pair,
};

/// Each gets three builds, so that some wait for others.
pub const PIPELINES: [&str; 4] = ["one", "two", "three", "four"];
const EACH: usize = 3;
/// Long enough for hand-overs in the middle (at the pace of the suites a tenth of it).
const SECONDS: &str = "60";

fn names() -> Vec<(String, &'static str)> {
    let all = (0..EACH).flat_map(|n| PIPELINES.map(|pipeline| (format!("{pipeline}-{n}"), pipeline)));
    all.collect()
}

/// Applies all builds, with logs that grow and files to bring home.
pub async fn apply(stage: &Stage) {
    for (name, pipeline) in names() {
        let given = parameters(&[
            ("QUEUE", "3"),
            ("DURATION", SECONDS),
            ("LOG_BYTES", "40000"),
            ("ARTIFACTS", "a.txt:5"),
        ]);
        stage
            .build(
                &name,
                json!({"pipeline": pipeline, "parameters": given, "artifacts": {"include": ["*"]}}),
            )
            .await;
    }
}

/// Waits until the leader is in the middle of it: of each pipeline one build runs.
pub async fn until_all_follow(stage: &Stage) {
    let seen = wait_for("a build of each pipeline to run", PATIENCE, async || {
        let mut running = BTreeSet::new();
        for (name, pipeline) in names() {
            if phase_of(&stage.get(&name).await) == Some(BuildPhase::Running) {
                running.insert(pipeline);
            }
        }
        Ok(Seen::when(running.len() == PIPELINES.len(), || {
            format!("{running:?} run")
        }))
    })
    .await;
    seen.unwrap_or_else(|e| panic!("{e:#}"));
}

/// What came of the builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    builds: usize,
    tokens: usize,
    /// BuildRequests with the whole log, their files and the right conditions.
    whole: usize,
}

impl Balance {
    /// Waits until all are over, and checks each: one build, the whole log, its file, right conditions.
    pub async fn settle(pair: &Pair) -> Self {
        let stage = &pair.stage;
        let (mut tokens, mut runs, mut whole_ones) = (BTreeSet::new(), BTreeSet::new(), 0);
        for (name, pipeline) in names() {
            let object = stage
                .until_within(PATIENCE * 2, &name, "Ready", |o| {
                    condition(o, "Ready").0 == "True"
                })
                .await;
            for kind in ["Succeeded", "LogsArchived", "ArtifactsStored"] {
                assert_eq!(
                    condition(&object, kind).0,
                    "True",
                    "{kind}: {}",
                    describe(&object)
                );
            }
            let status = object.status.expect("a status");
            let run = status.run.expect("a run");
            assert_eq!((run.attempt, status.history.len()), (1, 0), "{name}");
            let id = run.id.expect("a number");
            let whole = remote::console_text(stage, pipeline, id.parse().expect("a number")).await;
            assert_eq!(stored_log(stage, &name).await, whole, "the log of {name}");
            let file: ConfigMap = stage
                .api()
                .get(&format!("{name}-artifacts"))
                .await
                .expect("files");
            assert!(
                file.binary_data.is_some_and(|all| !all.is_empty())
                    || file.data.is_some_and(|all| !all.is_empty()),
                "{name}"
            );
            whole_ones += 1;
            tokens.insert(run.token);
            runs.insert((pipeline, id));
        }
        let ledger = stage.simulator.ledger();
        let builds = ledger.builds();
        let balance = Self {
            builds: builds.len(),
            tokens: tokens.len(),
            whole: whole_ones,
        };
        let all = names().len();
        let once = Self {
            builds: all,
            tokens: all,
            whole: all,
        };
        assert_eq!(balance, once, "{builds:?}");
        assert_eq!(runs.len(), all, "two BuildRequests share a build: {runs:?}");
        assert!(builds.iter().all(|b| b.project == PROJECT), "{builds:?}");
        assert_eq!(ledger.actions("folded").len(), 0);
        balance
    }

    /// Adds a case to the table of results.
    pub fn record(&self, case: &str, took: Duration) {
        static CASES: Mutex<Vec<Value>> = Mutex::new(Vec::new());
        let mut cases = CASES.lock().unwrap_or_else(PoisonError::into_inner);
        let Self {
            builds,
            tokens,
            whole,
        } = self;
        println!("{case}: {builds} builds, {tokens} tokens, the other led after {took:?}");
        cases.push(json!({
            "case": case, "builds": builds, "tokens": tokens, "duplicates": builds - tokens, "losses": tokens - whole,
            "handover_seconds": (took.as_secs_f64() * 10.0).round() / 10.0,
        }));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../reliability");
        fs::create_dir_all(&folder).expect("a folder");
        let text = serde_json::to_string_pretty(&json!({ "handover": &*cases })).expect("JSON");
        fs::write(folder.join("handover.json"), text).expect("written");
    }
}

/// The log, put together from its ConfigMaps.
async fn stored_log(stage: &Stage, name: &str) -> String {
    let object = stage.get(name).await;
    let status = object.status.and_then(|s| s.log).expect("a log");
    let mut text = String::new();
    for map in status.config_maps {
        text.push_str(&stage.config_map(&map, "log").await);
    }
    text
}
