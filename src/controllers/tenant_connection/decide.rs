//! DECIDE: from what was there and what the gateway says to the new status, the next look, and a word to people. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observe::Observation;
use crate::{
    api::{
        RECONCILE_REQUESTED_AT, TenantConnection, TenantConnectionStatus,
        conditions::{self, ConditionType, Fact, Reason},
        tenant_connection::{Capabilities, Capability, ProjectName},
    },
    controllers::Tunables,
    gateway::SessionInfo,
    runtime::{Requeue, events::Severity},
    trouble::{Remedy, Trouble},
};

/// How many projects are named in status.
const MAX_PROJECTS: usize = 100;

/// What is to be written, said and done next.
#[derive(Debug, PartialEq)]
pub struct Decision {
    /// The new status.
    pub status: TenantConnectionStatus,
    /// When to look again.
    pub requeue: Requeue,
    /// An Event, where something turned.
    pub event: Option<(Severity, Reason, String)>,
}

/// What follows from `observation`.
pub fn decide(
    object: &TenantConnection,
    observation: Observation,
    tunables: &Tunables,
    now: &Time,
) -> Decision {
    let before = object.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let annotations = object.metadata.annotations.as_ref();
    if let Some(asked) = annotations.and_then(|a| a.get(RECONCILE_REQUESTED_AT)) {
        status.last_handled_reconcile_at = Some(asked.clone());
    }
    let (facts, requeue) = match observation {
        Observation::Suspended => {
            status.token_expires_at = None;
            (vec![suspended()], Requeue::OnChange)
        }
        Observation::Reached {
            session,
            projects,
            capabilities,
        } => {
            status.capabilities = Some(merged(&before, &session, capabilities));
            log_in(&mut status, &session);
            let message = ready_message(&session, projects.len(), &object.spec.workspace);
            list(&mut status, projects);
            let facts = vec![Fact::yes(ConditionType::Ready, Reason::Ready, message)];
            (facts, Requeue::After(tunables.connection_resync))
        }
        Observation::Hindered { session, trouble } => {
            if trouble.is_stalled() {
                // What we were is no longer true, and nobody knows when it will be again.
                status = TenantConnectionStatus {
                    last_handled_reconcile_at: status.last_handled_reconcile_at,
                    conditions: status.conditions,
                    ..TenantConnectionStatus::default()
                };
            }
            if let Some(session) = session {
                log_in(&mut status, &session);
            }
            let requeue = match trouble.remedy {
                Remedy::User => Requeue::After(tunables.stalled_resync),
                Remedy::Time(at_least) => Requeue::Backoff { at_least },
                Remedy::Gateway(after) => Requeue::After(after),
            };
            (hindered(&trouble), requeue)
        }
    };
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    conditions::replace(&mut status.conditions, &facts, generation, now);
    let event = turn(&before, &facts);
    Decision {
        status,
        requeue,
        event,
    }
}

fn suspended() -> Fact {
    let message = "nothing is asked of the gateway: set spec.suspend to false to go on";
    Fact::no(ConditionType::Ready, Reason::Suspended, message)
}

/// Whether the gateway would serve us is unknown while it does not answer; refused is refused.
fn hindered(trouble: &Trouble) -> Vec<Fact> {
    let Trouble {
        reason,
        message,
        remedy,
    } = trouble;
    match remedy {
        Remedy::User => vec![
            Fact::no(ConditionType::Ready, *reason, message),
            Fact::yes(ConditionType::Stalled, *reason, message),
        ],
        Remedy::Time(_) | Remedy::Gateway(_) => {
            let ready = if *reason == Reason::LockedOut {
                Fact::no(ConditionType::Ready, *reason, message)
            } else {
                Fact::unknown(ConditionType::Ready, *reason, message)
            };
            vec![ready, Fact::yes(ConditionType::Reconciling, *reason, message)]
        }
    }
}

fn log_in(status: &mut TenantConnectionStatus, session: &SessionInfo) {
    status.user = Some(session.user.clone());
    status.token_expires_at = session.expires_at.map(whole_seconds);
}

/// As the API writes times: what is read back must be what was written.
fn whole_seconds(time: k8s_openapi::jiff::Timestamp) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(time.as_second()).unwrap_or(time))
}

fn list(status: &mut TenantConnectionStatus, mut projects: Vec<ProjectName>) {
    status.project_count = i64::try_from(projects.len()).ok();
    projects.sort();
    projects.truncate(MAX_PROJECTS);
    status.projects = projects;
}

/// What is newly known; where nothing is, what was known of the same user: a restart of ours makes nobody forget.
fn merged(before: &TenantConnectionStatus, session: &SessionInfo, new: Capabilities) -> Capabilities {
    let old = before
        .capabilities
        .clone()
        .filter(|_| before.user.as_deref() == Some(&session.user))
        .unwrap_or_default();
    let one = |old, new| if new == Capability::Unknown { old } else { new };
    Capabilities {
        create_runs: one(old.create_runs, new.create_runs),
        watch_runs: one(old.watch_runs, new.watch_runs),
        jenkins_proxy: one(old.jenkins_proxy, new.jenkins_proxy),
    }
}

fn ready_message(session: &SessionInfo, projects: usize, workspace: &str) -> String {
    let projects = match projects {
        0 => "no DevOps project yet".to_owned(),
        1 => "1 DevOps project".to_owned(),
        n => format!("{n} DevOps projects"),
    };
    format!(
        "logged in as {}; {projects} in workspace {workspace}",
        session.user
    )
}

/// A word to people where something turned: stalled for another reason than before, or ready again.
fn turn(before: &TenantConnectionStatus, facts: &[Fact]) -> Option<(Severity, Reason, String)> {
    let was = |kind| conditions::find(&before.conditions, kind).filter(|c| c.status == "True");
    let stalled = facts
        .iter()
        .find(|f| f.kind == ConditionType::Stalled)
        .filter(|f| was(ConditionType::Stalled).is_none_or(|c| c.reason != f.reason.as_str()))
        .map(|f| (Severity::Warning, f));
    let ready = facts
        .iter()
        .find(|f| f.kind == ConditionType::Ready && f.status == Some(true))
        .filter(|_| was(ConditionType::Ready).is_none())
        .map(|f| (Severity::Normal, f));
    stalled
        .or(ready)
        .map(|(severity, fact)| (severity, fact.reason, fact.message.clone()))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
