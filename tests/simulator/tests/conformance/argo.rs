//! Brings Applications into the state that a recording shows. Argo CD was played by hand when the recordings were made:
//! what it said is taken from them; what ks-devops makes of it is the simulator's own.

use http::Method;
use serde_json::{Value, json};
use tenantry_simulator::{ArgoSetup, Control, world::ArgoScript};
use tenantry_test_support::recorded::Exchange;

use crate::{
    ensure::{objects, post, text, wait, wait_a_little},
    replay::Stage,
};

const APPLICATIONS: &str = "/gitops.kubesphere.io/v1alpha1/namespaces/";
const ARGO_NAME: &str = "/metadata/labels/gitops.kubesphere.io~1argocd-application";
const DELETED: &str = "/metadata/deletionTimestamp";

/// Argo as it was when a group was recorded: not listened to at first, then played by hand.
pub fn begin(control: &Control, group: &str) {
    let setup = if group < "30" {
        ArgoSetup::Off
    } else {
        ArgoSetup::Running
    };
    control.argo_setup(setup).expect("a host cluster");
    control
        .argo_script(None, ArgoScript::still())
        .expect("a host cluster");
}

/// Whether a path is one of Applications.
pub fn is_about(path: &str) -> bool {
    path.contains(APPLICATIONS)
}

/// Namespace and name in a path; the name is empty where it names none.
fn named(path: &str) -> Option<(&str, &str)> {
    let (_, rest) = path.split('?').next()?.split_once(APPLICATIONS)?;
    let mut parts = rest.split('/');
    let (namespace, _, name) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
    Some((namespace, name))
}

/// Brings the simulator into the state that an answer presupposes.
pub async fn state_for(stage: &Stage, control: &Control, exchange: &Exchange) {
    let (Some(response), Some((namespace, name))) = (&exchange.response, named(&exchange.path)) else {
        return;
    };
    let json = response.json.as_ref();
    let syncs = exchange
        .path
        .split('?')
        .next()
        .is_some_and(|p| p.ends_with("/sync"));
    let there = |name: &str| control.object("applications", namespace, name);
    match (&exchange.method, response.status) {
        (&Method::POST, 200) if syncs => {
            // As it was before the operation.
            let mut object = json.cloned().unwrap_or_default();
            if let Some(app) = object.pointer_mut("/spec/argoApp").and_then(Value::as_object_mut) {
                app.remove("operation");
            }
            ensure(stage, control, &object).await;
        }
        (&Method::POST, 400) if syncs => {
            let answer = String::from_utf8_lossy(&response.body);
            let object = there(name);
            if answer.contains("not initialized") && object.is_none() {
                create(stage, namespace, name, &json!({"kind": "argocd"})).await;
            } else if answer.contains("already in progress")
                && object.is_some_and(|o| o.pointer("/spec/argoApp/operation").is_none())
            {
                operate(stage, namespace, name, &json!({"sync": {}})).await;
            }
        }
        (&Method::POST, 409) => {
            let body = &exchange.request_body;
            if let Some(name) = text(body, "/metadata/name")
                && there(name).is_none()
            {
                create(stage, namespace, name, &body["spec"]).await;
            }
        }
        (&Method::POST, _) => {}
        (_, 404) if there(name).is_some_and(|o| o.pointer(DELETED).is_none()) => {
            delete(stage, namespace, name).await;
        }
        (_, 200..300) => {
            for object in objects(json).into_iter().rev() {
                ensure(stage, control, object).await;
            }
        }
        _ => {}
    }
}

/// Makes one Application as it is shown.
async fn ensure(stage: &Stage, control: &Control, wanted: &Value) {
    let (Some(namespace), Some(name)) = (
        text(wanted, "/metadata/namespace"),
        text(wanted, "/metadata/name"),
    ) else {
        return;
    };
    let now = || control.object("applications", namespace, name);
    if now().is_none() {
        let mut spec = wanted["spec"].clone();
        if let Some(app) = spec["argoApp"].as_object_mut() {
            app.remove("operation");
        }
        create(stage, namespace, name, &spec).await;
    }
    if wanted.pointer(ARGO_NAME).is_some() {
        wait_a_little(|| now().is_some_and(|o| o.pointer(ARGO_NAME).is_some())).await;
    }
    let operation = |o: &Value| o.pointer("/spec/argoApp/operation").cloned();
    let running = operation(wanted);
    if let Some(running) = &running
        && now().is_some_and(|o| operation(&o).is_none())
    {
        operate(stage, namespace, name, running).await;
        let argo = || control.argo_application(namespace, name);
        wait_a_little(|| argo().is_none_or(|a| a.get("operation").is_some())).await;
    }
    // An operation that is over was Argo's before.
    if running.is_none() && now().is_some_and(|o| operation(&o).is_some() && o.pointer(ARGO_NAME).is_some()) {
        let argo = || control.argo_application(namespace, name);
        wait_a_little(|| argo().is_none_or(|a| a.get("operation").is_some())).await;
    }
    let said = text(wanted, "/status/argoApp").and_then(|s| serde_json::from_str::<Value>(s).ok());
    let is = |o: &Value| text(o, "/status/argoApp").and_then(|s| serde_json::from_str::<Value>(s).ok());
    if let Some(said) = said.filter(|s| !s.is_null())
        && now().and_then(|o| is(&o)).as_ref() != Some(&said)
    {
        let _ = control.argo_says(namespace, name, Some(said.clone()), running.is_none());
        wait(|| now().and_then(|o| is(&o)).as_ref() == Some(&said)).await;
    }
    if wanted.pointer(DELETED).is_some() && now().is_some_and(|o| o.pointer(DELETED).is_none()) {
        delete(stage, namespace, name).await;
    }
}

async fn create(stage: &Stage, namespace: &str, name: &str, spec: &Value) {
    let path = format!("/kapis{APPLICATIONS}{namespace}/applications");
    let body = json!({"metadata": {"name": name}, "spec": spec});
    post(stage, "admin", &path, &body).await;
}

async fn operate(stage: &Stage, namespace: &str, name: &str, operation: &Value) {
    let body = json!({"spec": {"argoApp": {"operation": operation}}});
    let path = format!("/apis{APPLICATIONS}{namespace}/applications/{name}");
    stage
        .send_as(
            "admin",
            Method::PATCH,
            &path,
            "application/merge-patch+json",
            &body,
        )
        .await;
}

async fn delete(stage: &Stage, namespace: &str, name: &str) {
    let path = format!("/kapis{APPLICATIONS}{namespace}/applications/{name}");
    stage
        .send_as("admin", Method::DELETE, &path, "", &Value::Null)
        .await;
}
