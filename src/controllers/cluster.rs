//! Our own cluster, within a bound.

use std::time::Duration;

use kube::Api;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    api::conditions::{self, Reason},
    crash_points::{Write, around},
    runtime::{ReconcileError, Watched, glimpse::fingerprint, harness::plain},
    trouble::Trouble,
};

/// How long a call to our own API server may take.
pub const API_LIMIT: Duration = Duration::from_secs(30);

/// Reads an object of our own cluster, within a bound.
pub async fn get_opt<K>(api: &Api<K>, name: &str, what: &str) -> Result<Option<K>, Trouble>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match timeout(API_LIMIT, api.get_opt(name)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Trouble::passing(
            Reason::RemoteUnavailable,
            format!("could not read {what}: {}", plain(&error)),
        )),
        Err(_) => Err(Trouble::passing(
            Reason::RemoteUnavailable,
            format!("could not read {what}: no answer in time"),
        )),
    }
}

/// Waits for a write to our own cluster, within a bound. `what` is done to which object, for the error.
pub async fn write<T>(
    what: String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ReconcileError> {
    match timeout(API_LIMIT, call).await {
        Ok(result) => result.map_err(ReconcileError::api(what)),
        Err(_) => Err(ReconcileError::Other(format!(
            "{what}: the API server did not answer in time"
        ))),
    }
}

/// How often a write is sent before its conflicts are somebody else's to wait out.
const ATTEMPTS: u32 = 16;

/// Writes to `object` under the version that was read. Where somebody else was quicker it is read again and, if nothing of
/// what the write rests on has changed, sent again at once under the new version: among other writers who do not rest, a
/// whole reconcile is too long to be never overtaken. `send` gets the object as it was read last.
///
/// What it rests on: what is [acted on](fingerprint) of the metadata, and the status without the conditions of others. So
/// whoever has seen less than what is stored is still refused.
pub async fn overtake<K, T, F>(
    api: &Api<K>,
    what: String,
    point: Write,
    object: &K,
    send: impl Fn(K) -> F,
) -> Result<T, ReconcileError>
where
    K: Watched + Serialize,
    F: Future<Output = kube::Result<T>>,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let tries = Box::pin(async {
        let mut read = object.clone();
        for _ in 1..ATTEMPTS {
            let refused = match send(read).await {
                Err(error) if is_overtaken(&error) => error,
                done => return done,
            };
            read = api.get(&name).await?;
            if ground(&read) != ground(object) {
                return Err(refused);
            }
        }
        send(read).await
    });
    write(what, around(point, tries)).await
}

fn is_overtaken(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}

/// What a write rests on.
fn ground<K: Watched + Serialize>(object: &K) -> (u64, Value) {
    let mut status = status_of(object);
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.retain(is_ours);
    }
    (fingerprint(object.meta()), status)
}

/// Whether this is a condition of ours, as JSON.
pub fn is_ours(condition: &Value) -> bool {
    condition["type"].as_str().is_some_and(conditions::is_ours)
}

/// The status of an object as it is sent.
pub fn status_of(object: &impl Serialize) -> Value {
    let whole = serde_json::to_value(object).unwrap_or_default();
    whole.get("status").cloned().unwrap_or_default()
}
