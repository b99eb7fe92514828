//! What is counted about the Lease.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    target: &'static str,
}

/// What is counted about the Lease. Without `--leader-elect`, this process leads all the time.
#[derive(Debug, Default)]
pub struct LeaseMetrics {
    leader: Gauge,
    transitions: Gauge,
    failures: Counter,
    fenced: Family<TargetLabel, Counter>,
}

impl LeaseMetrics {
    pub(crate) fn register(&self, all: &mut Registry) {
        all.register(
            "leader",
            "1 where this process acts, 0 where it stands by",
            self.leader.clone(),
        );
        all.register(
            "lease_transitions",
            "How often the lease went to another holder, as it says itself",
            self.transitions.clone(),
        );
        all.register(
            "lease_failures",
            "Times that the lease could not be read or written",
            self.failures.clone(),
        );
        all.register(
            "fenced_writes",
            "Writes that were not sent because this process did not hold the lease",
            self.fenced.clone(),
        );
    }

    /// Whether this process acts.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// How often the Lease went to another holder.
    pub fn transitions(&self, count: i64) {
        self.transitions.set(count);
    }

    /// The Lease could not be read or written.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// A write to `target` was not sent.
    pub fn write_fenced(&self, target: &'static str) {
        self.fenced.get_or_create(&TargetLabel { target }).inc();
    }
}
