//! ks-apiserver's own tenant routes: workspaces, templates, clusters, users, version (contract §3.2, finding F-O6).

use serde_json::{Value, json};

use crate::call::{Call, page};
use crate::clusters as cluster_routes;
use crate::reply::Reply;
use crate::world::Workspace;

/// `GET /version`: ks-apiserver's own, with Kubernetes' inside.
pub(crate) fn version() -> Reply {
    let build = |version: &str| {
        json!({
            "gitVersion": version, "gitCommit": "unknown", "gitTreeState": "unknown", "buildDate": "unknown",
            "goVersion": "go1.26.8", "compiler": "gc", "platform": "linux/amd64",
        })
    };
    let mut own = build("v0.0.0");
    own["gitMajor"] = Value::from("unknown");
    own["gitMinor"] = Value::from("unknown");
    let mut kubernetes = build("v1.36.3");
    for (key, value) in [
        ("major", "1"),
        ("minor", "36"),
        ("emulationMajor", "1"),
        ("emulationMinor", "36"),
        ("minCompatibilityMajor", "1"),
        ("minCompatibilityMinor", "35"),
    ] {
        kubernetes[key] = Value::from(value);
    }
    own["kubernetes"] = kubernetes;
    Reply::json(200, &own)
}

/// `GET …/users/{name}`
pub(crate) fn user(call: &Call<'_>, name: &str) -> Reply {
    let Some(user) = call.state.sessions.user(name) else {
        return Reply::text_error(404, &format!("users.iam.kubesphere.io \"{name}\" not found"));
    };
    let mut metadata = json!({
        "name": user.name, "uid": "8476ec05-25fc-4901-9c77-1c6c56bede66", "resourceVersion": "425",
        "generation": 1, "creationTimestamp": "2026-11-22T12:00:00Z",
    });
    if !user.granted_clusters.is_empty() {
        metadata["annotations"] =
            json!({"iam.kubesphere.io/granted-clusters": user.granted_clusters.join(",")});
    }
    Reply::json(
        200,
        &json!({
            "kind": "User", "apiVersion": "iam.kubesphere.io/v1beta1", "metadata": metadata,
            "spec": {"email": format!("{name}@example.test")}, "status": {"state": format!("{:?}", user.state)},
        }),
    )
}

fn envelope(call: &Call<'_>, items: Vec<Value>) -> Reply {
    let total = items.len();
    Reply::json(
        200,
        &json!({"items": page(items, &call.query), "totalItems": total}),
    )
    .chunk_long()
}

fn metadata(workspace: &Workspace, uid: &str) -> Value {
    json!({
        "name": workspace.name, "uid": uid, "resourceVersion": "434", "generation": 1,
        "creationTimestamp": "2026-11-22T12:00:00Z",
    })
}

fn workspace_object((workspace, uid): &(Workspace, String)) -> Value {
    json!({
        "kind": "Workspace", "apiVersion": "tenant.kubesphere.io/v1beta1", "metadata": metadata(workspace, uid),
        "spec": {"manager": "admin"}, "status": {},
    })
}

fn template_object((workspace, uid): &(Workspace, String)) -> Value {
    let clusters: Vec<Value> = workspace.clusters.iter().map(|c| json!({"name": c})).collect();
    json!({
        "kind": "WorkspaceTemplate", "apiVersion": "tenant.kubesphere.io/v1beta1",
        "metadata": metadata(workspace, uid),
        "spec": {
            "template": {"metadata": {}, "spec": {"manager": "admin"}}, "placement": {"clusters": clusters},
        },
    })
}

/// Workspaces the caller belongs to; all of them for an administrator.
fn mine<'a>(call: &'a Call<'_>) -> impl Iterator<Item = &'a (Workspace, String)> {
    let all = call.state.sessions.is_admin(&call.user);
    call.state
        .workspaces
        .values()
        .filter(move |(w, _)| all || w.members.contains_key(&call.user))
}

pub(crate) fn workspaces(call: &Call<'_>) -> Reply {
    let items = mine(call).map(workspace_object).collect();
    envelope(call, items)
}

/// Membership is not checked here (finding F-B).
pub(crate) fn workspace(call: &Call<'_>, name: &str) -> Reply {
    match call.state.workspaces.get(name) {
        Some(workspace) => Reply::json(200, &workspace_object(workspace)),
        None => Reply::text_error(
            404,
            &format!("Workspace.tenant.kubesphere.io \"{name}\" not found"),
        ),
    }
}

pub(crate) fn templates(call: &Call<'_>) -> Reply {
    let items = mine(call).map(template_object).collect();
    envelope(call, items)
}

pub(crate) fn template(call: &Call<'_>, name: &str) -> Reply {
    match call.state.workspaces.get(name) {
        Some(workspace) => Reply::json(200, &template_object(workspace)),
        None => Reply::text_error(
            404,
            &format!("WorkspaceTemplate.tenant.kubesphere.io \"{name}\" not found"),
        ),
    }
}

fn named(call: &Call<'_>, wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    (0..call.state.clusters.len())
        .filter(|i| wanted(&call.state.clusters[*i].name))
        .map(|i| cluster_routes::object(call.state, i))
        .collect()
}

/// Clusters of a workspace: where its template places it.
pub(crate) fn workspace_clusters(call: &Call<'_>, name: &str) -> Reply {
    match call.state.workspaces.get(name) {
        Some((workspace, _)) => envelope(call, named(call, |c| workspace.clusters.iter().any(|w| w == c))),
        None => Reply::text_error(
            404,
            &format!("WorkspaceTemplate.tenant.kubesphere.io \"{name}\" not found"),
        ),
    }
}

/// Clusters of a tenant: only those in the user's annotation.
pub(crate) fn clusters(call: &Call<'_>) -> Reply {
    let admin = call.state.sessions.is_admin(&call.user);
    let granted = call
        .state
        .sessions
        .user(&call.user)
        .map(|u| u.granted_clusters.clone())
        .unwrap_or_default();
    envelope(call, named(call, |c| admin || granted.iter().any(|g| g == c)))
}

pub(crate) fn all_clusters(call: &Call<'_>) -> Reply {
    envelope(call, named(call, |_| true))
}
