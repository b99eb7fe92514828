//! What came of an act, into the status.

use std::time::Duration;

use super::{
    Act, Decision, Situation, Standing, Wake, busy,
    ending::end,
    hindered,
    ours::{is_ours, name_is_taken},
    stop::{not_stopped, stopping},
};
use crate::{
    api::{
        build_request::{
            BuildPhase, BuildRequestStatus, CurrentRun, LogStatus, RunState, StopReason, TriggerRung,
        },
        common::LocalRef,
        conditions::{Reason, bounded},
    },
    gateway::Run,
    trouble::Trouble,
};

/// What came of an act. Acts of which nothing needs to be written down end in `Nothing`.
#[derive(Clone, Debug)]
pub enum ActOutcome {
    /// Nothing to write down.
    Nothing,
    /// The run was created or posted, or one of our chosen name exists and is ours.
    Sent(Box<Run>),
    /// A run of our chosen name exists and is not ours.
    NameTaken(String),
    /// The tenant may not use this rung; the other is left.
    RungRefused,
    /// It certainly was not carried out.
    NotSent(Trouble),
    /// It may have been carried out.
    Unclear(Trouble),
    /// The run object is gone.
    Removed,
    /// The log was read so far.
    Log {
        /// What is stored now.
        log: LogStatus,
        /// The last lines.
        tail: Option<String>,
    },
    /// A Job is bringing the log to a volume.
    LogUnderway {
        /// Its name.
        job: String,
        /// Why it takes.
        reason: Reason,
        /// The same for people.
        message: String,
        /// Somebody should look: it does not go on by itself.
        stuck: bool,
        /// How soon to look again.
        look_in: Duration,
    },
    /// The owned ArtifactFetch is as the spec has it.
    Fetching(LocalRef),
    /// Something that is not about the run failed (storing, reading).
    Failed(Trouble),
}

impl ActOutcome {
    /// The create was answered 409, and this is what bears our chosen name: ours where an answer was lost before,
    /// somebody else's where it lacks our token.
    pub fn exists(existing: Run, run: &CurrentRun) -> Self {
        if is_ours(&existing, run) {
            Self::Sent(Box::new(existing))
        } else {
            Self::NameTaken(name_is_taken(&existing, run))
        }
    }
}

