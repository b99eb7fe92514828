//! How a status is written: in place of the one that was read and under its version, so that whoever was overtaken begins
//! anew instead of writing over what it has not seen.

use kube::{Api, api::PostParams};
use serde::Serialize;
use serde_json::Value;

use super::cluster::{self, is_ours, status_of};
use crate::{
    crash_points::Write,
    runtime::{ObjectKey, ReconcileError, Watched},
};

/// Writes `object` as it was read, but with the status that `edit` gives it. Returns it as it is stored now. `write` says
/// what is written down. What others wrote meanwhile that is nothing to us stays, and [does not stop it](cluster::overtake).
///
/// An API server whose CRD is older than this operator drops, without a word, what its schema does not know. What we do
/// rests on what is written down, so that is an error and nothing is done.
pub async fn replace<K: Watched + Serialize>(
    client: &kube::Client,
    object: &K,
    write: Write,
    edit: impl Fn(&mut K),
) -> Result<K, ReconcileError> {
    let key = ObjectKey::of(object);
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let send = |read: K| {
        let mut next = read.clone();
        next.meta_mut().managed_fields = None;
        edit(&mut next);
        let (api, name) = (api.clone(), key.name.clone());
        async move {
            let next = keep_conditions_of_others(next, &read);
            let written = api.replace_status(&name, &PostParams::default(), &next).await?;
            let lost = dropped(&status_of(&next), &status_of(&written), "status");
            Ok((written, lost))
        }
    };
    let what = format!("write the status of {} {key}", K::KIND);
    match cluster::overtake(&api, what, write, object, send).await? {
        (written, None) => Ok(written),
        (_, Some(field)) => Err(ReconcileError::Dropped {
            kind: K::KIND,
            key,
            field,
        }),
    }
}

/// `next` with those conditions that are not ours as they are in `read`.
fn keep_conditions_of_others<K: Watched + Serialize>(next: K, read: &K) -> K {
    let mut of_others = conditions_of(&status_of(read));
    of_others.retain(|condition| !is_ours(condition));
    let mut whole = serde_json::to_value(&next).unwrap_or_default();
    let mut all = conditions_of(&status_of(&next));
    all.retain(is_ours);
    all.append(&mut of_others);
    match whole.get_mut("status") {
        Some(Value::Object(status)) if !all.is_empty() => {
            status.insert("conditions".into(), Value::Array(all))
        }
        _ => return next,
    };
    serde_json::from_value(whole).unwrap_or(next)
}

fn conditions_of(status: &Value) -> Vec<Value> {
    let conditions = status.get("conditions").and_then(Value::as_array);
    conditions.cloned().unwrap_or_default()
}

/// The path of a field of `sent` that is not in `kept`, or is another there. What was added does not matter.
fn dropped(sent: &Value, kept: &Value, path: &str) -> Option<String> {
    match (sent, kept) {
        (Value::Null, _) => None,
        (Value::Object(sent), Value::Object(kept)) => sent.iter().find_map(|(key, sent)| {
            let kept = kept.get(key).unwrap_or(&Value::Null);
            dropped(sent, kept, &format!("{path}.{key}"))
        }),
        (Value::Array(sent), Value::Array(kept)) if sent.len() == kept.len() => sent
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(at, (sent, kept))| dropped(sent, kept, &format!("{path}[{at}]"))),
        _ if sent == kept => None,
        _ => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_kept_is_named() {
        let sent = json!({"phase": "Running", "run": {"token": "t", "name": null}, "stages": [{"name": "a", "result": "b"}]});
        assert_eq!(dropped(&sent, &sent, "status"), None);
        let rows = [
            (
                json!({"phase": "Running", "run": {"token": "t"}, "stages": [{"name": "a", "result": "b"}]}),
                None,
            ),
            (
                json!({"phase": "Running", "run": {"token": "t", "more": 1}, "stages": [{"name": "a", "result": "b"}], "x": {}}),
                None,
            ),
            (
                json!({"phase": "Running", "stages": [{"name": "a", "result": "b"}]}),
                Some("status.run"),
            ),
            (
                json!({"phase": "Running", "run": {}, "stages": [{"name": "a", "result": "b"}]}),
                Some("status.run.token"),
            ),
            (
                json!({"phase": "Running", "run": {"token": "t"}, "stages": [{"name": "a"}]}),
                Some("status.stages[0].result"),
            ),
            (
                json!({"phase": "Running", "run": {"token": "t"}, "stages": []}),
                Some("status.stages"),
            ),
            (
                json!({"phase": "Other", "run": {"token": "t"}, "stages": [{"name": "a", "result": "b"}]}),
                Some("status.phase"),
            ),
            (Value::Null, Some("status")),
        ];
        for (kept, expected) in rows {
            assert_eq!(dropped(&sent, &kept, "status").as_deref(), expected, "{kept}");
        }
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod overtaken;
