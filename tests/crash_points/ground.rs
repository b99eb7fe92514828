//! Where cells are tried, one after the other: a namespace, a remote, an operator that can be told where to die, and the
//! proxy between it and its API server.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{ResourceExt as _, api::DeleteParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tenantry::{
    api::{
        BuildRequest, SETTLED,
        build_request::{BuildPhase, RunState},
    },
    crash_points::Write,
};
use tenantry_simulator::{Cut, Fault, FaultAction, Role};
use tenantry_test_support::{
    ApiAction, ApiFault, FaultProxy, PATIENCE, Select, TestCluster, fault_proxy::Refusal,
};
use tokio::time::{Instant, sleep};

use crate::{
    common::{self, PROJECT, Setup, Stage, build_request, condition, describe, parameters, phase_of},
    plan::{Cell, End, Rung, Scenario},
};

/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Where cells of some rungs are tried.
pub struct Ground {
    pub stage: Stage,
    pub proxy: FaultProxy,
    /// What the operator reads and writes at its crash points.
    points: TempDir,
}

/// What there is to try on a run that has been started once.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub log: &'static str,
    pub files: &'static str,
}

/// Two files, and a log of some size.
pub const USUAL: Sizes = Sizes {
    log: "20000",
    files: "dist/a.txt:500,dist/b.bin:2000",
};
/// A log that needs two ConfigMaps.
pub const LARGE: Sizes = Sizes {
    log: "1000000",
    ..USUAL
};

