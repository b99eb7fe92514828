//! What is counted about the TenantConnections, by name; of at most `MAX_CONNECTIONS`.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
};

use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::kind::ObjectKey;

/// Connections that are shown; further ones are not.
pub(super) const MAX_CONNECTIONS: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    namespace: String,
    connection: String,
}

impl Labels {
    fn of(connection: &ObjectKey) -> Self {
        Self {
            namespace: connection.namespace.clone(),
            connection: connection.name.clone(),
        }
    }
}

type Seconds = Gauge<f64, AtomicU64>;

/// What is counted about the TenantConnections.
#[derive(Debug, Default)]
pub struct SessionMetrics {
    expires: Family<Labels, Seconds>,
    issued: Family<Labels, Seconds>,
    held_back: Family<Labels, Gauge>,
    shown: Mutex<HashSet<Labels>>,
}

impl SessionMetrics {
    pub(crate) fn register(&self, all: &mut Registry) {
        all.register_with_unit(
            "token_expiry_timestamp",
            "When the current token of a connection ends, as Unix time",
            Unit::Seconds,
            self.expires.clone(),
        );
        all.register_with_unit(
            "token_issued_timestamp",
            "When the current token of a connection was issued, as Unix time",
            Unit::Seconds,
            self.issued.clone(),
        );
        all.register(
            "connection_held_back",
            "Whether nothing is sent through a connection, because its gateway wants to be left alone or is not there",
            self.held_back.clone(),
        );
    }

    /// A token was issued now; it ends then, where that is known.
    pub(super) fn token(&self, connection: &ObjectKey, issued: Timestamp, expires: Option<Timestamp>) {
        let Some(labels) = self.shown(connection) else {
            return;
        };
        self.issued.get_or_create(&labels).set(unix(issued));
        match expires {
            Some(expires) => {
                self.expires.get_or_create(&labels).set(unix(expires));
            }
            None => {
                self.expires.remove(&labels);
            }
        }
    }

    /// Whether nothing is sent.
    pub(super) fn held_back(&self, connection: &ObjectKey, held: bool) {
        if let Some(labels) = self.shown(connection) {
            self.held_back.get_or_create(&labels).set(i64::from(held));
        }
    }

    /// A connection is gone, or has no token any more.
    pub(super) fn gone(&self, connection: &ObjectKey) {
        let labels = Labels::of(connection);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.remove(&labels);
        self.expires.remove(&labels);
        self.issued.remove(&labels);
        self.held_back.remove(&labels);
    }

    /// The labels of a connection that is shown.
    fn shown(&self, connection: &ObjectKey) -> Option<Labels> {
        let labels = Labels::of(connection);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !shown.contains(&labels) {
            if shown.len() >= MAX_CONNECTIONS {
                return None;
            }
            shown.insert(labels.clone());
        }
        Some(labels)
    }
}

fn unix(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}
