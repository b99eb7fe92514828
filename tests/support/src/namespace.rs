//! A namespace of one test.

use std::{ops::Deref, sync::Arc};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, ServiceAccount};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};

use crate::{PATIENCE, Seen, cluster::Access, wait_for};

/// The name of a namespace that one test has for itself: use it as a `&str`.
///
/// In a cluster that was started for the tests it stays until the cluster goes; in one named on purpose it is deleted when
/// this value is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Set when the namespace has to be deleted in the end.
    cleanup: Option<Arc<Access>>,
}

impl Namespace {
    pub(crate) async fn create(access: Arc<Access>, prefix: &str) -> Result<Self> {
        let client = access.client().await?;
        let object = NamespaceObject {
            metadata: ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                ..ObjectMeta::default()
            },
            ..NamespaceObject::default()
        };
        let created = Api::<NamespaceObject>::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("create a namespace {prefix}-…"))?;
        let name = created.name_any();
        let namespace = Self {
            cleanup: access.borrowed.then_some(access),
            name,
        };
        // Pods are refused until the controller manager has made this.
        let accounts = Api::<ServiceAccount>::namespaced(client, &namespace);
        wait_for(
            &format!("the default ServiceAccount of {}", namespace.name),
            PATIENCE,
            async || {
                Ok(Seen::when(accounts.get_opt("default").await?.is_some(), || {
                    "there is none".to_owned()
                }))
            },
        )
        .await?;
        Ok(namespace)
    }
}

impl Deref for Namespace {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(access) = &self.cleanup {
            let mut kubectl = access.kubectl(["delete", "namespace", &self.name, "--wait=false"]);
            if let Err(error) = kubectl.stdout(std::process::Stdio::null()).status() {
                eprintln!("namespace {} stays behind: {error}", self.name);
            }
        }
    }
}
