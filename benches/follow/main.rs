//! `make bench-follow`: what it costs to follow many builds of one project, on each rung, beside the bash loop of a tenant.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/load/mod.rs"]
mod load;
mod loops;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use load::{
    count,
    crowd::{Crowd, Followed},
};
use loops::Looped;
use tenantry_simulator::Role;
use tenantry_test_support::bench::{self, Figure, Report, Target};

/// Requests after the end of a run: result, stages, log, list of files, and one file.
const FETCHED: f64 = 4.0 + 1.0;

/// Measures what following builds costs.
#[derive(Debug, Parser)]
struct Options {
    /// The program to measure; without, the one that cargo built, which is not static.
    #[arg(long)]
    program: Option<PathBuf>,
    /// How many builds at the same time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 200, 2_000])]
    builds: Vec<usize>,
    /// Up to how many builds every rung is tried, and the loops: beyond, the highest rung alone.
    #[arg(long, default_value_t = 200)]
    all_rungs: usize,
    /// How long the first build runs, in seconds, while there are 200 and less; beyond, a second more for each ten.
    #[arg(long, default_value_t = 90.0)]
    duration: f64,
    /// Over how many projects 200 builds are spread.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 50])]
    projects: Vec<usize>,
    /// Over how many connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 50])]
    connections: Vec<usize>,
    /// Requests per second that the connection may send, and as many more at once.
    #[arg(long, default_value_t = 200)]
    limit: u32,
    /// What cargo says to benches.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let program = options
        .program
        .as_ref()
        .map(|program| program.canonicalize())
        .transpose()?;
    println!("{}", bench::machine());
    let mut report = Report::default();
    let mut baseline = BTreeMap::new();
    for builds in options.builds.iter().copied() {
        let many = count(builds.saturating_sub(200));
        let crowd = Crowd {
            program: program.clone(),
            role: Role::tenant(),
            builds,
            pipelines: (builds / 10).clamp(1, 100),
            projects: 1,
            connections: 1,
            duration: options.duration + many / 10.0,
            spread: (count(builds) / 10.0).min(90.0),
            limits: (options.limit, options.limit),
        };
        let all = builds <= options.all_rungs;
        if all {
            let looped = loops::run(&crowd).await?;
            tell_loops(&crowd, &looped, &mut report);
            baseline.insert(builds, looped);
        }
        for (rung, role) in rungs().into_iter().take(if all { usize::MAX } else { 1 }) {
            let followed = Crowd {
                role,
                ..crowd.clone()
            }
            .follow()
            .await?;
            tell(&crowd, rung, &followed, baseline.get(&builds), &mut report);
        }
    }
    for (n, unit) in options
        .projects
        .iter()
        .map(|n| (*n, "projects"))
        .chain(options.connections.iter().map(|n| (*n, "connections")))
    {
        let crowd = Crowd {
            program: program.clone(),
            role: Role::tenant(),
            builds: 200,
            pipelines: 50,
            projects: if unit == "projects" { n } else { 1 },
            connections: if unit == "connections" { n } else { 1 },
            duration: options.duration,
            spread: 20.0,
            limits: (options.limit, options.limit),
        };
        tell_growth(
            &format!("{n} {unit}, 200 builds"),
            &crowd.follow().await?,
            &mut report,
        );
    }
    report.finish(&bench::path("follow"))
}

