//! ConfigMaps that an object owns: looked at, written by server-side apply, removed. Never one that is not its own.
//!
//! Every call is bounded in time; what stands in the way comes back as [`Trouble`] in words for people.

use std::{collections::BTreeMap, fmt::Display, future::Future, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions},
    core::PartialObjectMeta,
};

use crate::{
    api::{GROUP, conditions::Reason},
    crash_points::{Write, around},
    trouble::Trouble,
};

/// Under this name we write.
pub const FIELD_MANAGER: &str = "tenantry";
/// Annotation: SHA-256 of what we stored, to see without reading it whether it is what is wanted.
pub const CONTENT_DIGEST: &str = "tenantry.dev/content-sha256";
/// Annotation: the run that the content is from.
pub const REVISION: &str = "tenantry.dev/revision";
/// Label: UID of the owner.
pub const OWNER_UID: &str = "tenantry.dev/owner-uid";
/// Label: what is in it.
pub const CONTENT: &str = "tenantry.dev/content";
/// How long one call to our API server may take.
const CALL: Duration = Duration::from_secs(20);

/// What a ConfigMap of ours holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A run's log, or a part of it.
    Log,
    /// Archived files of a run.
    Files,
}

impl Content {
    const fn label(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Files => "files",
        }
    }

    const fn write(self) -> Write {
        match self {
            Self::Log => Write::Log,
            Self::Files => Write::Files,
        }
    }

    const fn removal(self) -> Write {
        match self {
            Self::Log => Write::LogRemoval,
            Self::Files => Write::FilesRemoval,
        }
    }
}

/// What to write into a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The run that the content is from.
    pub revision: String,
    /// SHA-256 of the content.
    pub digest: String,
    /// Further annotations.
    pub annotations: BTreeMap<String, String>,
    /// Text by key.
    pub data: BTreeMap<String, String>,
    /// Other bytes by key.
    pub binary_data: BTreeMap<String, ByteString>,
}

/// Metadata of a ConfigMap that belongs to the owner.
#[derive(Clone, Debug)]
pub struct Mine(pub ObjectMeta);

