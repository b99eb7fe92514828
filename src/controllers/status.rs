//! How a status is written: in place of the one that was read and under its version, so that whoever was overtaken begins
//! anew instead of writing over what it has not seen.

use kube::{Api, api::PostParams};
use serde::Serialize;

use super::cluster;
use crate::crash_points::{Write, around};
use crate::runtime::{ObjectKey, ReconcileError, Watched};

/// Writes `object` as it was read, but with the status that `edit` gives it. Returns it as it is stored now. `write` says
/// what is written down.
pub async fn replace<K: Watched + Serialize>(
    client: &kube::Client,
    object: &K,
    write: Write,
    edit: impl FnOnce(&mut K),
) -> Result<K, ReconcileError> {
    let key = ObjectKey::of(object);
    let mut next = object.clone();
    next.meta_mut().managed_fields = None;
    edit(&mut next);
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    cluster::write(
        format!("write the status of {} {key}", K::KIND),
        around(
            write,
            api.replace_status(&key.name, &PostParams::default(), &next),
        ),
    )
    .await
}
