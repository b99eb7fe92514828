//! Who refers to what: so that a change of a Secret wakes those that read it. Fed from the full objects as they are
//! reconciled, one entry per object; an object that is finished refers to nothing.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use super::kind::{Kind, ObjectKey, Watched};

/// Another object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// The object `name` of kind `K`, in the namespace of the object that refers to it.
    pub fn to<K: Watched>(name: impl Into<String>) -> Self {
        Self {
            kind: K::KIND,
            name: name.into(),
        }
    }
}

/// Who refers to what. One per controller; written by its reconciles, read by its loop.
#[derive(Debug, Default)]
pub struct ReferenceIndex(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    of: HashMap<ObjectKey, BTreeSet<Reference>>,
    to: HashMap<(Kind, ObjectKey), HashSet<ObjectKey>>,
}

impl Maps {
    fn remove(&mut self, from: &ObjectKey) {
        for reference in self.of.remove(from).unwrap_or_default() {
            let target = (
                reference.kind,
                ObjectKey::new(from.namespace.clone(), reference.name),
            );
            if let Some(sources) = self.to.get_mut(&target) {
                sources.remove(from);
                if sources.is_empty() {
                    self.to.remove(&target);
                }
            }
        }
    }
}

impl ReferenceIndex {
    /// What `from` refers to now, in place of what was known.
    pub fn set(&self, from: &ObjectKey, references: BTreeSet<Reference>) {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if maps.of.get(from).is_some_and(|known| *known == references) {
            return;
        }
        maps.remove(from);
        if references.is_empty() {
            return;
        }
        for reference in &references {
            let target = ObjectKey::new(from.namespace.clone(), reference.name.clone());
            maps.to
                .entry((reference.kind, target))
                .or_default()
                .insert(from.clone());
        }
        maps.of.insert(from.clone(), references);
    }

    /// How many objects of `kind` are referred to.
    pub fn targets(&self, kind: Kind) -> usize {
        let maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        maps.to.keys().filter(|(of, _)| *of == kind).count()
    }

    /// `from` is gone.
    pub fn forget(&self, from: &ObjectKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(from);
    }

    /// Who refers to `target`, sorted.
    pub fn referrers(&self, kind: Kind, target: &ObjectKey) -> Vec<ObjectKey> {
        let maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<_> = maps
            .to
            .get(&(kind, target.clone()))
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        keys.sort();
        keys
    }

    #[cfg(test)]
    fn len(&self) -> (usize, usize) {
        let maps = self.0.lock().unwrap();
        (maps.of.len(), maps.to.len())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("team", name)
    }

    #[test]
    fn a_target_knows_its_referrers_in_its_own_namespace_and_kind() {
        let index = ReferenceIndex::default();
        index.set(&key("a"), [Reference::to::<Secret>("s")].into());
        index.set(
            &key("b"),
            [Reference::to::<Secret>("s"), Reference::to::<ConfigMap>("c")].into(),
        );
        assert_eq!(index.referrers(Kind::Secret, &key("s")), [key("a"), key("b")]);
        assert_eq!(index.referrers(Kind::ConfigMap, &key("c")), [key("b")]);
        assert!(index.referrers(Kind::ConfigMap, &key("s")).is_empty());
        assert!(
            index
                .referrers(Kind::Secret, &ObjectKey::new("other", "s"))
                .is_empty()
        );
    }

    #[test]
    fn new_references_take_the_place_of_old_ones_and_nothing_is_left_behind() {
        let index = ReferenceIndex::default();
        index.set(&key("a"), [Reference::to::<Secret>("old")].into());
        index.set(&key("a"), [Reference::to::<Secret>("new")].into());
        assert!(index.referrers(Kind::Secret, &key("old")).is_empty());
        assert_eq!(index.referrers(Kind::Secret, &key("new")), [key("a")]);
        index.set(&key("a"), BTreeSet::new());
        assert_eq!(index.len(), (0, 0));
        index.set(&key("a"), [Reference::to::<Secret>("new")].into());
        index.forget(&key("a"));
        assert_eq!(index.len(), (0, 0));
    }
}
