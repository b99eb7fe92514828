//! What the controller does with one PipelineRun: finalizer, trigger, duplicate check, deletion (contract §6.2).

use serde_json::{Value, json};

use super::{Key, LateTrigger, Work, events, poll};
use crate::clock::{self, Millis};
use crate::jenkins::{JobId, Trouble};
use crate::ledger::BuildRecord;
use crate::query::escape_segment;
use crate::state::{Cluster, Context};
use crate::store::{PIPELINES, RUNS, Writer, annotation, label, name};
use crate::world::PipelineKind;

pub(crate) const RUN_ID: &str = "devops.kubesphere.io/jenkins-pipelinerun-id";
pub(crate) const STATUS_KEY: &str = "devops.kubesphere.io/jenkins-pipelinerun-status";
pub(crate) const STAGES_KEY: &str = "devops.kubesphere.io/jenkins-pipelinerun-stages-status";
pub(crate) const CREATOR_KEY: &str = "devops.kubesphere.io/creator";
pub(crate) const KEEP_RECORD: &str = "devops.kubesphere.io/keep-jenkins-record";
pub(crate) const PIPELINE_LABEL: &str = "devops.kubesphere.io/pipeline";
const ORPHAN: &str = "devops.kubesphere.io/jenkins-pipelinerun-orphan";
const FINALIZER: &str = "pipelinerun.finalizers.kubesphere.io";
const MANAGER: &str = "ds-controller";

pub(crate) fn run_id(run: &Value) -> Option<&str> {
    annotation(run, RUN_ID)
}

pub(crate) fn ref_name(run: &Value) -> Option<&str> {
    run.pointer("/spec/scm/refName").and_then(Value::as_str)
}

