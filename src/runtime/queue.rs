//! What is due when: each key at most once, the earliest wish wins, never two at a time. Pure; the clock is handed in.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
};

use tokio::time::Instant;

/// Keys and when they are due.
#[derive(Debug)]
pub struct WorkQueue<K> {
    /// By time, then by the order in which they came.
    due: BTreeMap<(Instant, u64), K>,
    slots: HashMap<K, (Instant, u64)>,
    running: HashSet<K>,
    arrivals: u64,
}

impl<K> Default for WorkQueue<K> {
    fn default() -> Self {
        Self {
            due: BTreeMap::new(),
            slots: HashMap::new(),
            running: HashSet::new(),
            arrivals: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// Wishes `key` to be taken at `at`, or earlier where that is wished already. A key that is running is taken again
    /// after it is [`done`](Self::done).
    pub fn push(&mut self, key: K, at: Instant) {
        match self.slots.get(&key) {
            Some((earlier, _)) if *earlier <= at => return,
            Some(slot) => {
                self.due.remove(slot);
            }
            None => {}
        }
        self.arrivals += 1;
        let slot = (at, self.arrivals);
        self.due.insert(slot, key.clone());
        self.slots.insert(key, slot);
    }

    /// The first key that is due at `now` and not running; from now on it is.
    pub fn take(&mut self, now: Instant) -> Option<K> {
        let (slot, _) = self
            .due
            .range(..=(now, u64::MAX))
            .find(|(_, key)| !self.running.contains(key))?;
        let slot = *slot;
        let key = self.due.remove(&slot)?;
        self.slots.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// `key` no longer runs.
    pub fn done(&mut self, key: &K) {
        self.running.remove(key);
    }

    /// Nothing is wished of `key` any more.
    pub fn forget(&mut self, key: &K) {
        if let Some(slot) = self.slots.remove(key) {
            self.due.remove(&slot);
        }
    }

    /// When [`take`](Self::take) has something next, if nothing changes.
    pub fn next_due(&self) -> Option<Instant> {
        self.due
            .iter()
            .find(|(_, key)| !self.running.contains(key))
            .map(|((at, _), _)| *at)
    }

    /// How many keys wait, for now or for a later time.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_earliest_wish_wins() {
        let now = Instant::now();
        let mut queue = WorkQueue::default();
        queue.push("a", now + 5 * SECOND);
        queue.push("a", now + 9 * SECOND);
        assert_eq!(queue.next_due(), Some(now + 5 * SECOND));
        queue.push("a", now);
        assert_eq!(queue.take(now), Some("a"));
        queue.done(&"a");
        assert_eq!(
            queue.take(now + 99 * SECOND),
            None,
            "a wish is granted once, whenever it was due"
        );
    }

    #[test]
    fn first_come_first_served() {
        let now = Instant::now();
        let mut queue = WorkQueue::default();
        for key in ["b", "a", "c"] {
            queue.push(key, now);
        }
        assert_eq!(queue.len(), 3);
        let order: Vec<_> = std::iter::from_fn(|| queue.take(now)).collect();
        assert_eq!(order, ["b", "a", "c"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_running_key_waits_until_it_is_done() {
        let now = Instant::now();
        let mut queue = WorkQueue::default();
        queue.push("a", now);
        assert_eq!(queue.take(now), Some("a"));
        queue.push("a", now);
        queue.push("b", now + SECOND);
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.next_due(), Some(now + SECOND), "not the one that runs");
        queue.done(&"a");
        assert_eq!(queue.take(now), Some("a"));
    }

    #[test]
    fn a_forgotten_key_is_not_taken() {
        let now = Instant::now();
        let mut queue = WorkQueue::default();
        queue.push("a", now);
        queue.forget(&"a");
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.next_due(), None);
    }
}
