//! What is kept of an object that a watch saw: its name, one number, its owner. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ObjectMeta};

use super::{
    kind::ObjectKey,
    settled::{self, Settled},
};
use crate::api::{EXPIRES_AT, GROUP};

/// What is kept of an object's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// Which object.
    pub key: ObjectKey,
    /// Changes with what a controller acts on: see [`fingerprint`].
    pub fingerprint: u64,
    /// Kind and name of its controller, where that is one of ours.
    pub owner: Option<(String, String)>,
    /// Whether somebody else wrote what it holds.
    pub touched: bool,
    /// That it is finished, where it says so itself and has not changed since.
    pub settled: Option<Settled>,
}

impl Glimpse {
    /// That of an object with this metadata.
    pub fn of(meta: &ObjectMeta) -> Self {
        let owner = meta.owner_references.iter().flatten().find(|o| {
            o.controller == Some(true) && o.api_version.split_once('/').is_some_and(|(g, _)| g == GROUP)
        });
        Self {
            key: ObjectKey::new(
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            ),
            fingerprint: fingerprint(meta),
            owner: owner.map(|o| (o.kind.clone(), o.name.clone())),
            touched: is_touched(meta),
            settled: settled::of(meta),
        }
    }
}

/// A number that changes with what a controller acts on: identity, spec (by its generation), deletion, finalizers and
/// our annotations; not with status, labels or other people's annotations.
pub fn fingerprint(meta: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    meta.generation.hash(&mut hasher);
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    meta.finalizers.hash(&mut hasher);
    for (key, value) in meta.annotations.iter().flatten() {
        let ours = key.split_once('/').is_some_and(|(prefix, _)| prefix == GROUP);
        if ours && key != EXPIRES_AT {
            (key, value).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The name under which we write what objects of others hold.
const WRITER: &str = "tenantry";

/// Whether the data of an object of which we wrote the data is not ours any more: the API server keeps account of it, and
/// whoever changes or removes a key takes it out of our entry. Labels and annotations are nothing to us.
fn is_touched(meta: &ObjectMeta) -> bool {
    let holds_data = |fields: &Option<FieldsV1>| {
        let has = |part| fields.as_ref().is_some_and(|fields| fields.0.get(part).is_some());
        has("f:data") || has("f:binaryData")
    };
    let mut ours = false;
    for entry in meta.managed_fields.iter().flatten() {
        let is_ours = entry.manager.as_deref() == Some(WRITER) && entry.operation.as_deref() == Some("Apply");
        match (holds_data(&entry.fields_v1), is_ours) {
            (true, true) => ours = true,
            (true, false) => return true,
            (false, _) => {}
        }
    }
    !ours
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference};
    use serde_json::json;

    use super::*;

    fn meta() -> ObjectMeta {
        ObjectMeta {
            name: Some("a".into()),
            namespace: Some("team".into()),
            uid: Some("1".into()),
            generation: Some(1),
            resource_version: Some("10".into()),
            ..ObjectMeta::default()
        }
    }

    fn annotated(key: &str, value: &str) -> ObjectMeta {
        ObjectMeta {
            annotations: Some([(key.to_owned(), value.to_owned())].into()),
            ..meta()
        }
    }

    #[test]
    fn the_fingerprint_follows_what_is_acted_on_and_nothing_else() {
        let same = [
            ObjectMeta {
                resource_version: Some("11".into()),
                ..meta()
            },
            ObjectMeta {
                labels: Some([("a".to_owned(), "b".to_owned())].into()),
                ..meta()
            },
            annotated("kubectl.kubernetes.io/last-applied-configuration", "{}"),
            annotated("tenantry", "x"),
            annotated(EXPIRES_AT, "2026-11-23T10:00:00Z"),
        ];
        for other in same {
            assert_eq!(fingerprint(&meta()), fingerprint(&other), "{other:?}");
        }
        let changed = [
            ObjectMeta {
                generation: Some(2),
                ..meta()
            },
            ObjectMeta {
                uid: Some("2".into()),
                ..meta()
            },
            ObjectMeta {
                deletion_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                    k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
                )),
                ..meta()
            },
            ObjectMeta {
                finalizers: Some(vec![crate::api::FINALIZER.into()]),
                ..meta()
            },
            annotated(crate::api::RECONCILE_REQUESTED_AT, "1"),
        ];
        for other in changed {
            assert_ne!(fingerprint(&meta()), fingerprint(&other), "{other:?}");
        }
        assert_ne!(
            fingerprint(&annotated(crate::api::RERUN_REQUESTED_AT, "1")),
            fingerprint(&annotated(crate::api::RERUN_REQUESTED_AT, "2"))
        );
    }

    #[test]
    fn only_a_controller_of_our_group_is_an_owner() {
        let owned = |controller, api_version: &str| ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                api_version: api_version.into(),
                controller,
                kind: "BuildRequest".into(),
                name: "b".into(),
                ..OwnerReference::default()
            }]),
            ..meta()
        };
        let owner = |meta: &ObjectMeta| Glimpse::of(meta).owner;
        assert_eq!(
            owner(&owned(Some(true), "tenantry.dev/v1alpha1")),
            Some(("BuildRequest".into(), "b".into()))
        );
        assert_eq!(owner(&owned(None, "tenantry.dev/v1alpha1")), None);
        assert_eq!(owner(&owned(Some(true), "apps/v1")), None);
        assert_eq!(owner(&owned(Some(true), "tenantry.dev.evil.org/v1")), None);
    }

    #[test]
    fn data_that_somebody_else_wrote_or_took_away_is_touched() {
        let entry = |manager: &str, operation: &str, fields: serde_json::Value| ManagedFieldsEntry {
            manager: Some(manager.into()),
            operation: Some(operation.into()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        };
        let ours = || {
            entry(
                WRITER,
                "Apply",
                json!({"f:data": {"f:log": {}}, "f:metadata": {}}),
            )
        };
        let label = || entry("argo", "Update", json!({"f:metadata": {"f:labels": {}}}));
        let rows = [
            (vec![ours()], false),
            (vec![ours(), label()], false),
            (
                vec![
                    ours(),
                    entry("kubectl-edit", "Update", json!({"f:data": {"f:more": {}}})),
                ],
                true,
            ),
            (
                vec![entry(WRITER, "Apply", json!({"f:metadata": {}})), label()],
                true,
            ),
            (
                vec![entry(WRITER, "Update", json!({"f:data": {"f:log": {}}}))],
                true,
            ),
        ];
        for (managed, expected) in rows {
            let meta = ObjectMeta {
                managed_fields: Some(managed),
                ..meta()
            };
            assert_eq!(is_touched(&meta), expected, "{:?}", meta.managed_fields);
        }
    }
}
