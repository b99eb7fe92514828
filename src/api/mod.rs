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

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// API group of every kind.
pub const GROUP: &str = "tenantry.dev";
/// API version of every kind.
pub const VERSION: &str = "v1alpha1";
/// Asks for one reconcile now; echoed in `status.lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_AT: &str = "tenantry.dev/reconcile-requested-at";
/// Each new value asks a BuildRequest for one more run of the same inputs.
pub const RERUN_REQUESTED_AT: &str = "tenantry.dev/rerun-requested-at";
/// The finalizer of every kind that has something to do before it goes.
pub const FINALIZER: &str = "tenantry.dev/finalizer";

/// All CRDs, in the order in which they are documented.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![TenantConnection::crd(), BuildRequest::crd(), ArtifactFetch::crd()]
}
