//! Reading our own cluster, within a bound.

use std::time::Duration;

use kube::Api;

use crate::api::conditions::Reason;
use crate::trouble::Trouble;

/// How long a call to our own API server may take.
pub const API_LIMIT: Duration = Duration::from_secs(30);

/// Reads an object of our own cluster, within a bound.
pub async fn get_opt<K>(api: &Api<K>, name: &str, what: &str) -> Result<Option<K>, Trouble>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match tokio::time::timeout(API_LIMIT, api.get_opt(name)).await {
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
