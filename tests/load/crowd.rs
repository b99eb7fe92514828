//! Many builds of one project at the same time, followed by the operator.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tenantry::api::{BuildRequest, TenantConnection};
use tenantry_simulator::{Ledger, Role, World, world::Project};
use tenantry_test_support::{
    Seen,
    bench::{Samples, gauges, memory},
    wait_condition, wait_for,
};

use super::{
    count, now, seconds,
    seen::{Build, Builds, moments},
    tally::{Tally, tally},
};
use crate::common::{CONNECTION, PROJECT, Setup, Stage, USER, acme, parameters, scripted, shop};

/// How many BuildRequests are applied at a time.
const AT_A_TIME: usize = 16;

/// How many builds, and how they run.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// The operator's program. `None`: the one that cargo built.
    pub program: Option<PathBuf>,
    /// What the tenant may do.
    pub role: Role,
    /// How many.
    pub builds: usize,
    /// Over how many pipelines: of one pipeline, starts wait for each other.
    pub pipelines: usize,
    /// Over how many projects the pipelines are spread.
    pub projects: usize,
    /// Through how many connections builds go: all of a pipeline through the same.
    pub connections: usize,
    /// How long the first runs, in seconds.
    pub duration: f64,
    /// How much longer the last.
    pub spread: f64,
    /// `spec.limits` of the connection.
    pub limits: (u32, u32),
}

/// What it took.
#[derive(Clone, Debug)]
pub struct Followed {
    /// What the gateway was asked.
    pub tally: Tally,
    /// From the end of a run on the remote to the status that says so, seconds.
    pub told: Samples,
    /// From there to `Succeeded`, when log and files are home.
    pub decided: Samples,
    /// CPU time of the operator, seconds.
    pub cpu: f64,
    /// CPU time of the driver and the simulator, of the API server and etcd.
    pub cpu_of_others: [f64; 3],
    /// `VmHWM` of the operator, MiB.
    pub peak: f64,
    /// From the first BuildRequest to the last condition, seconds.
    pub seconds: f64,
    /// From the first BuildRequest to the start of the last run.
    pub starting: f64,
    /// The most runs that ran at the same time.
    pub at_once: usize,
    /// Builds that did not end as they should, as sentences.
    pub problems: Vec<String>,
}

/// The remote for so many pipelines, `p0` and so on, spread over so many projects.
pub fn world(role: &Role, pipelines: usize, projects: usize) -> World {
    let project = |n: usize| {
        let role = role.clone();
        let empty = match n {
            0 => shop(role),
            _ => Project::new("acme", &format!("shop{n}"))
                .named(&project_name(n))
                .owned_by(USER)
                .member(USER, role),
        };
        let pipelines = (n..pipelines)
            .step_by(projects)
            .map(|p| scripted(&format!("p{p}")));
        pipelines.fold(empty, Project::pipeline)
    };
    acme((0..projects).map(project))
}

/// Full name of the project of this number.
pub fn project_name(n: usize) -> String {
    if n == 0 {
        PROJECT.to_owned()
    } else {
        format!("shop{n}x7k2p")
    }
}

/// Name of the connection of this number.
fn connection_name(n: usize) -> String {
    if n == 0 {
        CONNECTION.to_owned()
    } else {
        format!("{CONNECTION}{n}")
    }
}

/// Parameters of the build number `n` of so many.
pub fn script(crowd: &Crowd, n: usize) -> Vec<(&'static str, String)> {
    let late = crowd.spread * count(n) / count(crowd.builds);
    vec![
        ("DURATION", format!("{:.1}", crowd.duration + late)),
        ("LOG_BYTES", "4000".to_owned()),
        ("ARTIFACTS", "dist/app.txt:500".to_owned()),
        ("VERSION", format!("1.0.{n}")),
    ]
}

