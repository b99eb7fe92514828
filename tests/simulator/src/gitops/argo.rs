//! A played Argo CD: its Applications with spec, operation and status, and what it does with them as scripted. It
//! knows nothing of KubeSphere's objects but the owner that is written on its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{ARGO_NAME, LOCATION};
use crate::clock::{self, Millis, Scale};
use crate::controller::Key;
use crate::store::label;
use crate::world::ArgoScript;

/// Argo's namespace, and the Application's name in it.
pub(crate) type Place = (String, String);

/// What Argo does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Compare,
    Start,
    Finish,
    Settle,
    Vanish,
}

/// One of Argo's Applications.
#[derive(Debug, Clone)]
pub(crate) struct ArgoApplication {
    /// Whose it is: labels application-namespace and application-name.
    pub(crate) owner: Key,
    pub(crate) spec: Value,
    pub(crate) operation: Option<Value>,
    pub(crate) status: Option<Value>,
    /// Its resources go with it (`resources-finalizer.argocd.argoproj.io`).
    cascade: bool,
    deleting: Option<Millis>,
    next: Option<(Millis, Act)>,
}

impl ArgoApplication {
    /// As Argo's API would show it.
    pub(crate) fn object(&self, place: &Place) -> Value {
        let mut object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": place.1, "namespace": place.0, "labels": {
                "gitops.kubesphere.io/application-name": self.owner.1,
                "gitops.kubesphere.io/application-namespace": self.owner.0,
                "gitops.kubesphere.io/argocd-application-control-by": "ks-devops",
            }},
            "spec": self.spec,
        });
        for (key, value) in [("operation", &self.operation), ("status", &self.status)] {
            if let Some(value) = value {
                object[key] = value.clone();
            }
        }
        if let Some(since) = self.deleting {
            object["metadata"]["deletionTimestamp"] = Value::from(clock::rfc3339(since));
        }
        if self.cascade {
            object["metadata"]["finalizers"] = json!(["resources-finalizer.argocd.argoproj.io"]);
        }
        object
    }

    /// The status as ks-devops writes it: a string of JSON, `null` before anything was said.
    pub(crate) fn status_text(&self) -> String {
        self.status.as_ref().unwrap_or(&Value::Null).to_string()
    }

    /// The status, made if there is none yet.
    fn status_mut(&mut self) -> &mut Value {
        self.status.get_or_insert_with(|| json!({}))
    }
}

/// Argo CD.
#[derive(Debug, Default)]
pub(crate) struct Argo {
    applications: BTreeMap<Place, ArgoApplication>,
    /// Scripts of single applications, by owner.
    scripts: BTreeMap<Key, ArgoScript>,
    /// The script of all others.
    script: ArgoScript,
    /// Applications that changed since they were last asked for.
    changed: BTreeSet<Place>,
}

impl Argo {
    pub(crate) fn get(&self, place: &Place) -> Option<&ArgoApplication> {
        self.applications.get(place)
    }

    /// The one that stands for a KubeSphere application; one that is being deleted no longer does.
    pub(crate) fn of(&self, owner: &Key) -> Option<(&Place, &ArgoApplication)> {
        self.applications
            .iter()
            .find(|(_, a)| a.owner == *owner && a.deleting.is_none())
    }

