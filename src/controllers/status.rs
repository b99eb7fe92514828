//! How a status is written: whole, by server-side apply under our own name, so that what is no longer said goes away and
//! other people's fields stay.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use crate::runtime::{ObjectKey, ReconcileError, Watched};

/// Who owns the fields of a status.
pub const FIELD_MANAGER: &str = "tenantry";
/// How long one write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// Writes the whole status of `object`. Nothing happens where the object is gone; a newer object of the same name is not
/// touched, since its uid is another.
pub async fn write<K: Watched + Serialize>(
    client: &Client,
    object: &K,
    status: &impl Serialize,
) -> Result<(), ReconcileError> {
    let key = ObjectKey::of(object);
    let what = format!("write the status of {} {key}", K::KIND);
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let patch = Patch::Apply(json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": key.name, "namespace": key.namespace, "uid": object.meta().uid},
        "status": status,
    }));
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match timeout(WRITE_LIMIT, api.patch_status(&key.name, &params, &patch)).await {
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(result) => result.map(|_| ()).map_err(ReconcileError::api(what)),
        Err(_) => Err(ReconcileError::Other(format!(
            "{what}: the API server did not answer in time"
        ))),
    }
}