impl Crowd {
    /// Runs all of them to their end.
    pub async fn follow(&self) -> Result<Followed> {
        let stage = self.stage().await?;
        let operator = stage.operator.as_ref().context("an operator")?;
        let pid = operator.pid().context("it runs")?;
        let builds = Builds::watch(stage.api::<BuildRequest>());
        let others = || {
            let pids = stage.cluster.pids();
            let of = |name: &str| {
                pids.get(name)
                    .copied()
                    .and_then(gauges::cpu_seconds)
                    .unwrap_or_default()
            };
            let own = gauges::cpu_seconds(std::process::id()).unwrap_or_default();
            [own, of("kube-apiserver"), of("etcd")]
        };
        let (cpu, cpu_of_others, began) = (gauges::cpu_seconds(pid), others(), now());
        stage.simulator.ledger().clear();
        stream::iter(0..self.builds)
            .for_each_concurrent(AT_A_TIME, async |n| {
                stage.build(&format!("b{n}"), self.spec(n)).await;
            })
            .await;
        let patience = Duration::from_secs_f64(self.duration + self.spread + 900.0);
        wait_for("all builds to end", patience, async || {
            let decided = builds.decided();
            Ok(Seen::when(decided >= self.builds, || {
                format!("{decided} of {}", self.builds)
            }))
        })
        .await?;
        let ended = now();
        let (after, ledger, all) = (others(), stage.simulator.ledger(), builds.all());
        let cpu = gauges::cpu_seconds(pid)
            .zip(cpu)
            .map(|(after, before)| after - before);
        let (starts, ends) = (moments(&ledger, "run-started"), moments(&ledger, "run-ended"));
        let lag = |of: fn(&Build) -> Option<i64>| -> Samples {
            let lags = all
                .values()
                .filter_map(|b| Some(seconds(of(b)? - ends.get(&b.run)?)));
            lags.collect()
        };
        Ok(Followed {
            tally: tally(&ledger),
            told: lag(|build| build.ended),
            decided: lag(|build| build.decided),
            cpu: cpu.context("the operator ran")?,
            cpu_of_others: [0, 1, 2].map(|n| after[n] - cpu_of_others[n]),
            peak: memory::status_kib(pid, "VmHWM")
                .map(memory::mib)
                .context("it runs")?,
            seconds: seconds(ended - began),
            starting: seconds(starts.values().max().copied().unwrap_or(began) - began),
            at_once: at_once(
                &starts.values().copied().collect::<Vec<_>>(),
                &ends.values().copied().collect::<Vec<_>>(),
            ),
            problems: problems(&ledger, &all),
        })
    }

    async fn stage(&self) -> Result<Stage> {
        let mut stage = Stage::with(Setup {
            world: world(&self.role, self.pipelines, self.projects),
            config: |config| config.with_time_scale(1.0),
            program: self.program.clone(),
            tunes: &[],
            log: "warn,tenantry=info",
            operator: false,
            ..Setup::default()
        })
        .await;
        let limits = json!({"requestsPerSecond": self.limits.0, "burst": self.limits.1});
        let api = stage.api::<TenantConnection>();
        stage
            .patch_connection(json!({"spec": {"pollInterval": "5s", "limits": limits}}))
            .await;
        for n in 1..self.connections {
            let mut spec = serde_json::to_value(&api.get(CONNECTION).await?.spec)?;
            spec["limits"] = limits.clone();
            stage
                .apply::<TenantConnection>(json!({
                    "apiVersion": "tenantry.dev/v1alpha1", "kind": "TenantConnection",
                    "metadata": {"name": connection_name(n)}, "spec": spec,
                }))
                .await;
        }
        stage.start_operator().await;
        for n in 0..self.connections {
            wait_condition(&api, &connection_name(n), "Ready", "True").await?;
        }
        Ok(stage)
    }

    fn spec(&self, n: usize) -> Value {
        let script = script(self, n);
        let script: Vec<_> = script
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let pipeline = n % self.pipelines;
        json!({
            "connectionRef": {"name": connection_name(pipeline % self.connections)},
            "project": project_name(pipeline % self.projects),
            "pipeline": format!("p{pipeline}"), "parameters": parameters(&script),
            "artifacts": {"include": ["dist/**"], "destination": {"configMap": {}}},
        })
    }
}

/// The most that ran at the same time.
pub fn at_once(starts: &[i64], ends: &[i64]) -> usize {
    let mut all: Vec<(i64, i64)> = starts
        .iter()
        .map(|at| (*at, 1))
        .chain(ends.iter().map(|at| (*at, -1)))
        .collect();
    all.sort_unstable();
    let mut now = 0;
    let most = all.into_iter().map(|(_, change)| {
        now += change;
        now
    });
    usize::try_from(most.max().unwrap_or_default()).unwrap_or_default()
}

/// Builds that did not end as they should, or that Jenkins built more or less than once.
pub fn problems(ledger: &Ledger, all: &BTreeMap<String, Build>) -> Vec<String> {
    let mut built: BTreeMap<String, usize> = BTreeMap::new();
    for build in ledger.builds() {
        let version = build.parameters.into_iter().find(|(name, _)| name == "VERSION");
        *built
            .entry(version.map(|(_, value)| value).unwrap_or_default())
            .or_default() += 1;
    }
    let mut problems = Vec::new();
    for (name, build) in all {
        let times = built.remove(&format!("1.0.{}", &name[1..])).unwrap_or_default();
        if times != 1 || !build.well {
            problems.push(format!("{name} was built {times} times: {build:?}"));
        }
    }
    let strangers = built.into_iter();
    problems.extend(strangers.map(|(version, times)| format!("{times} builds of {version:?} in {PROJECT}")));
    problems
}

#[test]
fn runs_at_once_are_counted_by_their_spans() {
    assert_eq!(at_once(&[], &[]), 0);
    assert_eq!(at_once(&[1, 2, 9], &[3, 4, 10]), 2);
    assert_eq!(at_once(&[1, 3], &[3, 4]), 1, "one ends as the other begins");
}
