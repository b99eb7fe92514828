//! How the played Argo CD treats an application.

use serde::{Deserialize, Serialize};

/// How Argo CD treats one application; lengths in seconds, scaled like all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArgoScript {
    /// Argo acts by itself: compares, syncs, prunes. Otherwise it says only what it is told to say.
    pub plays: bool,
    /// Until a new or changed application was compared.
    pub compare: f64,
    /// How long a sync runs.
    pub sync: f64,
    /// From the end of a sync until the new pods are up (or not).
    pub settle: f64,
    /// How long the resources of an application that is deleted with cascade take to go.
    pub prune: f64,
    /// Phase in which a sync ends: `Succeeded`, `Failed` or `Error`.
    pub phase: String,
    /// What the operation says at its end; without it what Argo usually says.
    pub message: Option<String>,
    /// Health once things have settled.
    pub health: String,
    /// The commit that revisions resolve to.
    pub revision: String,
    /// Revisions that do not exist: a sync to one of them ends in `Error`.
    pub unknown_revisions: Vec<String>,
    /// Images of the running resources.
    pub images: Vec<String>,
}

impl Default for ArgoScript {
    fn default() -> Self {
        Self {
            plays: true,
            compare: 1.0,
            sync: 3.0,
            settle: 3.0,
            prune: 3.0,
            phase: "Succeeded".into(),
            message: None,
            health: "Healthy".into(),
            revision: "8f1d0c2b6a7e4f5091c3d2e1b0a9f8e7d6c5b4a3".into(),
            unknown_revisions: Vec::new(),
            images: vec!["registry.example/acme/web:1.4.2".into()],
        }
    }
}

impl ArgoScript {
    /// An Argo that says only what it is told to say.
    pub fn still() -> Self {
        Self {
            plays: false,
            ..Self::default()
        }
    }
}