/// What follows from what came of an act. `situation.object` holds the status that was written before the act.
pub fn decide(situation: &Situation<'_>, before: &Decision, came: &ActOutcome) -> Decision {
    // What was written, with its conditions: what the decision before meant to write lacks them.
    let mut status = situation.status();
    match came {
        ActOutcome::Nothing if before.act == Act::Stop => stopping(situation, status),
        ActOutcome::Nothing => Decision::wait(status, Standing::Unchanged, before.wake),
        ActOutcome::Sent(remote) => {
            if let Some(run) = &mut status.run {
                super::facts::adopt(run, remote);
            }
            let message = status.run.as_ref().map(super::title).unwrap_or_default();
            Decision::wait(
                status,
                starting(&format!("{message} was sent and waits for its build number")),
                Wake::After(situation.poll.min(std::time::Duration::from_secs(1))),
            )
        }
        ActOutcome::NameTaken(message) => {
            if let Some(run) = &mut status.run {
                run.state = RunState::Sending;
            }
            Decision::wait(
                status,
                Standing::Stuck {
                    phase: BuildPhase::Pending,
                    reason: Reason::RunNameTaken,
                    message: message.clone(),
                },
                Wake::After(situation.tunables.stalled_resync),
            )
        }
        ActOutcome::RungRefused => {
            // Nothing was sent. The gateway remembers the refusal, so the next try takes the other rung.
            if let Some(run) = &mut status.run {
                run.state = RunState::Intended;
                run.trigger = TriggerRung::Post;
                run.name = None;
            }
            Decision::wait(
                status,
                starting("the run's name may not be chosen: it is posted instead"),
                Wake::Now,
            )
        }
        ActOutcome::NotSent(trouble) => {
            if let Some(run) = &mut status.run {
                run.state = RunState::Intended;
            }
            with_trouble(situation, status, trouble)
        }
        ActOutcome::Unclear(trouble) => {
            // The state stays `Sending`: the remote is searched before anything is sent again.
            let mut decision = with_trouble(situation, status, trouble);
            decision.wake = Wake::After(std::time::Duration::from_secs(1));
            decision
        }
        // One with a build number is followed by that; one that is over is only tidied up.
        ActOutcome::Removed
            if status
                .run
                .as_ref()
                .is_some_and(|r| r.state != RunState::Ended && r.id.is_none()) =>
        {
            ended(situation, status)
        }
        ActOutcome::Removed => Decision::wait(status, Standing::Unchanged, before.wake),
        ActOutcome::Log { log, tail } => {
            status.log = Some(log.clone());
            if let (Some(failure), Some(tail)) = (&mut status.failure, tail) {
                failure.log_tail = Some(tail.clone());
            }
            Decision::wait(status, Standing::Unchanged, before.wake)
        }
        ActOutcome::LogUnderway {
            job,
            reason,
            message,
            stuck,
            look_in,
        } => {
            status.log = Some(LogStatus {
                job: Some(job.clone()),
                ..LogStatus::default()
            });
            Decision::wait(
                status,
                log_standing(situation, *reason, message, *stuck),
                Wake::After(*look_in),
            )
        }
        ActOutcome::Fetching(reference) => {
            status.artifact_fetch_ref = Some(reference.clone());
            Decision::wait(status, Standing::Unchanged, before.wake)
        }
        ActOutcome::Failed(trouble) if before.act == Act::Stop => not_stopped(situation, trouble),
        ActOutcome::Failed(trouble) if before.act == Act::DeleteRun => {
            not_removed(situation, before, trouble)
        }
        // A live log is a courtesy: the build is followed all the same, and the end stores it whole.
        ActOutcome::Failed(trouble) if before.act == Act::PullLog => {
            let decision = Decision::wait(status, Standing::Unchanged, before.wake);
            if !trouble.is_stalled() {
                return decision;
            }
            let message = format!("the log is not stored while the build runs: {trouble}");
            decision.note(true, trouble.reason, bounded(&message, 1000))
        }
        ActOutcome::Failed(trouble) => with_trouble(situation, status, trouble),
    }
}

/// The run object could not be removed.
fn not_removed(situation: &Situation<'_>, before: &Decision, trouble: &Trouble) -> Decision {
    let status = situation.status();
    let Some(run) = &status.run else {
        return with_trouble(situation, status, trouble);
    };
    let object = format!(
        "PipelineRun {} in project {}",
        run.name.as_deref().unwrap_or_default(),
        run.project
    );
    if run.state == RunState::Ended {
        // It was only to be tidied up: what is left to bring home does not wait for that.
        let message = format!("{object} is over and was not removed: {trouble}. Delete it there");
        return Decision::wait(status, Standing::Unchanged, before.wake).note(true, trouble.reason, message);
    }
    let mut trouble = trouble.clone();
    if trouble.is_stalled() {
        let why = status
            .failure
            .as_ref()
            .map_or_else(|| "It is not wanted any more".into(), |f| f.message.clone());
        trouble.message = bounded(
            &format!(
                "{object} has no build number and could not be removed, so that it may still be built: {trouble}. {why}. \
                 Delete it there, or ask for a rerun to leave it alone; other builds of the pipeline wait for it until \
                 spec.timeouts.trigger has passed"
            ),
            1000,
        );
    }
    with_trouble(situation, status, &trouble)
}

fn log_standing(situation: &Situation<'_>, reason: Reason, message: &str, stuck: bool) -> Standing {
    let run = situation
        .object
        .status
        .as_ref()
        .and_then(|status| status.run.as_ref());
    let verdict = run.map(super::verdict).unwrap_or_default();
    let message = bounded(
        &format!("{verdict}; its log is being brought to its volume: {message}"),
        1000,
    );
    let phase = BuildPhase::Collecting;
    if stuck {
        return Standing::Stuck {
            phase,
            reason,
            message,
        };
    }
    Standing::Busy {
        phase,
        reason: if reason == Reason::Fetching {
            Reason::Collecting
        } else {
            reason
        },
        message,
    }
}

