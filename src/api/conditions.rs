//! Conditions, as kstatus reads them: `Ready` always, `Reconciling` and `Stalled` only while they are true, and beside
//! them the facts `Succeeded`, `LogsArchived` and `ArtifactsStored`.
//!
//! Every reason is one of [`Reason`], with one line of advice that the reference in `docs/` is made from.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Types of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// What was asked for is there.
    Ready,
    /// Something is on its way.
    Reconciling,
    /// Nothing will happen until somebody changes something.
    Stalled,
    /// The outcome of the build.
    Succeeded,
    /// The log is copied out.
    LogsArchived,
    /// The artifacts are copied out.
    ArtifactsStored,
}

impl ConditionType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::Succeeded,
        Self::LogsArchived,
        Self::ArtifactsStored,
    ];

    /// As written in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Succeeded => "Succeeded",
            Self::LogsArchived => "LogsArchived",
            Self::ArtifactsStored => "ArtifactsStored",
        }
    }
}

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident ),+ $(,)?) => {
        /// Why a condition is as it is: a closed set, so that people and alerts can rely on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $( $(#[doc = $doc])+ $name ),+ }

        impl Reason {
            /// All of them, in the order of the reference.
            pub const ALL: &'static [Self] = &[ $( Self::$name ),+ ];

            /// As written in the API.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => stringify!($name) ),+ }
            }

            /// What it means and what to do, in a line: the reference in `docs/` shows it.
            pub const fn advice(self) -> &'static str {
                match self { $( Self::$name => concat!($($doc),+) ),+ }
            }
        }
    };
}

