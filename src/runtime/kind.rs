//! The kinds that are watched, and the name of one object.

use std::fmt;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret},
};
use kube::{Resource, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;

use crate::api::{ArtifactFetch, BuildRequest, TenantConnection};

/// The kinds that are watched. A closed set: it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Ours.
    TenantConnection,
    /// Ours.
    BuildRequest,
    /// Ours.
    ArtifactFetch,
    /// Credentials, CA certificates, parameters.
    Secret,
    /// CA certificates, parameters.
    ConfigMap,
    /// What fills volumes.
    Job,
    /// What is filled.
    PersistentVolumeClaim,
}

impl Kind {
    /// As written in the API; also the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantConnection => "TenantConnection",
            Self::BuildRequest => "BuildRequest",
            Self::ArtifactFetch => "ArtifactFetch",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::Job => "Job",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
        }
    }

    /// As in URLs.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::TenantConnection => "tenantconnections",
            Self::BuildRequest => "buildrequests",
            Self::ArtifactFetch => "artifactfetches",
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
            Self::Job => "jobs",
            Self::PersistentVolumeClaim => "persistentvolumeclaims",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A type whose objects can be watched.
pub trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + fmt::Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Which kind it is.
    const KIND: Kind;
    /// Which objects of the kind are watched: a label selector; `None` is all.
    const SELECTOR: Option<&str> = None;
    /// Whether it is one of ours, of which this process may look after a part only.
    const SHARDED: bool = false;
}

impl Watched for TenantConnection {
    const KIND: Kind = Kind::TenantConnection;
    const SHARDED: bool = true;
}
impl Watched for BuildRequest {
    const KIND: Kind = Kind::BuildRequest;
    const SHARDED: bool = true;
}
impl Watched for ArtifactFetch {
    const KIND: Kind = Kind::ArtifactFetch;
    const SHARDED: bool = true;
}
impl Watched for Secret {
    const KIND: Kind = Kind::Secret;
}
impl Watched for ConfigMap {
    const KIND: Kind = Kind::ConfigMap;
}
impl Watched for PersistentVolumeClaim {
    const KIND: Kind = Kind::PersistentVolumeClaim;
}
impl Watched for Job {
    const KIND: Kind = Kind::Job;
    /// A cluster may be full of other people's Jobs.
    const SELECTOR: Option<&str> = Some("app.kubernetes.io/managed-by=tenantry");
}

/// Namespace and name of one object of a kind that the context tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The object `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_api() {
        fn check<K: Watched>() {
            assert_eq!(K::kind(&()), K::KIND.as_str());
            assert_eq!(K::plural(&()), K::KIND.plural());
        }
        check::<TenantConnection>();
        check::<BuildRequest>();
        check::<ArtifactFetch>();
        check::<Secret>();
        check::<ConfigMap>();
        check::<Job>();
        check::<PersistentVolumeClaim>();
    }
}
