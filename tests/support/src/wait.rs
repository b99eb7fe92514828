//! Waiting for a state: poll until it is there, and say at the deadline what was there instead.

use std::{fmt::Debug, time::Duration};

use anyhow::{Result, bail};
use kube::Api;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

/// The usual deadline of a wait: far beyond what a healthy run needs on a busy machine, since a wait that succeeds costs
/// nothing and one that fails too early costs a person's afternoon.
pub const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(50);

/// What one look saw.
#[derive(Debug)]
pub enum Seen<T> {
    /// The state that was waited for, and what the caller wants of it.
    Done(T),
    /// Not yet; the text tells the state seen, for the message at the deadline.
    NotYet(String),
}

impl Seen<()> {
    /// Done when `done`, else the state is told.
    pub fn when(done: bool, state: impl FnOnce() -> String) -> Self {
        if done {
            Self::Done(())
        } else {
            Self::NotYet(state())
        }
    }
}

/// Looks again and again until `look` sees the state that `what` describes ("the ConfigMap to be collected").
///
/// An error of `look` is a state like others (an API server that restarts refuses connections) and is told at the
/// deadline, unless a later look succeeds.
pub async fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut last = "nothing: the first look did not return".to_owned();
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(Seen::Done(value))) => return Ok(value),
            Ok(Ok(Seen::NotYet(state))) => last = state,
            Ok(Err(error)) => last = format!("error: {error:#}"),
            Err(_) => bail!("waited {deadline:?} for {what}; the last look hung, the one before saw: {last}"),
        }
        if Instant::now() + POLL >= end {
            bail!("waited {deadline:?} for {what}; last seen: {last}");
        }
        sleep(POLL).await;
    }
}

/// Waits, up to [`PATIENCE`], until the object has the condition `kind` with `status` ("True", "False", "Unknown"), and
/// returns the object.
pub async fn wait_condition<K>(api: &Api<K>, name: &str, kind: &str, status: &str) -> Result<K>
where
    K: Clone + Debug + DeserializeOwned + Serialize + kube::Resource,
{
    let what = format!("{} {name} to have {kind}={status}", plural(api));
    wait_for(&what, PATIENCE, async || {
        let object = api.get(name).await?;
        let value = serde_json::to_value(&object)?;
        let conditions = value["status"]["conditions"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let found = conditions
            .iter()
            .any(|c| c["type"] == kind && c["status"] == status);
        Ok(if found {
            Seen::Done(object)
        } else {
            Seen::NotYet(describe(&value, conditions))
        })
    })
    .await
}

/// The last part of the API's path that names the kind.
fn plural<K: kube::Resource>(api: &Api<K>) -> &str {
    api.resource_url().rsplit('/').next().unwrap_or_default()
}

fn describe(object: &Value, conditions: &[Value]) -> String {
    if conditions.is_empty() {
        return format!("no conditions; status is {}", object["status"]);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines: Vec<_> = conditions
        .iter()
        .map(|c| {
            let (reason, message) = (text(&c["reason"]), text(&c["message"]));
            format!(
                "{}={} ({reason}: {message})",
                text(&c["type"]),
                text(&c["status"])
            )
        })
        .collect();
    lines.join(", ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[tokio::test]
    async fn the_deadline_tells_the_last_state() {
        let mut looks = 0;
        let error = wait_for("a miracle", Duration::from_millis(200), async || {
            looks += 1;
            Ok::<_, anyhow::Error>(Seen::<()>::NotYet(format!("look {looks}")))
        })
        .await
        .unwrap_err();
        assert!(looks > 1, "it must look more than once");
        assert_eq!(
            error.to_string(),
            format!("waited 200ms for a miracle; last seen: look {looks}")
        );
    }

    #[tokio::test]
    async fn a_look_that_hangs_ends_at_the_deadline() {
        let error = wait_for("an answer", Duration::from_millis(50), async || {
            std::future::pending::<Result<Seen<()>>>().await
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("hung"), "{error}");
    }

    #[tokio::test]
    async fn an_error_is_a_state_that_may_pass() {
        let mut looks = 0;
        let value = wait_for("the server", PATIENCE, async || {
            looks += 1;
            if looks < 3 {
                Err(anyhow!("refused"))
            } else {
                Ok(Seen::Done(looks))
            }
        })
        .await
        .unwrap();
        assert_eq!(value, 3);
    }
}