reasons! {
    /// All is as asked for.
    Ready,
    /// The build ended well and its log and artifacts are stored.
    Succeeded,
    /// Nothing was looked at yet.
    Pending,
    /// `spec.suspend` is true: set it to false to go on.
    Suspended,
    /// The build is being started.
    Starting,
    /// Waits for its turn: another build of the same pipeline and branch is being started, or the connection's limit of active runs is reached.
    Queued,
    /// Waits in the queue of Jenkins.
    QueuedRemotely,
    /// The build runs.
    Running,
    /// The build waits for a person's answer: see `status.input`.
    Paused,
    /// The build ended; log and artifacts are being brought home.
    Collecting,
    /// The last try failed; the next one is due at `status.nextAttemptAt`.
    WaitingToRetry,
    /// The build is being stopped.
    Stopping,
    /// Files are being fetched.
    Fetching,
    /// The source has no finished run yet.
    WaitingForRun,
    /// Jenkins says FAILURE: read `status.failure` and the log.
    BuildFailed,
    /// Jenkins says UNSTABLE (tests failed): mend them, or set `spec.acceptUnstable`.
    BuildUnstable,
    /// Somebody stopped the build, not through this object.
    BuildAborted,
    /// `spec.cancel` stopped it: set it to false and ask for a rerun to build again.
    Cancelled,
    /// The pipeline skipped the build.
    BuildSkipped,
    /// Jenkins ended the build with neither success nor failure: look at it there.
    BuildIndeterminate,
    /// The build took longer than `spec.timeouts.run` and was stopped.
    RunTimedOut,
    /// The run got no build number within `spec.timeouts.trigger`; the message holds what Jenkins said.
    TriggerFailed,
    /// The remote forgot the run before it ended; it is not started again unless `spec.retry` or a rerun says so.
    RunLost,
    /// Several runs on the remote could be the one that was sent: the message names them; ask for a rerun once you know.
    AmbiguousRun,
    /// A PipelineRun of our name exists that is not ours.
    RunNameTaken,
    /// No TenantConnection of that name in this namespace: create it, or correct the name.
    ConnectionNotFound,
    /// The TenantConnection is suspended.
    ConnectionSuspended,
    /// The TenantConnection is not ready: see its own conditions.
    ConnectionNotReady,
    /// The gateway refused the user name, password or token: correct the Secret.
    CredentialsInvalid,
    /// The gateway refuses log-ins for a while after too many bad ones; it is tried again later.
    LockedOut,
    /// The tenant may not do this: ask for the role that the message names.
    AccessDenied,
    /// A Secret or ConfigMap does not exist in this namespace: create it.
    ReferenceNotFound,
    /// A Secret lacks a key, or its value is no text: correct the Secret or the reference.
    SecretKeyMissing,
    /// A ConfigMap lacks a key: correct the ConfigMap or the reference.
    ConfigMapKeyMissing,
    /// A field is not as it should be: the message says which and how.
    InvalidSpec,
    /// The workspace does not exist, or the user is not a member of it.
    WorkspaceNotFound,
    /// No DevOps project of that name is visible to the user.
    ProjectNotFound,
    /// Several projects bear this short name: write the full name of one of them.
    ProjectAmbiguous,
    /// The project exists, but the workspace does not list it: its namespace label `kubesphere.io/workspace` is wrong.
    ProjectMislabelled,
    /// The project has no pipeline of that name.
    PipelineNotFound,
    /// The pipeline is a multi-branch one: name the branch.
    BranchRequired,
    /// The pipeline is a regular one: remove the branch.
    BranchNotSupported,
    /// The pipeline has no such branch (yet): push it or scan the pipeline.
    BranchNotFound,
    /// A parameter is unknown, lacks a value or has one that is not among the choices: the message lists what the pipeline declares.
    ParametersInvalid,
    /// The gateway knows no such member cluster.
    ClusterNotFound,
    /// The gateway, KubeSphere DevOps or Jenkins does not answer as it should; it is tried again.
    RemoteUnavailable,
    /// The gateway asks us to slow down; it is tried again.
    Throttled,
    /// The gateway refuses the request: the message holds its words.
    RemoteRejected,
    /// The remote does something that tenantry does not understand: please report it.
    UnexpectedAnswer,
    /// The log is stored.
    LogStored,
    /// Only head and tail of the log are stored: raise `spec.logs.maxBytes`.
    LogTruncated,
    /// The log could not be brought home before the deadline.
    LogUnavailable,
    /// The run has no log.
    NoLog,
    /// The artifacts are stored.
    ArtifactsStored,
    /// The owned ArtifactFetch failed: see its conditions.
    ArtifactsFailed,
    /// No file of the run matches the globs.
    NoMatch,
    /// The files are larger than `maxBytes` or than a ConfigMap can hold: fetch fewer.
    ArtifactsTooLarge,
    /// There are more files than `maxFiles`: fetch fewer.
    TooManyFiles,
    /// A file does not have the digest that `verify` asks for.
    DigestMismatch,
    /// A file that `verify` names is not among the files.
    VerifyPathMissing,
    /// The ConfigMap to write belongs to something else: choose another name.
    DestinationConflict,
    /// This cluster's API server did not take what was to be stored; the message holds its words.
    StorageUnavailable,
    /// The operator has no image to run fetch Jobs with: its administrator must set `--fetcher-image`.
    FetcherNotConfigured,
    /// No PersistentVolumeClaim of that name in this namespace: create it, or correct `claimName`.
    ClaimNotFound,
    /// The PersistentVolumeClaim is not bound to a volume: the message says what it waits for.
    ClaimNotBound,
    /// No node takes the pod of the fetch Job: the message holds the scheduler's words.
    PodUnschedulable,
    /// The image of the fetch Job cannot be had on the node: the operator's administrator must correct `--fetcher-image` or the pull secrets of the pod template.
    ImageUnavailable,
    /// The pod of the fetch Job does not start: the message says at what it stands and where to look.
    PodNotStarted,
    /// The pod of the fetch Job was evicted or removed too often; it is tried again, and goes on where it was.
    PodEvicted,
    /// The pod of the fetch Job needs more memory than its limit: the operator's administrator must raise it in the pod template.
    OutOfMemory,
    /// The fetch Job did not end within its deadline; it is tried again, and goes on where it was.
    FetchTimedOut,
    /// The fetch Job failed: the message holds its last words.
    FetchFailed,
    /// The volume or its quota is full: make room or enlarge the claim, then ask for another look.
    VolumeFull,
    /// The volume is mounted read-only: use a claim that can be written.
    VolumeReadOnly,
    /// The volume does not let user and group 65532 write: set its permissions, or `runAsUser` and `fsGroup` in the operator's pod template.
    VolumePermissionDenied,
    /// The volume failed (an I/O error, or nothing is mounted): look at the node and the storage; it is tried again.
    VolumeFailed,
    /// Another pod is at work on the same files of the volume; it is tried again.
    VolumeBusy,
    /// A file has a path that cannot be had on this volume: leave it out, or take away what is in its way.
    PathRefused,
    /// No BuildRequest of that name in this namespace.
    SourceNotFound,
    /// The remote knows no such run.
    RunNotFound,
    /// The clean-up on the remote did not end in time; the object was let go.
    CleanupAbandoned,
    /// A run asked for parameters that the pipeline does not declare yet: Jenkins ignores them in its first run.
    ParametersMayBeIgnored,
    /// A value from a Secret is shorter than 4 characters: it is not masked in the log where the pipeline prints it.
    SecretTooShort,
}

/// One condition to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Which.
    pub kind: ConditionType,
    /// `True`, `False` or, where absent, `Unknown`.
    pub status: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
}

impl Fact {
    /// A condition that is true.
    pub fn yes(kind: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind,
            status: Some(true),
            reason,
            message: message.into(),
        }
    }

    /// A condition that is false.
    pub fn no(kind: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind,
            status: Some(false),
            reason,
            message: message.into(),
        }
    }

    /// A condition that is not known.
    pub fn unknown(kind: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind,
            status: None,
            reason,
            message: message.into(),
        }
    }

    const fn status_str(&self) -> &'static str {
        match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// How many bytes of a message are kept; the API server allows 32 KiB, people read less.
const MAX_MESSAGE: usize = 2048;

