//! `/clusters/{name}/…`: which cluster answers, and how a member that cannot says so (contract §2, finding F-O1).

use serde_json::json;

use crate::call::Call;
use crate::reply::Reply;
use crate::state::{ClusterHealth, State};

/// Takes the cluster out of a path, in its new and its old form.
pub(crate) fn split(segments: &[&str]) -> (Option<String>, Vec<String>) {
    let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    match segments {
        ["clusters", cluster, rest @ ..] => (Some((*cluster).to_owned()), own(rest)),
        [root @ ("kapis" | "apis" | "api"), "clusters", cluster, rest @ ..] => {
            let mut path = vec![(*root).to_owned()];
            path.extend(own(rest));
            (Some((*cluster).to_owned()), path)
        }
        _ => (None, own(segments)),
    }
}

/// Where a request goes.
pub(crate) enum Target {
    Host,
    Member(usize),
    Refused(Box<Reply>),
    Hangs,
}

/// The host's dispatcher.
pub(crate) fn resolve(state: &State, name: Option<&str>) -> Target {
    const MEMBER: &str = "10.77.0.2";
    let Some(name) = name.filter(|n| *n != "host") else {
        return Target::Host;
    };
    let Some(index) = state.clusters.iter().position(|c| c.name == name) else {
        return Target::Refused(Box::new(Reply::err_status(
            400,
            "BadRequest",
            &format!("cluster {name} not exists"),
        )));
    };
    if index == 0 {
        return Target::Host;
    }
    let member = &state.clusters[index];
    let unavailable = |message: &str| Reply::err_status(503, "ServiceUnavailable", message);
    let reply = match member.health {
        ClusterHealth::Healthy => return Target::Member(index),
        ClusterHealth::Hangs => return Target::Hangs,
        ClusterHealth::NotReady => unavailable(&format!("cluster {name} is not ready")),
        ClusterHealth::CredentialsRefused => {
            unavailable("the server has asked for the client to provide credentials")
        }
        ClusterHealth::KubeApiserverDown => Reply::bad_gateway(&format!(
            "error trying to reach service: dial tcp {MEMBER}:17443: connect: connection refused"
        )),
        ClusterHealth::KsApiserverDown => {
            let cause = format!(
                "error trying to reach service: dial tcp {MEMBER}:19090: connect: connection refused"
            );
            if member.direct {
                Reply::bad_gateway(&cause)
            } else {
                service_proxy(Reply::status(503, "ServiceUnavailable", &cause, None))
            }
        }
        ClusterHealth::IdentityRejected => Reply::identity_rejected(),
    };
    Target::Refused(Box::new(reply))
}

fn service_proxy(reply: Reply) -> Reply {
    reply
        .header("audit-id", &uuid::Uuid::new_v4().to_string())
        .header("cache-control", "no-cache, private")
}

/// What the extra hops to a member leave on its answers.
pub(crate) fn through(reply: Reply, cluster: usize, state: &State, segments: &[&str]) -> Reply {
    if cluster == 0 || state.clusters[cluster].direct {
        return reply;
    }
    let kubernetes =
        matches!(segments.first(), Some(&"apis" | &"api")) && reply.headers.contains_key("audit-id");
    if kubernetes {
        let own = reply
            .headers
            .get("audit-id")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        return reply
            .header("audit-id", &format!("{own}, {}", uuid::Uuid::new_v4()))
            .header("cache-control", "no-cache, private, no-cache, private");
    }
    service_proxy(reply)
}

/// The hop from ks-apiserver to ks-devops: `Some` if it fails.
pub(crate) fn devops_hop(call: &mut Call<'_>, group: &str, version: &str) -> Option<Reply> {
    let index = call.cluster;
    let cluster = call.cluster();
    if cluster.extension_unavailable {
        let message = format!("apiService {version}.{group} is not available");
        return Some(Reply::err_status(503, "ServiceUnavailable", &message));
    }
    let port = if index == 0 { 1 } else { 19_091 };
    cluster
        .devops_down
        .then(|| Reply::bad_gateway(&format!("dial tcp 127.0.0.1:{port}: connect: connection refused")))
}

/// A cluster as the tenant routes show it.
pub(crate) fn object(state: &State, index: usize) -> serde_json::Value {
    let cluster = &state.clusters[index];
    let host = index == 0;
    let ready = !matches!(cluster.health, ClusterHealth::NotReady);
    let mut object = json!({
        "kind": "Cluster", "apiVersion": "cluster.kubesphere.io/v1alpha1",
        "metadata": {
            "name": cluster.name, "uid": cluster.uid, "resourceVersion": "448", "generation": 1,
            "creationTimestamp": "2026-11-22T12:00:00Z",
        },
        "spec": {
            "joinFederation": true, "provider": "bench",
            "connection": {"type": "direct", "kubernetesAPIEndpoint": "https://127.0.0.1:17443"},
        },
        "status": {},
    });
    if host {
        object["metadata"]["labels"] = json!({"cluster-role.kubesphere.io/host": ""});
    } else {
        object["status"] = json!({"conditions": [{
            "type": "Ready", "status": if ready { "True" } else { "False" },
            "lastUpdateTime": "2026-11-22T12:00:00Z", "lastTransitionTime": "2026-11-22T12:00:00Z",
            "reason": "Ready", "message": "Cluster is available now",
        }]});
    }
    object
}