fn pipeline_name(run: &Value) -> &str {
    run.pointer("/spec/pipelineRef/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The Jenkins job of a run. Only a run that carries a pipelineSpec is known to be multi-branch; its refName must be
/// the encoded branch (contract §6.4).
pub(crate) fn job_of(run: &Value, namespace: &str) -> JobId {
    let multi =
        run.pointer("/spec/pipelineSpec/type").and_then(Value::as_str) == Some("multi-branch-pipeline");
    JobId {
        project: namespace.to_owned(),
        pipeline: pipeline_name(run).to_owned(),
        branch: multi.then(|| ref_name(run).unwrap_or_default().to_owned()),
    }
}

/// The state of one run is brought forward. Returns the work that is left.
pub(super) fn reconcile(
    cluster: &mut Cluster,
    context: &Context,
    key: &Key,
    work: Work,
    now: Millis,
) -> Option<Work> {
    let run = cluster.store.get(&RUNS, &key.0, &key.1)?.clone();
    if run.pointer("/metadata/deletionTimestamp").is_some() {
        finalize(cluster, context, key, &run, now);
        return None;
    }
    if let Some(status) = work.status {
        return poll::write_status(cluster, context, key, &run, status, work.then, now);
    }
    let run = with_finalizer(cluster, key, run);
    if run.pointer("/status/completionTime").is_some() || label(&run, ORPHAN).is_some() {
        return None;
    }
    if pipeline_name(&run).is_empty() {
        cluster.edit(&RUNS, &key.0, &key.1, Writer::main(MANAGER), |o| {
            o["metadata"]["labels"][ORPHAN] = Value::from("true");
        });
        return None;
    }
    // A missing pipeline: no requeue, no status, no event. A later change of the run tries again.
    cluster.store.get(&PIPELINES, &key.0, pipeline_name(&run))?;
    if run_id(&run).is_some() {
        return poll::poll(cluster, context, key, &run, now);
    }
    match trigger(cluster, context, &run, key, now) {
        Ok(number) => adopt(cluster, context, key, &run, number, now),
        Err(Refusal { message, at }) => {
            let text = format!(
                "Failed to trigger PipelineRun {}/{}, and error was {message}",
                key.0, key.1
            );
            events::record(cluster, &run, "Warning", "TriggerFailed", &text, now);
            Some(retry(cluster, context, key, at.max(now)))
        }
    }
}

/// The next attempt after a failure: 5 ms doubling up to 1000 s, per object.
pub(super) fn retry(cluster: &mut Cluster, context: &Context, key: &Key, from: Millis) -> Work {
    let failures = cluster.controller.failures.entry(key.clone()).or_default();
    let nominal = context
        .timings
        .backoff_base
        .saturating_mul(1_i64.checked_shl(*failures).unwrap_or(i64::MAX).max(1))
        .min(context.timings.backoff_max);
    *failures = (*failures + 1).min(40);
    Work {
        due: from + context.scale.ms(nominal),
        ..Work::default()
    }
}

fn with_finalizer(cluster: &mut Cluster, key: &Key, run: Value) -> Value {
    let present = run
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .is_some_and(|f| f.iter().any(|x| x == FINALIZER));
    if present {
        return run;
    }
    cluster
        .edit(&RUNS, &key.0, &key.1, Writer::main(MANAGER), |o| {
            let list = &mut o["metadata"]["finalizers"];
            if !list.is_array() {
                *list = json!([]);
            }
            list.as_array_mut()
                .expect("made a list above")
                .push(Value::from(FINALIZER));
            through_go(o);
        })
        .unwrap_or(run)
}

/// The controller writes whole objects through Go structs, which drop empty lists.
fn through_go(object: &mut Value) {
    if object
        .pointer("/spec/parameters")
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty)
        && let Some(spec) = object["spec"].as_object_mut()
    {
        spec.remove("parameters");
    }
}

/// Why a trigger failed, and when the caller knew.
struct Refusal {
    message: String,
    at: Millis,
}

fn trigger(
    cluster: &mut Cluster,
    context: &Context,
    run: &Value,
    key: &Key,
    now: Millis,
) -> Result<u64, Refusal> {
    let job = job_of(run, &key.0);
    let refuse = |message: String| Refusal { message, at: now };
    let parameters: Vec<(String, String)> = run
        .pointer("/spec/parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|p| {
            let text = |k: &str| p[k].as_str().unwrap_or_default().to_owned();
            (text("name"), text("value"))
        })
        .collect();
    let branch = job
        .branch
        .as_deref()
        .map(|b| format!("branches/{}/", escape_segment(b)))
        .unwrap_or_default();
    let url = format!(
        "/blue/rest/organizations/jenkins/pipelines/{}/pipelines/{}/{branch}runs/",
        job.project, job.pipeline
    );
    let trouble = cluster.jenkins.outages.meet("trigger", cluster.jenkins.scale);
    match &trouble {
        None | Some(Trouble::Reset { carried_out: true } | Trouble::Late(_)) => {}
        Some(Trouble::Status { code, .. }) => return Err(refuse(status_text(*code))),
        Some(other) => return Err(refuse(other.go_error("POST", &url))),
    }
    let folder = cluster
        .jenkins
        .pipelines
        .get(&(job.project.clone(), job.pipeline.clone()));
    if job.branch.is_none() && folder.is_some_and(|p| p.kind == PipelineKind::MultiBranch) {
        return Err(refuse(status_text(400)));
    }
    let Some(target) = cluster.jenkins.jobs.get(&job) else {
        return Err(refuse(status_text(404)));
    };
    let all = target
        .complete(Some(&parameters))
        .map_err(|e| refuse(status_text(e.code)))?;
    if let Some(Trouble::Late(ms)) = trouble {
        let timeout = context.scale.ms(context.timings.jenkins_timeout);
        if ms >= timeout {
            // Jenkins will carry it out when it answers; by then the one worker has given up.
            cluster.controller.late.push(LateTrigger {
                due: now + ms,
                job,
                parameters: all,
            });
            cluster.controller.busy_until = now + timeout;
            let message = Trouble::Late(ms).go_error("POST", &url);
            return Err(Refusal {
                message,
                at: now + timeout,
            });
        }
        cluster.controller.busy_until = now + ms;
    }
    let number = enqueue(
        cluster,
        context,
        &job,
        all,
        ("controller", "Started by user admin"),
        now,
    );
    match trouble {
        Some(lost @ Trouble::Reset { .. }) => Err(refuse(lost.go_error("POST", &url))),
        _ => Ok(number),
    }
}

/// How ks-devops' Jenkins client words a status.
fn status_text(code: u16) -> String {
    match code {
        404 => "not found resources".into(),
        400 => "bad request, code 400".into(),
        401 | 403 => format!("invalid username or password, code {code}"),
        code => format!("unexpected status code: {code}"),
    }
}