/// Replaces our conditions by `facts`. A condition whose status stays keeps its transition time, so that the same facts
/// give the same bytes and the operator does not wake itself. Conditions of types that are not ours are somebody else's
/// and stay as they are.
pub fn replace(conditions: &mut Vec<Condition>, facts: &[Fact], generation: Option<i64>, now: &Time) {
    let previous = std::mem::take(conditions);
    for fact in facts {
        let status = fact.status_str();
        let since = previous
            .iter()
            .find(|c| c.type_ == fact.kind.as_str() && c.status == status)
            .map_or_else(|| now.clone(), |c| c.last_transition_time.clone());
        conditions.push(Condition {
            type_: fact.kind.as_str().into(),
            status: status.into(),
            reason: fact.reason.as_str().into(),
            message: bounded(&fact.message, MAX_MESSAGE),
            observed_generation: generation,
            last_transition_time: since,
        });
    }
    conditions.extend(previous.into_iter().filter(|c| !is_ours(&c.type_)));
}

/// Whether a type of conditions is one of ours.
pub fn is_ours(type_: &str) -> bool {
    ConditionType::ALL.iter().any(|ours| ours.as_str() == type_)
}

/// Sets one condition and leaves the others as they are.
pub fn set(conditions: &mut [Condition], fact: &Fact, generation: Option<i64>, now: &Time) {
    let mut one = Vec::new();
    if let Some(condition) = conditions.iter_mut().find(|c| c.type_ == fact.kind.as_str()) {
        one.push(condition.clone());
        replace(&mut one, std::slice::from_ref(fact), generation, now);
        condition.clone_from(&one[0]);
    }
}

/// The condition of a type.
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == kind.as_str())
}

/// Whether the condition of a type is `True`.
pub fn is_true(conditions: &[Condition], kind: ConditionType) -> bool {
    find(conditions, kind).is_some_and(|c| c.status == "True")
}

/// `text`, cut on a character boundary with a visible mark where it is longer than `max` bytes.
pub fn bounded(text: &str, max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= max {
        return text.into();
    }
    let mut end = max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_same_facts_give_the_same_bytes_later() {
        let facts = [Fact::no(ConditionType::Ready, Reason::Running, "build 7 runs")];
        let mut conditions = Vec::new();
        replace(&mut conditions, &facts, Some(1), &at(10));
        let first = conditions.clone();
        replace(&mut conditions, &facts, Some(1), &at(20));
        assert_eq!(first, conditions);
    }

    #[test]
    fn the_transition_time_follows_the_status_only() {
        let mut conditions = Vec::new();
        replace(
            &mut conditions,
            &[Fact::no(ConditionType::Ready, Reason::Running, "")],
            Some(1),
            &at(10),
        );
        replace(
            &mut conditions,
            &[Fact::no(ConditionType::Ready, Reason::Collecting, "")],
            Some(1),
            &at(20),
        );
        assert_eq!(conditions[0].last_transition_time, at(10));
        replace(
            &mut conditions,
            &[Fact::yes(ConditionType::Ready, Reason::Succeeded, "")],
            Some(1),
            &at(30),
        );
        assert_eq!(conditions[0].last_transition_time, at(30));
    }

    #[test]
    fn a_condition_that_is_no_longer_a_fact_goes() {
        let mut conditions = Vec::new();
        replace(
            &mut conditions,
            &[
                Fact::no(ConditionType::Ready, Reason::Running, ""),
                Fact::yes(ConditionType::Reconciling, Reason::Running, ""),
            ],
            None,
            &at(1),
        );
        replace(
            &mut conditions,
            &[Fact::yes(ConditionType::Ready, Reason::Succeeded, "")],
            None,
            &at(2),
        );
        assert!(find(&conditions, ConditionType::Reconciling).is_none());
        assert!(is_true(&conditions, ConditionType::Ready));
    }

    #[test]
    fn a_condition_of_somebody_else_stays_as_it_is() {
        let theirs = Condition {
            type_: "example.org/Checked".into(),
            status: "True".into(),
            reason: "Looked".into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: at(5),
        };
        let mut conditions = vec![theirs.clone()];
        for second in [10, 20] {
            replace(
                &mut conditions,
                &[Fact::yes(ConditionType::Ready, Reason::Succeeded, "")],
                None,
                &at(second),
            );
            assert_eq!(conditions.len(), 2, "{conditions:?}");
            assert_eq!(conditions[1], theirs);
        }
    }

    #[test]
    fn every_reason_has_advice_and_a_legal_name() {
        for reason in Reason::ALL {
            assert!(reason.advice().trim().len() > 10, "{reason:?}");
            assert!(
                reason.as_str().chars().all(|c| c.is_ascii_alphanumeric()),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn long_messages_are_cut_on_a_character() {
        let text = "ä".repeat(100);
        let cut = bounded(&text, 20);
        assert!(cut.len() <= 20 && cut.ends_with('…'), "{cut}");
    }
}
