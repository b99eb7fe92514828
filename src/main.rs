//! The `tenantry` binary.

use std::{
    io::{Write as _, stdout},
    process::ExitCode,
};

use clap::Parser as _;
use tenantry::{
    fetcher,
    runtime::{
        cli::{Cli, Command, CrdFormat},
        crds, operator, reference, telemetry,
    },
};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tenantry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Operator(options) => {
            telemetry::start(options.log.log_format, &options.log.log_level)?;
            // Fails only where one is installed already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            tokio::runtime::Runtime::new()?.block_on(operator::run(*options))?;
        }
        Command::Crds(options) => match (options.out, options.format) {
            (Some(folder), _) => crds::write(&folder)?,
            (None, CrdFormat::Yaml) => stdout().write_all(crds::stream()?.as_bytes())?,
            (None, CrdFormat::Markdown) => stdout().write_all(reference::markdown().as_bytes())?,
        },
        Command::Fetch(options) => {
            telemetry::start(options.log.log_format, &options.log.log_level)?;
            return Ok(ExitCode::from(fetcher::run::run(&options)));
        }
    }
    Ok(ExitCode::SUCCESS)
}
