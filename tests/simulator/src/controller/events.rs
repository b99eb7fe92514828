//! Core events of the controller, counted up like client-go's recorder does.

use serde_json::{Value, json};

use crate::clock::{self, Millis};
use crate::state::Cluster;
use crate::store::{EVENTS, Writer, name, namespace};

/// The controllers name themselves differently.
fn component(object: &Value) -> &'static str {
    match object["kind"].as_str() {
        Some("Application") => "application-controller",
        _ => "pipelinerun-controller",
    }
}

/// Records an event on a run or an application.
pub(crate) fn record(
    cluster: &mut Cluster,
    run: &Value,
    kind: &str,
    reason: &str,
    message: &str,
    now: Millis,
) {
    let time = clock::rfc3339(now);
    let uid = &run["metadata"]["uid"];
    let known = cluster
        .store
        .list(&EVENTS, Some(namespace(run)))
        .find(|e| e["involvedObject"]["uid"] == *uid && e["reason"] == reason && e["message"] == message)
        .cloned();
    if let Some(mut event) = known {
        event["count"] = Value::from(event["count"].as_u64().unwrap_or(1) + 1);
        event["lastTimestamp"] = Value::from(time);
        let _ = cluster
            .store
            .update(&EVENTS, event, Writer::main("ds-controller"));
        return;
    }
    let suffix = format!("{:016x}", 0x18ea_0000_0000_0000_u64 + cluster.store.version());
    let event = json!({
        "metadata": {"name": format!("{}.{suffix}", name(run)), "namespace": namespace(run)},
        "involvedObject": {
            "kind": run["kind"], "namespace": namespace(run), "name": name(run), "uid": uid,
            "apiVersion": run["apiVersion"], "resourceVersion": run["metadata"]["resourceVersion"],
        },
        "reason": reason, "message": message, "source": {"component": component(run)},
        "firstTimestamp": time, "lastTimestamp": time, "count": 1, "type": kind, "eventTime": null,
        "reportingComponent": component(run), "reportingInstance": "",
    });
    let _ = cluster.store.create(&EVENTS, event, "ds-controller", false);
}
