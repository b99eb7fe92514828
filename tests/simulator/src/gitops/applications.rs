//! ks-devops' routes on Applications: what is sent is stored as it is, the controllers do the rest.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ARGO_NAMESPACE, HEALTH, LOCATION, SYNC, missing, refused, typed};
use crate::call::{Call, go_json_error};
use crate::reply::{Reply, tri};
use crate::store::{APPLICATIONS, Writer, label, name, namespace};
use crate::v3::{MANAGER, list as lists, untyped};

/// Health and sync status are labels, matched exactly; a label selector is not looked at (findings F-N10).
pub(super) fn list(call: &mut Call<'_>, project: &str) -> Reply {
    let query = call.query.clone();
    let fits = |object: &Value, key: &str, of: &str| {
        let wanted = query.text(key);
        wanted.is_empty() || label(object, of) == Some(wanted)
    };
    let objects = call
        .cluster()
        .store
        .list(&APPLICATIONS, Some(project))
        .filter(|a| fits(a, "healthStatus", HEALTH) && fits(a, "syncStatus", SYNC))
        .filter(|a| lists::filters_pass(a, &query));
    lists::answer(objects, &query, false, typed::application)
}

pub(super) fn get(call: &mut Call<'_>, project: &str, app: &str) -> Reply {
    match call.cluster().store.get(&APPLICATIONS, project, app) {
        Some(object) => Reply::devops_json(&typed::application(object.clone())),
        None => missing(app),
    }
}

/// The Application in a body; what Go cannot read is a 500 here.
fn decode(call: &Call<'_>) -> Result<Value, Reply> {
    let text = String::from_utf8_lossy(call.body);
    let broken = |text: &str| Reply::text_error(500, text);
    if !call.header("content-type").starts_with("application/json") {
        return call.json();
    }
    let body: Value = serde_json::from_str(&text).map_err(|_| broken(&go_json_error(&text)))?;
    typed::check_application(&body).map_err(|error| broken(&error))?;
    Ok(typed::application(body))
}

pub(super) fn create(call: &mut Call<'_>, project: &str) -> Reply {
    let mut body = tri!(decode(call));
    body["metadata"]["namespace"] = Value::from(project);
    if !body["metadata"]["labels"].is_object() {
        body["metadata"]["labels"] = json!({});
    }
    body["metadata"]["labels"][LOCATION] = Value::from(ARGO_NAMESPACE);
    match call.cluster().store.create(&APPLICATIONS, body, MANAGER, false) {
        Ok(object) => Reply::devops_json(&untyped(typed::application(object))),
        Err(error) => refused(&error),
    }
}

/// Replaces the whole object, whatever version the sender knew: labels, finalizers and a running operation that are not
/// in the body are gone (finding F-N7).
pub(super) fn update(call: &mut Call<'_>, project: &str, app: &str) -> Reply {
    let mut body = tri!(decode(call));
    let store = &mut call.cluster().store;
    if store.get(&APPLICATIONS, project, app).is_none() {
        return missing(app);
    }
    // ks-devops takes the version of the one in the path and leaves the rest to client-go.
    for (empty, text) in [
        (
            namespace(&body).is_empty(),
            "an empty namespace may not be set when a resource name is provided",
        ),
        (name(&body).is_empty(), "resource name may not be empty"),
    ] {
        if empty {
            return Reply::text_error(500, text);
        }
    }
    if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    match store.update(&APPLICATIONS, body, Writer::main(MANAGER)) {
        Ok(object) => Reply::devops_json(&typed::application(object)),
        Err(error) => refused(&error),
    }
}

/// Only `cascade=true` is a cascade: Argo is then told to remove what it deployed (finding F-N8). The answer is the
/// object as it was.
pub(super) fn delete(call: &mut Call<'_>, project: &str, app: &str) -> Reply {
    let cascade = call.query.get("cascade") == Some("true");
    let now = call.now;
    let cluster = call.cluster();
    let Some(object) = cluster.store.get(&APPLICATIONS, project, app).cloned() else {
        return missing(app);
    };
    if cascade {
        cluster.gitops.argo.finalize_resources(&object);
    }
    match cluster.store.delete(&APPLICATIONS, project, app, now) {
        Ok(_) => Reply::devops_json(&typed::application(object)),
        Err(error) => refused(&error),
    }
}

/// Counts by label; an application Argo has said nothing of yet is only in the total.
pub(super) fn summary(call: &mut Call<'_>, project: &str) -> Reply {
    let all: Vec<&Value> = call.cluster().store.list(&APPLICATIONS, Some(project)).collect();
    let count = |of: &str| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for value in all.iter().filter_map(|a| label(a, of)) {
            *counts.entry(value).or_default() += 1;
        }
        counts
    };
    Reply::devops_json(&json!({
        "total": all.len(), "healthStatus": count(HEALTH), "syncStatus": count(SYNC),
    }))
}
