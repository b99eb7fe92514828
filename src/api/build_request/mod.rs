//! `BuildRequest`: one build that a tenant wants, and what became of it.

mod status;

pub use status::*;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    artifact_fetch::{ConfigMapDestination, FileSelection, VolumeDestination},
    common::{Duration, KeyRef, LocalRef},
};

/// One build that a tenant wants: which pipeline, with which parameters, and where log and artifacts go.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantry.dev",
    version = "v1alpha1",
    kind = "BuildRequest",
    namespaced,
    status = "BuildRequestStatus",
    derive = "PartialEq",
    shortname = "breq",
    category = "tenantry",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Pipeline", type_ = "string", json_path = ".spec.pipeline"),
    printcolumn(name = "Branch", type_ = "string", json_path = ".spec.branch"),
    printcolumn(name = "Build", type_ = "string", json_path = ".status.run.id"),
    printcolumn(name = "Result", type_ = "string", json_path = ".status.run.result"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.run.duration"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Queue",
        type_ = "integer",
        json_path = ".status.queue.position",
        priority = 1
    ),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.project", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.correlationParameter) || !has(self.parameters) || !self.parameters.exists(p, p.name == self.correlationParameter)").message("correlationParameter is set by the operator: do not list it in parameters")
)]
pub struct BuildRequestSpec {
    /// The TenantConnection to build through.
    pub connection_ref: LocalRef,

    /// The DevOps project: its full name (`shopx7k2p`) or its short name (`shop`).
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub project: String,

    /// The cluster that the project lives in. Unset: the connection's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub cluster: Option<String>,

    /// The pipeline to run.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub pipeline: String,

    /// The branch, as git writes it (`feature/login`), where the pipeline is a multi-branch one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.startsWith('refs/') && !self.contains('%') && self.matches('^[^ ~^:?*\\\\[\\\\\\\\\\\\x00-\\\\x1f\\\\x7f]+$')").message("branch must be written as git shows it, like feature/login: without refs/heads/ and without percent encoding"))]
    pub branch: Option<String>,

    /// Parameters of the build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub parameters: Vec<Parameter>,

    /// A string parameter of the pipeline that the operator may set to a unique value. With it a run can be found again
    /// after a lost answer even where the tenant may not choose the run's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_.-]*$"))]
    pub correlation_parameter: Option<String>,

    /// Who starts first among those that wait: for the same pipeline and branch, and for `limits.concurrentRuns` of the
    /// connection. Higher first, then older first. What already runs is not stopped, and nobody moves up by waiting: as
    /// long as builds of a higher priority come in, those of a lower one wait.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,

    /// How long to wait for what.
    #[serde(default)]
    pub timeouts: Timeouts,

    /// Whether a build that ended badly is tried again.
    #[serde(default)]
    pub retry: Retry,

    /// Whether a build that Jenkins calls UNSTABLE (tests failed, build done) counts as a success.
    #[serde(default)]
    pub accept_unstable: bool,

    /// Stop the active build, and start no other.
    #[serde(default)]
    pub cancel: bool,

    /// Start nothing while true. A build that is already active is followed to its end.
    #[serde(default)]
    pub suspend: bool,

    /// Where the log goes, and how much of it.
    #[serde(default)]
    pub logs: Logs,

    /// Files to bring home from the build. Makes an ArtifactFetch that this object owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactTemplate>,

    /// Delete this object so long after it ended. Unset: keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<Duration>,