impl Mine {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name.as_deref().unwrap_or_default()
    }

    /// Its UID.
    pub fn uid(&self) -> Option<&str> {
        self.0.uid.as_deref()
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.0.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The keys whose values are still the ones that we applied last.
    ///
    /// The API server keeps account of it: whoever changes or removes the value of a key takes it out of our entry in
    /// `managedFields`. So an edit by hand is seen without reading the content.
    pub fn untouched_keys(&self) -> Vec<&str> {
        let ours = self.0.managed_fields.iter().flatten().find(|entry| {
            entry.manager.as_deref() == Some(FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply")
                && entry.subresource.is_none()
        });
        let Some(fields) = ours.and_then(|entry| entry.fields_v1.as_ref()) else {
            return Vec::new();
        };
        ["f:data", "f:binaryData"]
            .iter()
            .filter_map(|part| fields.0.get(part)?.as_object())
            .flat_map(|keys| keys.keys())
            .filter_map(|key| key.strip_prefix("f:"))
            .collect()
    }
}

/// The ConfigMaps of one owner.
#[derive(Clone)]
pub struct ConfigMaps {
    api: Api<ConfigMap>,
    namespace: String,
    owner: OwnerReference,
    uid: String,
}

impl ConfigMaps {
    /// Those of `owner`, which must come from the API server.
    pub fn of<K: Resource<DynamicType = ()>>(client: Client, owner: &K) -> Result<Self, Trouble> {
        let (namespace, reference) = (owner.meta().namespace.clone(), owner.controller_owner_ref(&()));
        let (Some(namespace), Some(reference)) = (namespace, reference) else {
            return Err(Trouble::passing(
                Reason::StorageUnavailable,
                "the object has no namespace or UID yet",
            ));
        };
        Ok(Self {
            api: Api::namespaced(client, &namespace),
            namespace,
            uid: reference.uid.clone(),
            owner: reference,
        })
    }

    /// All with this content.
    pub async fn list(&self, content: Content) -> Result<Vec<Mine>, Trouble> {
        let selector = format!("{OWNER_UID}={},{CONTENT}={}", self.uid, content.label());
        let what = format!("list the ConfigMaps of {} in {}", self.owner.name, self.namespace);
        let found = bounded(
            &what,
            self.api.list_metadata(&ListParams::default().labels(&selector)),
        )
        .await?;
        let mine = found.items.into_iter().filter(|m| self.is_mine(&m.metadata));
        Ok(mine.map(|m| Mine(m.metadata)).collect())
    }

    /// The one of this name: ours, or not there. Somebody else's is a [`Reason::DestinationConflict`].
    pub async fn look(&self, name: &str) -> Result<Option<Mine>, Trouble> {
        let what = format!("get ConfigMap {}/{name}", self.namespace);
        let found: Option<PartialObjectMeta<ConfigMap>> =
            bounded(&what, self.api.get_metadata_opt(name)).await?;
        let Some(found) = found else {
            return Ok(None);
        };
        if self.is_mine(&found.metadata) {
            return Ok(Some(Mine(found.metadata)));
        }
        Err(self.conflict(&found.metadata))
    }

    /// The one of this name with its content; `None` if it is not there or not ours.
    pub async fn read(&self, name: &str) -> Result<Option<ConfigMap>, Trouble> {
        let what = format!("get ConfigMap {}/{name}", self.namespace);
        let found = bounded(&what, self.api.get_opt(name)).await?;
        Ok(found.filter(|map| self.is_mine(map.meta())))
    }

    /// Writes one. `known` is what was seen under its name: another object in its place is not overwritten.
    pub async fn apply(&self, wanted: Wanted, content: Content, known: Option<&Mine>) -> Result<(), Trouble> {
        let map = self.object(wanted, content, known);
        let name = map.name_any();
        let what = format!("write ConfigMap {}/{name}", self.namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&map);
        let call = self.api.patch(&name, &params, &patch);
        bounded(&what, around(content.write(), call)).await?;
        Ok(())
    }

    /// Removes one of ours. That it is gone already is fine.
    pub async fn remove(&self, mine: &Mine, content: Content) -> Result<(), Trouble> {
        let what = format!("delete ConfigMap {}/{}", self.namespace, mine.name());
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: mine.0.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let call = async {
            match self.api.delete(mine.name(), &params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Ok(()),
            }
        };
        bounded(&what, around(content.removal(), call)).await
    }

    fn object(&self, wanted: Wanted, content: Content, known: Option<&Mine>) -> ConfigMap {
        // A new field has to be decided on here.
        let Wanted {
            name,
            revision,
            digest,
            mut annotations,
            data,
            binary_data,
        } = wanted;
        annotations.insert(REVISION.into(), revision);
        annotations.insert(CONTENT_DIGEST.into(), digest);
        let labels = [
            ("app.kubernetes.io/managed-by", FIELD_MANAGER),
            (OWNER_UID, &self.uid),
            (CONTENT, content.label()),
        ];
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(self.namespace.clone()),
                uid: known.and_then(|mine| mine.0.uid.clone()),
                labels: Some(labels.map(|(k, v)| (k.into(), v.into())).into()),
                annotations: Some(annotations),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            data: (!data.is_empty()).then_some(data),
            binary_data: (!binary_data.is_empty()).then_some(binary_data),
            immutable: None,
        }
    }

    fn is_mine(&self, meta: &ObjectMeta) -> bool {
        controller(meta).is_some_and(|owner| owner.uid == self.uid)
    }

    fn conflict(&self, meta: &ObjectMeta) -> Trouble {
        let name = meta.name.as_deref().unwrap_or_default();
        let namespace = &self.namespace;
        match controller(meta) {
            Some(other) if is_same_object_of_old(other, &self.owner) => Trouble::passing(
                Reason::DestinationConflict,
                format!(
                    "ConfigMap {namespace}/{name} belongs to a {} {} that was deleted: waiting until it is removed",
                    other.kind, other.name
                ),
            ),
            Some(other) => Trouble::user(
                Reason::DestinationConflict,
                format!(
                    "ConfigMap {namespace}/{name} belongs to {} {}: name another one in the destination",
                    other.kind, other.name
                ),
            ),
            None => Trouble::user(
                Reason::DestinationConflict,
                format!(
                    "ConfigMap {namespace}/{name} exists and was not made by this object: delete it, or name another one in \
                     the destination"
                ),
            ),
        }
    }
}

