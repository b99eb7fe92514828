//! `make bench-fetch`: how fast `tenantry fetch` is beside curl, and how much memory it takes, also in its pod.
//!
//! [`race`] runs both against one simulator; [`pod`] looks at the pods of operator and fetch Jobs on a node. What is
//! measured is the program of the image (`--program`); this driver and the simulator are optimised too.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/chart/helm.rs"]
#[allow(dead_code)] // the chart's suite uses all of it
mod helm;
#[path = "../../tests/e2e_node/node.rs"]
#[allow(dead_code)] // the suite uses all of it
mod node;
#[path = "../../tests/e2e_node/bench.rs"]
#[allow(dead_code)] // the suite uses all of it
mod on_node;
mod pod;
mod race;
#[path = "../../tests/fetch_simulator/bench.rs"]
#[allow(dead_code)] // the suite uses all of it
mod stage;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use race::{Files, Race};
use tenantry_test_support::bench::{self, Report};

/// Measures fetches.
#[derive(Debug, Parser)]
struct Options {
    /// The program to measure; without, the one that cargo built, which is not static.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Measure the pods too: needs root and what hack/bench-fetch.sh prepares.
    #[arg(long)]
    node: bool,
    /// How often each fetches.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What cargo says to benches.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let program = options
        .program
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tenantry")));
    let program = program
        .canonicalize()
        .with_context(|| format!("there is no {}", program.display()))?;
    println!("{}", bench::machine());
    println!("{}\n", program.display());
    let mut report = Report::default();
    for files in [Files::ONE, Files::MANY] {
        Race::new(&program, files)
            .await?
            .rounds(options.rounds, &mut report)?;
    }
    Race::new(&program, Files::LARGE).await?.widest(&mut report)?;
    if options.node {
        pod::measure(&[Files::ONE, Files::MANY], &mut report).await?;
    }
    report.finish(&bench::path("fetch"))
}
