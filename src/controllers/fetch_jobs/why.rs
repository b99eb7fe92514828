//! Why a pod does not start, and why a Job failed: from what Kubernetes and the pod itself tell to reason and remedy. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, PersistentVolumeClaim, Pod, PodCondition,
};
use kube::ResourceExt as _;

use super::{
    build::CONTAINER,
    seen::{JobSeen, JobState},
};
use crate::{
    api::conditions::{Reason, bounded},
    fetcher::outcome::{Failure, FailureKind, Outcome},
    trouble::{Remedy, Trouble},
};

/// After so long a pod that has a node and does not run is worth a word.
const STARTING: Duration = Duration::from_secs(60);
/// After so long a Job without a pod is worth a word.
const WITHOUT_POD: Duration = Duration::from_secs(30);
/// How long a lockout is taken to last where the gateway does not say (contract §1.2: ten minutes by default).
const LOCKOUT: Duration = Duration::from_secs(600);
/// Bytes of Kubernetes' own words in a message.
const WORDS: usize = 600;

/// What a Job that is not over waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdup {
    /// Why; `Fetching` where all is as it should be.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

impl Holdup {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: bounded(&message.into(), 1000),
        }
    }

    /// Whether something is amiss.
    pub fn is_amiss(&self) -> bool {
        self.reason != Reason::Fetching
    }
}

/// Why Job `job`, made `age` ago, has no pod.
pub fn without_pod(job: &str, age: Duration) -> Holdup {
    if age < WITHOUT_POD {
        return Holdup::new(Reason::Fetching, format!("Job {job} is about to start"));
    }
    Holdup::new(
        Reason::PodNotStarted,
        format!(
            "Kubernetes makes no pod for Job {job}: a quota or an admission policy of this namespace may refuse it; \
             'kubectl describe job {job}' shows its words"
        ),
    )
}

/// Why `pod`, made `age` ago, does not run. `claim` is the claim that it uses, where that exists.
pub fn not_running(
    pod: &Pod,
    claim_name: &str,
    claim: Option<&PersistentVolumeClaim>,
    age: Duration,
) -> Holdup {
    let name = pod.name_any();
    let Some(claim) = claim else {
        return Holdup::new(
            Reason::ClaimNotFound,
            format!(
                "PersistentVolumeClaim {claim_name:?} does not exist any more: create it again, or correct claimName"
            ),
        );
    };
    if let Some((reason, message)) = waiting(pod) {
        return refused(&name, reason, message);
    }
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|c| c.status == "False") {
        return unscheduled(&name, scheduled, claim_name, claim);
    }
    let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) else {
        return Holdup::new(Reason::Fetching, format!("pod {name} waits for a node"));
    };
    if age < STARTING {
        return Holdup::new(Reason::Fetching, format!("pod {name} is starting on node {node}"));
    }
    Holdup::new(
        Reason::PodNotStarted,
        format!(
            "pod {name} does not start on node {node}: most often a volume cannot be attached or mounted, or the image takes \
             long; 'kubectl describe pod {name}' shows what the node says"
        ),
    )
}

/// What the container waits for, other than the usual.
fn waiting(pod: &Pod) -> Option<(&str, &str)> {
    let waiting = container_state(pod)?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let usual = matches!(reason, "ContainerCreating" | "PodInitializing");
    (!usual).then(|| (reason, waiting.message.as_deref().unwrap_or_default()))
}

fn refused(pod: &str, reason: &str, words: &str) -> Holdup {
    let words = bounded(words, WORDS);
    let is_image = reason.contains("Image") || reason == "RegistryUnavailable";
    if is_image {
        return Holdup::new(
            Reason::ImageUnavailable,
            format!(
                "pod {pod} cannot have its image ({reason}: {words}): ask the administrator of the operator"
            ),
        );
    }
    Holdup::new(
        Reason::PodNotStarted,
        format!("the container of pod {pod} cannot be started ({reason}): {words}"),
    )
}

fn unscheduled(
    pod: &str,
    condition: &PodCondition,
    claim_name: &str,
    claim: &PersistentVolumeClaim,
) -> Holdup {
    let words = bounded(
        condition.message.as_deref().unwrap_or("it does not say why"),
        WORDS,
    );
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let class = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_deref());
    match phase {
        Some("Bound") => Holdup::new(
            Reason::PodUnschedulable,
            format!("no node takes pod {pod}: {words}"),
        ),
        Some("Lost") => Holdup::new(
            Reason::ClaimNotBound,
            format!(
                "PersistentVolumeClaim {claim_name:?} has lost its volume: restore it, or make the claim anew"
            ),
        ),
        _ => Holdup::new(
            Reason::ClaimNotBound,
            format!(
                "PersistentVolumeClaim {claim_name:?} is not bound to a volume: {} must provide one; the scheduler says: {words}",
                match class {
                    Some("") | None => "somebody".to_owned(),
                    Some(class) => format!("storage class {class:?}"),
                }
            ),
        ),
    }
}

