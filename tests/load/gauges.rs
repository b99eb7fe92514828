//! What the operator takes while something goes on, looked at again and again.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tenantry_test_support::{
    bench::{gauges, memory},
    http_get,
};
use tokio::{task::JoinHandle, time::Instant};

/// One look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Seconds since the first.
    pub at: f64,
    /// `VmRSS` and `VmHWM`, MiB.
    pub resident: f64,
    /// The same at its peak.
    pub peak: f64,
    /// CPU time so far, seconds.
    pub cpu: f64,
    /// BuildRequests and ArtifactFetches that wait for a reconcile, now or at a set time.
    pub scheduled: f64,
    /// Reconciles in flight.
    pub running: f64,
    /// BuildRequests that are not finished, as the operator says.
    pub active: f64,
    /// Reconciles so far.
    pub reconciles: f64,
}

/// An operator that is looked at until this is dropped.
#[derive(Debug)]
pub struct Gauges {
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gauges {
    /// Looks at the process `pid`, whose metrics are at `metrics`, every so often.
    pub fn watch(pid: u32, metrics: &str, every: Duration) -> Self {
        let (looks, metrics) = (Arc::<Mutex<Vec<Look>>>::default(), metrics.to_owned());
        let taken = looks.clone();
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let mut ticks = tokio::time::interval(every);
            loop {
                ticks.tick().await;
                if let Some(seen) = look(pid, &metrics, began).await {
                    lock(&taken).push(seen);
                }
            }
        });
        Self { looks, task }
    }

    /// What was seen so far.
    pub fn looks(&self) -> Vec<Look> {
        lock(&self.looks).clone()
    }
}

fn lock(looks: &Mutex<Vec<Look>>) -> MutexGuard<'_, Vec<Look>> {
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(pid: u32, metrics: &str, began: Instant) -> Option<Look> {
    let text = http_get(metrics, "/metrics").await.ok()?.body;
    Some(Look {
        at: began.elapsed().as_secs_f64(),
        resident: memory::mib(memory::status_kib(pid, "VmRSS")?),
        peak: memory::mib(memory::status_kib(pid, "VmHWM")?),
        cpu: gauges::cpu_seconds(pid)?,
        scheduled: gauges::metric(&text, "tenantry_reconciles_scheduled", ""),
        running: gauges::metric(&text, "tenantry_reconciles_running", ""),
        active: gauges::metric(&text, "tenantry_builds", ""),
        reconciles: gauges::metric(&text, "tenantry_reconciles_total", ""),
    })
}

/// The looks as CSV.
pub fn csv(looks: &[Look]) -> String {
    let mut text =
        String::from("second,resident_mib,peak_mib,cpu_seconds,scheduled,running,active,reconciles\n");
    for look in looks {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{:.0},{:.2},{:.2},{:.2},{},{},{},{}",
            look.at,
            look.resident,
            look.peak,
            look.cpu,
            look.scheduled,
            look.running,
            look.active,
            look.reconciles
        );
    }
    text
}
