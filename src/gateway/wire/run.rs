//! Runs: the PipelineRun object with the Jenkins build inside it, and what both together mean (contract §6.1, §7).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    jenkins::{Build, BuildOutcome, JenkinsRun, JenkinsState, jenkins_of},
    json::{Envelope, Metadata, garbled, lenient_time, null_is_default, read},
    refusal::Reply,
};
use crate::gateway::{
    error::{ErrorKind, GatewayError, Result},
    names::{EncodedBranch, RunId, RunRef},
};

/// Annotation with the Jenkins build number; its presence means "triggered".
pub const RUN_ID: &str = "devops.kubesphere.io/jenkins-pipelinerun-id";
/// Annotation with the Blue Ocean run as JSON; only kapis GET one fills it reliably (finding F-D).
pub const RUN_STATUS: &str = "devops.kubesphere.io/jenkins-pipelinerun-status";
/// Annotation with the stages as JSON.
pub const RUN_STAGES: &str = "devops.kubesphere.io/jenkins-pipelinerun-stages-status";
/// Annotation with the user who started the run.
pub const CREATOR: &str = "devops.kubesphere.io/creator";
/// Label with the pipeline's name.
pub const PIPELINE: &str = "devops.kubesphere.io/pipeline";
/// Label of a run the controller gave up on (contract §6.2 step 3).
pub const ORPHAN: &str = "devops.kubesphere.io/jenkins-pipelinerun-orphan";

/// A run object as far as it is read. From `/apis` it has no [`jenkins`](Self::jenkins) part.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Object name.
    pub name: String,
    /// Object UID: the only proof that a run is the one we made (contract §6.3).
    pub uid: String,
    /// For watches and comparisons; opaque.
    pub resource_version: String,
    /// When the object was made.
    pub created: Option<Timestamp>,
    /// It is being deleted.
    pub deleting: bool,
    /// The pipeline, by label, else by `spec.pipelineRef`.
    pub pipeline: String,
    /// The branch job, for multi-branch pipelines.
    pub branch: Option<EncodedBranch>,
    /// The build number, once triggered.
    pub run_id: Option<RunId>,
    /// Who started it; absent on runs that Jenkins' own events made.
    pub creator: Option<String>,
    /// `spec.parameters` in order.
    pub parameters: Vec<Parameter>,
    /// `status.phase` as it is. Read [`progress`](Self::progress) for what it means.
    pub phase: RunPhase,
    /// `status.startTime`: when it was triggered, later when it began. May disappear again while queued.
    pub started: Option<Timestamp>,
    /// `status.completionTime`: the end, whatever the phase says.
    pub completed: Option<Timestamp>,
    /// `status.updateTime`: when the controller last polled; old = stuck (contract §7).
    pub updated: Option<Timestamp>,
    /// Reason of the newest condition, which is the Jenkins state.
    pub state: Option<JenkinsState>,
    /// The build as Jenkins tells it, from the status annotation.
    pub jenkins: Option<JenkinsRun>,
    /// The controller gave it up: it will never start.
    pub orphan: bool,
    /// All annotations but the two JSON ones.
    pub annotations: BTreeMap<String, String>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
}

/// A parameter of a run. Values are always strings: the remote would stringify others in Go's way (finding F-D).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value; may be secret, so it is not printed.
    #[serde(default, deserialize_with = "null_is_default")]
    pub value: String,
}

impl std::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RunPhase {
    /// Absent or empty: not polled yet.
    #[default]
    None,
    /// `Pending`: waits for a person (finding F-L1).
    Pending,
    /// `Running`, also while queued.
    Running,
    /// `Succeeded`
    Succeeded,
    /// `Failed`: also unstable and aborted.
    Failed,
    /// `Unknown`, or a word we do not know.
    Unknown,
    /// `Cancelled`: declared, never written.
    Cancelled,
}

/// Where a run is in its life (contract §7). Derived from a [`Run`]; nothing else reads phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunProgress {
    /// The object exists, nothing was triggered yet; why can only be told by Events.
    Submitted,
    /// Triggered, not polled yet.
    Triggered,
    /// In Jenkins' queue.
    Queued,
    /// Runs.
    Running,
    /// Waits for a person.
    Paused,
    /// Neither running nor over: wait, with a deadline.
    Undecided,
    /// Over. The outcome is None when this view of the run does not tell it: then GET it through kapis.
    Finished(Option<BuildOutcome>),
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: u64,
}

