//! Reading a build and telling its state: ConfigMap first, status a moment later (contract §6.2 step 8, §7).

use serde_json::{Value, json};

use super::runs::{RUN_ID, STAGES_KEY, STATUS_KEY, job_of, retry, run_id};
use super::{Key, Work, events};
use crate::clock::{self, Millis};
use crate::jenkins::render::{self, Shape};
use crate::state::{Cluster, Context};
use crate::store::{CONFIG_MAPS, RUNS, Writer};

const MANAGER: &str = "ds-controller";

/// Reads the build and stores what it says.
pub(super) fn poll(
    cluster: &mut Cluster,
    context: &Context,
    key: &Key,
    run: &Value,
    now: Millis,
) -> Option<Work> {
    if let Some(trouble) = cluster.jenkins.outages.meet("run", cluster.jenkins.scale) {
        let text = format!(
            "Failed to retrieve running data from Jenkins, and error was {}",
            trouble.go_error("GET", "/blue/rest/organizations/jenkins")
        );
        events::record(cluster, run, "Warning", "RetrieveFailed", &text, now);
        return Some(retry(cluster, context, key, now));
    }
    let job = job_of(run, &key.0);
    let number = run_id(run)
        .and_then(|id| id.parse::<u64>().ok())
        .unwrap_or_default();
    let Some(build) = cluster.jenkins.jobs.get(&job).and_then(|j| j.builds.get(&number)) else {
        // 404: silently, for ever.
        return Some(Work {
            due: now + context.scale.ms(context.timings.lost_poll),
            ..Work::default()
        });
    };
    let view = build.view(now);
    let stored = render::stored_run(&render::run(&job, build, &view, Shape::Read, number));
    let stages = render::stored_stages(&job, build, &render::stages(build, &view));
    let end = view.end;
    let status = next_status(run, &stored, view.start, end, now);
    cluster.controller.failures.remove(key);
    store_data(cluster, context, key, run, &stored, &stages);
    let then = (end.is_none()).then(|| now + context.scale.ms(context.timings.poll));
    let gap = context.scale.ms(context.timings.status_gap);
    if gap == 0 {
        return write_status(cluster, context, key, run, status, then, now);
    }
    Some(Work {
        due: now + gap,
        status: Some(status),
        then,
    })
}

fn store_data(
    cluster: &mut Cluster,
    context: &Context,
    key: &Key,
    run: &Value,
    stored: &Value,
    stages: &Value,
) {
    let (status, stage) = (stored.to_string(), stages.to_string());
    if context.quirks.annotation_store {
        cluster.edit(&RUNS, &key.0, &key.1, Writer::main(MANAGER), |o| {
            o["metadata"]["annotations"][STATUS_KEY] = Value::from(status);
            o["metadata"]["annotations"][STAGES_KEY] = Value::from(stage);
        });
        return;
    }
    let data = json!({"stage": stage, "status": status});
    if cluster.store.get(&CONFIG_MAPS, &key.0, &key.1).is_some() {
        cluster.edit(&CONFIG_MAPS, &key.0, &key.1, Writer::main(MANAGER), |o| {
            o["data"] = data;
        });
        return;
    }
    let config_map = json!({
        "metadata": {
            "name": key.1, "namespace": key.0,
            "ownerReferences": [{
                "apiVersion": RUNS.api_version(), "kind": RUNS.kind, "name": key.1, "uid": run["metadata"]["uid"],
            }],
        },
        "data": data,
    });
    let _ = cluster.store.create(&CONFIG_MAPS, config_map, MANAGER, false);
}

/// Writes a status that was worked out before.
pub(super) fn write_status(
    cluster: &mut Cluster,
    context: &Context,
    key: &Key,
    run: &Value,
    status: Value,
    then: Option<Millis>,
    now: Millis,
) -> Option<Work> {
    run.pointer("/metadata/annotations")?.get(RUN_ID)?;
    let work = then.map(|due| Work {
        due,
        ..Work::default()
    });
    // The first status says only when the run was started; nothing was read from Jenkins for it.
    let read = status.get("phase").is_some();
    for (field, what) in [("startTime", "run-started"), ("completionTime", "run-ended")] {
        if status.get(field).is_some() && run.pointer(&format!("/status/{field}")).is_none() {
            let number = run_id(run).unwrap_or_default();
            let subject = format!("{}/{} {} #{number}", key.0, key.1, job_of(run, &key.0).pipeline);
            context.ledger.action(now, what, subject);
        }
    }
    cluster.edit(&RUNS, &key.0, &key.1, Writer::status(MANAGER), |o| {
        o["status"] = status;
    });
    if read {
        let text = format!("Updated running data for PipelineRun {}/{}", key.0, key.1);
        events::record(cluster, run, "Normal", "Updated", &text, now);
    }
    work
}

/// Phase and condition type with its status, by Blue Ocean's state and result (contract §7).
fn verdict(state: &str, result: &str) -> (&'static str, &'static str, &'static str) {
    match (state, result) {
        ("QUEUED" | "RUNNING", _) => ("Running", "Ready", "Unknown"),
        ("PAUSED", _) => ("Pending", "Ready", "Unknown"),
        ("SKIPPED", _) | ("FINISHED", "SUCCESS") => ("Succeeded", "Succeeded", "True"),
        ("FINISHED", "UNSTABLE" | "FAILURE" | "ABORTED") => ("Failed", "Succeeded", "False"),
        ("FINISHED", _) => ("Unknown", "Succeeded", "Unknown"),
        _ => ("Unknown", "Ready", "Unknown"),
    }
}

fn next_status(
    run: &Value,
    stored: &Value,
    start: Option<Millis>,
    end: Option<Millis>,
    now: Millis,
) -> Value {
    let state = stored["state"].as_str().unwrap_or_default();
    let (phase, kind, value) = verdict(state, stored["result"].as_str().unwrap_or_default());
    let time = clock::rfc3339(now);
    let condition = json!({
        "type": kind, "status": value, "lastProbeTime": time, "lastTransitionTime": time, "reason": state,
    });
    let others = run
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|c| c["type"] != kind)
        .cloned();
    let conditions: Vec<Value> = std::iter::once(condition).chain(others).collect();
    let mut status = json!({"updateTime": time, "conditions": conditions, "phase": phase});
    if let Some(start) = start {
        status["startTime"] = Value::from(clock::rfc3339(start));
    }
    if let Some(end) = end {
        status["completionTime"] = Value::from(clock::rfc3339(end));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn the_whole_table_of_phases() {
        for (state, result, expected) in [
            ("QUEUED", "UNKNOWN", ("Running", "Ready", "Unknown")),
            ("RUNNING", "UNKNOWN", ("Running", "Ready", "Unknown")),
            ("PAUSED", "UNKNOWN", ("Pending", "Ready", "Unknown")),
            ("SKIPPED", "UNKNOWN", ("Succeeded", "Succeeded", "True")),
            ("NOT_BUILT", "UNKNOWN", ("Unknown", "Ready", "Unknown")),
            ("FINISHED", "SUCCESS", ("Succeeded", "Succeeded", "True")),
            ("FINISHED", "UNSTABLE", ("Failed", "Succeeded", "False")),
            ("FINISHED", "FAILURE", ("Failed", "Succeeded", "False")),
            ("FINISHED", "ABORTED", ("Failed", "Succeeded", "False")),
            ("FINISHED", "NOT_BUILT", ("Unknown", "Succeeded", "Unknown")),
            ("WEIRD", "UNKNOWN", ("Unknown", "Ready", "Unknown")),
        ] {
            assert_eq!(verdict(state, result), expected, "{state} {result}");
        }
    }
}
