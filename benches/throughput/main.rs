//! `make bench-throughput`: short builds, as many as go, and what it is that limits them.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/load/mod.rs"]
mod load;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use load::{count, crowd::Crowd};
use tenantry_simulator::Role;
use tenantry_test_support::bench::{self, Figure, Report, Target};

/// Measures builds per minute.
#[derive(Debug, Parser)]
struct Options {
    /// The program to measure; without, the one that cargo built, which is not static.
    #[arg(long)]
    program: Option<PathBuf>,
    /// How many builds.
    #[arg(long, default_value_t = 2_000)]
    builds: usize,
    /// Over how many pipelines.
    #[arg(long, default_value_t = 50)]
    pipelines: usize,
    /// Requests per second that the connection may send; one round for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100])]
    limits: Vec<u32>,
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
    for limit in options.limits {
        let crowd = Crowd {
            program: program.clone(),
            role: Role::tenant(),
            builds: options.builds,
            pipelines: options.pipelines,
            projects: 1,
            connections: 1,
            duration: 2.0,
            spread: 0.0,
            limits: (limit, limit),
        };
        let followed = crowd.follow().await?;
        for problem in followed.problems.iter().take(20) {
            println!("{problem}");
        }
        let what = format!("{} builds of 2 s, {limit} requests/s allowed", crowd.builds);
        let mut add =
            |name: &str, value, unit| report.add(Figure::new(format!("{what}: {name}"), value, unit));
        let [driver, api_server, etcd] = followed.cpu_of_others;
        let share = |cpu: f64| cpu / followed.seconds * 100.0;
        add(
            "builds per minute",
            count(crowd.builds) / followed.seconds * 60.0,
            "builds/min",
        );
        add("time", followed.seconds, "s");
        add(
            "gateway requests per build",
            count(followed.tally.all) / count(crowd.builds),
            "requests",
        );
        add(
            "gateway requests per second",
            count(followed.tally.all) / followed.seconds,
            "requests/s",
        );
        add(
            "most gateway requests in a second",
            count(followed.tally.busiest),
            "requests",
        );
        add("runs at the same time, most", count(followed.at_once), "runs");
        add("CPU of the operator", share(followed.cpu), "% of a core");
        add(
            "CPU of API server and etcd",
            share(api_server + etcd),
            "% of a core",
        );
        add("CPU of simulator and driver", share(driver), "% of a core");
        add("peak memory of the operator (VmHWM)", followed.peak, "MiB");
        add("end of run to condition, p50", followed.decided.median(), "s");
        add(
            "end of run to condition, p99",
            followed.decided.percentile(99.0),
            "s",
        );
        let wrong = count(followed.problems.len());
        let wrong = Figure::new(
            format!("{what}: builds that did not end as they should, exactly once"),
            wrong,
            "builds",
        );
        report.add(wrong.target(Target::ValueAtMost(0.0)));
    }
    report.finish(&bench::path("throughput"))
}
