//! Runs a simulated KubeSphere on loopback until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use tenantry_simulator::{Config, Simulator, World};

/// A simulated KubeSphere: gateway, ks-devops and Jenkins in one process, on loopback only.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// What exists at the start.
    #[arg(long, value_enum, default_value_t = Start::Demo)]
    world: Start,
    /// Write the bound address here as JSON, once it is known.
    #[arg(long)]
    address_file: Option<PathBuf>,
    /// Factor on all internal lengths of time, e.g. 0.1 for ten times as fast.
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Start {
    /// Workspace acme, user dev with password demo-password, project shop.
    Demo,
    /// The installation of the recordings.
    Recorded,
    /// The second installation of the recordings, with a member cluster and pipelines that wait for input.
    RecordedWithMember,
    /// Nothing but an administrator.
    Empty,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let options = Options::parse();
    anyhow::ensure!(
        options.time_scale > 0.0 && options.time_scale.is_finite(),
        "--time-scale must be above 0: it is a factor on lengths of time"
    );
    let world = match options.world {
        Start::Demo => World::demo(),
        Start::Recorded => World::recorded(),
        Start::RecordedWithMember => World::recorded_with_member(),
        Start::Empty => World::empty(),
    };
    let config = Config {
        listen: options.listen,
        ..Config::of(world).with_time_scale(options.time_scale)
    };
    let simulator = Simulator::start(config)
        .await
        .context("the simulator could not start")?;
    if let Some(path) = &options.address_file {
        let address = serde_json::json!({
            "address": simulator.address().to_string(), "url": simulator.url(), "pid": std::process::id(),
        });
        // Written aside and renamed, so that whoever waits for the file never reads half of it.
        let temporary = path.with_extension("part");
        std::fs::write(&temporary, address.to_string())
            .and_then(|()| std::fs::rename(&temporary, path))
            .with_context(|| format!("cannot write the address to {}", path.display()))?;
    }
    println!("listening on {}", simulator.url());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    drop(simulator);
    Ok(())
}
