//! The Kubernetes API of tenantry: group `tenantry.dev`, version `v1alpha1`, all kinds namespaced.
//!
//! Only types, their schema (CEL rules, defaults, printer columns) and the condition helpers live here. Everybody may
//! use this module; it uses nothing else of the crate, knows no HTTP and no KubeSphere.

pub mod artifact_fetch;
pub mod build_request;
pub mod common;
pub mod conditions;
pub mod tenant_connection;

pub use artifact_fetch::{ArtifactFetch, ArtifactFetchSpec, ArtifactFetchStatus};
pub use build_request::{BuildRequest, BuildRequestSpec, BuildRequestStatus};
pub use tenant_connection::{TenantConnection, TenantConnectionSpec, TenantConnectionStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

/// API group of every kind.
pub const GROUP: &str = "tenantry.dev";
/// API version of every kind.
pub const VERSION: &str = "v1alpha1";
/// Asks for one reconcile now; echoed in `status.lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_AT: &str = "tenantry.dev/reconcile-requested-at";
/// Each new value asks a BuildRequest for one more run of the same inputs.
pub const RERUN_REQUESTED_AT: &str = "tenantry.dev/rerun-requested-at";
/// Label of an object that is finished and was brought home: nothing is done for it any more until it changes. The operator
/// writes it and reads it when it starts; without it the object is looked at once more.
pub const SETTLED: &str = "tenantry.dev/settled";
/// When a finished object is deleted by its own wish: tells of it, and changes nothing.
pub const EXPIRES_AT: &str = "tenantry.dev/expires-at";
/// The finalizer of every kind that has something to do before it goes.
pub const FINALIZER: &str = "tenantry.dev/finalizer";

/// All CRDs, in the order in which they are documented.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![TenantConnection::crd(), BuildRequest::crd(), ArtifactFetch::crd()];
    for crd in &mut crds {
        for version in &mut crd.spec.versions {
            if let Some(schema) = version
                .schema
                .as_mut()
                .and_then(|s| s.open_api_v3_schema.as_mut())
            {
                drop_foreign_formats(schema);
            }
        }
    }
    crds
}

/// Rust's unsigned integers have formats that Kubernetes does not know and warns of at each apply; their bounds say the
/// same.
fn drop_foreign_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|f| f.starts_with("uint")) {
        schema.format = None;
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        drop_foreign_formats(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        drop_foreign_formats(items);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn names(schema: &Value, into: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            into.extend(properties.keys().cloned());
        }
        match schema {
            Value::Object(fields) => fields.values().for_each(|v| names(v, into)),
            Value::Array(items) => items.iter().for_each(|v| names(v, into)),
            _ => {}
        }
    }

    /// kubectl reads YAML 1.1, where a key `on` is the boolean true: such a field could not be set by anybody.
    #[test]
    fn no_field_has_a_name_that_yaml_takes_for_a_boolean() {
        let mut all = Vec::new();
        for crd in crds() {
            names(&serde_json::to_value(crd).unwrap(), &mut all);
        }
        assert!(
            all.iter().any(|name| name == "connectionRef"),
            "the walk finds fields"
        );
        for name in all {
            let word = name.to_lowercase();
            assert!(
                !["y", "n", "yes", "no", "on", "off", "true", "false"].contains(&word.as_str()),
                "{name:?} is no string in YAML 1.1"
            );
        }
    }
}