/// The run is over because we asked for that.
fn ended(situation: &Situation<'_>, mut status: BuildRequestStatus) -> Decision {
    let reason = status
        .run
        .as_ref()
        .and_then(|run| run.stop.as_ref())
        .map(|stop| stop.reason);
    end(
        &mut status,
        situation,
        super::ending::removed(reason.unwrap_or(StopReason::Cancelled)),
    );
    let message = status.run.as_ref().map(super::verdict).unwrap_or_default();
    busy(
        status,
        BuildPhase::Collecting,
        Reason::Collecting,
        &message,
        Wake::Now,
    )
}

fn with_trouble(situation: &Situation<'_>, status: BuildRequestStatus, trouble: &Trouble) -> Decision {
    let mut decision = hindered(situation, trouble);
    decision.status = status;
    decision
}

fn starting(message: &str) -> Standing {
    Standing::Busy {
        phase: BuildPhase::Pending,
        reason: Reason::Starting,
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::build_request::decide::{
        Act,
        testing::{object_in, situation},
    };

    fn after(came: &ActOutcome) -> Decision {
        let object = object_in(RunState::Sending);
        let before =
            Decision::wait(object.status.clone().unwrap(), Standing::Unchanged, Wake::Now).act(Act::Create);
        decide(&situation(&object), &before, came)
    }

    #[test]
    fn what_was_written_before_the_act_stays_where_there_is_nothing_to_say() {
        let object = super::super::testing::settled(crate::api::build_request::Outcome::Succeeded);
        let old = object_in(RunState::Started).status.unwrap();
        let before = Decision::wait(old, Standing::Unchanged, Wake::Now).act(Act::PullLog);
        for came in [ActOutcome::Nothing, ActOutcome::Removed] {
            let decision = decide(&situation(&object), &before, &came);
            assert_eq!(Some(decision.status), object.status, "{came:?}");
        }
    }

    #[test]
    fn what_was_certainly_not_sent_may_be_sent_and_what_is_unclear_may_not() {
        let trouble = Trouble::passing(Reason::RemoteUnavailable, "down");
        let rows = [
            (ActOutcome::NotSent(trouble.clone()), RunState::Intended),
            (ActOutcome::Unclear(trouble), RunState::Sending),
            (ActOutcome::RungRefused, RunState::Intended),
            (ActOutcome::NameTaken("taken".into()), RunState::Sending),
        ];
        for (came, state) in rows {
            assert_eq!(after(&came).status.run.unwrap().state, state, "{came:?}");
        }
    }

    #[test]
    fn a_build_is_followed_although_its_log_cannot_be_stored() {
        let object = object_in(RunState::Started);
        let status = object.status.clone().unwrap();
        let wake = Wake::After(Duration::from_secs(3));
        let before = Decision::wait(status.clone(), Standing::Unchanged, wake).act(Act::PullLog);
        let quota = Trouble::user(Reason::StorageUnavailable, "exceeded quota");
        for (trouble, notes) in [
            (quota, 1),
            (Trouble::passing(Reason::StorageUnavailable, "etcd"), 0),
        ] {
            let decision = decide(&situation(&object), &before, &ActOutcome::Failed(trouble));
            assert_eq!((decision.wake, decision.notes.len()), (wake, notes));
            assert_eq!(
                (&decision.status, decision.standing),
                (&status, Standing::Unchanged)
            );
        }
    }

    #[test]
    fn a_refused_rung_leads_to_the_other_without_a_name() {
        let run = after(&ActOutcome::RungRefused).status.run.unwrap();
        assert_eq!((run.trigger, run.name), (TriggerRung::Post, None));
    }
}