/// A namesake that was deleted; the garbage collector will take what it owned.
fn is_same_object_of_old(other: &OwnerReference, ours: &OwnerReference) -> bool {
    let group = |reference: &OwnerReference| {
        let (group, _) = reference.api_version.split_once('/').unwrap_or_default();
        group.to_owned()
    };
    group(other) == GROUP && other.kind == ours.kind && other.name == ours.name && other.uid != ours.uid
}

fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// `call` within its time, its failure in words.
async fn bounded<T>(what: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(trouble(what, &error)),
        Err(_) => Err(unavailable(
            what,
            format!("no answer within {} s", CALL.as_secs()),
        )),
    }
}

fn unavailable(what: &str, why: impl Display) -> Trouble {
    Trouble::passing(
        Reason::StorageUnavailable,
        format!("could not {what}: {why}; it is tried again"),
    )
}

/// Whether a refusal is the word of an admission webhook or policy, whatever code it comes with.
pub fn is_policy(said: &str) -> bool {
    said.contains("denied the request") || said.contains("denied request")
}

/// What our API server's refusal means.
fn trouble(what: &str, error: &kube::Error) -> Trouble {
    let kube::Error::Api(status) = error else {
        return unavailable(what, error);
    };
    let said = &status.message;
    let terminating = status
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .any(|cause| cause.reason == "NamespaceTerminating");
    match status.code {
        403 if terminating => unavailable(what, said),
        403 if said.contains("exceeded quota") => Trouble::user(
            Reason::StorageUnavailable,
            format!("may not {what}: {said}: raise the namespace's quota, or delete ConfigMaps"),
        ),
        _ if is_policy(said) => Trouble::user(
            Reason::StorageUnavailable,
            format!("may not {what}: {said}: change that policy of the cluster, or what is to be stored"),
        ),
        403 => Trouble::user(
            Reason::AccessDenied,
            format!("may not {what}: {said}: give tenantry's ServiceAccount this right"),
        ),
        413 => Trouble::user(
            Reason::ArtifactsTooLarge,
            format!("could not {what}: {said}: store less"),
        ),
        400 | 422 => Trouble::user(Reason::DestinationConflict, format!("could not {what}: {said}")),
        _ => unavailable(what, said),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn api_error(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (code, message, reason, stalled) in [
            (403, "forbidden", Reason::AccessDenied, true),
            (403, "exceeded quota: q", Reason::StorageUnavailable, true),
            (
                403,
                r#"admission webhook "guard" denied the request: no"#,
                Reason::StorageUnavailable,
                true,
            ),
            (
                422,
                "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
                Reason::StorageUnavailable,
                true,
            ),
            (413, "too large", Reason::ArtifactsTooLarge, true),
            (422, "field is immutable", Reason::DestinationConflict, true),
            (409, "uid mismatch", Reason::StorageUnavailable, false),
            (500, "etcd", Reason::StorageUnavailable, false),
            (429, "slow", Reason::StorageUnavailable, false),
        ] {
            let trouble = trouble("write ConfigMap a/b", &api_error(code, message));
            assert_eq!(
                (trouble.reason, trouble.is_stalled()),
                (reason, stalled),
                "{code}"
            );
            assert!(
                trouble.message.contains("write ConfigMap a/b") && trouble.message.contains(message),
                "{trouble}"
            );
        }
    }

    #[test]
    fn keys_that_others_wrote_are_not_untouched() {
        let entry = |manager: &str, operation: &str, fields| ManagedFieldsEntry {
            manager: Some(manager.into()),
            operation: Some(operation.into()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        };
        let mine = Mine(ObjectMeta {
            managed_fields: Some(vec![
                entry("kubectl-edit", "Update", json!({"f:data": {"f:b": {}}})),
                entry("tenantry", "Update", json!({"f:data": {"f:c": {}}})),
                entry(
                    "tenantry",
                    "Apply",
                    json!({"f:data": {".": {}, "f:a": {}}, "f:binaryData": {"f:d": {}}, "f:metadata": {"f:labels": {}}}),
                ),
            ]),
            ..ObjectMeta::default()
        });
        assert_eq!(mine.untouched_keys(), ["a", "d"]);
        assert!(Mine(ObjectMeta::default()).untouched_keys().is_empty());
    }
}
