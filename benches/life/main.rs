//! `make bench-life`: what one build's life costs our own API server, and how much of that comes from its length.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/load/mod.rs"]
mod load;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use load::{count, life};
use tenantry_test_support::bench::{self, Figure, Report, Target};

/// Measures one build's life.
#[derive(Debug, Parser)]
struct Options {
    /// The program to measure; without, the one that cargo built, which is not static.
    #[arg(long)]
    program: Option<PathBuf>,
    /// How long builds run, seconds. The first is judged.
    #[arg(long, value_delimiter = ',', default_values_t = [12, 60])]
    seconds: Vec<u32>,
    /// What cargo says to benches.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let program = options
        .program
        .map(|program| program.canonicalize())
        .transpose()?;
    println!("{}", bench::machine());
    let mut report = Report::default();
    for (n, seconds) in options.seconds.into_iter().enumerate() {
        let life = life::measure(program.clone(), seconds).await?;
        println!(
            "a build of {seconds} s\n{}\ngateway: {}\n",
            life.bill.table(),
            life.gateway.join(" ")
        );
        let sum = life.bill.sum(|_| true);
        let log = life
            .bill
            .sum(|name| name.contains("configmaps") && !name.starts_with("get"));
        let all = [
            (
                "reconciles of the BuildRequest",
                count(life.reconciles),
                "reconciles",
                Some(10.0),
            ),
            (
                "status writes of the BuildRequest",
                count(life.status_writes),
                "writes",
                Some(8.0),
            ),
            (
                "reconciles of its ArtifactFetch",
                count(life.fetch_reconciles),
                "reconciles",
                None,
            ),
            (
                "writes of ConfigMaps (log, file)",
                count(log.requests),
                "writes",
                None,
            ),
            (
                "requests to the API server",
                count(sum.requests),
                "requests",
                None,
            ),
            ("bytes to the API server", count(sum.sent) / 1e3, "kB", None),
            (
                "bytes from the API server, watches included",
                count(sum.received) / 1e3,
                "kB",
                None,
            ),
            (
                "requests to the gateway",
                count(life.gateway.len()),
                "requests",
                None,
            ),
        ];
        for (name, value, unit, most) in all {
            let figure = Figure::new(format!("one build of {seconds} s: {name}"), value, unit);
            report.add(match most.filter(|_| n == 0) {
                Some(most) => figure.target(Target::ValueAtMost(most)),
                None => figure,
            });
        }
    }
    report.finish(&bench::path("life"))
}