impl Ground {
    /// A ground for runs that are created under their name, or for those that are posted.
    pub async fn new(rung: Rung) -> Result<Self> {
        let cluster = TestCluster::shared().await?;
        let proxy = FaultProxy::start(cluster.kubeconfig()).await?;
        let points = TempDir::with_prefix("tenantry-points-")?;
        let role = match rung {
            Rung::ChosenName => Role::tenant(),
            Rung::Correlated | Rung::Plain => Role::tenant().without(&["pipelineruns"], &["create"]),
        };
        let stage = Stage::with(Setup {
            world: common::world(role),
            args: [
                "--fetcher-image",
                "registry.invalid/tenantry:1",
                "--tune",
                "answer-limit=5s",
            ]
            .map(Into::into)
            .to_vec(),
            env: vec![
                ("KUBECONFIG".into(), proxy.kubeconfig().display().to_string()),
                (
                    "TENANTRY_CRASH_POINTS".into(),
                    points.path().display().to_string(),
                ),
            ],
            ..Setup::default()
        })
        .await;
        stage
            .apply::<PersistentVolumeClaim>(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }))
            .await;
        Ok(Self { stage, proxy, points })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.points.path().join(name)
    }

    /// Prepares what is to happen.
    pub fn arm(&self, cell: &Cell) -> Result<()> {
        for name in ["reached", "armed", "struck"] {
            let _ = fs::remove_file(self.file(name));
        }
        if let Some(side) = cell.end.kills() {
            let point = format!("{}.{side}:{}", cell.write.name(), cell.hit);
            // In one piece: the operator reads it at each of its points.
            fs::write(self.file("arming"), point)?;
            return Ok(fs::rename(self.file("arming"), self.file("armed"))?);
        }
        if let Some(class) = remote_class(cell.write) {
            let action = remote_action(cell.end).context("no such end on the remote")?;
            self.stage.simulator.control().fault(Fault::once(class, action));
        } else {
            let action = api_action(cell.end).context("no such end here")?;
            self.proxy.fault(ApiFault::once(
                select(cell.write).in_namespace(&self.stage.namespace),
                action,
            ));
        }
        Ok(())
    }

    /// What a write does may be seen, an object that is gone for example, before the operator has its answer and comes to the
    /// point after it. Waits for that, and for the operator to be up again. What the build does not wait for, the status of
    /// its connection, may also be written after its end, the more so where the write before it failed.
    pub async fn until_struck(&mut self, cell: &Cell) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let end = Instant::now() + PATIENCE;
        let kills = cell.end.kills().is_some();
        if kills && self.file("struck").exists() {
            return Ok(());
        }
        while Instant::now() < end {
            if self.is_struck(cell) {
                if !kills {
                    return Ok(());
                }
                let operator = self.stage.operator.as_mut().context("an operator")?;
                if operator.exited()?.is_some() {
                    return self.revive().await;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn is_struck(&self, cell: &Cell) -> bool {
        if cell.end.kills().is_some() {
            self.file("struck").exists()
        } else {
            self.proxy.faults() == 0 && self.stage.simulator.control().faults().is_empty()
        }
    }

    /// Takes back what did not happen. True where it did.
    pub fn disarm(&self, cell: &Cell) -> bool {
        let struck = self.is_struck(cell);
        let _ = fs::remove_file(self.file("armed"));
        self.proxy.clear_faults();
        self.stage.simulator.control().clear_faults();
        struck
    }

    /// Starts the operator again where it has died.
    async fn revive(&mut self) -> Result<()> {
        let operator = self.stage.operator.as_mut().context("an operator")?;
        if operator.exited()?.is_some() || operator.pid().is_none() {
            // It may die while it starts, too: then it is started once more.
            if let Err(error) = operator.restart().await
                && !self.file("struck").exists()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits until it `is` so, and keeps the operator alive meanwhile.
    async fn until(
        &mut self,
        name: &str,
        what: &str,
        is: impl Fn(Option<&BuildRequest>) -> bool,
    ) -> Result<Option<BuildRequest>> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.revive().await?;
            let object = self.stage.api::<BuildRequest>().get_opt(name).await?;
            if is(object.as_ref()) {
                return Ok(object);
            }
            if Instant::now() >= end {
                let seen = object.as_ref().map_or_else(|| "it is gone".into(), describe);
                bail!("waited {PATIENCE:?} for {what}; last seen: {seen}");
            }
            // A poll: what is waited for is the condition above.
            sleep(Duration::from_millis(150)).await;
        }
    }

    async fn until_ready(&mut self, name: &str, generation: Option<i64>) -> Result<()> {
        let ready = |object: Option<&BuildRequest>| {
            object.is_some_and(|o| {
                condition(o, "Ready").0 == "True"
                    && o.status.as_ref().and_then(|s| s.observed_generation) >= generation
            })
        };
        self.until(name, "Ready", ready).await.map(|_| ())
    }

    async fn until_phase(&mut self, name: &str, phase: BuildPhase) -> Result<()> {
        let in_phase = |object: Option<&BuildRequest>| object.is_some_and(|o| phase_of(o) == Some(phase));
        self.until(name, &format!("{phase:?}"), in_phase)
            .await
            .map(|_| ())
    }

    async fn until_gone(&mut self, name: &str) -> Result<()> {
        self.until(name, "it to be gone", |object| object.is_none())
            .await
            .map(|_| ())
    }

    /// Does what the user does, until all is settled.
    pub async fn play(&mut self, cell: &Cell, name: &str) -> Result<()> {
        let long = matches!(
            cell.scenario,
            Scenario::Cancel | Scenario::Delete | Scenario::Reconnect
        );
        let first = if cell.scenario == Scenario::Rerun {
            LARGE
        } else {
            USUAL
        };
        let mut spec = json!({"parameters": given(name, first, if long { "6000" } else { "2" })});
        if cell.rung == Rung::Correlated {
            spec["correlationParameter"] = json!("CORR");
        }
        spec["artifacts"] = files_into(json!({"configMap": {"name": format!("{name}-one")}}));
        match cell.scenario {
            Scenario::Volume => spec["artifacts"] = files_into(json!({"volume": {"claimName": "data"}})),
            Scenario::Delete => spec["deletionPolicy"] = json!("Delete"),
            Scenario::Expire => spec["ttlAfterFinished"] = json!("1s"),
            Scenario::Reconnect => spec["parameters"] = given(name, first, "30"),
            Scenario::Build | Scenario::Rerun | Scenario::Cancel => {}
        }
        self.stage
            .try_apply::<BuildRequest>(build_request(name, spec))
            .await?;
        match cell.scenario {
            Scenario::Build => self.until_ready(name, None).await,
            Scenario::Reconnect => {
                self.until_phase(name, BuildPhase::Running).await?;
                let limits = json!({"limits": {"requestsPerSecond": 200 + number_in(name)}});
                self.stage.patch_connection(json!({"spec": limits})).await;
                self.until_ready(name, None).await
            }
            Scenario::Rerun => {
                self.until_ready(name, None).await?;
                let is_marked =
                    |object: Option<&BuildRequest>| object.is_some_and(|o| o.labels().contains_key(SETTLED));
                self.until(name, "it to be marked as finished", is_marked).await?;
                let mut second = given(name, USUAL, "2");
                second
                    .as_array_mut()
                    .context("parameters")?
                    .push(json!({"name": "TARGET", "value": "production"}));
                let there = json!({"configMap": {"name": format!("{name}-two")}});
                let patch = json!({"spec": {"parameters": second, "artifacts": files_into(there)}});
                let changed = self.stage.patch(name, patch).await;
                self.until_ready(name, changed.metadata.generation).await
            }
            Scenario::Volume => {
                let told = |object: Option<&BuildRequest>| {
                    object.is_some_and(|o| {
                        let run = o.status.as_ref().and_then(|s| s.run.as_ref());
                        run.is_some_and(|run| run.state == RunState::Ended)
                    })
                };
                self.until(name, "the build to be over", told).await?;
                self.until_job(name).await?;
                let there = json!({"volume": null, "configMap": {"name": format!("{name}-one")}});
                let patch = json!({"spec": {"artifacts": files_into(there)}});
                let changed = self.stage.patch(name, patch).await;
                self.until_ready(name, changed.metadata.generation).await
            }
            Scenario::Cancel => {
                self.until_phase(name, BuildPhase::Running).await?;
                self.stage.patch(name, json!({"spec": {"cancel": true}})).await;
                let settled = |object: Option<&BuildRequest>| {
                    object.is_some_and(|o| {
                        phase_of(o) == Some(BuildPhase::Cancelled) && condition(o, "LogsArchived").0 == "True"
                    })
                };
                self.until(name, "Cancelled, with its log", settled)
                    .await
                    .map(|_| ())
            }
            Scenario::Delete => {
                self.until_phase(name, BuildPhase::Running).await?;
                self.stage
                    .api::<BuildRequest>()
                    .delete(name, &DeleteParams::default())
                    .await?;
                self.until_gone(name).await
            }
            Scenario::Expire => self.until_gone(name).await,
        }
    }

    /// Waits until the Job that brings the files is there.
    async fn until_job(&mut self, name: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.revive().await?;
            let jobs = self
                .stage
                .api::<k8s_openapi::api::batch::v1::Job>()
                .list(&Default::default())
                .await?;
            let owner = format!("{name}-artifacts");
            let owned = |job: &k8s_openapi::api::batch::v1::Job| {
                job.metadata
                    .owner_references
                    .iter()
                    .flatten()
                    .any(|o| o.name == owner)
            };
            if jobs.items.iter().any(owned) {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("waited {PATIENCE:?} for a Job of {owner}");
            }
            sleep(Duration::from_millis(150)).await;
        }
    }

    /// What the ledger says about the builds of an object.
    pub fn builds(&self, name: &str) -> Vec<u64> {
        let builds = self.stage.simulator.ledger().builds_of(PROJECT, "build");
        builds
            .iter()
            .filter(|build| {
                build
                    .parameters
                    .iter()
                    .any(|(key, value)| key == "VERSION" && value == name)
            })
            .map(|build| build.number)
            .collect()
    }
}

/// A number out of the name of an object.
fn number_in(name: &str) -> u32 {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or_default()
}

fn given(name: &str, sizes: Sizes, duration: &str) -> Value {
    parameters(&[
        ("VERSION", name),
        ("DURATION", duration),
        ("LOG_BYTES", sizes.log),
        ("ARTIFACTS", sizes.files),
    ])
}

fn files_into(destination: Value) -> Value {
    json!({"include": ["dist/**"], "destination": destination})
}

/// The route class of a write on the remote.
fn remote_class(write: Write) -> Option<&'static str> {
    match write {
        Write::Create => Some("apis.pipelineruns.create"),
        Write::Post => Some("v3.runs.create"),
        Write::Stop => Some("v2.run.stop"),
        Write::Delete => Some("apis.pipelineruns.delete"),
        _ => None,
    }
}

