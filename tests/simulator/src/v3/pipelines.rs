//! Pipelines (contract §4.2).

use serde_json::{Value, json};

use super::{MANAGER, list as lists, replace, success, untyped};
use crate::call::Call;
use crate::reply::{Reply, tri};
use crate::store::{PIPELINES, PROJECTS, StoreError, Writer};

/// The project must exist as a DevOpsProject.
pub(super) fn check_project(call: &mut Call<'_>, project: &str) -> Result<(), Reply> {
    match call.cluster().store.get(&PROJECTS, "", project) {
        Some(_) => Ok(()),
        None => Err(StoreError::not_found(&PROJECTS, project).text_400()),
    }
}

fn with_status(mut object: Value) -> Value {
    if object.get("status").is_none() {
        object["status"] = json!({});
    }
    object
}

pub(super) fn list(call: &mut Call<'_>, project: &str) -> Reply {
    tri!(check_project(call, project));
    let query = call.query.clone();
    let objects = call
        .cluster()
        .store
        .list(&PIPELINES, Some(project))
        .filter(|p| lists::passes(p, &query))
        .filter(|p| query.get("type").is_none_or(|t| p["spec"]["type"] == t));
    lists::answer(objects, &query, true, with_status)
}

pub(super) fn get(call: &mut Call<'_>, project: &str, pipeline: &str) -> Reply {
    tri!(check_project(call, project));
    match call.cluster().store.get(&PIPELINES, project, pipeline) {
        Some(object) => Reply::devops_json(&untyped(with_status(object.clone()))),
        None => StoreError::not_found(&PIPELINES, pipeline).text_400(),
    }
}

pub(super) fn create(call: &mut Call<'_>, project: &str) -> Reply {
    tri!(check_project(call, project));
    let mut body = tri!(call.json());
    body["metadata"]["namespace"] = Value::from(project);
    body["status"] = json!({});
    omit_empty(&mut body);
    match call.cluster().store.create(&PIPELINES, body, MANAGER, false) {
        Ok(object) => Reply::devops_json(&untyped(object)),
        Err(error) => error.text_400(),
    }
}

/// The real types leave an empty default out.
fn omit_empty(pipeline: &mut Value) {
    let parameters = pipeline
        .pointer_mut("/spec/pipeline/parameters")
        .and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten().filter_map(Value::as_object_mut) {
        if parameter.get("default_value").is_some_and(|v| v == "") {
            parameter.remove("default_value");
        }
    }
}

/// Last writer wins; the stored inline Jenkinsfile stays whatever is sent.
pub(super) fn update(call: &mut Call<'_>, project: &str, pipeline: &str) -> Reply {
    tri!(check_project(call, project));
    let mut body = tri!(call.json());
    omit_empty(&mut body);
    let Some(stored) = call.cluster().store.get(&PIPELINES, project, pipeline).cloned() else {
        return StoreError::not_found(&PIPELINES, pipeline).text_400();
    };
    if let Some(file) = stored.pointer("/spec/pipeline/jenkinsfile")
        && body["spec"]["pipeline"].is_object()
    {
        body["spec"]["pipeline"]["jenkinsfile"] = file.clone();
    }
    body["status"] = json!({});
    let object = tri!(replace(call, &PIPELINES, project, pipeline, body));
    Reply::devops_json(&untyped(object))
}

/// Answers at once; the object goes when Jenkins' job is gone.
pub(super) fn delete(call: &mut Call<'_>, project: &str, pipeline: &str) -> Reply {
    tri!(check_project(call, project));
    let now = call.now;
    match call.cluster().store.delete(&PIPELINES, project, pipeline, now) {
        Ok(_) => success(),
        Err(error) => error.text_400(),
    }
}

pub(super) fn jenkinsfile(call: &mut Call<'_>, project: &str, pipeline: &str) -> Reply {
    tri!(check_project(call, project));
    let mode = call.query.text("mode").to_owned();
    let body = tri!(call.json());
    if !matches!(mode.as_str(), "raw" | "json") {
        return Reply::text_error(400, &format!("invalid edit mode: {mode}"));
    }
    let data = body["data"].clone();
    let edited = call
        .cluster()
        .edit(&PIPELINES, project, pipeline, Writer::main(MANAGER), |o| {
            if mode == "raw" {
                o["spec"]["pipeline"]["jenkinsfile"] = data;
            } else {
                o["metadata"]["annotations"]["pipeline.devops.kubesphere.io/jenkinsfile"] = data;
            }
            o["metadata"]["annotations"]["pipeline.devops.kubesphere.io/jenkinsfile.edit.mode"] =
                Value::from(mode);
        });
    match edited {
        Some(_) => Reply::json(200, &json!({"result": "success"})),
        None => StoreError::not_found(&PIPELINES, pipeline).text_400(),
    }
}