    /// What changed since the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<Place> {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn set_script(&mut self, owner: Option<Key>, script: ArgoScript) {
        match owner {
            Some(owner) => {
                self.scripts.insert(owner, script);
            }
            None => self.script = script,
        }
    }

    fn script(&self, owner: &Key) -> ArgoScript {
        self.scripts.get(owner).unwrap_or(&self.script).clone()
    }

    /// Makes an Application under this name, or another one where somebody has it.
    pub(crate) fn create(
        &mut self,
        location: &str,
        name: &str,
        owner: Key,
        suffix: impl FnOnce() -> String,
    ) -> Place {
        let mut place = (location.to_owned(), name.to_owned());
        if self.applications.contains_key(&place) {
            place.1.push_str(&suffix());
        }
        let application = ArgoApplication {
            owner,
            spec: json!({}),
            operation: None,
            status: None,
            cascade: false,
            deleting: None,
            next: None,
        };
        self.applications.insert(place.clone(), application);
        self.changed.insert(place.clone());
        place
    }

    /// Writes spec and operation. An operation is only ever set here; Argo itself takes it away.
    pub(crate) fn configure(
        &mut self,
        place: &Place,
        spec: Value,
        operation: Option<Value>,
        now: Millis,
        scale: Scale,
    ) {
        let Some(owner) = self.applications.get(place).map(|a| a.owner.clone()) else {
            return;
        };
        let script = self.script(&owner);
        let Some(application) = self.applications.get_mut(place) else {
            return;
        };
        let compare = application.spec != spec;
        application.spec = spec;
        let start = operation.is_some() && application.operation.is_none();
        if start {
            application.operation = operation;
            self.changed.insert(place.clone());
        }
        if !script.plays {
            return;
        }
        // Argo starts an operation as soon as it has compared.
        if compare {
            application.next = Some((now + scale.seconds(script.compare), Act::Compare));
        } else if start {
            application.next = Some((now, Act::Start));
        }
    }

    /// `cascade=true`: Argo is to remove what it deployed before it lets go of the Application.
    pub(crate) fn finalize_resources(&mut self, object: &Value) {
        let (Some(location), Some(name)) = (label(object, LOCATION), label(object, ARGO_NAME)) else {
            return;
        };
        if let Some(application) = self.applications.get_mut(&(location.to_owned(), name.to_owned())) {
            application.cascade = true;
        }
    }

    /// Deletes an Application: at once, or when its resources are gone.
    pub(crate) fn delete(&mut self, place: &Place, now: Millis, scale: Scale) {
        let Some(application) = self.applications.get(place) else {
            return;
        };
        let script = self.script(&application.owner);
        if !application.cascade {
            self.applications.remove(place);
            return;
        }
        if let Some(application) = self.applications.get_mut(place)
            && application.deleting.is_none()
        {
            application.deleting = Some(now);
            application.next = script
                .plays
                .then(|| (now + scale.seconds(script.prune), Act::Vanish));
        }
    }

    /// Somebody deletes the Application, past KubeSphere, or the resources of a deleted one are gone at last.
    pub(crate) fn remove(&mut self, owner: &Key) -> bool {
        let found = self.applications.iter().find(|(_, a)| a.owner == *owner);
        let Some(place) = found.map(|(place, _)| place.clone()) else {
            return false;
        };
        self.applications.remove(&place);
        true
    }

    /// Says what it is told to say. `operation_over`: it drops the operation as well.
    pub(crate) fn say(&mut self, owner: &Key, status: Option<Value>, operation_over: bool) -> bool {
        let Some(place) = self.of(owner).map(|(place, _)| place.clone()) else {
            return false;
        };
        if let Some(application) = self.applications.get_mut(&place) {
            if let Some(status) = status {
                application.status = Some(status);
            }
            if operation_over {
                application.operation = None;
            }
            self.changed.insert(place);
        }
        true
    }

    /// Does what is due; returns when something will be due again.
    pub(crate) fn play(&mut self, now: Millis, scale: Scale) -> Option<Millis> {
        let due: Vec<(Place, Act)> = self
            .applications
            .iter()
            .filter_map(|(place, a)| a.next.filter(|(at, _)| *at <= now).map(|n| (place.clone(), n.1)))
            .collect();
        for (place, act) in due {
            if act == Act::Vanish {
                self.applications.remove(&place);
                continue;
            }
            let script = self.script(&self.applications[&place].owner);
            if let Some(application) = self.applications.get_mut(&place) {
                application.next = perform(application, &place.1, act, &script, now, scale);
                self.changed.insert(place);
            }
        }
        self.applications
            .values()
            .filter_map(|a| a.next.map(|n| n.0))
            .min()
    }
}

/// One act on one Application; returns the next one.
fn perform(
    application: &mut ArgoApplication,
    name: &str,
    act: Act,
    script: &ArgoScript,
    now: Millis,
    scale: Scale,
) -> Option<(Millis, Act)> {
    let time = clock::rfc3339(now);
    match act {
        Act::Compare => {
            let never_synced = application.status_mut().get("history").is_none();
            let health = if never_synced { "Missing" } else { &script.health };
            compared(application, name, script, "OutOfSync", health, &time);
            let automated = application.spec.pointer("/syncPolicy/automated");
            if application.operation.is_none() && automated.is_some() {
                application.operation = Some(json!({
                    "sync": {"revision": script.revision}, "initiatedBy": {"automated": true}, "retry": {"limit": 5},
                }));
            }
            application.operation.is_some().then_some((now, Act::Start))
        }
        Act::Start => {
            let operation = application.operation.clone()?;
            let source = application.spec["source"].clone();
            let status = application.status_mut();
            status["operationState"] = json!({
                "operation": operation, "phase": "Running", "startedAt": time,
                "message": "one or more tasks are running",
                "syncResult": {"resources": [], "revision": script.revision, "source": source},
            });
            if !is_dry(&operation) {
                status["health"] = json!({"status": "Progressing"});
            }
            Some((now + scale.seconds(script.sync), Act::Finish))
        }
        Act::Finish => {
            let operation = application.operation.take()?;
            finish(application, name, &operation, script, &time);
            Some((now + scale.seconds(script.settle), Act::Settle))
        }
        Act::Settle => {
            let status = application.status_mut();
            if status["health"]["status"] == "Progressing" {
                status["health"] = json!({"status": script.health});
                for resource in status["resources"].as_array_mut().into_iter().flatten() {
                    resource["health"] = json!({"status": script.health});
                }
            }
            None
        }
        Act::Vanish => None,
    }
}

