//! DevOps projects (contract §3.3).

use serde_json::{Value, json};

use super::{MANAGER, envelope, list as lists, success, untyped};
use crate::call::{Call, page};
use crate::clock;
use crate::rbac::RequestInfo;
use crate::reply::Reply;
use crate::state::{CREATOR, WORKSPACE_LABEL};
use crate::store::{PROJECTS, Writer, label, name};

const SYNC_STATUS: &str = "devopsproject.devops.kubesphere.io/syncstatus";
const SYNC_TIME: &str = "devopsproject.devops.kubesphere.io/synctime";

/// Projects of a workspace that the caller (or the given member) may see. No project at all is the literal `null`.
pub(super) fn list(call: &mut Call<'_>, workspace: &str, member: Option<&str>) -> Reply {
    let all: Vec<Value> = call
        .cluster()
        .store
        .list(&PROJECTS, None)
        .filter(|p| label(p, WORKSPACE_LABEL) == Some(workspace))
        .cloned()
        .collect();
    if all.is_empty() && member.is_none() {
        return Reply::json(200, &Value::Null);
    }
    let user = member.unwrap_or(&call.user);
    let cluster = &call.state.clusters[call.cluster];
    let mut items: Vec<Value> = all
        .into_iter()
        .filter(|project| {
            let info = RequestInfo {
                is_resource: true,
                verb: "get",
                group: PROJECTS.group.into(),
                namespace: Some(name(project).into()),
                resource: PROJECTS.plural.into(),
                name: name(project).into(),
                ..RequestInfo::default()
            };
            call.state.may(user, cluster, &info)
        })
        .filter(|project| lists::passes(project, &call.query))
        .collect();
    lists::sort(&mut items, &call.query);
    let total = items.len();
    envelope(page(items, &call.query), total, true)
}

/// By name, or by short name with `generateName=true`; `check=true` only says whether it exists.
pub(super) fn get(call: &mut Call<'_>, workspace: &str, wanted: &str) -> Reply {
    let by_short_name = call.query.flag("generateName");
    let check = call.query.flag("check");
    let found = call
        .cluster()
        .store
        .list(&PROJECTS, None)
        .find(|p| {
            if by_short_name {
                p["metadata"]["generateName"] == wanted && label(p, WORKSPACE_LABEL) == Some(workspace)
            } else {
                name(p) == wanted
            }
        })
        .cloned();
    match found {
        found if check => Reply::json(200, &json!({"exist": found.is_some()})),
        Some(project) => Reply::devops_json(&untyped(project)),
        None => {
            let text = format!("{} \"{wanted}\" not found", PROJECTS.qualified());
            Reply::text_error(if by_short_name { 400 } else { 404 }, &text)
        }
    }
}

/// Needs a `generateName`; the name is always made up.
pub(super) fn create(call: &mut Call<'_>, workspace: &str) -> Reply {
    let mut body = match call.json() {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let short = body["metadata"]["generateName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if short.is_empty() {
        let text = "DevOpsProject.devops.kubesphere.io \"\" is invalid: metadata.generateName: Required value: \
                    generateName is required";
        return Reply::text_error(400, text);
    }
    let user = call.user.clone();
    let store = &mut call.cluster().store;
    let taken = store.list(&PROJECTS, None).any(|p| {
        p["metadata"]["generateName"] == short.as_str() && label(p, WORKSPACE_LABEL) == Some(workspace)
    });
    if taken {
        let text = format!(
            "Operation cannot be fulfilled on devopsproject.devops.kubesphere.io \"{short}\": {short}%!(EXTRA \
             *errors.errorString=a devops project named {short} already exists in the workspace)"
        );
        return Reply::text_error(409, &text);
    }
    for key in ["labels", "annotations"] {
        if !body["metadata"][key].is_object() {
            body["metadata"][key] = json!({});
        }
    }
    let metadata = body["metadata"].as_object_mut().expect("indexed above");
    metadata.remove("name");
    metadata["labels"][WORKSPACE_LABEL] = Value::from(workspace);
    metadata["annotations"][SYNC_STATUS] = Value::from("pending");
    metadata["annotations"][SYNC_TIME] = Value::from(clock::go(clock::now()));
    metadata["annotations"]
        .as_object_mut()
        .expect("made above")
        .entry(CREATOR)
        .or_insert(Value::from(user));
    body["spec"] = json!({});
    body["status"] = json!({});
    match store.create(&PROJECTS, body, MANAGER, false) {
        Ok(project) => Reply::devops_json(&untyped(project)),
        Err(error) => error.text_400(),
    }
}

pub(super) fn update(call: &mut Call<'_>, project: &str) -> Reply {
    let body = match call.json() {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let store = &mut call.cluster().store;
    let Some(mut object) = store.get(&PROJECTS, "", project).cloned() else {
        return Reply::text_error(404, &format!("{} \"{project}\" not found", PROJECTS.qualified()));
    };
    for key in ["labels", "annotations"] {
        if body["metadata"][key].is_object() {
            object["metadata"][key] = body["metadata"][key].clone();
        }
    }
    match store.update(&PROJECTS, object, Writer::main(MANAGER)) {
        Ok(project) => Reply::devops_json(&untyped(project)),
        Err(error) => error.text_400(),
    }
}

pub(super) fn delete(call: &mut Call<'_>, project: &str) -> Reply {
    let now = call.now;
    match call.cluster().store.delete(&PROJECTS, "", project, now) {
        Ok(_) => success(),
        Err(error) => error.text_400(),
    }
}
