//! The soak: builds for a long time at a steady pace, and what of it may not grow.
//!
//! The time is cut into three. The first third is for warming up: objects pile up until the first are removed by their
//! `ttlAfterFinished`, after less than a fifth of the time. Then all is as it will always be, so the last third is compared
//! with the middle one: what grows without end is more in the last.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tenantry::api::BuildRequest;
use tenantry_simulator::Role;
use tenantry_test_support::{
    Operator, Seen,
    bench::{Figure, Report, Samples, Target},
    wait_for,
};
use tokio::time::Instant;

use super::{
    count,
    crowd::{problems, world},
    gauges::{Gauges, Look},
    seconds,
    seen::{Build, Builds, moments},
};
use crate::common::{Setup, Stage, parameters};

const PIPELINES: usize = 10;

/// How long and how much.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The operator's program. `None`: the one that cargo built.
    pub program: Option<PathBuf>,
    /// How long builds are asked for.
    pub length: Duration,
    /// Builds per minute.
    pub per_minute: u32,
    /// How many may be unfinished at once: no further one is asked for until one has ended. A machine that is too slow for
    /// the pace then gets fewer builds instead of a queue. `None`: the pace is kept whatever comes.
    pub at_most: Option<usize>,
    /// By how much the last third may exceed the middle one.
    pub limits: Limits,
}

/// By how much the median of the last third may exceed that of the middle one: 1.05 is by a twentieth.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Resident memory.
    pub memory: f64,
    /// What waits for a reconcile, and unfinished builds.
    pub queue: f64,
    /// Time from the end of a run to the condition. `None`: it is told and not judged.
    pub lag: Option<f64>,
}

impl Settings {
    /// A sixth of the time: so many objects pile up.
    fn ttl(&self) -> Duration {
        self.length / 6
    }

    /// How long a build runs.
    fn duration(&self) -> Duration {
        (self.length / 120).clamp(Duration::from_secs(10), Duration::from_secs(60))
    }
}

/// What was seen.
#[derive(Debug)]
pub struct Soaked {
    /// The figures, with their targets.
    pub report: Report,
    /// What the operator took.
    pub looks: Vec<Look>,
    /// What did not end well, as sentences.
    pub problems: Vec<String>,
}

/// Runs the soak.
pub async fn run(settings: &Settings) -> Result<Soaked> {
    let stage = stage(settings).await;
    let builds = Builds::watch(stage.api::<BuildRequest>());
    let operator = stage.operator.as_ref().context("an operator")?;
    let pid = operator.pid().context("the operator runs")?;
    let every = (settings.length / 720).max(Duration::from_secs(1));
    let gauges = Gauges::watch(pid, operator.metrics(), every);
    let began = super::now();
    let applied = apply(settings, &stage, &builds).await;
    let looks = gauges.looks();
    let until = began + i64::try_from(settings.length.as_millis())?;
    let all = wait_for(
        "every build to end",
        settings.ttl() + Duration::from_secs(300),
        async || {
            let decided = builds.decided();
            Ok(Seen::when(decided >= applied, || {
                format!("{decided} of {applied} have")
            }))
        },
    );
    all.await?;
    ensure!(
        stage.operator.as_ref().and_then(Operator::pid) == Some(pid)
            && operator.readyz().await?.status == 200,
        "the operator is not what it was"
    );
    drop(gauges);
    let all = builds.all();
    let problems = problems(&stage.simulator.ledger(), &all);
    let lags = lags(&stage, &all, began, until);
    let mut report = judge(settings, &looks, &lags);
    let requests = stage.simulator.ledger().len();
    let each = count(requests) / count(applied);
    report.add(Figure::new(
        "gateway requests per build, all in all",
        each,
        "requests",
    ));
    let pace = count(applied) / settings.length.as_secs_f64() * 60.0;
    report.add(Figure::new("builds", count(applied), "builds"));
    report.add(Figure::new("builds per minute", pace, "builds/min"));
    let wrong = Figure::new(
        "builds that did not end as they should, exactly once",
        count(problems.len()),
        "builds",
    );
    report.add(wrong.target(Target::ValueAtMost(0.0)));
    Ok(Soaked {
        report,
        looks,
        problems,
    })
}

