//! What is known of a Job, from its object. Pure.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use kube::ResourceExt as _;

use super::build::{ASKED, ATTEMPT, CONTAINER, SELECTION};
use crate::fetcher::plan::{ENV, Plan};

/// A fetch Job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSeen {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: Option<String>,
    /// Digest of what the object asked for.
    pub asked: String,
    /// Digest of what of which run it is to bring.
    pub selection: String,
    /// How many Jobs for the same there were, this one included.
    pub attempt: u32,
    /// When it was made.
    pub made: Option<Timestamp>,
    /// What its pods are told.
    pub plan: Option<Plan>,
    /// How it stands.
    pub state: JobState,
}

/// How a Job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It is being deleted; its pods may still write.
    Leaving,
    /// It is not over.
    Active,
    /// It ended well.
    Complete,
    /// It ended badly; no pod of it runs any more.
    Failed {
        /// Since when.
        at: Timestamp,
        /// Why, in one word of Kubernetes.
        reason: String,
        /// The same for people.
        message: String,
    },
}

impl JobSeen {
    /// Reads a Job.
    pub fn of(job: &Job) -> Self {
        let annotation = |key: &str| job.annotations().get(key).cloned().unwrap_or_default();
        Self {
            name: job.name_any(),
            uid: job.uid(),
            asked: annotation(ASKED),
            selection: annotation(SELECTION),
            attempt: annotation(ATTEMPT).parse().unwrap_or_default(),
            made: job.creation_timestamp().map(|time| time.0),
            plan: plan(job),
            state: state(job),
        }
    }

    /// Whether it may still write.
    pub fn is_at_work(&self) -> bool {
        matches!(self.state, JobState::Active | JobState::Leaving)
    }
}

fn plan(job: &Job) -> Option<Plan> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    let container = pod
        .containers
        .iter()
        .find(|container| container.name == CONTAINER)?;
    let env = container.env.iter().flatten().find(|env| env.name == ENV)?;
    Plan::parse(env.value.as_deref()?).ok()
}

fn state(job: &Job) -> JobState {
    if job.metadata.deletion_timestamp.is_some() {
        return JobState::Leaving;
    }
    let conditions = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut held = conditions.filter(|condition| condition.status == "True");
    held.find_map(ending).unwrap_or(JobState::Active)
}

/// What a condition says of the end. `FailureTarget` and `SuccessCriteriaMet` come before the pods have ended.
fn ending(condition: &JobCondition) -> Option<JobState> {
    match condition.type_.as_str() {
        "Complete" => Some(JobState::Complete),
        "Failed" => Some(JobState::Failed {
            at: condition
                .last_transition_time
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::testing, *};

    #[test]
    fn a_job_is_over_when_kubernetes_says_so_for_good() {
        let condition = |kind: &str, status: &str| {
            json!({"conditions": [
                {"type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-11-22T12:00:00Z"},
            ]})
        };
        let failed = JobState::Failed {
            at: "2026-11-22T12:00:00Z".parse().unwrap(),
            reason: "R".into(),
            message: "m".into(),
        };
        for (status, state) in [
            (json!({}), JobState::Active),
            (condition("Complete", "True"), JobState::Complete),
            (condition("Complete", "False"), JobState::Active),
            (condition("SuccessCriteriaMet", "True"), JobState::Active),
            (condition("FailureTarget", "True"), JobState::Active),
            (condition("Failed", "True"), failed),
        ] {
            let job = testing::job("s", 3, &status);
            let seen = JobSeen::of(&job);
            assert_eq!(seen.state, state, "{status}");
            assert_eq!((seen.attempt, seen.selection.as_str()), (3, "s"));
            assert_eq!(seen.plan.as_ref(), Some(&testing::plan()));
        }
        let mut leaving = testing::job("s", 1, &condition("Complete", "True"));
        leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
        assert_eq!(JobSeen::of(&leaving).state, JobState::Leaving);
    }
}
