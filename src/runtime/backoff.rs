//! Failures in a row, per object, and how long to wait after so many of them.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::kind::{Kind, ObjectKey};

/// How long to wait after how many failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// After the first failure.
    pub first: Duration,
    /// At most; design §3.5 says ten minutes.
    pub cap: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            cap: Duration::from_secs(600),
        }
    }
}

impl BackoffPolicy {
    /// The wait after `failures` in a row: doubled each time up to the cap, and somewhere in the upper half of that, as
    /// `spread` (0 to 1) says, so that many objects do not return at once.
    pub fn delay(&self, failures: u32, spread: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let full = self.first.saturating_mul(1 << doublings).min(self.cap);
        full.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0)
    }
}

/// Failures in a row, per object. All clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Backoffs(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    policy: BackoffPolicy,
    failures: Mutex<HashMap<Kind, HashMap<ObjectKey, u32>>>,
    random: RandomState,
}

impl Backoffs {
    /// Nothing has failed yet.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self(Arc::new(Inner {
            policy,
            ..Inner::default()
        }))
    }

    /// One more failure: how long to wait now.
    pub fn fail(&self, kind: Kind, key: &ObjectKey) -> Duration {
        let mut all = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.entry(kind).or_default().entry(key.clone()).or_insert(0);
        *failures = failures.saturating_add(1);
        let random = u32::try_from(self.0.random.hash_one((key, &failures)) >> 32).unwrap_or(0);
        self.0
            .policy
            .delay(*failures, f64::from(random) / f64::from(u32::MAX))
    }

    /// It worked, or something changed, or it is gone: the next failure is the first.
    pub fn reset(&self, kind: Kind, key: &ObjectKey) {
        let mut all = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_kind) = all.get_mut(&kind) {
            of_kind.remove(key);
        }
    }

    /// Failures in a row.
    pub fn failures(&self, kind: Kind, key: &ObjectKey) -> u32 {
        let all = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&kind).and_then(|a| a.get(key)).copied().unwrap_or(0)
    }

    /// How many objects of a kind are waiting after a failure: the gauge.
    pub fn waiting(&self, kind: Kind) -> usize {
        let all = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&kind).map_or(0, HashMap::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_doubles_up_to_ten_minutes() {
        let policy = BackoffPolicy::default();
        for (failures, longest) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (5, 16),
            (10, 512),
            (11, 600),
            (1000, 600),
            (u32::MAX, 600),
        ] {
            let longest = Duration::from_secs(longest);
            assert_eq!(policy.delay(failures, 1.0), longest, "{failures} failures");
            assert_eq!(policy.delay(failures, 0.0), longest / 2, "{failures} failures");
        }
    }

    #[test]
    fn each_object_counts_for_itself_and_starts_anew_after_a_success() {
        let backoffs = Backoffs::default();
        let (a, b) = (ObjectKey::new("n", "a"), ObjectKey::new("n", "b"));
        for _ in 0..4 {
            backoffs.fail(Kind::BuildRequest, &a);
        }
        assert_eq!(backoffs.failures(Kind::BuildRequest, &a), 4);
        assert_eq!(
            backoffs.failures(Kind::ArtifactFetch, &a),
            0,
            "another kind of the same name"
        );
        assert!(backoffs.fail(Kind::BuildRequest, &b) <= SECOND);
        assert_eq!(backoffs.waiting(Kind::BuildRequest), 2);
        backoffs.reset(Kind::BuildRequest, &a);
        assert_eq!(backoffs.waiting(Kind::BuildRequest), 1);
        assert!(backoffs.fail(Kind::BuildRequest, &a) <= SECOND);
    }
}
