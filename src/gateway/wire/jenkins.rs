//! A build as Jenkins tells it: state, result, and what both mean together (contract §6.1, §7).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    json::{lenient_time, null_is_default, read},
    refusal::Reply,
};
use crate::gateway::{error::Result, names::RunId};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
    #[default]
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

impl JenkinsRun {
    /// The outcome, when it is over.
    pub fn outcome(&self) -> Option<BuildOutcome> {
        match (&self.state, &self.result) {
            (JenkinsState::Skipped, _) => Some(BuildOutcome::Skipped),
            (JenkinsState::Finished, result) => Some(match result {
                JenkinsResult::Success => BuildOutcome::Success,
                JenkinsResult::Unstable => BuildOutcome::Unstable,
                JenkinsResult::Failure => BuildOutcome::Failure,
                JenkinsResult::Aborted => BuildOutcome::Aborted,
                JenkinsResult::NotBuilt | JenkinsResult::Unknown => BuildOutcome::Indeterminate,
            }),
            _ => None,
        }
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Build {
    #[serde(default, deserialize_with = "null_is_default")]
    id: String,
    state: JenkinsState,
    #[serde(default, deserialize_with = "null_is_default")]
    result: JenkinsResult,
    #[serde(default, rename = "enQueueTime", deserialize_with = "lenient_time")]
    queued: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient_time")]
    start_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient_time")]
    end_time: Option<Timestamp>,
    duration_in_millis: Option<i64>,
    estimated_duration_in_millis: Option<i64>,
    commit_id: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    causes: Vec<Cause>,
    cause_of_blockage: Option<String>,
    artifacts_zip_file: Option<String>,
    run_summary: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cause {
    #[serde(default, deserialize_with = "null_is_default")]
    short_description: String,
}

/// Reads a build as v1alpha2 gives it: GET run, stop.
pub fn jenkins_run(reply: &Reply<'_>) -> Result<JenkinsRun> {
    reply.accept()?;
    read(reply).map(jenkins_of)
}

pub(super) fn jenkins_of(build: Build) -> JenkinsRun {
    let text = |t: Option<String>| t.filter(|t| !t.is_empty());
    let millis = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
    JenkinsRun {
        id: RunId::new(build.id).ok(),
        state: build.state,
        result: build.result,
        queued: build.queued,
        started: build.start_time,
        ended: build.end_time,
        duration_ms: millis(build.duration_in_millis),
        estimated_ms: millis(build.estimated_duration_in_millis),
        commit: text(build.commit_id),
        causes: build
            .causes
            .into_iter()
            .map(|c| c.short_description)
            .filter(|c| !c.is_empty())
            .collect(),
        blocked: text(build.cause_of_blockage),
        has_artifacts: text(build.artifacts_zip_file).is_some(),
        summary: text(build.run_summary).filter(|s| s != "?"),
    }
}
