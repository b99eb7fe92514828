//! What is counted about the observers of projects.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RungLabel {
    rung: &'static str,
}

/// How one observer stands.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The rung that it stands on.
    pub rung: &'static str,
    /// How many builds it looks after.
    pub followers: usize,
    /// When the remote last told it how things are.
    pub heard: Instant,
}

/// What is counted about the observers of projects.
#[derive(Debug, Default)]
pub struct ObservedMetrics {
    observers: Family<RungLabel, Gauge>,
    followers: Family<RungLabel, Gauge>,
    age: Family<RungLabel, Gauge<f64, AtomicU64>>,
    all: Mutex<HashMap<u64, Told>>,
}

/// What is kept and not asked for: an observer that looks after nobody by itself has nothing that could be old.
const ALONE: &str = "alone";

impl ObservedMetrics {
    pub(crate) fn register(&self, all: &mut Registry) {
        all.register(
            "observers",
            "Projects whose runs are observed, by how that is done",
            self.observers.clone(),
        );
        all.register(
            "observed_builds",
            "BuildRequests whose runs are observed, by how that is done",
            self.followers.clone(),
        );
        all.register_with_unit(
            "observer_age",
            "How long ago the remote last told the observer that waits longest how the runs of its project are",
            Unit::Seconds,
            self.age.clone(),
        );
    }

    /// How the observer of this number stands.
    pub fn tell(&self, number: u64, told: Told) {
        self.lock().insert(number, told);
    }

    /// The observer of this number has ended.
    pub fn gone(&self, number: u64) {
        self.lock().remove(&number);
    }

    /// Brings the gauges up to date.
    pub(crate) fn count(&self, now: Instant) {
        let all = self.lock();
        for gauge in [&self.observers, &self.followers] {
            gauge.clear();
        }
        self.age.clear();
        for told in all.values() {
            let label = RungLabel { rung: told.rung };
            self.observers.get_or_create(&label).inc();
            self.followers
                .get_or_create(&label)
                .inc_by(i64::try_from(told.followers).unwrap_or(i64::MAX));
            if told.rung != ALONE {
                let age = now.saturating_duration_since(told.heard).as_secs_f64();
                let oldest = self.age.get_or_create(&label);
                oldest.set(oldest.get().max(age));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Told>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_gauges_show_the_observers_that_there_are() {
        let metrics = ObservedMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let heard = Instant::now();
        let now = heard + Duration::from_secs(7);
        for (number, rung, followers, heard) in [
            (1, "watch", 20, heard),
            (2, "watch", 3, now),
            (3, ALONE, 1, heard),
        ] {
            let told = Told {
                rung,
                followers,
                heard,
            };
            metrics.tell(number, told);
        }
        let shown = || {
            metrics.count(now);
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let mut lines: Vec<_> = text
                .lines()
                .filter(|l| !l.starts_with('#'))
                .map(str::to_owned)
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(
            shown(),
            [
                r#"observed_builds{rung="alone"} 1"#,
                r#"observed_builds{rung="watch"} 23"#,
                r#"observer_age_seconds{rung="watch"} 7.0"#,
                r#"observers{rung="alone"} 1"#,
                r#"observers{rung="watch"} 2"#,
            ]
        );
        for number in 1..=3 {
            metrics.gone(number);
        }
        assert_eq!(shown(), [""; 0]);
    }
}
