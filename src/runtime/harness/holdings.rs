//! Whether all ConfigMaps of finished objects are still there after a start: nobody tells of a deletion that happened while
//! no operator was there. Counted while both kinds are listed for the first time, and forgotten then. Pure.

use std::collections::{HashMap, HashSet};

use crate::runtime::{kind::ObjectKey, watches::Seen};

/// What the first listings tell, by shard.
#[derive(Debug, Default)]
pub struct Holdings {
    counts: HashMap<usize, HashMap<ObjectKey, u32>>,
    owners: HashSet<usize>,
    maps: HashSet<usize>,
}

impl Holdings {
    /// The watch of the owners saw this. The counts of its shard, where that was the last that was missing.
    pub fn owners(&mut self, shard: usize, seen: &Seen) -> Option<HashMap<ObjectKey, u32>> {
        let first = *seen == Seen::Relisted && self.owners.insert(shard);
        (first && self.maps.contains(&shard)).then(|| self.counts.remove(&shard).unwrap_or_default())
    }

    /// Whether the ConfigMaps of a shard are not all told yet for the first time.
    pub fn counts(&self, shard: usize) -> bool {
        !self.maps.contains(&shard)
    }

    /// The watch of ConfigMaps saw this, of this owner where it is one of ours. The same.
    pub fn maps(
        &mut self,
        shard: usize,
        seen: &Seen,
        owner: Option<&ObjectKey>,
    ) -> Option<HashMap<ObjectKey, u32>> {
        match seen {
            _ if self.maps.contains(&shard) => None,
            Seen::Relisting => {
                self.counts.remove(&shard);
                None
            }
            Seen::Relisted => {
                self.maps.insert(shard);
                let ready = self.owners.contains(&shard);
                ready.then(|| self.counts.remove(&shard).unwrap_or_default())
            }
            Seen::Object(_) => {
                if let Some(owner) = owner {
                    let counts = self.counts.entry(shard).or_default();
                    *counts.entry(owner.clone()).or_default() += 1;
                }
                None
            }
            Seen::Gone(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::harness::bench::{glimpse, key};

    #[test]
    fn the_counts_are_told_once_when_both_are_listed() {
        let map = Seen::Object(glimpse("map", 1));
        let owner = key("a");
        for owners_first in [true, false] {
            let mut holdings = Holdings::default();
            if owners_first {
                assert_eq!(holdings.owners(0, &Seen::Relisted), None);
            }
            // A listing that broke off counts for nothing.
            for seen in [&map, &Seen::Relisting, &map, &map] {
                assert_eq!(holdings.maps(0, seen, Some(&owner)), None);
            }
            assert_eq!(holdings.maps(0, &map, None), None, "somebody else's");
            let counts = Some(HashMap::from([(owner.clone(), 2)]));
            if owners_first {
                assert_eq!(holdings.maps(0, &Seen::Relisted, None), counts);
            } else {
                assert_eq!(holdings.maps(0, &Seen::Relisted, None), None);
                assert_eq!(holdings.owners(1, &Seen::Relisted), None, "another shard");
                assert_eq!(holdings.owners(0, &Seen::Relisted), counts);
            }
            // Never again.
            assert_eq!(holdings.maps(0, &map, Some(&owner)), None);
            assert_eq!(holdings.maps(0, &Seen::Relisted, None), None);
            assert_eq!(holdings.owners(0, &Seen::Relisted), None);
            assert!(holdings.counts.is_empty());
        }
    }
}