/// The request that makes a write here.
fn select(write: Write) -> Select {
    let finalizers = |o: &Value| o["metadata"]["finalizers"].as_array().map(Vec::len);
    let content =
        |wanted: &'static str| move |o: &Value| o["metadata"]["labels"]["tenantry.dev/content"] == wanted;
    let state = |wanted: &'static str| move |o: &Value| o["status"]["run"]["state"] == wanted;
    match write {
        Write::Settled => {
            Select::of("patch buildrequests").with_body(|o| o["metadata"]["labels"][SETTLED].is_string())
        }
        Write::Unsettled => Select::of("patch buildrequests")
            .with_body(|o| o["metadata"]["labels"][SETTLED].is_null() && !o["metadata"]["labels"].is_null()),
        Write::FinalizerSet => Select::of("patch buildrequests").with_body(move |o| finalizers(o) > Some(0)),
        Write::FinalizerGone => {
            Select::of("patch buildrequests").with_body(move |o| finalizers(o) == Some(0))
        }
        Write::Intent => Select::of("update buildrequests/status").with_body(state("Sending")),
        Write::Record => Select::of("update buildrequests/status").with_body(state("Submitted")),
        Write::Status => Select::of("update buildrequests/status").with_body(state("Ended")),
        Write::Log => Select::of("patch configmaps").with_body(content("log")),
        Write::Files => Select::of("patch configmaps").with_body(content("files")),
        Write::LogRemoval | Write::FilesRemoval => Select::of("delete configmaps"),
        Write::Artifacts => Select::of("create artifactfetches"),
        Write::FetchStatus => Select::of("update artifactfetches/status"),
        Write::Job => Select::of("create jobs"),
        Write::JobRemoval => Select::of("delete jobs"),
        Write::Expiry => Select::of("delete buildrequests"),
        Write::Event => Select::of("create events"),
        Write::ConnectionStatus => Select::of("update tenantconnections/status"),
        Write::Create | Write::Post | Write::Stop | Write::Delete => Select::of("- -"),
    }
}

