//! From a TenantConnection's name to a gateway that is ready to be asked.

use super::Trouble;
use crate::api::TenantConnectionSpec;

/// The gateways, one per TenantConnection; rebuilt when spec, Secret or CA change.
pub struct Connections {}

/// A TenantConnection and its gateway.
pub struct Connected {
    /// The spec it was made from.
    pub spec: TenantConnectionSpec,
}

impl Connections {
    /// The gateway of the TenantConnection `name` in `namespace`, or what stands in the way.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Connected, Trouble> {
        let _ = (namespace, name);
        todo!()
    }
}
