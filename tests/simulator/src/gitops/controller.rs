//! The two `argocd` controllers of ks-devops: one hands Applications to Argo CD, the other brings back what Argo says
//! (findings F-N2, F-N3, F-N6, F-N9).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::argo::{Argo, Place};
use super::{ARGO_NAME, HEALTH, LOCATION, SYNC};
use crate::clock::Millis;
use crate::controller::{Key, events};
use crate::state::{Cluster, Context};
use crate::store::{APPLICATIONS, Writer, label};

const MANAGER: &str = "ds-controller";
const FINALIZER: &str = "application.gitops.kubesphere.io";
const IMAGES: &str = "gitops.kubesphere.io/images";

/// How the `argocd` controllers were set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArgoSetup {
    /// They run.
    #[default]
    Running,
    /// Their group was not named: Applications are only stored (finding F-N1).
    Off,
    /// They run without Argo's CRDs: the whole ks-devops controller exits after 150 s, again after each restart
    /// (finding F-N12).
    CrdsMissing,
}

/// What Argo says is written in two steps, labels first.
#[derive(Debug, Clone)]
struct Report {
    due: Millis,
    /// The second step, with the status to be written.
    status: Option<String>,
}

/// State of the controllers, and the Argo CD they work with.
#[derive(Debug, Default)]
pub(crate) struct Gitops {
    pub(crate) argo: Argo,
    setup: ArgoSetup,
    /// When the controller gives up waiting for Argo's CRDs.
    exit_at: Option<Millis>,
    work: BTreeMap<Key, Millis>,
    /// The generation of each application that was last looked at.
    seen: BTreeMap<Key, i64>,
    reports: BTreeMap<Place, Report>,
}

impl Gitops {
    /// An Application changed.
    pub(crate) fn touch(&mut self, key: Key, due: Millis) {
        self.work.entry(key).or_insert(due);
    }

    pub(crate) fn set_up(&mut self, setup: ArgoSetup, keys: impl Iterator<Item = Key>, now: Millis) {
        self.setup = setup;
        self.exit_at = None;
        for key in keys {
            self.touch(key, now);
        }
    }
}

/// Plays Argo and does what is due in the controllers, unless they are down; returns when to come back.
pub(crate) fn step(cluster: &mut Cluster, context: &Context, down: bool, now: Millis) -> Option<Millis> {
    let latency = context.scale.ms(context.timings.controller_latency);
    let argo_due = cluster.gitops.argo.play(now, context.scale);
    if down || cluster.gitops.setup == ArgoSetup::Off {
        return argo_due;
    }
    if cluster.gitops.setup == ArgoSetup::CrdsMissing {
        return exit_without_crds(cluster, context, now)
            .into_iter()
            .chain(argo_due)
            .min();
    }
    for place in cluster.gitops.argo.take_changed() {
        cluster.gitops.reports.entry(place).or_insert(Report {
            due: now + latency,
            status: None,
        });
    }
    let gitops = &mut cluster.gitops;
    let due: Vec<Key> = gitops
        .work
        .iter()
        .filter(|(_, at)| **at <= now)
        .map(|(k, _)| k.clone())
        .collect();
    for key in due {
        cluster.gitops.work.remove(&key);
        reconcile(cluster, context, &key, now);
    }
    let due: Vec<Place> = cluster
        .gitops
        .reports
        .iter()
        .filter(|(_, r)| r.due <= now)
        .map(|(p, _)| p.clone())
        .collect();
    for place in due {
        if let Some(report) = cluster.gitops.reports.remove(&place) {
            bring_back(cluster, context, place, report, now);
        }
    }
    let gitops = &cluster.gitops;
    gitops
        .work
        .values()
        .copied()
        .chain(gitops.reports.values().map(|r| r.due))
        .chain(argo_due)
        .min()
}

fn exit_without_crds(cluster: &mut Cluster, context: &Context, now: Millis) -> Option<Millis> {
    const GRACE: Millis = 150_000;
    let exit = *cluster
        .gitops
        .exit_at
        .get_or_insert(now + context.scale.ms(GRACE));
    if exit > now {
        return Some(exit);
    }
    cluster.gitops.exit_at = None;
    cluster.controller.down = true;
    None
}

