//! The status of a [`BuildRequest`](super::BuildRequest).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::LocalRef;

/// What became of the build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildRequestStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// In one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<BuildPhase>,
    /// Where it stands in the queue, while it waits for its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePosition>,
    /// The latest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<CurrentRun>,
    /// Its stages, the first 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub stages: Vec<StageStatus>,
    /// The question that the run asks a person, while it waits for the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<PendingInput>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The copy of its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogStatus>,
    /// The ArtifactFetch that brings its files home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_fetch_ref: Option<LocalRef>,
    /// When the next try starts, after a failed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
    /// The ten runs before the latest, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<PastRun>,
    /// The value of the annotation `tenantry.dev/reconcile-requested-at` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// `Ready` always; `Succeeded`, `LogsArchived`, `ArtifactsStored` once they are known; `Reconciling` and `Stalled`
    /// while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where a BuildRequest stands in the queue. Exact for the first ten, in tens up to a hundred, in hundreds beyond; up to ten
/// seconds, a minute and five minutes old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueuePosition {
    /// The first is 1.
    #[schemars(range(min = 1))]
    pub position: i32,
    /// How many wait.
    #[schemars(range(min = 1))]
    pub of: i32,
}

/// A BuildRequest in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BuildPhase {
    /// Nothing was sent yet.
    Pending,
    /// Held back by `spec.suspend`.
    Suspended,
    /// Waits: for its turn, for the next try, or in the queue of Jenkins.
    Queued,
    /// The build runs.
    Running,
    /// The build waits for a person's answer.
    Paused,
    /// The build ended; its log and artifacts are being brought home.
    Collecting,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Was stopped by `spec.cancel`.
    Cancelled,
}

/// How far one run is, from the intent to the end. Each step is written down before the next is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunState {
    /// We want it; nothing was sent.
    Intended,
    /// It is being sent; whether it arrived is not known yet.
    Sending,
    /// The PipelineRun exists; it has no build number yet.
    Submitted,
    /// It has a build number.
    Started,
    /// It ended, or is known never to end.
    Ended,
}

/// Which way a run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TriggerRung {
    /// Created under a name of our choice: repeating it is harmless.
    ChosenName,
    /// Posted; the remote chose the name.
    Post,
}

/// How a run ended, in our words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Jenkins SUCCESS.
    Succeeded,
    /// Jenkins UNSTABLE: tests failed, the build was done.
    Unstable,
    /// Jenkins FAILURE.
    Failed,
    /// Jenkins ABORTED, not by us.
    Aborted,
    /// Skipped by the pipeline itself.
    Skipped,
    /// Jenkins ended with NOT_BUILT or UNKNOWN.
    Indeterminate,
    /// Stopped by `spec.cancel`.
    Cancelled,
    /// Stopped because it took longer than `timeouts.run`.
    TimedOut,
    /// Never got a build number.
    TriggerFailed,
    /// The remote forgot it before it ended.
    Lost,
}

/// Why we asked the remote to stop a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StopReason {
    /// `spec.cancel`.
    Cancelled,
    /// `timeouts.run`.
    TimedOut,
    /// `timeouts.trigger`: it is removed.
    TriggerTimedOut,
}

/// The latest run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurrentRun {
    /// Our identity for this one run.
    pub token: String,
    /// 1 for the first try.
    pub attempt: u32,
    /// Digest of what was asked for.
    pub inputs_digest: String,
    /// The value of the annotation `tenantry.dev/rerun-requested-at` that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun: Option<String>,
    /// How far it is.
    pub state: RunState,
    /// Which way it was started.
    pub trigger: TriggerRung,
    /// The gateway that it was sent through: of runs on the same pipeline there, one is started at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The cluster it runs in; absent for the host cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Full name of the project.
    pub project: String,
    /// The pipeline.
    pub pipeline: String,
    /// The branch, as git writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The branch, as Jenkins writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoded_branch: Option<String>,
    /// Name of the PipelineRun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The Jenkins build number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The remote's own phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Jenkins' result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Whether it is known to have left Jenkins' queue.
    #[serde(default)]
    pub dequeued: bool,
    /// The commit that was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How it ended, in our words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When the intent was written down.
    pub intended_at: Time,
    /// When it was first sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Time>,
    /// Since when the remote says that it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Time>,
    /// When we asked for its stop, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopRequest>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// When we wrote its end down. What is kept by time, is kept from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Names of the parameters whose values came from Secrets: these values are masked wherever the run is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub secret_parameters: Vec<String>,
}

/// That we asked for the stop of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StopRequest {
    /// Why.
    pub reason: StopReason,
    /// Since when.
    pub requested_at: Time,
}

/// One stage of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Its name in the Jenkinsfile.
    pub name: String,
    /// Jenkins' state: RUNNING, PAUSED, FINISHED, …
    pub state: String,
    /// Jenkins' result, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// How long it took, once it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// A question that the run asks a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingInput {
    /// The stage that asks.
    pub stage: String,
    /// The input's id.
    pub id: String,
    /// The question.
    pub message: String,
    /// What else it wants to know, the first 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parameters: Vec<InputParameter>,
}

/// One parameter of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputParameter {
    /// Its name.
    pub name: String,
    /// Jenkins' type of it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value it has if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The values to choose from, the first 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub choices: Vec<String>,
}

/// Why a build failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The stage that failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The reason, as in the conditions.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// The last lines of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

/// The copy of a run's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogStatus {
    /// The ConfigMaps that hold it, in order; key `log` in each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub config_maps: Vec<String>,
    /// The file on a volume that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<LogFile>,
    /// The latest Job that brings it to a volume. It is removed an hour after it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Bytes of the whole log as text: UTF-8, line ends as LF, values from Secrets masked.
    #[serde(default)]
    pub bytes: i64,
    /// Whether the copy lacks a part of it.
    #[serde(default)]
    pub truncated: bool,
    /// SHA-256 of the whole log as text (see `bytes`), once it is complete; of what `truncated` left out too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether the build ended before this was copied.
    #[serde(default)]
    pub complete: bool,
    /// What the text is.
    #[serde(default)]
    pub source: LogSource,
}

/// What the text of a stored log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogSource {
    /// The run's own log.
    #[default]
    Run,
    /// Put together from the logs of the steps: while the build runs for tenants without the raw Jenkins proxy, and at
    /// the end where the whole log could not be had.
    Steps,
}

/// A file on a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogFile {
    /// The PersistentVolumeClaim.
    pub claim_name: String,
    /// Path of the file, relative to the volume's root.
    pub path: String,
}

/// A run before the latest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastRun {
    /// Our identity for it.
    pub token: String,
    /// Which try it was.
    pub attempt: u32,
    /// Digest of what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_digest: Option<String>,
    /// Name of the PipelineRun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The Jenkins build number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}
