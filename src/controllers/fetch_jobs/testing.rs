//! What the tests of this folder share.

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Pod, VolumeProjection},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::{Value, json};

use super::build::Order;
use crate::fetcher::plan::Plan;

/// What the pod is told.
pub fn plan() -> Plan {
    let text = json!({
        "owner": "artifactfetch.files", "revision": "shopx7k2p/build#7",
        "gateway": {
            "endpoint": "https://ks.example.org", "credentials": {"password": {"clientId": "kubesphere"}},
            "limits": {"requestsPerSecond": 20, "burst": 40},
        },
        "run": {"project": "shopx7k2p", "pipeline": "build", "id": "7", "name": "build-x9f4q"},
        "task": {"artifacts": {
            "include": ["**"], "maxBytes": 1 << 30, "maxFiles": 1000, "selectionDigest": "abc", "prune": true,
        }},
        "target": {"mountPath": "/data", "subPath": "shop/latest"},
    });
    Plan::parse(&text.to_string()).unwrap()
}

/// The second order for the same.
pub fn order() -> Order {
    let login: VolumeProjection = serde_json::from_value(json!({"secret": {
        "name": "login", "items": [{"key": "user", "path": "username"}, {"key": "pass", "path": "password"}],
    }}))
    .unwrap();
    Order {
        namespace: "team".into(),
        owner: OwnerReference {
            api_version: "tenantry.dev/v1alpha1".into(),
            kind: "ArtifactFetch".into(),
            name: "files".into(),
            uid: "uid-1".into(),
            controller: Some(true),
            block_owner_deletion: None,
        },
        content: "files",
        asked: "asked-1".into(),
        selection: "selection-1".into(),
        attempt: 2,
        claim: "data".into(),
        plan: plan(),
        credentials: vec![login],
    }
}

/// A Job of ours for this selection, with this attempt and this status.
pub fn job(selection: &str, attempt: u32, status: &Value) -> Job {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("files-{selection}-{attempt}"), "namespace": "team", "uid": format!("uid-{selection}-{attempt}"),
            "creationTimestamp": "2026-11-22T12:00:00Z",
            "annotations": {
                "tenantry.dev/asked": "asked-1", "tenantry.dev/selection": selection,
                "tenantry.dev/attempt": attempt.to_string(),
            },
        },
        "spec": {"template": {"spec": {"containers": [
            {"name": "fetch", "env": [{"name": "TENANTRY_FETCH_PLAN", "value": plan().env_value().unwrap()}]},
        ]}}},
        "status": status,
    }))
    .unwrap()
}

/// A pod with this status.
pub fn pod(name: &str, status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "creationTimestamp": "2026-11-22T12:00:00Z"},
        "status": status,
    }))
    .unwrap()
}
