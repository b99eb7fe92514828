//! The marks of finished objects, put on and taken off. What they mean: [`settled`].

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::Value;
use tokio::time::timeout;

use super::{ReconcileError, run::READ_LIMIT};
use crate::{
    crash_points::{Write, around},
    runtime::{
        kind::{ObjectKey, Watched},
        settled::{self, Settled},
    },
};

/// `object` without its mark, where that is stale: from here on it is not at rest, and whoever asks for all that are not must
/// find it. Under the version that was read, since it is what `object` is now.
pub async fn take_off_stale<K: Watched>(
    client: &Client,
    key: &ObjectKey,
    mut object: K,
) -> Result<K, ReconcileError> {
    let meta = object.meta_mut();
    if !settled::is_worn(meta) || settled::of(meta).is_some() || meta.deletion_timestamp.is_some() {
        return Ok(object);
    }
    let written = around(
        Write::Unsettled,
        patch::<K>(client, key, &settled::take_off(meta)),
    )
    .await?;
    meta.resource_version = written.metadata.resource_version;
    meta.labels = written.metadata.labels;
    meta.annotations = written.metadata.annotations;
    Ok(object)
}

/// Marks an object as finished. Where that cannot be done the next process looks at it once more, and that is all.
pub async fn put_on<K: Watched>(client: &Client, key: &ObjectKey, object: &K, wanted: Settled) {
    let meta = object.meta();
    if settled::of(meta) == Some(wanted) || meta.deletion_timestamp.is_some() {
        return;
    }
    let mark = settled::put_on(meta, wanted);
    if let Err(error) = around(Write::Settled, patch::<K>(client, key, &mark)).await
        && !error.is_gone()
    {
        tracing::debug!(kind = %K::KIND, object = %key, "{error}: it is looked at again after a restart");
    }
}

async fn patch<K: Watched>(
    client: &Client,
    key: &ObjectKey,
    patch: &Value,
) -> Result<PartialObjectMeta<K>, ReconcileError> {
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let what = format!("mark {} {key}", K::KIND);
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    match timeout(READ_LIMIT, api.patch_metadata(&key.name, &params, &patch)).await {
        Ok(done) => done.map_err(ReconcileError::api(what)),
        Err(_) => Err(ReconcileError::Other(format!(
            "{what}: the API server did not answer in time"
        ))),
    }
}

/// How long it is until then.
pub fn left_until(until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default()
}
