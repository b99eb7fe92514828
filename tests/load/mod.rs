//! Many builds at once, for the soak and the benches: what a watch sees of them, what the operator takes meanwhile, and
//! the load itself. The suites' stage (`tests/common`) is the ground; figures are reported by `tests/support`.
#![allow(dead_code)] // each driver uses its part

pub mod bill;
pub mod crowd;
pub mod finished;
pub mod gauges;
pub mod life;
pub mod seen;
pub mod soak;
pub mod tally;

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, as in the simulator's ledger.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds as seconds.
#[allow(clippy::cast_precision_loss)] // no time between two moments is that long
pub fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// A count as a figure.
#[allow(clippy::cast_precision_loss)] // no bench counts to 2^52
pub fn count(n: usize) -> f64 {
    n as f64
}
