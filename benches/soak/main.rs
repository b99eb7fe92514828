//! `make soak`: builds for an hour at a steady pace; memory, queue and lag may not grow. See `tests/load/soak.rs`.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/load/mod.rs"]
mod load;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use load::{
    gauges,
    soak::{self, Limits, Settings},
};
use tenantry_test_support::bench;

/// Soaks the operator.
#[derive(Debug, Parser)]
struct Options {
    /// The program to measure; without, the one that cargo built, which is not static.
    #[arg(long)]
    program: Option<PathBuf>,
    /// For how long.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Builds per minute.
    #[arg(long, default_value_t = 50)]
    per_minute: u32,
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
    let settings = Settings {
        program,
        length: Duration::from_secs_f64(options.minutes * 60.0),
        per_minute: options.per_minute,
        at_most: None,
        limits: Limits {
            memory: 1.05,
            queue: 1.1,
            lag: Some(1.5),
        },
    };
    let soaked = soak::run(&settings).await?;
    for problem in &soaked.problems {
        println!("{problem}");
    }
    let path = bench::path("soak");
    let code = soaked.report.finish(&path)?;
    std::fs::write(path.with_extension("csv"), gauges::csv(&soaked.looks))?;
    Ok(code)
}