/// What stands in the way of an object whose Job failed. `pod` is its last one, where there still is one.
pub fn job_failed(job: &JobSeen, pod: Option<&Pod>) -> Trouble {
    // A pod that was asked to stop does not know why; Kubernetes may.
    let told = pod.and_then(outcome).filter(|told| {
        let asked = matches!(told, Outcome::Failed(failure) if failure.kind == FailureKind::Interrupted);
        !asked || pod.and_then(eviction).is_none()
    });
    if let Some(Outcome::Failed(failure)) = told {
        return failed(&failure);
    }
    let (why, words) = match &job.state {
        JobState::Failed { reason, message, .. } => (reason.as_str(), bounded(message, WORDS)),
        _ => ("", String::new()),
    };
    let name = &job.name;
    if why == "DeadlineExceeded" {
        return Trouble::passing(
            Reason::FetchTimedOut,
            format!("Job {name} did not end within its deadline and was stopped: {words}"),
        );
    }
    let Some(pod) = pod else {
        return Trouble::passing(
            Reason::FetchFailed,
            format!("Job {name} failed and its pods are gone ({why}): {words}"),
        );
    };
    let pod_name = pod.name_any();
    if let Some(said) = eviction(pod) {
        return Trouble::passing(
            Reason::PodEvicted,
            format!("pod {pod_name} was taken from its node: {}", bounded(said, WORDS)),
        );
    }
    match terminated(pod) {
        Some(end) if end.reason.as_deref() == Some("OOMKilled") => Trouble::user(
            Reason::OutOfMemory,
            format!(
                "pod {pod_name} needed more memory than its limit: the administrator of the operator can raise it in the pod \
                 template (--fetcher-pod-template)"
            ),
        ),
        Some(end) => Trouble::passing(
            Reason::FetchFailed,
            format!(
                "pod {pod_name} ended with exit code {} ({}) and without a word; 'kubectl logs {pod_name}' shows its log",
                end.exit_code,
                end.reason.as_deref().unwrap_or("no reason"),
            ),
        ),
        None => Trouble::passing(Reason::FetchFailed, format!("Job {name} failed ({why}): {words}")),
    }
}

/// What stands in the way, as the pod said it.
pub fn failed(failure: &Failure) -> Trouble {
    let (reason, mut remedy) = meaning(failure.kind);
    if let (Remedy::Time(at_least), Some(told)) = (&mut remedy, failure.retry_after()) {
        *at_least = Some(told);
    }
    Trouble {
        reason,
        message: failure.message.clone(),
        remedy,
    }
}

/// The one table from what a pod says to a reason and what can change it.
fn meaning(kind: FailureKind) -> (Reason, Remedy) {
    use FailureKind as K;
    let time = Remedy::Time(None);
    match kind {
        K::CredentialsMissing => (Reason::SecretKeyMissing, Remedy::User),
        K::CredentialsInvalid => (Reason::CredentialsInvalid, Remedy::User),
        K::LockedOut => (Reason::LockedOut, Remedy::Time(Some(LOCKOUT))),
        K::AccessDenied => (Reason::AccessDenied, Remedy::User),
        K::ClusterNotFound => (Reason::ClusterNotFound, Remedy::User),
        K::RunNotFound => (Reason::RunNotFound, Remedy::User),
        K::NoMatch => (Reason::NoMatch, Remedy::User),
        K::TooManyFiles => (Reason::TooManyFiles, Remedy::User),
        K::TooLarge => (Reason::ArtifactsTooLarge, Remedy::User),
        K::VerifyPathMissing => (Reason::VerifyPathMissing, Remedy::User),
        K::DigestMismatch => (Reason::DigestMismatch, Remedy::User),
        K::PathRefused => (Reason::PathRefused, Remedy::User),
        K::DiskFull | K::QuotaExceeded => (Reason::VolumeFull, Remedy::User),
        K::ReadOnly => (Reason::VolumeReadOnly, Remedy::User),
        K::PermissionDenied => (Reason::VolumePermissionDenied, Remedy::User),
        K::VolumeMissing => (Reason::VolumeFailed, Remedy::User),
        K::RemoteRejected => (Reason::RemoteRejected, Remedy::User),
        // Operator and image of different versions: another Job says the same.
        K::InvalidPlan => (Reason::FetchFailed, Remedy::User),
        K::VolumeFailed => (Reason::VolumeFailed, time),
        K::VolumeBusy => (Reason::VolumeBusy, time),
        K::RemoteUnavailable => (Reason::RemoteUnavailable, time),
        K::Throttled => (Reason::Throttled, time),
        K::UnexpectedAnswer => (Reason::UnexpectedAnswer, time),
        K::Interrupted => (Reason::PodEvicted, time),
        K::Unknown => (Reason::FetchFailed, time),
    }
}

/// What the pod left in its termination message.
pub fn outcome(pod: &Pod) -> Option<Outcome> {
    serde_json::from_str(terminated(pod)?.message.as_deref()?).ok()
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    container_state(pod)?.terminated.as_ref()
}

fn container_state(pod: &Pod) -> Option<&ContainerState> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let fetch = statuses.iter().find(|status| status.name == CONTAINER)?;
    fetch.state.as_ref()
}

/// The words about its eviction, where it was evicted, preempted or drained.
fn eviction(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let disrupted = condition(pod, "DisruptionTarget").filter(|c| c.status == "True");
    let evicted = matches!(
        status.reason.as_deref(),
        Some("Evicted" | "Preempting" | "Shutdown" | "NodeLost" | "Terminated" | "NodeAffinity")
    );
    if !evicted && disrupted.is_none() {
        return None;
    }
    let words = status.message.as_deref();
    words
        .or_else(|| disrupted?.message.as_deref())
        .or(Some("Kubernetes does not say why"))
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