/// Puts a build into Jenkins' queue and into the ledger; returns the number the caller is told.
pub(crate) fn enqueue(
    cluster: &mut Cluster,
    context: &Context,
    job_id: &JobId,
    parameters: Vec<(String, String)>,
    (who, cause): (&str, &str),
    now: Millis,
) -> u64 {
    let queue_id = cluster.jenkins.queue_id();
    let scale = cluster.jenkins.scale;
    let Some(job) = cluster.jenkins.jobs.get_mut(job_id) else {
        return 0;
    };
    let (number, new) = job.enqueue(parameters, cause, queue_id, now, scale);
    // While something is queued, Blue Ocean tells everybody its number (contract §6.2 step 6).
    let told = if context.quirks.same_expected_id {
        job.expected_number().unwrap_or(number)
    } else {
        number
    };
    let subject = format!("{} #{number}", job_id.full_name());
    if new {
        let parameters = job
            .builds
            .get(&number)
            .map(|b| b.parameters.clone())
            .unwrap_or_default();
        context.ledger.build(BuildRecord {
            at: now,
            cluster: cluster.name.clone(),
            project: job_id.project.clone(),
            pipeline: job_id.pipeline.clone(),
            branch: job_id.branch.clone(),
            number,
            parameters,
            cause: who.to_owned(),
        });
    } else {
        context.ledger.action(now, "folded", subject);
    }
    cluster.jenkins.advance(now);
    told
}

/// Writes the run id, or deletes the run if another one holds it already.
fn adopt(
    cluster: &mut Cluster,
    context: &Context,
    key: &Key,
    run: &Value,
    number: u64,
    now: Millis,
) -> Option<Work> {
    cluster.controller.failures.remove(key);
    let id = number.to_string();
    let pipeline = pipeline_name(run).to_owned();
    let branch = job_of(run, &key.0).branch;
    let taken = cluster.store.list(&RUNS, Some(&key.0)).any(|other| {
        name(other) != key.1
            && label(other, PIPELINE_LABEL) == Some(&pipeline)
            && run_id(other) == Some(&id)
            && (branch.is_none() || ref_name(other) == branch.as_deref())
    });
    if taken {
        context.ledger.action(
            now,
            "deduplicated",
            format!("{}/{} (build {id} has a run)", key.0, key.1),
        );
        let _ = cluster.store.delete(&RUNS, &key.0, &key.1, now);
        return None;
    }
    let run = cluster.edit(&RUNS, &key.0, &key.1, Writer::main(MANAGER), |o| {
        if !o["metadata"]["annotations"].is_object() {
            o["metadata"]["annotations"] = json!({});
        }
        o["metadata"]["annotations"][RUN_ID] = Value::from(id);
        if !o["metadata"]["labels"].is_object() {
            o["metadata"]["labels"] = json!({});
        }
        if label(o, PIPELINE_LABEL).is_none() {
            o["metadata"]["labels"][PIPELINE_LABEL] = Value::from(pipeline);
        }
        through_go(o);
    })?;
    let text = format!("Started PipelineRun {}/{}", key.0, key.1);
    events::record(cluster, &run, "Normal", "Started", &text, now);
    // The status is a write of its own, and the first look at Jenkins comes a moment later: until then the run has an id
    // and no phase.
    let time = clock::rfc3339(now);
    let status = json!({"startTime": time, "updateTime": time});
    let written = now + context.scale.ms(context.timings.start_gap);
    Some(Work {
        due: written,
        status: Some(status),
        then: Some(written + context.scale.ms(context.timings.first_poll)),
    })
}

/// Deletes the build (unless it is to be kept; a failure of Jenkins is only logged) and lets the run go.
fn finalize(cluster: &mut Cluster, context: &Context, key: &Key, run: &Value, now: Millis) {
    let keep = annotation(run, KEEP_RECORD) == Some("true");
    let number = run_id(run).and_then(|id| id.parse::<u64>().ok());
    if let Some(number) = number.filter(|_| !keep)
        && cluster
            .jenkins
            .outages
            .meet("delete", cluster.jenkins.scale)
            .is_none()
    {
        let job = job_of(run, &key.0);
        if let Some(target) = cluster.jenkins.jobs.get_mut(&job)
            && target.builds.remove(&number).is_some()
        {
            context
                .ledger
                .action(now, "delete-build", format!("{} #{number}", job.full_name()));
        }
    }
    context
        .ledger
        .action(now, "delete-run", format!("{}/{}", key.0, key.1));
    cluster.edit(&RUNS, &key.0, &key.1, Writer::main(MANAGER), |o| {
        if let Some(list) = o["metadata"]["finalizers"].as_array_mut() {
            list.retain(|f| f != FINALIZER);
        }
    });
}
