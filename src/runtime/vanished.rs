//! What is no longer there when all objects of a kind are told again, because the watch was broken for longer than the
//! API server remembers (410) or had to begin anew: nobody tells of their deletion. Pure.
//!
//! A controller knows this of its own kind (`harness/known.rs`). Of what its objects own or refer to it knows only what it
//! is told, so the watch itself remembers the names, with the owner where that is one of ours.

use std::collections::HashMap;

use super::{glimpse::Glimpse, kind::ObjectKey, watches::Seen};

/// The names that one watch has told.
#[derive(Debug, Default)]
pub struct Told {
    objects: HashMap<ObjectKey, Mark>,
    /// The listing that goes on or was the last.
    round: u32,
}

#[derive(Debug)]
struct Mark {
    round: u32,
    owner: Option<Box<(String, String)>>,
}

impl Told {
    /// Takes in what the watch saw, and says what is gone without a word: known at the end of a listing.
    pub fn learn(&mut self, seen: &Seen) -> Vec<Glimpse> {
        match seen {
            Seen::Relisting => self.round = self.round.wrapping_add(1),
            Seen::Object(glimpse) => {
                let mark = Mark {
                    round: self.round,
                    owner: glimpse.owner.clone().map(Box::new),
                };
                self.objects.insert(glimpse.key.clone(), mark);
            }
            Seen::Gone(glimpse) => {
                self.objects.remove(&glimpse.key);
            }
            Seen::Relisted => {
                let round = self.round;
                let gone = self.objects.extract_if(|_, mark| mark.round != round);
                return gone
                    .map(|(key, mark)| Glimpse {
                        key,
                        fingerprint: 0,
                        owner: mark.owner.map(|owner| *owner),
                        touched: true,
                        settled: None,
                    })
                    .collect();
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, owner: Option<&str>) -> Seen {
        Seen::Object(Glimpse {
            key: ObjectKey::new("team", name),
            fingerprint: 7,
            owner: owner.map(|owner| ("ArtifactFetch".to_owned(), owner.to_owned())),
            touched: false,
            settled: None,
        })
    }

    #[test]
    fn what_a_new_listing_lacks_is_gone_with_its_owner_and_nothing_else_is() {
        let mut told = Told::default();
        for seen in [
            Seen::Relisting,
            object("stays", None),
            object("goes", Some("a")),
            object("deleted", None),
        ] {
            assert_eq!(told.learn(&seen), []);
        }
        assert_eq!(told.learn(&Seen::Relisted), [], "the first listing");
        let Seen::Object(deleted) = object("deleted", None) else {
            return;
        };
        assert_eq!(told.learn(&Seen::Gone(deleted)), []);
        assert_eq!(told.learn(&object("new", None)), []);
        for seen in [Seen::Relisting, object("stays", None), object("new", None)] {
            assert_eq!(told.learn(&seen), []);
        }
        let gone = told.learn(&Seen::Relisted);
        assert_eq!(
            gone,
            [Glimpse {
                key: ObjectKey::new("team", "goes"),
                fingerprint: 0,
                owner: Some(("ArtifactFetch".into(), "a".into())),
                touched: true,
                settled: None,
            }]
        );
        // A listing that broke off and began anew.
        for seen in [
            Seen::Relisting,
            object("new", None),
            Seen::Relisting,
            object("stays", None),
        ] {
            assert_eq!(told.learn(&seen), []);
        }
        let gone: Vec<_> = told
            .learn(&Seen::Relisted)
            .into_iter()
            .map(|g| g.key.name)
            .collect();
        assert_eq!(gone, ["new"]);
    }
}