fn api_action(end: End) -> Option<ApiAction> {
    let refuse = |code| ApiAction::Refuse(Refusal::code(code));
    Some(match end {
        End::KilledBefore | End::KilledAfter => return None,
        End::RequestLost => ApiAction::Hang,
        End::AnswerLost => ApiAction::AnswerLost,
        End::AnswerLate => ApiAction::AnswerLate(FOR_EVER),
        End::Reset => ApiAction::RequestLost,
        End::HalfBody => ApiAction::HalfBody,
        End::Code500 => refuse(500),
        End::Code503 => refuse(503),
        End::Code429 => refuse(429),
    })
}

fn remote_action(end: End) -> Option<FaultAction> {
    let refuse = |code| FaultAction::answer(code, "the gateway has a bad day");
    Some(match end {
        End::KilledBefore | End::KilledAfter => return None,
        End::RequestLost => FaultAction::hang(),
        End::AnswerLost => FaultAction::cut(Cut::AnswerLost),
        End::AnswerLate => FaultAction {
            answer_delay_ms: 3_600_000,
            ..FaultAction::default()
        },
        End::Reset => FaultAction::cut(Cut::RequestLost),
        End::HalfBody => FaultAction::truncate(40),
        End::Code500 => refuse(500),
        End::Code503 => refuse(503),
        End::Code429 => refuse(429),
    })
}