fn is_dry(operation: &Value) -> bool {
    operation.pointer("/sync/dryRun") == Some(&Value::Bool(true))
}

/// The end of an operation. One that failed is told in the operation state and a condition only: sync and health stay
/// as they were (finding F-N4).
fn finish(application: &mut ArgoApplication, name: &str, operation: &Value, script: &ArgoScript, time: &str) {
    let revision = operation.pointer("/sync/revision").and_then(Value::as_str);
    let unknown = revision.filter(|r| script.unknown_revisions.iter().any(|u| u == r));
    let (phase, message) = match unknown {
        Some(revision) => (
            "Error",
            format!(
                "ComparisonError: failed to load target state: Unable to resolve '{revision}' to a commit SHA"
            ),
        ),
        None if script.phase == "Succeeded" && is_dry(operation) => {
            ("Succeeded", "successfully synced (dry run)".into())
        }
        None if script.phase == "Succeeded" => ("Succeeded", "successfully synced (all tasks run)".into()),
        None => (
            script.phase.as_str(),
            "one or more objects failed to apply".into(),
        ),
    };
    let message = match &script.message {
        Some(own) if unknown.is_none() => own.clone(),
        _ => message,
    };
    let source = application.spec["source"].clone();
    let state = &mut application.status_mut()["operationState"];
    let started = state["startedAt"].clone();
    state["phase"] = Value::from(phase);
    state["message"] = Value::from(message.as_str());
    state["finishedAt"] = Value::from(time);
    if phase == "Succeeded" && !is_dry(operation) {
        compared(application, name, script, "Synced", "Progressing", time);
        let synced: Vec<Value> = resources(application, name, "Synced", "Progressing")
            .into_iter()
            .map(|mut resource| {
                if let Some(map) = resource.as_object_mut() {
                    map.remove("health");
                }
                resource["hookPhase"] = Value::from("Running");
                resource["syncPhase"] = Value::from("Sync");
                let kind = resource["kind"].as_str().unwrap_or_default().to_lowercase();
                resource["message"] = Value::from(format!("{kind}/{name} configured"));
                resource
            })
            .collect();
        let status = application.status_mut();
        status["operationState"]["syncResult"]["resources"] = Value::from(synced);
        status["summary"] = json!({"images": script.images});
        if !status["history"].is_array() {
            status["history"] = json!([]);
        }
        if let Some(history) = status["history"].as_array_mut() {
            let id = history.len();
            history.push(json!({
                "id": id, "revision": script.revision, "source": source, "deployStartedAt": started,
                "deployedAt": time,
            }));
        }
        if let Some(map) = status.as_object_mut() {
            map.remove("conditions");
        }
    } else if phase != "Succeeded" {
        let status = application.status_mut();
        let before = status["resources"]
            .pointer("/0/health/status")
            .cloned()
            .unwrap_or_else(|| json!("Missing"));
        status["health"] = json!({"status": before});
        status["conditions"] = json!([{"type": "SyncError", "message": message, "lastTransitionTime": time}]);
    }
}

/// What a comparison finds.
fn compared(
    application: &mut ArgoApplication,
    name: &str,
    script: &ArgoScript,
    sync: &str,
    health: &str,
    time: &str,
) {
    let compared_to = json!({
        "source": application.spec["source"], "destination": application.spec["destination"],
    });
    let list = resources(application, name, sync, health);
    let status = application.status_mut();
    status["health"] = json!({"status": health});
    status["sync"] = json!({"status": sync, "comparedTo": compared_to, "revision": script.revision});
    status["resources"] = Value::from(list);
    status["reconciledAt"] = Value::from(time);
    status["sourceType"] = Value::from("Kustomize");
    if !status["summary"].is_object() {
        status["summary"] = json!({});
    }
}

/// A service and a deployment, named after the application.
fn resources(application: &ArgoApplication, name: &str, sync: &str, health: &str) -> Vec<Value> {
    let namespace = &application.spec["destination"]["namespace"];
    let common = json!({
        "name": name, "namespace": namespace, "version": "v1", "status": sync, "health": {"status": health},
    });
    let of = |extra: Value| {
        let mut resource = common.clone();
        for (key, value) in extra.as_object().into_iter().flatten() {
            resource[key] = value.clone();
        }
        resource
    };
    vec![
        of(json!({"kind": "Service"})),
        of(json!({"kind": "Deployment", "group": "apps"})),
    ]
}