async fn stage(settings: &Settings) -> Stage {
    let mut stage = Stage::with(Setup {
        world: world(&Role::tenant(), PIPELINES, 1),
        config: |config| config.with_time_scale(1.0),
        program: settings.program.clone(),
        tunes: &[],
        log: "warn,tenantry=info",
        operator: false,
        ..Setup::default()
    })
    .await;
    let spec = json!({"pollInterval": "5s", "limits": {"requestsPerSecond": 100, "burst": 200}});
    stage.patch_connection(json!({ "spec": spec })).await;
    stage.start_operator().await;
    stage
}

/// Asks for builds until the time is over. Says for how many.
async fn apply(settings: &Settings, stage: &Stage, builds: &Builds) -> usize {
    let pause = Duration::from_secs(60) / settings.per_minute;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(pause);
    let duration = settings.duration().as_secs().to_string();
    let ttl = format!("{}s", settings.ttl().as_secs());
    let mut applied = 0;
    while began.elapsed() < settings.length {
        ticks.tick().await;
        if settings.at_most.is_some_and(|most| builds.open() >= most) {
            continue;
        }
        let version = format!("1.0.{applied}");
        let script = [
            ("DURATION", duration.as_str()),
            ("LOG_BYTES", "4000"),
            ("ARTIFACTS", "dist/app.txt:500"),
            ("VERSION", &version),
        ];
        let spec = json!({
            "pipeline": format!("p{}", applied % PIPELINES), "parameters": parameters(&script), "ttlAfterFinished": ttl,
            "artifacts": {"include": ["dist/**"], "destination": {"configMap": {}}},
        });
        stage.build(&format!("b{applied}"), spec).await;
        applied += 1;
    }
    applied
}

/// Seconds from the end of each run to its condition, by the third of the time in which it ended.
fn lags(stage: &Stage, all: &BTreeMap<String, Build>, began: i64, until: i64) -> [Samples; 3] {
    let ends = moments(&stage.simulator.ledger(), "run-ended");
    let mut thirds = [Vec::new(), Vec::new(), Vec::new()];
    for build in all.values() {
        let Some((end, decided)) = ends.get(&build.run).zip(build.decided) else {
            continue;
        };
        let third = (end - began).max(0) * 3 / (until - began).max(1);
        thirds[usize::try_from(third).unwrap_or_default().min(2)].push(seconds(decided - end));
    }
    thirds.map(Samples::from_iter)
}

/// A part of a look.
type Part = fn(&Look) -> f64;

/// The last third beside the middle one.
pub fn judge(settings: &Settings, looks: &[Look], lags: &[Samples; 3]) -> Report {
    let length = settings.length.as_secs_f64();
    let third = |n: f64, of: Part| -> Samples {
        let (from, to) = (length * n / 3.0, length * (n + 1.0) / 3.0);
        let within = looks.iter().filter(|look| (from..to).contains(&look.at));
        within.map(of).collect()
    };
    let mut report = Report::default();
    let limits = settings.limits;
    let rows: [(&str, Part, &'static str, f64); 3] = [
        ("resident memory", |look| look.resident, "MiB", limits.memory),
        (
            "scheduled reconciles",
            |look| look.scheduled,
            "objects",
            limits.queue,
        ),
        ("unfinished builds", |look| look.active, "builds", limits.queue),
    ];
    for (name, of, unit, most) in rows {
        let (middle, last) = (third(1.0, of).median(), third(2.0, of).median());
        let figure = Figure::new(
            format!("{name}: median of the last third, against the middle"),
            last,
            unit,
        );
        report.add(figure.against(middle).target(Target::RatioAtMost(most)));
    }
    let end = looks.last().copied().unwrap_or_default();
    report.add(Figure::new("resident memory, peak (VmHWM)", end.peak, "MiB"));
    let busy: Samples = looks.iter().map(|look| look.running).collect();
    report.add(Figure::new(
        "reconciles in flight, most seen",
        busy.most(),
        "reconciles",
    ));
    report.add(Figure::new(
        "CPU of the operator",
        end.cpu / end.at.max(1.0) * 100.0,
        "% of a core",
    ));
    let [_, middle, last] = lags;
    let what = "end of run to condition";
    let name = format!("{what}: median of the last third, against the middle");
    let lag = Figure::new(name, last.median(), "s").against(middle.median());
    report.add(match limits.lag {
        Some(most) => lag.target(Target::RatioAtMost(most)),
        None => lag,
    });
    let p99 = Figure::new(
        format!("{what}: p99 of the last third, against the middle"),
        last.percentile(99.0),
        "s",
    );
    report.add(p99.against(middle.percentile(99.0)));
    report
}
