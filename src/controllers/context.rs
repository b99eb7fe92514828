//! What every reconcile may use.

use std::{sync::Arc, time::Duration};

use kube::runtime::events::Recorder;

use super::Connections;
use crate::runtime::{backoff::Backoffs, metrics::Metrics};

/// What every reconcile may use. One per process.
pub struct Context {
    /// Our own cluster. Default retries are off; every call is bounded in time.
    pub client: kube::Client,
    /// The gateways, one per TenantConnection.
    pub connections: Connections,
    /// Writes Events.
    pub recorder: Recorder,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Failures in a row, per object.
    pub backoffs: Backoffs,
    /// Times that tests shorten.
    pub tunables: Tunables,
}

/// Times that have one right value in production and that suites shorten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunables {
    /// How long a run must answer 404 before it counts as gone (finding L2: caches are stale for up to 90 ms).
    pub missing_grace: Duration,
    /// How long to look for a run whose answer was lost, or that vanished, before concluding that it is not there
    /// (finding A2: a second PipelineRun of a build appears after about 5 s).
    pub search_window: Duration,
    /// How long a run may be without any change before Jenkins itself is asked (contract §7, stale guard).
    pub stale_after: Duration,
    /// The least time between two writes of a live log.
    pub log_interval: Duration,
    /// How long to try to bring a log home after the end of a run.
    pub collect_deadline: Duration,
    /// How long the finalizer tries to clean up on the remote.
    pub cleanup_deadline: Duration,
    /// How soon a stalled object is looked at again, for changes that are not watched.
    pub stalled_resync: Duration,
    /// How often a ready TenantConnection is looked at.
    pub connection_resync: Duration,
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            missing_grace: Duration::from_secs(3),
            search_window: Duration::from_secs(20),
            stale_after: Duration::from_secs(150),
            log_interval: Duration::from_secs(5),
            collect_deadline: Duration::from_secs(600),
            cleanup_deadline: Duration::from_secs(120),
            stalled_resync: Duration::from_secs(300),
            connection_resync: Duration::from_secs(300),
        }
    }
}
