//! The controller-runtime manager beside tenantry: see `benches/objects/manager/main.go`.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tenantry_test_support::bench::memory;

/// What it took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Until each object was through its empty Reconcile, seconds.
    pub ready: f64,
    /// `VmRSS` at rest, MiB.
    pub idle: f64,
    /// `VmHWM`, MiB.
    pub peak: f64,
}

/// Starts it, waits until it has seen so many objects, lets it rest, and ends it.
pub fn measure(
    program: &Path,
    kubeconfig: &Path,
    namespace: &str,
    metadata: bool,
    objects: usize,
    rest: Duration,
) -> Result<Taken> {
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(["-namespace", namespace, "-objects", &objects.to_string()])
        .arg(format!("-metadata={metadata}"))
        .arg("-kubeconfig")
        .arg(kubeconfig)
        .env_remove("GOGC")
        .env_remove("GOMEMLIMIT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let measured = (|| {
        let mut line = String::new();
        let stdout = child.stdout.take().context("its stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the manager said {line:?}");
        let ready = began.elapsed().as_secs_f64();
        // As long as tenantry rests before it is looked at.
        std::thread::sleep(rest);
        let mib = |name| {
            memory::status_kib(child.id(), name)
                .map(memory::mib)
                .context("it runs")
        };
        Ok(Taken {
            ready,
            idle: mib("VmRSS")?,
            peak: mib("VmHWM")?,
        })
    })();
    child.kill()?;
    child.wait()?;
    measured
}
