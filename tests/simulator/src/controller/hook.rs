//! The Jenkins event plugin: some seconds after a build began, ks-devops looks for its PipelineRun and makes one if
//! there is none (contract §4.8, finding F-A2).

use serde_json::{Value, json};

use super::runs::{PIPELINE_LABEL, RUN_ID, ref_name, run_id};
use crate::clock::Millis;
use crate::jenkins::Started;
use crate::state::{Cluster, Context};
use crate::store::{PIPELINES, RUNS, label};

/// Takes over what Jenkins started since.
pub(super) fn collect(cluster: &mut Cluster, context: &Context) {
    let delay = context.scale.ms(context.timings.jenkins_event);
    for started in std::mem::take(&mut cluster.jenkins.started) {
        cluster.controller.hooks.push((started.at + delay, started));
    }
}

/// Delivers the events whose time has come.
pub(super) fn deliver(cluster: &mut Cluster, now: Millis) {
    let (due, rest): (Vec<_>, Vec<_>) = cluster.controller.hooks.drain(..).partition(|(at, _)| *at <= now);
    cluster.controller.hooks = rest;
    if cluster.controller.hook_down {
        return;
    }
    for (_, started) in due {
        let twins = cluster.controller.hook_twins;
        if twins || !is_known(cluster, &started) {
            make_run(cluster, &started);
        }
    }
}

fn is_known(cluster: &Cluster, started: &Started) -> bool {
    let number = started.number.to_string();
    cluster.store.list(&RUNS, Some(&started.job.project)).any(|run| {
        label(run, PIPELINE_LABEL) == Some(&started.job.pipeline)
            && run_id(run) == Some(&number)
            && (started.job.branch.is_none() || ref_name(run) == started.job.branch.as_deref())
    })
}

/// Makes the PipelineRun of a build that nobody asked ks-devops for.
pub(crate) fn make_run(cluster: &mut Cluster, started: &Started) -> Option<Value> {
    let job = &started.job;
    let build = cluster.jenkins.jobs.get(job)?.builds.get(&started.number)?;
    let parameters: Vec<Value> = build
        .parameters
        .iter()
        .map(|(n, v)| json!({"name": n, "value": v}))
        .collect();
    let pipeline = cluster.store.get(&PIPELINES, &job.project, &job.pipeline)?;
    let mut run = new_run(pipeline, &job.project, &job.pipeline);
    run["metadata"]["annotations"] = json!({RUN_ID: started.number.to_string()});
    if !parameters.is_empty() {
        run["spec"]["parameters"] = Value::from(parameters);
    }
    if let Some(branch) = &job.branch {
        run["spec"]["scm"] = json!({"refType": "", "refName": branch});
    }
    cluster.store.create(&RUNS, run, "ds-apiserver", false).ok()
}

/// A PipelineRun of a pipeline, with nothing but what ks-devops itself puts in.
pub(crate) fn new_run(pipeline: &Value, project: &str, name: &str) -> Value {
    json!({
        "metadata": {
            "generateName": format!("{name}-"), "namespace": project,
            "labels": {PIPELINE_LABEL: name},
            "ownerReferences": [{
                "apiVersion": PIPELINES.api_version(), "kind": PIPELINES.kind, "name": name,
                "uid": pipeline["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "pipelineRef": {"kind": PIPELINES.kind, "namespace": project, "name": name},
            "pipelineSpec": pipeline["spec"],
        },
    })
}