impl Run {
    /// Where the run is in its life. The status annotation and the phase are two writes (finding F-P): the annotation
    /// is the newer one, but only `completed` is the end.
    pub fn progress(&self) -> RunProgress {
        use JenkinsState as S;
        use RunProgress as P;
        let state = self.jenkins.as_ref().map(|j| &j.state).or(self.state.as_ref());
        if self.completed.is_some() {
            return P::Finished(self.outcome_at_end());
        }
        if self.orphan {
            return P::Finished(Some(BuildOutcome::Indeterminate));
        }
        if state == Some(&S::Skipped) {
            return P::Finished(Some(BuildOutcome::Skipped)); // completionTime is never written (contract §7)
        }
        match (self.phase, state) {
            (RunPhase::None, None) if self.run_id.is_none() => P::Submitted,
            (RunPhase::None, None) => P::Triggered,
            (RunPhase::Cancelled, _) => P::Finished(Some(BuildOutcome::Aborted)),
            (_, Some(S::Queued)) => P::Queued,
            (_, Some(S::Paused)) | (RunPhase::Pending, None) => P::Paused,
            // FINISHED without completionTime: the end is being written.
            (_, Some(S::Running | S::Finished))
            | (RunPhase::Running | RunPhase::Succeeded | RunPhase::Failed, None) => P::Running,
            (_, Some(S::Skipped | S::NotBuilt | S::Other(_))) | (RunPhase::Unknown, None) => P::Undecided,
        }
    }

    fn outcome_at_end(&self) -> Option<BuildOutcome> {
        if let Some(outcome) = self.jenkins.as_ref().and_then(JenkinsRun::outcome) {
            return Some(outcome);
        }
        match self.phase {
            RunPhase::Succeeded => Some(BuildOutcome::Success),
            RunPhase::Unknown => Some(BuildOutcome::Indeterminate),
            RunPhase::Cancelled => Some(BuildOutcome::Aborted),
            // Failure, unstable and aborted look alike here; only the annotation tells (contract §8.8).
            _ => None,
        }
    }

    /// Where Jenkins keeps its build; None before it was triggered.
    pub fn reference(&self) -> Option<RunRef> {
        Some(RunRef {
            pipeline: self.pipeline.clone(),
            branch: self.branch.clone(),
            id: self.run_id.clone()?,
        })
    }

    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|p| p.name == name)
            .map(|p| p.value.as_str())
    }
}

impl RunPhase {
    pub(super) fn read(text: &str) -> Self {
        match text {
            "" => Self::None,
            "Pending" => Self::Pending,
            "Running" => Self::Running,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            "Cancelled" => Self::Cancelled,
            _ => Self::Unknown,
        }
    }
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "null_is_default")]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "null_is_default")]
    pipeline_ref: PipelineRef,
    #[serde(deserialize_with = "null_is_default")]
    parameters: Vec<Parameter>,
    scm: Option<Scm>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PipelineRef {
    #[serde(deserialize_with = "null_is_default")]
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Scm {
    #[serde(deserialize_with = "null_is_default")]
    ref_name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "null_is_default")]
    phase: String,
    #[serde(deserialize_with = "lenient_time")]
    start_time: Option<Timestamp>,
    #[serde(deserialize_with = "lenient_time")]
    completion_time: Option<Timestamp>,
    #[serde(deserialize_with = "lenient_time")]
    update_time: Option<Timestamp>,
    #[serde(deserialize_with = "null_is_default")]
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(deserialize_with = "null_is_default")]
    reason: String,
    #[serde(deserialize_with = "lenient_time")]
    last_probe_time: Option<Timestamp>,
}

/// Reads one run, from kapis or `/apis`.
pub fn run(reply: &Reply<'_>) -> Result<Run> {
    reply.accept()?;
    let run = run_of(read(reply)?);
    if run.name.is_empty() {
        Err(garbled(reply))
    } else {
        Ok(run)
    }
}

/// Runs of one list: no project keeps so many, and a gateway may not make us hold them.
pub(super) const MAX_RUNS: usize = 20_000;

