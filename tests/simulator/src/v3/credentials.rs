//! Credentials: Secrets whose values are blanked on the way out, and wiped by GET then PUT (contract §4.7).

use serde_json::{Value, json};

use super::pipelines::check_project;
use super::{MANAGER, list as lists, replace, success, untyped};
use crate::call::Call;
use crate::clock;
use crate::reply::{Reply, tri};
use crate::store::{SECRETS, StoreError, Writer, name};

const PREFIX: &str = "credential.devops.kubesphere.io";
const TYPES: [&str; 4] = ["basic-auth", "ssh-auth", "secret-text", "kubeconfig"];
const SECRET_KEYS: [&str; 5] = ["password", "passphrase", "private_key", "secret", "content"];

fn is_credential(secret: &Value) -> bool {
    let kind = secret["type"].as_str().unwrap_or_default();
    kind.strip_prefix(PREFIX)
        .and_then(|t| t.strip_prefix('/'))
        .is_some_and(|t| TYPES.contains(&t))
}

/// Without the secret values. Only the known types are blanked (recorded 0508).
fn masked(mut secret: Value) -> Value {
    if is_credential(&secret) {
        for key in SECRET_KEYS {
            if let Some(value) = secret["data"].get_mut(key) {
                *value = Value::from("");
            }
        }
    }
    untyped(secret)
}

/// `stringData` becomes `data`, and the sync annotations say pending.
fn prepare(body: &mut Value, project: &str) {
    use base64::Engine as _;
    body["metadata"]["namespace"] = Value::from(project);
    if let Some(plain) = body.as_object_mut().and_then(|b| b.remove("stringData")) {
        for (key, value) in plain.as_object().into_iter().flatten() {
            let bytes = value.as_str().unwrap_or_default();
            body["data"][key] = Value::from(base64::engine::general_purpose::STANDARD.encode(bytes));
        }
    }
    if !body["metadata"]["annotations"].is_object() {
        body["metadata"]["annotations"] = json!({});
    }
    let annotations = &mut body["metadata"]["annotations"];
    annotations[format!("{PREFIX}/autosync")] = Value::from("true");
    annotations[format!("{PREFIX}/syncstatus")] = Value::from("pending");
    annotations[format!("{PREFIX}/synctime")] = Value::from(clock::go(clock::now()));
}

/// What the credential controller does a moment later.
fn synced(call: &mut Call<'_>, project: &str, credential: &str) {
    call.cluster().edit(
        &SECRETS,
        project,
        credential,
        Writer::main("ds-controller"),
        |o| {
            if is_credential(o) {
                let annotations = &mut o["metadata"]["annotations"];
                annotations[format!("{PREFIX}/syncstatus")] = Value::from("successful");
                annotations[format!("{PREFIX}/datahash")] = Value::from("7f486885f8");
                o["metadata"]["finalizers"] = json!(["finalizers.kubesphere.io/credential"]);
            }
        },
    );
}

pub(super) fn list(call: &mut Call<'_>, project: &str) -> Reply {
    tri!(check_project(call, project));
    let query = call.query.clone();
    let objects = call
        .cluster()
        .store
        .list(&SECRETS, Some(project))
        .filter(|s| is_credential(s) && lists::passes(s, &query));
    lists::answer(objects, &query, true, masked)
}

pub(super) fn get(call: &mut Call<'_>, project: &str, credential: &str) -> Reply {
    tri!(check_project(call, project));
    match call.cluster().store.get(&SECRETS, project, credential) {
        Some(secret) => Reply::devops_json(&masked(secret.clone())),
        None => StoreError::not_found(&SECRETS, credential).text_400(),
    }
}

pub(super) fn create(call: &mut Call<'_>, project: &str) -> Reply {
    tri!(check_project(call, project));
    let mut body = tri!(call.json());
    prepare(&mut body, project);
    match call.cluster().store.create(&SECRETS, body, MANAGER, false) {
        Ok(secret) => {
            synced(call, project, name(&secret));
            Reply::devops_json(&masked(secret))
        }
        Err(error) => error.text_400(),
    }
}

pub(super) fn update(call: &mut Call<'_>, project: &str, credential: &str) -> Reply {
    tri!(check_project(call, project));
    let mut body = tri!(call.json());
    prepare(&mut body, project);
    let secret = tri!(replace(call, &SECRETS, project, credential, body));
    synced(call, project, credential);
    Reply::devops_json(&masked(secret))
}

pub(super) fn delete(call: &mut Call<'_>, project: &str, credential: &str) -> Reply {
    tri!(check_project(call, project));
    let now = call.now;
    let cluster = call.cluster();
    cluster.edit(
        &SECRETS,
        project,
        credential,
        Writer::main("ds-controller"),
        |o| {
            o["metadata"]["finalizers"] = json!([]);
        },
    );
    match cluster.store.delete(&SECRETS, project, credential, now) {
        Ok(_) => success(),
        Err(error) => error.text_400(),
    }
}
