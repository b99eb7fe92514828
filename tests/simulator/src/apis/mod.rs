//! kube-apiserver behind ks-apiserver: `/apis/devops.kubesphere.io/v1alpha3` and the little of `/api/v1` that a tenant
//! reads, with real Kubernetes semantics (contract §6.6, finding F-E).

mod list;
mod table;
mod validate;
mod watch;
mod write;

use serde_json::json;

use crate::call::Call;
use crate::query::Query;
use crate::reply::Reply;
use crate::store::{APPLICATIONS, KINDS, Kind, PIPELINES, StoreError};

/// What a path asks for.
struct Ask<'a> {
    kind: &'static Kind,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    subresource: Option<&'a str>,
}

fn ask<'a>(segments: &[&'a str]) -> Option<Ask<'a>> {
    let (group, version, rest): (&str, &str, &[&str]) = match segments {
        ["apis", group, version, rest @ ..] => (group, version, rest),
        ["api", version, rest @ ..] => ("", version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let [plural, rest @ ..] = rest else { return None };
    let kind = Kind::find(group, version, plural)?;
    if namespace.is_some() && !kind.namespaced {
        return None;
    }
    Some(Ask {
        kind,
        namespace,
        name: rest.first().copied(),
        subresource: rest.get(1).copied(),
    })
}

/// The class of a request in the ledger: `apis.{plural}.{verb}`.
pub(crate) fn class(method: &str, segments: &[&str], query: &Query) -> &'static str {
    let Some(ask) = ask(segments) else {
        return "apis.other";
    };
    let verb = match (method, ask.name) {
        ("GET", _) if query.flag("watch") => 0,
        ("GET", None) => 1,
        ("GET", Some(_)) => 2,
        ("POST", _) => 3,
        ("PUT", _) => 4,
        ("PATCH", _) => 5,
        ("DELETE", _) => 6,
        _ => return "apis.other",
    };
    macro_rules! classes {
        ($plural:literal) => {
            [
                concat!("apis.", $plural, ".watch"),
                concat!("apis.", $plural, ".list"),
                concat!("apis.", $plural, ".get"),
                concat!("apis.", $plural, ".create"),
                concat!("apis.", $plural, ".update"),
                concat!("apis.", $plural, ".patch"),
                concat!("apis.", $plural, ".delete"),
            ]
        };
    }
    let classes = match ask.kind.plural {
        "pipelineruns" => classes!("pipelineruns"),
        "pipelines" => classes!("pipelines"),
        "devopsprojects" => classes!("devopsprojects"),
        "gitrepositories" => classes!("gitrepositories"),
        "applications" => classes!("applications"),
        "namespaces" => classes!("namespaces"),
        "events" => classes!("events"),
        "configmaps" => classes!("configmaps"),
        _ => classes!("secrets"),
    };
    classes[verb]
}

/// What kube-apiserver puts on each of its answers.
fn kubernetes(reply: Reply) -> Reply {
    /// Up to here an answer of kube-apiserver fits into one frame and has a `Content-Length`.
    const FRAME: usize = 4096;
    reply
        .chunk_above(FRAME)
        .header("audit-id", &uuid::Uuid::new_v4().to_string())
        .header("cache-control", "no-cache, private")
        .header(
            "x-kubernetes-pf-flowschema-uid",
            "9277ec4c-af62-4601-ae46-17106fff762b",
        )
        .header(
            "x-kubernetes-pf-prioritylevel-uid",
            "c63ff75e-1643-41f3-8e7b-782ea784cdf7",
        )
}

/// Status 404 of a path nobody serves.
fn unknown_path() -> Reply {
    Reply::new(404, "text/plain; charset=utf-8", "404 page not found\n")
        .header("x-content-type-options", "nosniff")
}

fn answer(result: Result<Reply, StoreError>) -> Reply {
    kubernetes(result.unwrap_or_else(|error| error.status()))
}

pub(crate) fn handle(call: &mut Call<'_>, segments: &[&str]) -> Reply {
    if let Some(reply) = discovery(segments) {
        return kubernetes(reply);
    }
    let Some(ask) = ask(segments) else {
        return kubernetes(unknown_path());
    };
    if !matches!(ask.subresource, None | Some("status")) {
        return kubernetes(unknown_path());
    }
    let watching = call.query.flag("watch");
    match (call.method, ask.name) {
        ("GET", name) if watching => kubernetes(watch::watch(call, &ask, name)),
        ("GET", None) => answer(list::list(call, &ask)),
        ("GET", Some(name)) => answer(list::get(call, &ask, name)),
        ("POST", None) => answer(write::create(call, &ask)),
        ("PUT", Some(name)) => answer(write::update(call, &ask, name)),
        ("PATCH", Some(name)) => answer(write::patch(call, &ask, name)),
        ("DELETE", Some(name)) => answer(write::delete(call, &ask, name)),
        ("DELETE", None) => answer(write::delete_all(call, &ask)),
        _ => kubernetes(Reply::status(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
            Some(json!({})),
        )),
    }
}

/// Enough discovery for clients that look before they ask.
fn discovery(segments: &[&str]) -> Option<Reply> {
    let body = match segments {
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"]}),
        ["apis"] => {
            let groups: Vec<_> = [&PIPELINES, &APPLICATIONS]
                .into_iter()
                .map(|kind| {
                    let version = json!({"groupVersion": kind.api_version(), "version": kind.version});
                    json!({"name": kind.group, "versions": [version], "preferredVersion": version})
                })
                .collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", "devops.kubesphere.io", "v1alpha3"] => resources("devops.kubesphere.io", "v1alpha3"),
        ["apis", "gitops.kubesphere.io", "v1alpha1"] => resources("gitops.kubesphere.io", "v1alpha1"),
        ["api", "v1"] => resources("", "v1"),
        _ => return None,
    };
    Some(Reply::line(200, &body))
}

fn resources(group: &str, version: &str) -> serde_json::Value {
    let of_group = KINDS
        .into_iter()
        .filter(|k| k.group == group && k.version == version);
    let api_version = KINDS
        .into_iter()
        .find(|k| k.group == group)
        .map(Kind::api_version)
        .unwrap_or_default();
    let list: Vec<_> = of_group
        .map(|k| {
            json!({
                "name": k.plural, "singularName": k.kind.to_lowercase(), "namespaced": k.namespaced, "kind": k.kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": list})
}
