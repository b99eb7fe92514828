//! `POST …/applications/{app}/sync`: writes `spec.argoApp.operation`; all else is Argo's (finding F-N5).

use serde_json::{Map, Value, json};

use super::{missing, refused, typed};
use crate::call::Call;
use crate::reply::Reply;
use crate::store::{APPLICATIONS, Writer};
use crate::v3::MANAGER;

pub(super) fn sync(call: &mut Call<'_>, project: &str, app: &str) -> Reply {
    let wanted = match call.json() {
        Ok(body) if typed::is_sync_request(&body) => body,
        _ => return bad("invalid application sync request"),
    };
    let user = call.user.clone();
    let store = &mut call.cluster().store;
    let Some(mut object) = store.get(&APPLICATIONS, project, app).cloned() else {
        return missing(app);
    };
    let Some(argo) = object.pointer_mut("/spec/argoApp").filter(|a| a.is_object()) else {
        return bad("application is not initialized, please confirm you have already configured it");
    };
    if argo.get("operation").is_some_and(|o| !o.is_null()) {
        return bad("another operation is already in progress");
    }
    argo["operation"] = operation(&wanted, &user);
    match store.update(&APPLICATIONS, object, Writer::main(MANAGER)) {
        Ok(object) => Reply::devops_json(&typed::application(object)),
        Err(error) => refused(&error),
    }
}

fn bad(text: &str) -> Reply {
    Reply::text_error(400, &format!("[ServiceError:400] {text}"))
}

/// The request in Argo's words: `strategy` is called syncStrategy there, `infos` info. What is empty is left out.
fn operation(wanted: &Value, user: &str) -> Value {
    let mut sync = Map::new();
    for (theirs, ours) in [
        ("revision", "revision"),
        ("prune", "prune"),
        ("dryRun", "dryRun"),
        ("syncStrategy", "strategy"),
        ("resources", "resources"),
        ("manifests", "manifests"),
        ("syncOptions", "syncOptions"),
    ] {
        if let Some(value) = wanted.get(ours).filter(|v| !is_empty(v)) {
            sync.insert(theirs.into(), value.clone());
        }
    }
    let retry = wanted.get("retryStrategy").filter(|r| r.is_object());
    let mut operation = json!({
        "sync": sync, "initiatedBy": {"username": user}, "retry": retry.cloned().unwrap_or_else(|| json!({})),
    });
    if let Some(infos) = wanted.get("infos").filter(|v| !is_empty(v)) {
        operation["info"] = infos.clone();
    }
    operation
}

/// Go's `omitempty`: a pointer to an empty struct is not empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
