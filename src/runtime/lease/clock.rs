//! Time since boot, the time of suspension included. `Instant` is `CLOCK_MONOTONIC`, which stands still while the machine
//! is suspended: a replica that wakes up would take its Lease for fresh.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Now, as the time since boot.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // It is never negative, and the nanoseconds are always below a second.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
