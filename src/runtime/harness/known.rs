//! Which objects there are, and whether one changed in what matters. Pure.

use std::collections::HashMap;

use crate::runtime::{glimpse::Glimpse, kind::ObjectKey, settled::Settled, watches::Seen};

/// Which objects of a kind there are.
#[derive(Debug, Default)]
pub struct Known {
    objects: HashMap<ObjectKey, Mark>,
    rounds: HashMap<usize, u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Mark {
    fingerprint: u64,
    shard: usize,
    /// The listing in which it was last told.
    round: u64,
    /// How many ConfigMaps it holds, where it says that it is finished.
    settled: Option<u32>,
}

/// What a sighting means.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// New, or changed in what matters.
    Changed(ObjectKey),
    /// It is finished, and was not known before or said so not yet: there is nothing to do, or not before that time.
    Settled(ObjectKey, Settled),
    /// No longer there.
    Gone(ObjectKey),
}

impl Known {
    /// Takes in what the watch `shard` saw, and says what is new in it.
    pub fn learn(&mut self, shard: usize, seen: Seen) -> Vec<News> {
        let round = self.rounds.entry(shard).or_default();
        match seen {
            Seen::Relisting => {
                *round += 1;
                Vec::new()
            }
            Seen::Object(Glimpse {
                key,
                fingerprint,
                settled,
                ..
            }) => {
                let mark = Mark {
                    fingerprint,
                    shard,
                    round: *round,
                    settled: settled.map(|settled| settled.holds),
                };
                let before = self.objects.insert(key.clone(), mark);
                let same = before.as_ref().is_some_and(|b| b.fingerprint == fingerprint);
                let was_settled = before.is_some_and(|b| b.settled.is_some());
                match settled {
                    // Somebody took the mark away: he wants it to be looked at.
                    None if same && !was_settled => Vec::new(),
                    None => vec![News::Changed(key)],
                    Some(_) if same && was_settled => Vec::new(),
                    Some(settled) => vec![News::Settled(key, settled)],
                }
            }
            Seen::Gone(Glimpse { key, .. }) => {
                self.objects.remove(&key);
                vec![News::Gone(key)]
            }
            Seen::Relisted => {
                let round = *round;
                self.objects
                    .extract_if(|_, mark| mark.shard == shard && mark.round < round)
                    .map(|(key, _)| News::Gone(key))
                    .collect()
            }
        }
    }

    /// Whether there is such an object, and it says that it is finished.
    pub fn is_settled(&self, key: &ObjectKey) -> bool {
        self.objects.get(key).is_some_and(|mark| mark.settled.is_some())
    }

    /// The finished objects of a shard that hold more ConfigMaps than there are of them.
    pub fn lacking(&self, shard: usize, there: &HashMap<ObjectKey, u32>) -> Vec<ObjectKey> {
        let lacks = |(key, mark): &(&ObjectKey, &Mark)| {
            mark.shard == shard && mark.settled > there.get(*key).copied().or(Some(0))
        };
        let lacking = self.objects.iter().filter(lacks);
        lacking.map(|(key, _)| key.clone()).collect()
    }

    /// Whether there is such an object.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.objects.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("team", name)
    }

    fn glimpse(name: &str, fingerprint: u64) -> Glimpse {
        Glimpse {
            key: key(name),
            fingerprint,
            owner: None,
            touched: false,
            settled: None,
        }
    }

    fn holding(name: &str, fingerprint: u64, holds: u32) -> Seen {
        Seen::Object(Glimpse {
            settled: Some(Settled { until: None, holds }),
            ..glimpse(name, fingerprint)
        })
    }

    fn settled(name: &str, fingerprint: u64) -> Seen {
        holding(name, fingerprint, 0)
    }

    #[test]
    fn who_lacks_what_it_holds_is_told() {
        let mut known = Known::default();
        for (shard, name, holds) in [(0, "none", 0), (0, "one", 1), (0, "two", 2), (1, "elsewhere", 1)] {
            known.learn(shard, holding(name, 1, holds));
        }
        known.learn(0, object("busy", 1));
        let lacking = |there: &[(&str, u32)]| {
            let there = there.iter().map(|(name, count)| (key(name), *count)).collect();
            let mut lacking = known.lacking(0, &there);
            lacking.sort();
            lacking.into_iter().map(|key| key.name).collect::<Vec<_>>()
        };
        assert_eq!(lacking(&[]), ["one", "two"]);
        assert_eq!(lacking(&[("one", 1), ("two", 1)]), ["two"]);
        assert!(lacking(&[("one", 1), ("two", 3)]).is_empty());
    }

    fn object(name: &str, fingerprint: u64) -> Seen {
        Seen::Object(glimpse(name, fingerprint))
    }

    #[test]
    fn only_what_matters_is_news() {
        let mut known = Known::default();
        assert_eq!(known.learn(0, object("a", 1)), [News::Changed(key("a"))]);
        assert_eq!(known.learn(0, object("a", 1)), [], "a write of status");
        assert_eq!(known.learn(0, object("a", 2)), [News::Changed(key("a"))]);
        assert_eq!(
            known.learn(0, Seen::Gone(glimpse("a", 2))),
            [News::Gone(key("a"))]
        );
        assert_eq!(
            known.learn(0, object("a", 2)),
            [News::Changed(key("a"))],
            "made again"
        );
    }

    #[test]
    fn what_is_finished_is_no_work_until_it_changes_or_loses_its_mark() {
        let mut known = Known::default();
        let rests = || vec![News::Settled(key("a"), Settled::default())];
        assert_eq!(known.learn(0, settled("a", 1)), rests(), "found so");
        assert!(known.is_settled(&key("a")));
        assert_eq!(known.learn(0, settled("a", 1)), []);
        assert_eq!(known.learn(0, object("a", 2)), [News::Changed(key("a"))], "stale");
        assert!(!known.is_settled(&key("a")));
        assert_eq!(known.learn(0, object("a", 2)), []);
        assert_eq!(known.learn(0, settled("a", 2)), rests(), "marked");
        assert_eq!(
            known.learn(0, object("a", 2)),
            [News::Changed(key("a"))],
            "taken away"
        );
        assert_eq!(
            known.learn(0, settled("a", 3)),
            rests(),
            "changed and marked at once"
        );
    }

    #[test]
    fn what_a_new_listing_lacks_is_gone_but_only_in_its_own_shard() {
        let mut known = Known::default();
        for (shard, name) in [(0, "a"), (0, "b"), (1, "c")] {
            known.learn(shard, Seen::Relisting);
            known.learn(shard, object(name, 1));
        }
        assert_eq!(
            known.learn(0, Seen::Relisted),
            [News::Gone(key("a"))],
            "told in the listing before"
        );
        known.learn(0, Seen::Relisting);
        assert_eq!(known.learn(0, object("b", 1)), [], "told again, and unchanged");
        assert_eq!(known.learn(0, Seen::Relisted), []);
        assert!(known.contains(&key("b")) && known.contains(&key("c")) && !known.contains(&key("a")));
    }
}
