//! REPORT: conditions and Events from a decision. One place says what each standing means to kstatus (design §5).

use super::{
    decide::{Decision, Note, Situation, Standing, collect::ArtifactsEnd},
    outcome,
};
use crate::api::{
    RECONCILE_REQUESTED_AT,
    build_request::{BuildPhase, BuildRequest, BuildRequestStatus, LogSource, LogStatus, Outcome, RunState},
    conditions::{self, ConditionType, Fact, Reason, find},
};

/// The status as it is to be written for `decision`: with phase, conditions and what was handled.
pub fn status(situation: &Situation<'_>, decision: &Decision) -> BuildRequestStatus {
    let mut status = decision.status.clone();
    let metadata = &situation.object.metadata;
    status.observed_generation = metadata.generation;
    status.last_handled_reconcile_at = metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(RECONCILE_REQUESTED_AT).cloned())
        .or(status.last_handled_reconcile_at);
    if let Some(phase) = phase(&decision.standing) {
        status.phase = Some(phase);
    }
    let waits = |standing: &Standing| {
        matches!(
            standing,
            Standing::Busy {
                reason: Reason::Queued,
                ..
            }
        )
    };
    if !waits(&decision.standing) {
        status.queue = None;
    }
    match facts(situation.object, &status, decision) {
        Some(facts) => conditions::replace(
            &mut status.conditions,
            &facts,
            metadata.generation,
            &situation.time(),
        ),
        None => status
            .conditions
            .iter_mut()
            .filter(|c| conditions::is_ours(&c.type_))
            .for_each(|c| c.observed_generation = metadata.generation),
    }
    status
}

fn phase(standing: &Standing) -> Option<BuildPhase> {
    match standing {
        Standing::Busy { phase, .. } | Standing::Stuck { phase, .. } => Some(*phase),
        Standing::Held { .. } => Some(BuildPhase::Suspended),
        Standing::Done { .. } => Some(BuildPhase::Succeeded),
        Standing::Unchanged => None,
    }
}

fn facts(object: &BuildRequest, status: &BuildRequestStatus, decision: &Decision) -> Option<Vec<Fact>> {
    use ConditionType::{Ready, Reconciling, Stalled, Succeeded};
    let outcome = settled_outcome(status);
    let mut facts = match &decision.standing {
        Standing::Unchanged => return None,
        Standing::Busy { reason, message, .. } => vec![
            Fact::no(Ready, *reason, message),
            Fact::yes(Reconciling, *reason, message),
            Fact::unknown(Succeeded, *reason, message),
        ],
        Standing::Stuck { reason, message, .. } => {
            let succeeded = match outcome {
                Some(outcome) => Fact {
                    kind: Succeeded,
                    status: Some(outcome::is_success(outcome, &object.spec)),
                    reason: outcome::reason(outcome),
                    message: message.clone(),
                },
                None => Fact::unknown(Succeeded, *reason, message),
            };
            vec![
                Fact::no(Ready, *reason, message),
                Fact::yes(Stalled, *reason, message),
                succeeded,
            ]
        }
        Standing::Held { message } => vec![
            Fact::no(Ready, Reason::Suspended, message),
            Fact::unknown(Succeeded, Reason::Suspended, message),
        ],
        Standing::Done { message } => {
            let reason = outcome.map_or(Reason::Succeeded, outcome::reason);
            vec![
                Fact::yes(Ready, reason, message),
                Fact::yes(Succeeded, reason, message),
            ]
        }
    };
    // What was not brought home by the end of that is given up, whatever comes next.
    facts.extend(logs(status, status.phase != Some(BuildPhase::Collecting)));
    facts.extend(artifacts(status, decision));
    Some(facts)
}

/// The outcome, once it is for good.
fn settled_outcome(status: &BuildRequestStatus) -> Option<Outcome> {
    let settled = matches!(
        status.phase,
        Some(BuildPhase::Succeeded | BuildPhase::Failed | BuildPhase::Cancelled)
    );
    status
        .run
        .as_ref()
        .filter(|run| settled && run.state == RunState::Ended)?
        .outcome
}

