//! From a TenantConnection's name to a gateway that is ready to be asked.

use std::sync::Arc;

use super::Trouble;
use crate::{api::TenantConnectionSpec, runtime::metrics::Metrics};

/// The gateways, one per TenantConnection; rebuilt when spec, Secret or CA change.
pub struct Connections {}

/// A TenantConnection and its gateway.
pub struct Connected {
    /// Its gateway.
    pub gateway: crate::gateway::Gateway,
    /// The spec it was made from.
    pub spec: TenantConnectionSpec,
}

impl Connections {
    /// No connections yet.
    pub fn new(client: kube::Client, metrics: Arc<Metrics>) -> Self {
        let _ = (client, metrics);
        Self {}
    }

    /// The gateway of the TenantConnection `name` in `namespace`, or what stands in the way.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Connected, Trouble> {
        let _ = (namespace, name);
        todo!()
    }
}
