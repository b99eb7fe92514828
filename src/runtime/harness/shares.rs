//! How many reconciles may be under way for one TenantConnection at a time: a gateway that answers slowly, or never, holds
//! up what goes through it and nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::runtime::kind::ObjectKey;

/// Reconciles that are under way, by the connection that they go through. All clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<Mutex<HashMap<ObjectKey, usize>>>);

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    shares: Shares,
    connection: ObjectKey,
}

/// How many of `concurrency` places one of `connections` may take: an equal part, and never all of them, so that another
/// one that comes later finds some free.
pub const fn share(concurrency: usize, connections: usize) -> usize {
    let equal = concurrency / if connections == 0 { 1 } else { connections };
    let most = concurrency - concurrency / 4;
    match if equal < most { equal } else { most } {
        0 => 1,
        share => share,
    }
}

impl Shares {
    /// A place for a reconcile through `connection`, where fewer than `share` are taken.
    pub fn enter(&self, connection: &ObjectKey, share: usize) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(connection.clone()).or_default();
        (*count < share).then(|| {
            *count += 1;
            Place {
                shares: self.clone(),
                connection: connection.clone(),
            }
        })
    }

    /// Whether any place of `connection` is taken, so that somebody will give one back.
    pub fn is_used(&self, connection: &ObjectKey) -> bool {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(connection).is_some_and(|count| *count > 0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shares.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.connection) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.connection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_never_gets_all_places_and_always_one() {
        for (concurrency, connections, want) in [
            (32, 0, 24),
            (32, 1, 24),
            (32, 2, 16),
            (32, 5, 6),
            (32, 100, 1),
            (4, 1, 3),
            (2, 1, 2),
            (1, 1, 1),
        ] {
            assert_eq!(
                share(concurrency, connections),
                want,
                "{connections} share {concurrency}"
            );
        }
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let (shares, one, other) = (
            Shares::default(),
            ObjectKey::new("team", "one"),
            ObjectKey::new("team", "other"),
        );
        let first = shares.enter(&one, 2).expect("a place");
        let _second = shares.enter(&one, 2).expect("a place");
        assert!(shares.enter(&one, 2).is_none());
        assert!(shares.enter(&other, 2).is_some());
        drop(first);
        assert!(shares.is_used(&one) && !shares.is_used(&other));
        assert!(shares.enter(&one, 2).is_some());
    }
}
