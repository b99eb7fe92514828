//! What is counted, for Prometheus. Every label is of a closed set, but for the names of TenantConnections, of which at
//! most so many are shown as `sessions.rs` says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use super::{
    kind::{Kind, ObjectKey},
    labels::{PHASES, outcome_label, phase_is_final, phase_label},
    lease::LeaseMetrics,
    observed::ObservedMetrics,
    sessions::SessionMetrics,
};
use crate::{
    api::build_request::{BuildPhase, Outcome},
    gateway::{CallObserver, CallOutcome, Class, Grant, LoginOutcome, RouteClass},
};

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReconcileResult {
    /// All that could be done was done.
    Ok,
    /// Something that time may change stands in the way; the object says what.
    Waiting,
    /// Our own API server refused something or did not answer, or the reconcile could not go on.
    Error,
    /// Somebody else changed the object meanwhile.
    Conflict,
    /// It did not end within its time limit.
    TimedOut,
    /// A defect.
    Panic,
    /// The stored object does not parse.
    Invalid,
    /// The object was gone.
    Gone,
    /// A write was not sent because this process did not hold the lease any more.
    Fenced,
}

impl ReconcileResult {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Waiting,
        Self::Error,
        Self::Conflict,
        Self::TimedOut,
        Self::Panic,
        Self::Invalid,
        Self::Gone,
        Self::Fenced,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Waiting => "waiting",
            Self::Error => "error",
            Self::Conflict => "conflict",
            Self::TimedOut => "timed_out",
            Self::Panic => "panic",
            Self::Invalid => "invalid",
            Self::Gone => "gone",
            Self::Fenced => "fenced",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    route: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoginLabels {
    grant: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

/// What is counted. One per process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What is counted about the Lease.
    pub lease: LeaseMetrics,
    /// What is counted about the observers of projects.
    pub observed: ObservedMetrics,
    sessions: SessionMetrics,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_seconds: Family<KindLabel, Histogram, fn() -> Histogram>,
    scheduled: Family<KindLabel, Gauge>,
    running: Family<KindLabel, Gauge>,
    in_backoff: Family<KindLabel, Gauge>,
    watch_failures: Family<KindLabel, Counter>,
    events_dropped: Counter,
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
    call_wait: Family<ClassLabel, Histogram, fn() -> Histogram>,
    logins: Family<LoginLabels, Counter>,
    builds_ended: Family<OutcomeLabel, Counter>,
    builds_retried: Counter,
    builds: Family<PhaseLabel, Gauge>,
    unfinished: Mutex<HashMap<ObjectKey, BuildPhase>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tenantry"),
            lease: LeaseMetrics::default(),
            observed: ObservedMetrics::default(),
            sessions: SessionMetrics::default(),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.002, 2.0, 16))
            }),
            scheduled: Family::default(),
            running: Family::default(),
            in_backoff: Family::default(),
            watch_failures: Family::default(),
            events_dropped: Counter::default(),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.005, 2.0, 14))
            }),
            call_wait: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 4.0, 9))),
            logins: Family::default(),
            builds_ended: Family::default(),
            builds_retried: Counter::default(),
            builds: Family::default(),
            unfinished: Mutex::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let all = &mut self.registry;
        all.register(
            "build",
            "The version of tenantry",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        self.lease.register(all);
        self.observed.register(all);
        all.register(
            "reconciles",
            "Reconciles by kind and how they ended",
            self.reconciles.clone(),
        );
        all.register_with_unit(
            "reconcile_duration",
            "How long reconciles took",
            Unit::Seconds,
            self.reconcile_seconds.clone(),
        );
        all.register(
            "reconciles_scheduled",
            "Objects that wait for a reconcile, now or at a set time",
            self.scheduled.clone(),
        );
        all.register("reconciles_running", "Reconciles in flight", self.running.clone());
        all.register(
            "objects_in_backoff",
            "Objects whose last reconcile failed in passing and that wait for the next",
            self.in_backoff.clone(),
        );
        all.register(
            "watch_failures",
            "Failed lists and watches of our own API server",
            self.watch_failures.clone(),
        );
        all.register(
            "events_dropped",
            "Kubernetes Events that could not be written",
            self.events_dropped.clone(),
        );
        all.register(
            "remote_calls",
            "Requests to KubeSphere gateways by route class and outcome",
            self.calls.clone(),
        );
        all.register_with_unit(
            "remote_call_duration",
            "How long requests to KubeSphere gateways took, to the headers of the answer",
            Unit::Seconds,
            self.call_seconds.clone(),
        );
        all.register_with_unit(
            "remote_call_wait",
            "How long requests waited for the budget of their connection, by how urgent they are",
            Unit::Seconds,
            self.call_wait.clone(),
        );
        all.register(
            "logins",
            "Logins at KubeSphere gateways by grant and outcome",
            self.logins.clone(),
        );
        self.sessions.register(all);
        all.register(
            "builds_ended",
            "Runs that ended, by outcome",
            self.builds_ended.clone(),
        );
        all.register(
            "builds_retried",
            "Runs that were started because the one before failed",
            self.builds_retried.clone(),
        );
        all.register(
            "builds",
            "BuildRequests that are not finished, by phase",
            self.builds.clone(),
        );
    }

    /// All of it as OpenMetrics text.
    pub fn render(&self) -> String {
        self.count_unfinished();
        self.observed.count(tokio::time::Instant::now());
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A reconcile ended.
    pub fn reconciled(&self, kind: Kind, result: ReconcileResult, elapsed: Duration) {
        self.reconciles
            .get_or_create(&ReconcileLabels {
                kind: kind.as_str(),
                result: result.label(),
            })
            .inc();
        self.reconcile_seconds
            .get_or_create(&KindLabel { kind: kind.as_str() })
            .observe(elapsed.as_secs_f64());
    }

    /// How much of a kind is scheduled, runs, and waits after a failure.
    pub fn queue(&self, kind: Kind, scheduled: usize, running: usize, in_backoff: usize) {
        let label = KindLabel { kind: kind.as_str() };
        for (gauge, value) in [
            (&self.scheduled, scheduled),
            (&self.running, running),
            (&self.in_backoff, in_backoff),
        ] {
            gauge
                .get_or_create(&label)
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// A list or watch of our own API server failed.
    pub fn watch_failed(&self, kind: Kind) {
        self.watch_failures
            .get_or_create(&KindLabel { kind: kind.as_str() })
            .inc();
    }

    /// An Event could not be written.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A run ended, and its end was recorded. Once per run.
    pub fn build_ended(&self, outcome: Outcome) {
        let outcome = outcome_label(outcome);
        self.builds_ended.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A run is started because the one before failed.
    pub fn build_retried(&self) {
        self.builds_retried.inc();
    }

    /// The phase of a BuildRequest, each time it is looked at.
    pub fn build_phase(&self, key: &ObjectKey, phase: BuildPhase) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        if phase_is_final(phase) {
            unfinished.remove(key);
        } else {
            unfinished.insert(key.clone(), phase);
        }
    }

    /// A BuildRequest is gone.
    pub fn build_gone(&self, key: &ObjectKey) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        unfinished.remove(key);
    }

    fn count_unfinished(&self) {
        let mut counts: HashMap<&'static str, i64> = PHASES.iter().map(|p| (phase_label(*p), 0)).collect();
        for phase in self
            .unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            *counts.entry(phase_label(*phase)).or_default() += 1;
        }
        for (phase, count) in counts {
            self.builds.get_or_create(&PhaseLabel { phase }).set(count);
        }
    }

    /// Meters the calls of one connection.
    pub fn observer(self: &Arc<Self>, connection: &ObjectKey) -> Arc<dyn CallObserver> {
        Arc::new(ConnectionObserver {
            metrics: self.clone(),
            connection: connection.clone(),
        })
    }

    /// A connection is gone, or has no token any more.
    pub fn connection_gone(&self, connection: &ObjectKey) {
        self.sessions.gone(connection);
    }
}

struct ConnectionObserver {
    metrics: Arc<Metrics>,
    connection: ObjectKey,
}

impl CallObserver for ConnectionObserver {
    fn call(&self, route: RouteClass, outcome: CallOutcome, elapsed: Duration) {
        let route = route.label();
        self.metrics
            .calls
            .get_or_create(&CallLabels {
                route,
                outcome: outcome.label(),
            })
            .inc();
        self.metrics
            .call_seconds
            .get_or_create(&RouteLabel { route })
            .observe(elapsed.as_secs_f64());
    }

    fn waited(&self, class: Class, waited: Duration) {
        let class = class.label();
        self.metrics
            .call_wait
            .get_or_create(&ClassLabel { class })
            .observe(waited.as_secs_f64());
    }

    fn held_back(&self, held: bool) {
        self.metrics.sessions.held_back(&self.connection, held);
    }

    fn login(&self, grant: Grant, outcome: LoginOutcome) {
        self.metrics
            .logins
            .get_or_create(&LoginLabels {
                grant: grant.label(),
                outcome: outcome.label(),
            })
            .inc();
    }

    fn token(&self, expires_at: Option<Timestamp>) {
        self.metrics
            .sessions
            .token(&self.connection, Timestamp::now(), expires_at);
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
