//! Runs: the PipelineRun object, the Jenkins build inside it, and what both together mean (contract §6.1, §7).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::json::{Envelope, Metadata, garbled, lenient_time, null_is_default, read};
use crate::gateway::{
    error::{Result, Subject},
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

/// Blue Ocean's state of a build.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum JenkinsState {
    /// Waits in Jenkins' queue.
    Queued,
    /// Runs.
    Running,
    /// Waits for an input, or for Jenkins to resume it.
    Paused,
    /// Was skipped.
    Skipped,
    /// Has not been built.
    NotBuilt,
    /// Is over.
    Finished,
    /// Anything else.
    Other(String),
}

/// Blue Ocean's result of a build.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum JenkinsResult {
    /// All well.
    Success,
    /// Built, but tests failed.
    Unstable,
    /// Failed.
    Failure,
    /// Was stopped.
    Aborted,
    /// Was not built.
    NotBuilt,
    /// Not decided, or anything else.
    Unknown,
}

/// A build as Jenkins tells it: the run's status annotation, or v1alpha2 GET run.
#[derive(Debug, Clone, PartialEq)]
pub struct JenkinsRun {
    /// Build number.
    pub id: Option<RunId>,
    /// State.
    pub state: JenkinsState,
    /// Result; `Unknown` before the end.
    pub result: JenkinsResult,
    /// When it was put into the queue.
    pub queued: Option<Timestamp>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How long it took, or has taken so far.
    pub duration_ms: Option<u64>,
    /// How long Jenkins thinks it takes.
    pub estimated_ms: Option<u64>,
    /// The commit that was built.
    pub commit: Option<String>,
    /// Why it was started, one sentence per cause.
    pub causes: Vec<String>,
    /// Why it does not start.
    pub blocked: Option<String>,
    /// There are archived files.
    pub has_artifacts: bool,
    /// Jenkins' one-word summary, e.g. `broken since build 3`.
    pub summary: Option<String>,
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

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BuildOutcome {
    /// SUCCESS
    Success,
    /// UNSTABLE: built, tests failed.
    Unstable,
    /// FAILURE
    Failure,
    /// ABORTED: stopped by someone or something.
    Aborted,
    /// SKIPPED
    Skipped,
    /// NOT_BUILT or UNKNOWN at the end: Jenkins will not say more.
    Indeterminate,
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
    /// Where the run is in its life.
    pub fn progress(&self) -> RunProgress {
        todo!()
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

impl JenkinsRun {
    /// The outcome, when it is over.
    pub fn outcome(&self) -> Option<BuildOutcome> {
        todo!()
    }
}

impl From<String> for JenkinsState {
    fn from(text: String) -> Self {
        match text.as_str() {
            "QUEUED" => Self::Queued,
            "RUNNING" => Self::Running,
            "PAUSED" => Self::Paused,
            "SKIPPED" => Self::Skipped,
            "NOT_BUILT" => Self::NotBuilt,
            "FINISHED" => Self::Finished,
            _ => Self::Other(text),
        }
    }
}

impl From<JenkinsState> for String {
    fn from(state: JenkinsState) -> Self {
        match state {
            JenkinsState::Queued => "QUEUED".into(),
            JenkinsState::Running => "RUNNING".into(),
            JenkinsState::Paused => "PAUSED".into(),
            JenkinsState::Skipped => "SKIPPED".into(),
            JenkinsState::NotBuilt => "NOT_BUILT".into(),
            JenkinsState::Finished => "FINISHED".into(),
            JenkinsState::Other(text) => text,
        }
    }
}

impl From<String> for JenkinsResult {
    fn from(text: String) -> Self {
        match text.as_str() {
            "SUCCESS" => Self::Success,
            "UNSTABLE" => Self::Unstable,
            "FAILURE" => Self::Failure,
            "ABORTED" => Self::Aborted,
            "NOT_BUILT" => Self::NotBuilt,
            _ => Self::Unknown,
        }
    }
}

impl From<JenkinsResult> for String {
    fn from(result: JenkinsResult) -> Self {
        match result {
            JenkinsResult::Success => "SUCCESS",
            JenkinsResult::Unstable => "UNSTABLE",
            JenkinsResult::Failure => "FAILURE",
            JenkinsResult::Aborted => "ABORTED",
            JenkinsResult::NotBuilt => "NOT_BUILT",
            JenkinsResult::Unknown => "UNKNOWN",
        }
        .into()
    }
}
