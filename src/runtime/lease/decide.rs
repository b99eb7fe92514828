//! What to do about a Lease as it was seen. Pure: times are handed in, as times since boot of *this* machine. The times
//! that are written in a Lease are for people; another machine's clock is never compared with ours.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};

use super::LeaseTimes;

/// The Lease as it was last read, and since when it has stood like that by our own clock.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As it was read.
    pub lease: Lease,
    /// When this content was first seen.
    pub since: Duration,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: make it.
    Create,
    /// It is ours: renew it.
    Renew,
    /// It is free, or its holder has not renewed it for as long as it promised to.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// What `me` does about the Lease.
pub fn next_step(me: &str, seen: Option<&Seen>, own: &LeaseTimes, now: Duration) -> Step {
    let Some(seen) = seen else { return Step::Create };
    let spec = seen.lease.spec.as_ref();
    match spec
        .and_then(|s| s.holder_identity.as_deref())
        .unwrap_or_default()
    {
        "" => Step::Take,
        holder if holder == me => Step::Renew,
        _ => {
            let promised = spec
                .and_then(|s| s.lease_duration_seconds)
                .and_then(|s| u64::try_from(s).ok())
                .map_or(own.duration, Duration::from_secs);
            if now.saturating_sub(seen.since) > promised {
                Step::Take
            } else {
                Step::Wait
            }
        }
    }
}

/// Takes in a Lease that was just read: one whose content did not change has stood since it was first seen.
pub fn observe(before: Option<Seen>, lease: Lease, now: Duration) -> Seen {
    let since = match before {
        Some(seen) if seen.lease.metadata.uid == lease.metadata.uid && seen.lease.spec == lease.spec => {
            seen.since
        }
        _ => now,
    };
    Seen { lease, since }
}

/// The Lease that `me` holds from `now` on; in place of `old`, under its version.
pub fn held(me: &str, old: Option<&Lease>, name: &str, times: &LeaseTimes, now: Timestamp) -> Lease {
    let mut lease = old.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let before = lease.spec.take();
    let holder = before.as_ref().and_then(|s| s.holder_identity.as_deref());
    let renewal = holder == Some(me);
    let transitions = before.as_ref().and_then(|s| s.lease_transitions);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(i32::try_from(times.duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: if renewal {
            before.as_ref().and_then(|s| s.acquire_time.clone())
        } else {
            Some(MicroTime(now))
        },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(match (&before, renewal) {
            (None, _) => 0,
            (Some(_), true) => transitions.unwrap_or_default(),
            (Some(_), false) => transitions.unwrap_or_default().saturating_add(1),
        }),
        ..before.unwrap_or_default()
    });
    lease
}

/// The Lease without a holder, for the next to take at once.
pub fn released(old: &Lease, now: Timestamp) -> Lease {
    let mut lease = old.clone();
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    // As client-go writes it: one second, since zero is not valid.
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(holder: Option<&str>, seconds: Option<i32>) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some("tenantry".into()),
                uid: Some("u".into()),
                resource_version: Some("7".into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(Into::into),
                lease_duration_seconds: seconds,
                lease_transitions: Some(4),
                // Years away: nobody's wall clock counts.
                renew_time: Some(MicroTime(Timestamp::MAX)),
                ..LeaseSpec::default()
            }),
        }
    }

    fn seen(holder: Option<&str>, seconds: Option<i32>, since: u64) -> Seen {
        Seen {
            lease: lease(holder, seconds),
            since: SECOND * u32::try_from(since).unwrap(),
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_stood_still_for_as_long_as_its_holder_promised() {
        let own = LeaseTimes::default();
        let bare = Seen {
            lease: Lease::default(),
            since: SECOND,
        };
        let table = [
            (None, 100, Step::Create),
            (Some(bare), 1, Step::Take),
            (Some(seen(None, Some(15), 100)), 100, Step::Take),
            (Some(seen(Some(""), Some(1), 100)), 100, Step::Take),
            (Some(seen(Some("me"), Some(15), 100)), 100, Step::Renew),
            (Some(seen(Some("me"), Some(15), 100)), 900, Step::Renew),
            (Some(seen(Some("other"), Some(15), 100)), 100, Step::Wait),
            (Some(seen(Some("other"), Some(15), 100)), 115, Step::Wait),
            (Some(seen(Some("other"), Some(15), 100)), 116, Step::Take),
            // What it promised, not what we would.
            (Some(seen(Some("other"), Some(60), 100)), 159, Step::Wait),
            (Some(seen(Some("other"), Some(3), 100)), 104, Step::Take),
            (Some(seen(Some("other"), None, 100)), 115, Step::Wait),
            (Some(seen(Some("other"), Some(-5), 100)), 115, Step::Wait),
            // A name that begins like ours is not ours.
            (Some(seen(Some("me2"), Some(15), 100)), 101, Step::Wait),
        ];
        for (seen, now, step) in table {
            let now = SECOND * now;
            assert_eq!(
                next_step("me", seen.as_ref(), &own, now),
                step,
                "{seen:?} at {now:?}"
            );
        }
    }

    #[test]
    fn only_a_change_of_content_begins_the_wait_anew() {
        let first = observe(None, lease(Some("other"), Some(15)), SECOND);
        let mut same = lease(Some("other"), Some(15));
        same.metadata.resource_version = Some("8".into());
        let second = observe(Some(first), same, SECOND * 5);
        assert_eq!(second.since, SECOND, "only its metadata changed");
        let mut renewed = lease(Some("other"), Some(15));
        renewed.spec.as_mut().unwrap().renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        let third = observe(Some(second.clone()), renewed, SECOND * 6);
        assert_eq!(third.since, SECOND * 6, "renewed, even to a time long past");
        let mut another = second.lease.clone();
        another.metadata.uid = Some("v".into());
        assert_eq!(observe(Some(second), another, SECOND * 7).since, SECOND * 7);
    }

    #[test]
    fn what_is_written_keeps_the_version_and_counts_changes_of_holder() {
        let now = Timestamp::UNIX_EPOCH;
        let times = LeaseTimes::default();
        let write = |old: Option<&Lease>| held("me", old, "tenantry", &times, now);
        let spec = |lease: &Lease| lease.spec.clone().unwrap();

        let new = write(None);
        assert_eq!(new.metadata.name.as_deref(), Some("tenantry"));
        assert_eq!(spec(&new).lease_transitions, Some(0));

        let taken = write(Some(&lease(Some("other"), Some(60))));
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(spec(&taken).lease_transitions, Some(5));
        assert_eq!(spec(&taken).lease_duration_seconds, Some(15));
        assert_eq!(spec(&taken).acquire_time, Some(MicroTime(now)));

        let later = Timestamp::from_second(9).unwrap();
        let renewed = held("me", Some(&taken), "tenantry", &times, later);
        assert_eq!(spec(&renewed).lease_transitions, Some(5));
        assert_eq!(spec(&renewed).acquire_time, Some(MicroTime(now)));
        assert_eq!(spec(&renewed).renew_time, Some(MicroTime(later)));

        let free = released(&renewed, later);
        assert_eq!(spec(&free).holder_identity.as_deref(), Some(""));
        assert_eq!(free.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(spec(&write(Some(&free))).lease_transitions, Some(6));
    }
}
