//! The `tenantry` binary.

use std::{
    io::{Write as _, stdout},
    process::ExitCode,
};

use clap::Parser as _;
use tenantry::runtime::{
    cli::{Cli, Command, CrdFormat},
    crds, operator, reference, telemetry,
};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tenantry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Operator(options) => {
            telemetry::start(options.log_format, &options.log_level)?;
            // Fails only where one is installed already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            tokio::runtime::Runtime::new()?.block_on(operator::run(*options))
        }
        Command::Crds(options) => match (options.out, options.format) {
            (Some(folder), _) => crds::write(&folder),
            (None, CrdFormat::Yaml) => Ok(stdout().write_all(crds::stream()?.as_bytes())?),
            (None, CrdFormat::Markdown) => Ok(stdout().write_all(reference::markdown().as_bytes())?),
        },
    }
}