/// How runs are started and followed, by what the tenant may do. The highest first.
fn rungs() -> [(&'static str, Role); 3] {
    [
        ("watch", Role::tenant()),
        ("list", Role::tenant_without_watch()),
        (
            "POST and watch",
            Role::tenant().without(&["pipelineruns"], &["create"]),
        ),
    ]
}

fn tell_loops(crowd: &Crowd, looped: &Looped, report: &mut Report) {
    let what = format!("{} builds, bash loops", crowd.builds);
    let tally = &looped.tally;
    println!("{what}: {tally:?}");
    let mut add = |name: &str, value, unit| report.add(Figure::new(format!("{what}: {name}"), value, unit));
    add("requests, start to end of runs", count(tally.follow), "requests");
    add("requests, all", count(tally.all), "requests");
    add("bytes received", bytes(tally.bytes), "MB");
    add("CPU", looped.cpu, "s");
    add("time", looped.seconds, "s");
    add("end of run to all at home, p50", looped.lags.median(), "s");
    add(
        "end of run to all at home, p99",
        looped.lags.percentile(99.0),
        "s",
    );
}

fn tell(crowd: &Crowd, rung: &str, followed: &Followed, looped: Option<&Looped>, report: &mut Report) {
    let what = format!("{} builds, {rung}", crowd.builds);
    println!("{what}: {followed:?}\n");
    for problem in followed.problems.iter().take(20) {
        println!("{problem}");
    }
    let tally = &followed.tally;
    let mut add = |name: &str, value, unit, baseline: Option<f64>, target: Option<Target>| {
        let figure = Figure::new(format!("{what}: {name}"), value, unit);
        let figure = baseline.into_iter().fold(figure, Figure::against);
        report.add(target.into_iter().fold(figure, Figure::target));
    };
    let against = |of: fn(&Looped) -> f64| looped.map(of);
    let judged = crowd.builds == 200;
    let follow = match rung {
        "list" => Target::RatioAtMost(0.1),
        _ => Target::RatioAtMost(0.02),
    };
    let watched = rung != "list" && crowd.builds >= 200;
    let lag = Target::ValueAtMost(if crowd.builds > 200 { 2.0 } else { 1.0 });
    let per_build = tally.fetch.most();
    let (limit, burst) = crowd.limits;
    add(
        "requests, start to end of runs",
        count(tally.follow),
        "requests",
        against(|l| count(l.tally.follow)),
        judged.then_some(follow),
    );
    add(
        "requests before the start of runs, per build",
        count(tally.start) / count(crowd.builds),
        "requests",
        None,
        None,
    );
    add(
        "requests after the end of a run, most",
        per_build,
        "requests",
        None,
        Some(Target::ValueAtMost(FETCHED)),
    );
    add(
        "requests, all",
        count(tally.all),
        "requests",
        against(|l| count(l.tally.all)),
        None,
    );
    let busiest = Target::ValueAtMost(f64::from(limit + burst));
    add(
        "most requests in a second",
        count(tally.busiest),
        "requests",
        None,
        Some(busiest),
    );
    add(
        "bytes received",
        bytes(tally.bytes),
        "MB",
        against(|l| bytes(l.tally.bytes)),
        None,
    );
    add("CPU of the operator", followed.cpu, "s", against(|l| l.cpu), None);
    add(
        "CPU of simulator and driver",
        followed.cpu_of_others[0],
        "s",
        None,
        None,
    );
    add(
        "CPU of API server and etcd",
        followed.cpu_of_others[1] + followed.cpu_of_others[2],
        "s",
        None,
        None,
    );
    add(
        "peak memory of the operator (VmHWM)",
        followed.peak,
        "MiB",
        None,
        None,
    );
    add(
        "end of run to its status, p99",
        followed.told.percentile(99.0),
        "s",
        None,
        None,
    );
    add(
        "end of run to condition, p50",
        followed.decided.median(),
        "s",
        against(|l| l.lags.median()),
        None,
    );
    let p99 = followed.decided.percentile(99.0);
    add(
        "end of run to condition, p99",
        p99,
        "s",
        against(|l| l.lags.percentile(99.0)),
        watched.then_some(lag),
    );
    add("all runs started after", followed.starting, "s", None, None);
    add(
        "runs at the same time, most",
        count(followed.at_once),
        "runs",
        None,
        None,
    );
    add(
        "builds that did not end as they should, exactly once",
        count(followed.problems.len()),
        "builds",
        None,
        Some(Target::ValueAtMost(0.0)),
    );
}

/// How it grows with projects and with connections.
fn tell_growth(what: &str, followed: &Followed, report: &mut Report) {
    println!("{what}: {followed:?}\n");
    let mut add = |name: &str, value, unit| report.add(Figure::new(format!("{what}: {name}"), value, unit));
    add(
        "requests, start to end of runs",
        count(followed.tally.follow),
        "requests",
    );
    add("CPU of the operator", followed.cpu, "s");
    add("peak memory of the operator (VmHWM)", followed.peak, "MiB");
    add(
        "builds that did not end as they should, exactly once",
        count(followed.problems.len()),
        "builds",
    );
}

#[allow(clippy::cast_precision_loss)] // no bench receives 2^52 bytes
fn bytes(n: u64) -> f64 {
    n as f64 / 1e6
}