/// Reads a list of runs: the kapis envelope, or a Kubernetes list.
pub fn runs(reply: &Reply<'_>) -> Result<Page<Run>> {
    reply.accept()?;
    // null, as other lists may be (finding F-B12), has nothing in it.
    let list: Option<Envelope<Object>> = read(reply)?;
    let (items, total) = list.map_or_else(Default::default, |list| (list.items, list.total_items));
    if items.len() > MAX_RUNS {
        let why = format!("more than {MAX_RUNS} runs");
        return Err(GatewayError::new(ErrorKind::TooLarge, reply.subject)
            .with_status(reply.status)
            .with_remote(&why));
    }
    let items: Vec<Run> = items.into_iter().map(run_of).collect();
    Ok(Page {
        total: total.max(items.len() as u64),
        items,
    })
}

/// One line of a watch.
#[derive(Debug, Clone)]
pub enum WatchLine {
    /// ADDED or MODIFIED.
    Changed(Box<Run>),
    /// DELETED, with the last state.
    Deleted(Box<Run>),
    /// Nothing changed; the watch is at this version.
    Bookmark(String),
    /// The watch is over, with this code: 410 means that a list is due.
    Error(u16),
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: serde_json::Value,
}

/// Reads one line of a watch through `/apis`; None if it is none.
pub fn watch_line(line: &[u8]) -> Option<WatchLine> {
    let Line { kind, object } = serde_json::from_slice(line).ok()?;
    Some(match kind.as_str() {
        "ADDED" | "MODIFIED" => WatchLine::Changed(Box::new(run_from_value(object).ok()?)),
        "DELETED" => WatchLine::Deleted(Box::new(run_from_value(object).ok()?)),
        "BOOKMARK" => WatchLine::Bookmark(object.pointer("/metadata/resourceVersion")?.as_str()?.to_owned()),
        "ERROR" => WatchLine::Error(u16::try_from(object.get("code")?.as_u64()?).ok()?),
        _ => return None,
    })
}

/// Reads a run out of a JSON object, e.g. one that a watch gave.
pub fn run_from_value(object: serde_json::Value) -> std::result::Result<Run, serde_json::Error> {
    Ok(run_of(serde_json::from_value(object)?))
}

fn run_of(object: Object) -> Run {
    let Object {
        metadata: mut meta,
        spec,
        status,
    } = object;
    let jenkins = meta
        .annotations
        .remove(RUN_STATUS)
        .and_then(|text| serde_json::from_str::<Build>(&text).ok());
    meta.annotations.remove(RUN_STAGES);
    let newest = status.conditions.into_iter().max_by_key(|c| c.last_probe_time);
    Run {
        pipeline: meta
            .labels
            .get(PIPELINE)
            .cloned()
            .unwrap_or(spec.pipeline_ref.name),
        branch: spec
            .scm
            .map(|s| s.ref_name)
            .filter(|r| !r.is_empty())
            .map(EncodedBranch::from_remote),
        run_id: meta
            .annotations
            .get(RUN_ID)
            .and_then(|id| RunId::new(id.as_str()).ok()),
        creator: meta.annotations.get(CREATOR).filter(|c| !c.is_empty()).cloned(),
        orphan: meta.labels.get(ORPHAN).is_some_and(|v| v == "true"),
        parameters: spec.parameters,
        phase: RunPhase::read(&status.phase),
        started: status.start_time,
        completed: status.completion_time,
        updated: status.update_time,
        state: newest
            .map(|c| c.reason)
            .filter(|r| !r.is_empty())
            .map(JenkinsState::from),
        jenkins: jenkins.map(jenkins_of),
        name: meta.name,
        uid: meta.uid,
        resource_version: meta.resource_version,
        created: meta.creation_timestamp,
        deleting: meta.deletion_timestamp.is_some(),
        annotations: meta.annotations,
        labels: meta.labels,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default, deserialize_with = "null_is_default")]
    reason: String,
    #[serde(default, deserialize_with = "null_is_default")]
    message: String,
    #[serde(default, deserialize_with = "lenient_time")]
    last_timestamp: Option<Timestamp>,
    #[serde(default, deserialize_with = "null_is_default")]
    involved_object: Involved,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Involved {
    #[serde(deserialize_with = "null_is_default")]
    uid: String,
}

/// Reads an Event list for the newest `TriggerFailed` of the run with this UID.
pub fn trigger_failure(reply: &Reply<'_>, uid: &str) -> Result<Option<String>> {
    reply.accept()?;
    let list: Envelope<Event> = read(reply)?;
    let mine = list
        .items
        .into_iter()
        .filter(|e| e.reason == "TriggerFailed" && e.involved_object.uid == uid);
    Ok(mine
        .max_by_key(|e| e.last_timestamp)
        .map(|e| crate::gateway::error::clean(&e.message)))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
