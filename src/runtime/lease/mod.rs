//! One of several replicas acts, and the others stand by: a Lease says which, and a [`Fence`] stops the writes of one that
//! has lost it.
//!
//! | file | what is in it |
//! |---|---|
//! | `decide.rs` | pure: what to do about a Lease as it was seen, and by when the right to write ends |
//! | `elector.rs` | reads and writes the Lease; the rules of client-go's `leaderelection` |
//! | `fence.rs` | "may I write now?", asked before each write to Kubernetes and to the gateway |
//! | `metrics.rs` | what is counted about it |
//! | `clock.rs` | the clock that both go by: it goes on while the process or the machine is suspended |
//!
//! # Why no crate
//! Four crates offer this, and none could be used when this was written (November 2026):
//! - `kube-lease-manager` 0.13 is the only one for kube 5. It takes over an expired Lease by a forced patch without a
//!   `resourceVersion`: of two replicas that see it expire, the later one erases the Lease of the earlier, and both lead.
//!   Its holder is not told when it cannot renew (the channel keeps saying `true`, and no request has a time limit), it
//!   compares wall clocks of different machines, and a replica that stands by sleeps to the end of a Lease that was
//!   released long before.
//! - `kube-leader-election` 0.44 is for kube 4, takes over by a merge patch without `resourceVersion`, and says itself that
//!   it only fits where two leaders at a time are tolerable.
//! - `kubert` 0.25 writes under the version that it read, but is for kube 1.1: a second Kubernetes client in the binary.
//! - `kube-coordinate` 2.0.0-rc.0 is for kube 2, and a release candidate.
//!
//! What is here is small because `kube` does the requests and the API server the compare-and-swap.

mod clock;
mod decide;
mod elector;
mod fence;
mod metrics;

pub use elector::{Elector, LeasePlace};
pub use fence::{Fence, Fenced};
pub use metrics::LeaseMetrics;

use std::time::Duration;

/// The times of a Lease, as in client-go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long others wait after the last renewal that they saw. In whole seconds in the Lease.
    pub duration: Duration,
    /// How long after a renewal was *sent* its sender may write. What is left of `duration` then is the margin for a
    /// write that is on its way, and for clocks that go at different rates.
    pub renew_deadline: Duration,
    /// How often the holder renews, and the others look.
    pub retry_period: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl LeaseTimes {
    /// Says what is wrong with times that cannot work.
    pub fn check(self) -> Result<Self, String> {
        let Self {
            duration,
            renew_deadline,
            retry_period,
        } = self;
        if duration.subsec_nanos() != 0 || duration.is_zero() || duration.as_secs() > 3600 {
            return Err("the lease duration must be whole seconds, from 1s to 1h".into());
        }
        if renew_deadline >= duration {
            return Err("the renew deadline must be less than the lease duration".into());
        }
        if retry_period.is_zero() || retry_period * 2 > renew_deadline {
            return Err(
                "the retry period must be more than zero and at most half of the renew deadline".into(),
            );
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_let_two_lead_or_leave_no_second_try_are_refused() {
        let times = |duration, renew_deadline, retry_period| {
            LeaseTimes {
                duration: Duration::from_millis(duration),
                renew_deadline: Duration::from_millis(renew_deadline),
                retry_period: Duration::from_millis(retry_period),
            }
            .check()
        };
        assert!(LeaseTimes::default().check().is_ok());
        assert!(times(3000, 2000, 500).is_ok());
        for (bad, why) in [
            (times(3500, 2000, 500), "whole seconds"),
            (times(0, 0, 0), "whole seconds"),
            (times(7_200_000, 2000, 500), "1h"),
            (times(3000, 3000, 500), "less than the lease duration"),
            (times(3000, 2000, 0), "more than zero"),
            (times(3000, 2000, 1001), "at most half"),
        ] {
            assert!(bad.as_ref().is_err_and(|e| e.contains(why)), "{bad:?}: {why}");
        }
    }
}