/// Hands one Application to Argo.
fn reconcile(cluster: &mut Cluster, context: &Context, key: &Key, now: Millis) {
    let Some(object) = cluster.store.get(&APPLICATIONS, &key.0, &key.1).cloned() else {
        cluster.gitops.seen.remove(key);
        return;
    };
    let Some(location) = label(&object, LOCATION).map(str::to_owned) else {
        let text = format!("Cannot find the namespace of the Argo CD instance from key: {LOCATION}");
        events::record(cluster, &object, "Warning", "Invalid", &text, now);
        return;
    };
    let known = label(&object, ARGO_NAME).map(|name| (location.clone(), name.to_owned()));
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        if let Some(place) = known {
            cluster.gitops.argo.delete(&place, now, context.scale);
        }
        write(cluster, key, |o| {
            if let Some(list) = o["metadata"]["finalizers"].as_array_mut() {
                list.retain(|f| f != FINALIZER);
            }
        });
        return;
    }
    let Some(spec) = object.pointer("/spec/argoApp/spec").cloned() else {
        return;
    };
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let there = known.filter(|place| cluster.gitops.argo.get(place).is_some());
    let fresh = there.is_none() || cluster.gitops.seen.get(key) != Some(&generation);
    let place = there.unwrap_or_else(|| {
        let (argo, store) = (&mut cluster.gitops.argo, &mut cluster.store);
        argo.create(&location, &key.1, key.clone(), || store.suffix())
    });
    // One write each, as a watch shows them.
    write(cluster, key, |o| {
        o["metadata"]["labels"][ARGO_NAME] = Value::from(place.1.as_str());
    });
    write(cluster, key, |o| {
        if !o["metadata"]["finalizers"].is_array() {
            o["metadata"]["finalizers"] = json!([]);
        }
        if let Some(list) = o["metadata"]["finalizers"].as_array_mut()
            && !list.iter().any(|f| f == FINALIZER)
        {
            list.push(Value::from(FINALIZER));
        }
    });
    let written = write(cluster, key, |o| {
        o["spec"]["argoApp"]["spec"]["project"] = Value::from(key.0.as_str());
    });
    if !fresh {
        return;
    }
    let generation = written.and_then(|o| o["metadata"]["generation"].as_i64());
    cluster
        .gitops
        .seen
        .insert(key.clone(), generation.unwrap_or_default());
    let operation = object.pointer("/spec/argoApp/operation").cloned();
    let operation = operation.filter(|o| !o.is_null());
    let spec = for_argo(spec, &key.0);
    cluster
        .gitops
        .argo
        .configure(&place, spec, operation, now, context.scale);
}

/// The spec that Argo gets: its project is the namespace, and of a server and a name of the destination only the name
/// is left (finding F-N11).
fn for_argo(mut spec: Value, namespace: &str) -> Value {
    spec["project"] = Value::from(namespace);
    if let Some(destination) = spec["destination"].as_object_mut()
        && destination.contains_key("name")
    {
        destination.remove("server");
    }
    spec
}

fn write(cluster: &mut Cluster, key: &Key, change: impl FnOnce(&mut Value)) -> Option<Value> {
    cluster.edit(&APPLICATIONS, &key.0, &key.1, Writer::main(MANAGER), change)
}

/// Brings one status back: labels, images and the end of the operation first, then the status itself. A status that is
/// the same as before changes nothing, so that an operation that Argo dropped without a word stays (finding F-N6).
fn bring_back(cluster: &mut Cluster, context: &Context, place: Place, report: Report, now: Millis) {
    let Some(application) = cluster.gitops.argo.get(&place) else {
        return;
    };
    let key = application.owner.clone();
    if let Some(text) = report.status {
        let more = application.status_text() != text;
        cluster.edit(&APPLICATIONS, &key.0, &key.1, Writer::status(MANAGER), |o| {
            o["status"]["argoApp"] = Value::from(text);
            if !o["status"]["fluxApp"].is_object() {
                o["status"]["fluxApp"] = json!({});
            }
        });
        if more {
            // What Argo said meanwhile.
            cluster.gitops.reports.insert(
                place,
                Report {
                    due: now,
                    status: None,
                },
            );
        }
        return;
    }
    // An operation that is on its way to Argo is not over because Argo does not have it yet.
    if let Some(at) = cluster.gitops.work.get(&key) {
        let due = (*at).max(now) + 1;
        cluster.gitops.reports.insert(place, Report { due, status: None });
        return;
    }
    let status = application.status.clone().unwrap_or_default();
    let over = application.operation.is_none();
    let text = application.status_text();
    let Some(object) = cluster.store.get(&APPLICATIONS, &key.0, &key.1) else {
        return;
    };
    if object.pointer("/status/argoApp").and_then(Value::as_str) == Some(&text) {
        return;
    }
    let images: Vec<&str> = status
        .pointer("/summary/images")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let images = images.join(",");
    write(cluster, &key, |o| {
        for (key, pointer) in [(HEALTH, "/health/status"), (SYNC, "/sync/status")] {
            if let Some(value) = status.pointer(pointer) {
                o["metadata"]["labels"][key] = value.clone();
            }
        }
        o["metadata"]["annotations"][IMAGES] = Value::from(images);
        if over && let Some(argo) = o.pointer_mut("/spec/argoApp").and_then(Value::as_object_mut) {
            argo.remove("operation");
        }
    });
    let due = now + context.scale.ms(context.timings.status_gap);
    let report = Report {
        due,
        status: Some(text),
    };
    cluster.gitops.reports.insert(place, report);
}
