//! Our own cluster, within a bound.

use std::time::Duration;

use kube::Api;
use tokio::time::timeout;

use crate::{api::conditions::Reason, runtime::ReconcileError, trouble::Trouble};

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
            format!("could not read {what}: {error}"),
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