/// What `LogsArchived` says of a log; `over` is whether nobody tries to bring it home any more.
pub(super) fn logs(status: &BuildRequestStatus, over: bool) -> Option<Fact> {
    use ConditionType::LogsArchived;
    let run = status.run.as_ref().filter(|run| run.state == RunState::Ended)?;
    let put_together = |log: &LogStatus| match log.source {
        LogSource::Run => "",
        LogSource::Steps => {
            "; they are put together from the logs of the steps, because the whole log could not be read"
        }
    };
    match &status.log {
        Some(LogStatus {
            complete: true,
            volume: Some(file),
            bytes,
            ..
        }) => Some(Fact::yes(
            LogsArchived,
            Reason::LogStored,
            format!(
                "{bytes} bytes are on claim {}, file {}",
                file.claim_name, file.path
            ),
        )),
        Some(log) if log.complete && log.truncated => Some(Fact::yes(
            LogsArchived,
            Reason::LogTruncated,
            format!(
                "head and tail of {} bytes are in ConfigMap {}: raise spec.logs.maxBytes for more{}",
                log.bytes,
                log.config_maps.join(", "),
                put_together(log)
            ),
        )),
        Some(log) if log.complete => Some(Fact::yes(
            LogsArchived,
            Reason::LogStored,
            format!(
                "{} bytes are in ConfigMap {}{}",
                log.bytes,
                log.config_maps.join(", "),
                put_together(log)
            ),
        )),
        _ if run.id.is_none() => Some(Fact::no(
            LogsArchived,
            Reason::NoLog,
            "the run never became a build",
        )),
        _ if over => Some(Fact::no(
            LogsArchived,
            Reason::LogUnavailable,
            "the log could not be read before the deadline, or Jenkins deleted it with its build",
        )),
        _ => None,
    }
}

fn artifacts(status: &BuildRequestStatus, decision: &Decision) -> Option<Fact> {
    use ConditionType::ArtifactsStored;
    match &decision.artifacts {
        Some(ArtifactsEnd::Stored(message)) => {
            Some(Fact::yes(ArtifactsStored, Reason::ArtifactsStored, message))
        }
        Some(ArtifactsEnd::Failed(message)) => {
            Some(Fact::no(ArtifactsStored, Reason::ArtifactsFailed, message))
        }
        None => {
            // What was settled stays, until another run begins.
            let told = find(&status.conditions, ArtifactsStored)?;
            let reason = if told.status == "True" {
                Reason::ArtifactsStored
            } else {
                Reason::ArtifactsFailed
            };
            status.run.as_ref().filter(|run| run.state == RunState::Ended)?;
            Some(Fact {
                kind: ArtifactsStored,
                status: Some(told.status == "True"),
                reason,
                message: told.message.clone(),
            })
        }
    }
}

/// The Events that a change of status is worth: what the decision asked for, and each new reason of `Ready`.
pub fn notes(before: &BuildRequestStatus, after: &BuildRequestStatus, decision: &Decision) -> Vec<Note> {
    let mut notes = decision.notes.clone();
    let ready = |status: &BuildRequestStatus| find(&status.conditions, ConditionType::Ready).cloned();
    let (old, new) = (ready(before), ready(after));
    if let Some(new) = new
        && old.is_none_or(|old| old.reason != new.reason)
        && let Some(reason) = Reason::ALL.iter().find(|r| r.as_str() == new.reason)
    {
        let warning = match decision.standing {
            Standing::Stuck { .. } => *reason != Reason::Cancelled,
            Standing::Busy { .. } => matches!(
                reason,
                Reason::RemoteUnavailable | Reason::Throttled | Reason::LockedOut | Reason::WaitingToRetry
            ),
            Standing::Held { .. } | Standing::Done { .. } | Standing::Unchanged => false,
        };
        notes.push(Note {
            warning,
            reason: *reason,
            message: new.message,
        });
    }
    notes
}

/// The facts of an object that ended so, for tests that need one.
#[cfg(test)]
pub fn settled_facts(outcome: Outcome, phase: BuildPhase) -> Vec<Fact> {
    let reason = outcome::reason(outcome);
    if phase == BuildPhase::Succeeded {
        vec![
            Fact::yes(ConditionType::Ready, reason, "done"),
            Fact::yes(ConditionType::Succeeded, reason, "done"),
        ]
    } else {
        vec![
            Fact::no(ConditionType::Ready, reason, "done"),
            Fact::yes(ConditionType::Stalled, reason, "done"),
            Fact::no(ConditionType::Succeeded, reason, "done"),
        ]
    }
}

/// Whether two statuses differ in what is worth a write.
pub fn differs(old: Option<&BuildRequestStatus>, new: &BuildRequestStatus) -> bool {
    old != Some(new)
}