    /// What happens to the run on the remote when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// One parameter of the build: a name, and either a value or where to find it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.valueFrom)").message("set exactly one of value and valueFrom"))]
pub struct Parameter {
    /// Name, as the pipeline declares it.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The value. Booleans and numbers are written as strings: `"true"`, `"3"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub value: Option<String>,
    /// Where the value is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueFrom>,
}

/// Where a value is: exactly one of the two, in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)").message("set exactly one of valueFrom.secretKeyRef and valueFrom.configMapKeyRef"))]
pub struct ValueFrom {
    /// Key of a Secret. The value is sent to the pipeline and shown nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// Key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

/// How long to wait for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// From sending a run to its getting a build number. Then it is removed and counts as a failed try.
    #[serde(default = "default_trigger_timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("timeouts.trigger must be at least 1s"))]
    pub trigger: Duration,
    /// From a run's start to its end. Then it is stopped and counts as a failed try.
    #[serde(default = "default_run_timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("timeouts.run must be at least 1s"))]
    pub run: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            trigger: default_trigger_timeout(),
            run: default_run_timeout(),
        }
    }
}

fn default_trigger_timeout() -> Duration {
    Duration::from_secs(600)
}
fn default_run_timeout() -> Duration {
    Duration::from_secs(6 * 3600)
}

/// Whether a build that ended badly is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Further tries after the first.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub limit: u32,
    /// Pause before the first further try; doubles each time, at most ten minutes.
    #[serde(default = "default_retry_backoff")]
    pub backoff: Duration,
    /// Endings that are tried again. (Not named `on`: YAML 1.1, which kubectl reads, takes that key for a boolean.)
    #[serde(default = "default_retry_on")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub outcomes: Vec<RetryOn>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            limit: 0,
            backoff: default_retry_backoff(),
            outcomes: default_retry_on(),
        }
    }
}

fn default_retry_backoff() -> Duration {
    Duration::from_secs(30)
}
fn default_retry_on() -> Vec<RetryOn> {
    vec![
        RetryOn::Failure,
        RetryOn::TriggerFailed,
        RetryOn::TimedOut,
        RetryOn::Lost,
    ]
}

/// An ending that may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryOn {
    /// Jenkins result FAILURE.
    Failure,
    /// Jenkins result UNSTABLE (where `acceptUnstable` is false).
    Unstable,
    /// Jenkins result ABORTED, not by us.
    Aborted,
    /// The run got no build number within `timeouts.trigger`.
    TriggerFailed,
    /// The run took longer than `timeouts.run`.
    TimedOut,
    /// The remote forgot the run before it ended.
    Lost,
}

/// Where the log goes, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// Where the log goes.
    #[serde(default)]
    pub destination: LogDestination,
    /// How many bytes of the log are kept in ConfigMaps, at most 8 MiB: where it is longer, its head and tail. A volume
    /// gets all of it.
    #[serde(default = "default_log_bytes")]
    #[schemars(range(min = 4096, max = 8_388_608))]
    pub max_bytes: i64,
    /// How many of the last lines a failed build shows in `status.failure.logTail`.
    #[serde(default = "default_tail_lines")]
    #[schemars(range(min = 0, max = 100))]
    pub tail_lines: u32,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            destination: LogDestination::default(),
            max_bytes: default_log_bytes(),
            tail_lines: default_tail_lines(),
        }
    }
}

fn default_log_bytes() -> i64 {
    1024 * 1024
}
fn default_tail_lines() -> u32 {
    20
}

/// Where the log goes: at most one of the two; ConfigMaps where neither is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.configMap) && has(self.volume))").message("set at most one of logs.destination.configMap and logs.destination.volume"))]
pub struct LogDestination {
    /// Into ConfigMaps that this object owns; the first is named `NAME-log` where no name is given here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapDestination>,
    /// Onto a volume, whole, by a Job in this namespace, when the build is over: one file a run, `NAME-ID-TOKEN.log` (name
    /// of this object, Jenkins build number, the first eight characters of the run's token). It stays when this object is
    /// deleted. There is no log before the end of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeDestination>,
}

/// A template of an owned ArtifactFetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactTemplate {
    /// Which files.
    #[serde(flatten)]
    pub files: FileSelection,
}

/// What happens to the run on the remote when its BuildRequest is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Never touch the remote.
    #[default]
    Retain,
    /// Stop the build if it is active.
    Abort,
    /// Stop the build if it is active, and delete the run.
    Delete,
}
