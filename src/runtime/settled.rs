//! The mark of a finished object: the label `tenantry.dev/settled`, by which the metadata alone tells the next process that
//! there is nothing to do, so that it need not read the object. Pure.
//!
//! Its value is a digest of all that is acted on in the metadata, and how many ConfigMaps the object holds. Whatever changes
//! there makes the mark stale, and an object that was made from a copy of this one has none. Where ConfigMaps are missing
//! after a start, the object is looked at. Who takes the label away asks for one more look.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::{EXPIRES_AT, GROUP, SETTLED};

/// Part of each digest. With another number all finished objects are looked at once more: for an operator that has more to
/// do for them than the one before.
const EDITION: &str = "1";
/// Bytes of the digest that go into the label.
const LENGTH: usize = 16;

/// What a mark says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// When the object is to be looked at again; None is never.
    pub until: Option<Timestamp>,
    /// How many ConfigMaps hold what it brought home.
    pub holds: u32,
}

/// The mark that an object with this metadata wears, where it is true of it.
pub fn of(meta: &ObjectMeta) -> Option<Settled> {
    let worn = meta.labels.as_ref()?.get(SETTLED)?;
    let expires = meta.annotations.as_ref().and_then(|all| all.get(EXPIRES_AT));
    let until = match expires {
        None => None,
        Some(text) => Some(text.parse().ok()?),
    };
    let holds = worn.rsplit_once('.')?.1.parse().ok()?;
    let said = Settled { until, holds };
    (meta.deletion_timestamp.is_none() && *worn == value(meta, said)).then_some(said)
}

/// Whether it wears a mark, true or stale.
pub fn is_worn(meta: &ObjectMeta) -> bool {
    meta.labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(SETTLED))
}

/// The merge patch that puts the mark on an object with this metadata.
pub fn put_on(meta: &ObjectMeta, settled: Settled) -> Value {
    patch(Some(value(meta, settled)), settled.until)
}

/// The merge patch that takes the mark away, under the version that was read.
pub fn take_off(meta: &ObjectMeta) -> Value {
    let mut patch = patch(None, None);
    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
    patch
}

fn patch(value: Option<String>, until: Option<Timestamp>) -> Value {
    json!({"metadata": {
        "labels": {SETTLED: value},
        "annotations": {EXPIRES_AT: until.map(|at| at.to_string())},
    }})
}

fn value(meta: &ObjectMeta, settled: Settled) -> String {
    let mut hasher = Sha256::new();
    // Each part with its length, so that two never read as one.
    let mut part = |text: &str| {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    };
    part(EDITION);
    part(meta.uid.as_deref().unwrap_or_default());
    part(&meta.generation.unwrap_or_default().to_string());
    part(&settled.until.map(|at| at.to_string()).unwrap_or_default());
    for finalizer in meta.finalizers.iter().flatten() {
        part(finalizer);
    }
    for (key, value) in meta.annotations.iter().flatten() {
        let ours = key.split_once('/').is_some_and(|(prefix, _)| prefix == GROUP);
        if ours && key != EXPIRES_AT {
            part(key);
            part(value);
        }
    }
    let mut text = String::with_capacity(2 * LENGTH);
    for byte in &hasher.finalize()[..LENGTH] {
        let _ = write!(text, "{byte:02x}");
    }
    let _ = write!(text, ".{}", settled.holds);
    text
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::{FINALIZER, RERUN_REQUESTED_AT};

    fn plain() -> ObjectMeta {
        ObjectMeta {
            name: Some("a".into()),
            uid: Some("1".into()),
            generation: Some(3),
            finalizers: Some(vec![FINALIZER.into()]),
            annotations: Some([("argo/x".to_owned(), "y".to_owned())].into()),
            ..ObjectMeta::default()
        }
    }

    /// As an API server applies it.
    fn apply(mut meta: ObjectMeta, patch: &Value) -> ObjectMeta {
        for (field, map) in [
            ("labels", &mut meta.labels),
            ("annotations", &mut meta.annotations),
        ] {
            for (key, value) in patch["metadata"][field].as_object().unwrap() {
                let map = map.get_or_insert_default();
                match value.as_str() {
                    Some(text) => drop(map.insert(key.clone(), text.to_owned())),
                    None => drop(map.remove(key)),
                }
            }
        }
        meta
    }

    fn marked(until: Option<Timestamp>) -> ObjectMeta {
        apply(plain(), &put_on(&plain(), Settled { until, holds: 2 }))
    }

    #[test]
    fn a_mark_holds_until_something_is_to_be_done() {
        let later: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        for until in [None, Some(later)] {
            let meta = marked(until);
            let said = Settled { until, holds: 2 };
            assert_eq!(of(&meta), Some(said));
            // Once more, as after a look that somebody asked for.
            assert_eq!(apply(meta.clone(), &put_on(&meta, said)), meta);
            let patch = take_off(&meta);
            let off = apply(meta, &patch);
            assert_eq!((of(&off), is_worn(&off)), (None, false));
        }
        assert_eq!(of(&plain()), None);
        assert!(!is_worn(&plain()));
    }

    #[test]
    fn whatever_is_acted_on_makes_it_stale_and_nothing_else() {
        let annotated = |key: &str, value: &str| {
            let mut meta = marked(None);
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(key.to_owned(), value.to_owned());
            meta
        };
        let labelled = |value: &str| ObjectMeta {
            labels: Some([(SETTLED.to_owned(), value.to_owned())].into()),
            ..plain()
        };
        let stale = [
            ObjectMeta {
                generation: Some(4),
                ..marked(None)
            },
            ObjectMeta {
                uid: Some("2".into()),
                ..marked(None)
            },
            ObjectMeta {
                finalizers: None,
                ..marked(None)
            },
            ObjectMeta {
                deletion_timestamp: Some(Time(Timestamp::UNIX_EPOCH)),
                ..marked(None)
            },
            annotated(RERUN_REQUESTED_AT, "now"),
            annotated(EXPIRES_AT, "2026-11-23T10:00:00Z"),
            annotated(EXPIRES_AT, "soon"),
            labelled("0123456789abcdef0123456789abcdef.2"),
            labelled("x"),
            labelled(&value(&plain(), Settled::default()).replace(".0", ".1")[1..]),
        ];
        for meta in stale {
            assert_eq!(of(&meta), None, "{meta:?}");
            assert!(is_worn(&meta));
        }
        let fresh = [
            ObjectMeta {
                resource_version: Some("9".into()),
                ..marked(None)
            },
            annotated("argo/x", "z"),
        ];
        for meta in fresh {
            assert!(of(&meta).is_some(), "{meta:?}");
        }
    }
}
