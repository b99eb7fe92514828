//! What every reconcile may use.

use std::{sync::Arc, time::Duration};

use super::{
    Connections,
    fetch_jobs::{Fetcher, Pauses},
};
use crate::gateway::{SessionPolicy, TimeLimits};
use crate::observer;
use crate::runtime::{
    Shard,
    backoff::{BackoffPolicy, Backoffs},
    events::Announcer,
    metrics::Metrics,
};

/// What every reconcile may use. One per process.
pub struct Context {
    /// Our own cluster. Default retries are off; every call is bounded in time.
    pub client: kube::Client,
    /// The gateways, one per TenantConnection.
    pub connections: Connections,
    /// Writes Events.
    pub announcer: Announcer,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Failures in a row, per object.
    pub backoffs: Backoffs,
    /// How the Jobs are run that fill volumes.
    pub fetcher: Fetcher,
    /// Which objects of our kinds this process looks after.
    pub shard: Shard,
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
    /// How often the pod of a fetch Job is looked at, and its progress told.
    pub fetch_interval: Duration,
    /// How long the pod of a fetch Job may fail to start before a person is asked to look.
    pub pod_deadline: Duration,
    /// How long to try to bring a log home after the end of a run.
    pub collect_deadline: Duration,
    /// How long the finalizer tries to clean up on the remote.
    pub cleanup_deadline: Duration,
    /// How soon a stalled object is looked at again, for changes that are not watched.
    pub stalled_resync: Duration,
    /// How often a ready TenantConnection is looked at.
    pub connection_resync: Duration,
    /// No login before this passed after a refusal: the tenant's own lockout is at stake (contract §1.2).
    pub refused_pause: Duration,
    /// No login before this passed after a lockout.
    pub lockout_pause: Duration,
    /// How long the gateway may take to answer a request, other than one for bytes.
    pub answer_limit: Duration,
    /// How long a watch of our own cluster, or of a gateway, lives; one that says nothing for 5 s longer is taken for dead and begun anew.
    pub watch_life: Duration,
    /// How long a build whose run is observed may go without a look of its own, at the longest.
    pub quiet_look: Duration,
    /// The pause after the first failure; it doubles with each further one.
    pub backoff_first: Duration,
    /// The longest pause after failures (design §3.5).
    pub backoff_cap: Duration,
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            missing_grace: Duration::from_secs(3),
            search_window: Duration::from_secs(20),
            stale_after: Duration::from_secs(150),
            log_interval: Duration::from_secs(5),
            fetch_interval: Duration::from_secs(5),
            pod_deadline: Duration::from_secs(600),
            collect_deadline: Duration::from_secs(600),
            cleanup_deadline: Duration::from_secs(120),
            stalled_resync: Duration::from_secs(300),
            connection_resync: Duration::from_secs(300),
            refused_pause: SessionPolicy::default().refused_backoff,
            lockout_pause: SessionPolicy::default().lockout_window,
            answer_limit: TimeLimits::default().json,
            watch_life: Duration::from_secs(110),
            quiet_look: Duration::from_secs(300),
            backoff_first: BackoffPolicy::default().first,
            backoff_cap: BackoffPolicy::default().cap,
        }
    }
}

impl Tunables {
    /// What a session does after a refused login.
    pub fn session_policy(&self) -> SessionPolicy {
        SessionPolicy {
            lockout_window: self.lockout_pause,
            refused_backoff: self.refused_pause,
            ..SessionPolicy::default()
        }
    }

    /// How long the gateway may take for what.
    pub fn time_limits(&self) -> TimeLimits {
        TimeLimits {
            json: self.answer_limit,
            ..TimeLimits::default()
        }
    }

    /// How long the observers of runs wait for what.
    pub fn observer_times(&self) -> observer::Times {
        observer::Times {
            watch_life: self.watch_life,
            grace: Duration::from_secs(5),
            quiet: self.quiet_look,
        }
    }

    /// How long to wait after fetch Jobs that failed.
    pub fn pauses(&self) -> Pauses {
        Pauses {
            first: self.backoff_first,
            cap: self.backoff_cap,
            person: self.stalled_resync,
        }
    }

    /// Sets one time by its name in the command line, like `missing-grace`. Says which there are where there is none of
    /// that name.
    pub fn set(&mut self, name: &str, value: Duration) -> Result<(), String> {
        let Self {
            missing_grace,
            search_window,
            stale_after,
            log_interval,
            fetch_interval,
            pod_deadline,
            collect_deadline,
            cleanup_deadline,
            stalled_resync,
            connection_resync,
            refused_pause,
            lockout_pause,
            answer_limit,
            watch_life,
            quiet_look,
            backoff_first,
            backoff_cap,
        } = self;
        let all = [
            ("missing-grace", missing_grace),
            ("search-window", search_window),
            ("stale-after", stale_after),
            ("log-interval", log_interval),
            ("fetch-interval", fetch_interval),
            ("pod-deadline", pod_deadline),
            ("collect-deadline", collect_deadline),
            ("cleanup-deadline", cleanup_deadline),
            ("stalled-resync", stalled_resync),
            ("connection-resync", connection_resync),
            ("refused-pause", refused_pause),
            ("lockout-pause", lockout_pause),
            ("answer-limit", answer_limit),
            ("watch-life", watch_life),
            ("quiet-look", quiet_look),
            ("backoff-first", backoff_first),
            ("backoff-cap", backoff_cap),
        ];
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        match all.into_iter().find(|(known, _)| *known == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => Err(format!(
                "no time is named {name:?}; there are {}",
                names.join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_set_by_its_name() {
        let mut tunables = Tunables::default();
        tunables.set("log-interval", Duration::from_millis(5)).unwrap();
        let expected = Tunables {
            log_interval: Duration::from_millis(5),
            ..Tunables::default()
        };
        assert_eq!(tunables, expected);
        let refused = tunables.set("log", Duration::ZERO).unwrap_err();
        assert!(refused.contains("log-interval"), "{refused}");
    }
}
