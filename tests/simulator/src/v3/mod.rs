//! ks-devops' v1alpha3 API: projects, pipelines, runs, credentials (contract §4). It reads and writes objects; only
//! the artifact download asks Jenkins.

mod artifacts;
mod branches;
mod credentials;
pub(crate) mod list;
mod pipelines;
mod projects;
mod repositories;
pub(crate) mod runs;

use serde_json::{Value, json};

use crate::call::Call;
use crate::reply::Reply;
use crate::route::V3;
use crate::store::{Kind, Writer};

/// Field manager of ks-devops' API server.
pub(crate) const MANAGER: &str = "ds-apiserver";

pub(crate) fn handle(call: &mut Call<'_>, route: V3, taken: &[String]) -> Reply {
    const JSON: &str = "application/json";
    if !call.accepts(JSON) {
        return call.not_acceptable(JSON);
    }
    let at = |i: usize| taken.get(i).map_or("", String::as_str);
    match route {
        V3::ProjectList => projects::list(call, at(0), None),
        V3::ProjectListOfMember => projects::list(call, at(0), Some(at(1))),
        V3::ProjectCreate => projects::create(call, at(0)),
        V3::ProjectGet => projects::get(call, at(0), at(1)),
        V3::ProjectUpdate => projects::update(call, at(1)),
        V3::ProjectDelete => projects::delete(call, at(1)),
        V3::PipelineList => pipelines::list(call, at(0)),
        V3::PipelineCreate => pipelines::create(call, at(0)),
        V3::PipelineGet => pipelines::get(call, at(0), at(1)),
        V3::PipelineUpdate => pipelines::update(call, at(0), at(1)),
        V3::PipelineDelete => pipelines::delete(call, at(0), at(1)),
        V3::Jenkinsfile => pipelines::jenkinsfile(call, at(0), at(1)),
        V3::BranchList => branches::list(call, at(0), at(1)),
        V3::BranchGet => branches::get(call, at(0), at(1), at(2)),
        V3::RunList => runs::list(call, at(0), at(1)),
        V3::RunCreate => runs::create(call, at(0), at(1)),
        V3::RunGet => runs::get(call, at(0), at(1)),
        V3::RunDelete => runs::delete(call, at(0), at(1)),
        V3::NodeDetails => runs::node_details(call, at(0), at(1)),
        V3::ArtifactDownload => artifacts::download(call, at(0), at(1)),
        V3::CredentialList => credentials::list(call, at(0)),
        V3::CredentialCreate => credentials::create(call, at(0)),
        V3::CredentialGet => credentials::get(call, at(0), at(1)),
        V3::CredentialUpdate => credentials::update(call, at(0), at(1)),
        V3::CredentialDelete => credentials::delete(call, at(0), at(1)),
        V3::RepositoryList => repositories::list(call, at(0)),
        V3::RepositoryCreate => repositories::create(call, at(0)),
        V3::RepositoryGet => repositories::get(call, at(0), at(1)),
        V3::RepositoryDelete => repositories::delete(call, at(0), at(1)),
    }
}

/// Replaces an object whatever version the sender knew: the last writer wins (contract §8.21).
fn replace(
    call: &mut Call<'_>,
    kind: &'static Kind,
    project: &str,
    name: &str,
    mut body: Value,
) -> Result<Value, Reply> {
    body["metadata"]["namespace"] = Value::from(project);
    body["metadata"]["name"] = Value::from(name);
    if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let updated = call.cluster().store.update(kind, body, Writer::main(MANAGER));
    updated.map_err(|error| error.text_400())
}

/// `{"message":"success"}`
fn success() -> Reply {
    Reply::json(200, &json!({"message": "success"}))
}

/// An object as most handlers answer it: without `apiVersion` and `kind` (finding F-C).
pub(crate) fn untyped(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    object
}

/// A list envelope; `null` or `[]` when nothing is in it (contract §3.1).
fn envelope(items: Vec<Value>, total: usize, null_when_empty: bool) -> Reply {
    let items = if items.is_empty() && null_when_empty {
        Value::Null
    } else {
        Value::from(items)
    };
    Reply::devops_json(&json!({"items": items, "totalItems": total}))
}
