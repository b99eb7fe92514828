//! The `gitops` group: Applications, which ks-devops hands to Argo CD and whose state it brings back (contract §4.9,
//! §6.10, findings F-N).
//!
//! `applications` and `sync` are ks-devops' API, `controller` its two controllers, `argo` an Argo CD that plays its
//! part as scripted. The controllers know Argo only by its Applications, as in the real system.

mod applications;
pub(crate) mod argo;
pub(crate) mod controller;
mod sync;
mod typed;

use serde_json::{Value, json};

use crate::call::Call;
use crate::reply::Reply;
use crate::route::Gitops as Route;
use crate::store::StoreError;

pub(crate) use controller::Gitops;

/// API group of Applications.
pub(crate) const GROUP: &str = "gitops.kubesphere.io";
/// Label: the namespace of the Argo CD that is to have the application.
pub(crate) const LOCATION: &str = "gitops.kubesphere.io/argocd-location";
/// Label: the name of Argo's Application.
pub(crate) const ARGO_NAME: &str = "gitops.kubesphere.io/argocd-application";
/// Labels with what Argo says.
pub(crate) const HEALTH: &str = "gitops.kubesphere.io/health-status";
pub(crate) const SYNC: &str = "gitops.kubesphere.io/sync-status";
/// Where ks-devops' own Argo CD is.
const ARGO_NAMESPACE: &str = "argocd";

pub(crate) fn handle(call: &mut Call<'_>, route: Route, taken: &[String]) -> Reply {
    const JSON: &str = "application/json";
    if !call.accepts(JSON) {
        return call.not_acceptable(JSON);
    }
    let at = |i: usize| taken.get(i).map_or("", String::as_str);
    match route {
        Route::List => applications::list(call, at(0)),
        Route::Create => applications::create(call, at(0)),
        Route::Get => applications::get(call, at(0), at(1)),
        Route::Update => applications::update(call, at(0), at(1)),
        Route::Delete => applications::delete(call, at(0), at(1)),
        Route::Sync => sync::sync(call, at(0), at(1)),
        Route::Summary => applications::summary(call, at(0)),
        Route::Clusters => clusters(call),
    }
}

/// Reads come from a cache, whose errors name the kind, not the resource.
fn missing(name: &str) -> Reply {
    Reply::text_error(404, &format!("Application.{GROUP} \"{name}\" not found"))
}

/// Writes go to kube-apiserver and carry its errors.
fn refused(error: &StoreError) -> Reply {
    error.text()
}

/// Argo's clusters: its own, and every cluster of KubeSphere, so that the host is there twice (recorded 3315).
fn clusters(call: &mut Call<'_>) -> Reply {
    let mut list = vec![json!({"server": "https://kubernetes.default.svc", "name": "in-cluster"})];
    for (index, cluster) in call.state.clusters.iter().enumerate() {
        let host = if index == 0 { "127.0.0.1" } else { "10.77.0.2" };
        list.push(json!({"server": format!("https://{host}:17443"), "name": cluster.name}));
    }
    Reply::devops_json(&Value::from(list))
}
