//! The tenant's bash loop, once per build: `benches/follow/loop.sh`.

use std::{collections::HashMap, fs, path::Path, process::Stdio, time::Instant};

use anyhow::{Context as _, Result, ensure};
use tenantry_simulator::{Config, Simulator};
use tenantry_test_support::bench::Samples;
use tokio::process::Command;

use crate::{
    common::{PASSWORD, PROJECT, USER},
    load::{
        crowd::{Crowd, script, world},
        seconds,
        seen::moments,
        tally::{Tally, tally},
    },
};

/// What the loops took.
#[derive(Debug)]
pub struct Looped {
    /// What the gateway was asked.
    pub tally: Tally,
    /// From the end of a run to the end of its loop, seconds.
    pub lags: Samples,
    /// CPU time of all loops with their curl and jq, seconds.
    pub cpu: f64,
    /// From the first start to the last end.
    pub seconds: f64,
}

/// Runs a loop for each build, all at the same time.
pub async fn run(crowd: &Crowd) -> Result<Looped> {
    let remote = world(&crowd.role, crowd.pipelines, 1);
    let simulator = Simulator::start(Config::of(remote).with_time_scale(1.0)).await?;
    let folder = tempfile::tempdir()?;
    let (cpu, began) = (of_children()?, Instant::now());
    let all = (0..crowd.builds).map(|n| one(crowd, n, &simulator, folder.path()));
    let all = futures::future::try_join_all(all).await?;
    let took = began.elapsed().as_secs_f64();
    let ledger = simulator.ledger();
    let ends: HashMap<String, i64> = moments(&ledger, "run-ended");
    let lags = all
        .iter()
        .filter_map(|(run, at)| Some(seconds(at - ends.get(run)?)));
    Ok(Looped {
        tally: tally(&ledger),
        lags: lags.collect(),
        cpu: of_children()? - cpu,
        seconds: took,
    })
}

/// One loop: the name of its run, and when all was home.
async fn one(crowd: &Crowd, n: usize, simulator: &Simulator, folder: &Path) -> Result<(String, i64)> {
    let folder = folder.join(n.to_string());
    let script = script(crowd, n)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"));
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/follow/loop.sh"))
        .args([
            &simulator.url(),
            PROJECT,
            &format!("p{}", n % crowd.pipelines),
            USER,
            PASSWORD,
        ])
        .arg(&folder)
        .args(script)
        .stdin(Stdio::null())
        .output()
        .await
        .context("the loop")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let after = |word: &str| said.lines().find_map(|line| line.strip_prefix(word));
    let (run, done) = (after("started "), after("done "));
    let whole = fs::metadata(folder.join("log")).is_ok_and(|log| log.len() > 0)
        && fs::metadata(folder.join("dist/app.txt")).is_ok_and(|file| file.len() == 500);
    ensure!(
        output.status.success() && whole && done.is_some_and(|done| done.ends_with(" SUCCESS")),
        "loop {n} said {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let at = done
        .and_then(|done| done.split(' ').next()?.parse().ok())
        .context("a time")?;
    Ok((run.context("a run")?.to_owned(), at))
}

/// CPU time of the children of this process that have ended, with theirs, seconds.
fn of_children() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").context("a stat")?;
    let fields: Vec<f64> = rest
        .split(' ')
        .skip(13)
        .take(2)
        .filter_map(|f| f.parse().ok())
        .collect();
    Ok(fields.iter().sum::<f64>() / 100.0)
}
