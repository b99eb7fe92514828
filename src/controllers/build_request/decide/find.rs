//! A run was being sent and we do not know whether it arrived: the process ended in between, or the answer was lost.

use std::time::Duration;

use super::{
    super::inputs,
    Decision, Situation, Standing, Wake,
    ending::{collecting, end},
    facts::adopt,
    hindered,
    ours::{is_ours, name_is_taken},
    step::asked_by,
};
use crate::{
    api::{
        build_request::{BuildPhase, Outcome, RunState},
        conditions::{Reason, bounded},
    },
    gateway::Run,
    trouble::Trouble,
};

/// What was found on the remote.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The run that bears our chosen name, if there is one.
    pub by_name: Option<Run>,
    /// Runs that could be the one that was sent, and that no BuildRequest claims.
    pub candidates: Vec<Run>,
}

/// Decides on a run of which we do not know whether it arrived.
pub fn decide(situation: &Situation<'_>, seen: &Result<Found, Trouble>) -> Decision {
    let mut status = situation.status();
    let found = match seen {
        Ok(found) => found,
        Err(trouble) => return hindered(situation, trouble),
    };
    let Some(run) = &mut status.run else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    if let Some(named) = &found.by_name {
        if is_ours(named, run) {
            adopt(run, named);
            return Decision::wait(status, starting("found the run on the remote"), Wake::Now);
        }
        if let Some(decision) = given_up(situation) {
            return decision;
        }
        let message = name_is_taken(named, run);
        return Decision::wait(
            status,
            Standing::Stuck {
                phase: BuildPhase::Pending,
                reason: Reason::RunNameTaken,
                message,
            },
            Wake::After(situation.tunables.stalled_resync),
        );
    }
    match found.candidates.as_slice() {
        [one] => {
            adopt(run, one);
            Decision::wait(status, starting("found the run on the remote"), Wake::Now)
        }
        [] => not_there(situation),
        several => {
            if let Some(decision) = given_up(situation) {
                return decision;
            }
            let names: Vec<_> = several.iter().map(describe).collect();
            let message = bounded(
                &format!(
                    "the answer to the start was lost, and {} runs could be it: {}. Nothing more is started: look at \
                     them, then ask for a rerun, or set spec.correlationParameter so that runs can be told apart",
                    several.len(),
                    names.join(", ")
                ),
                1000,
            );
            Decision::wait(
                status,
                Standing::Stuck {
                    phase: BuildPhase::Pending,
                    reason: Reason::AmbiguousRun,
                    message,
                },
                Wake::After(situation.tunables.stalled_resync),
            )
        }
    }
}

/// Somebody looked at a run that we cannot tell from others, and wants another one (a rerun, other inputs) or none: the
/// unclear one is given up, neither stopped nor removed.
pub fn given_up(situation: &Situation<'_>) -> Option<Decision> {
    let mut status = situation.status();
    let run = status.run.as_ref()?;
    let outcome = if situation.object.spec.cancel {
        Outcome::Cancelled
    } else if asked_by(run, &inputs::wanted(situation.object)) {
        return None;
    } else {
        Outcome::Lost
    };
    end(&mut status, situation, outcome);
    Some(collecting(status))
}

/// Nothing was found: wait until it would have shown, then it may be sent (again).
fn not_there(situation: &Situation<'_>) -> Decision {
    let mut status = situation.status();
    let Some(run) = &mut status.run else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    let waited = run
        .sent_at
        .as_ref()
        .map(|at| situation.since(at))
        .unwrap_or_default();
    if let Some(left) = situation
        .tunables
        .search_window
        .checked_sub(waited)
        .filter(|left| !left.is_zero())
    {
        return Decision::wait(
            status,
            starting(
                "the answer to the start was lost: looking for the run on the remote before it is sent again",
            ),
            Wake::After(left.min(Duration::from_secs(2))),
        );
    }
    run.state = RunState::Intended;
    Decision::wait(
        status,
        starting("the run did not arrive at the remote: it is sent again"),
        Wake::Now,
    )
}

fn starting(message: &str) -> Standing {
    Standing::Busy {
        phase: BuildPhase::Pending,
        reason: Reason::Starting,
        message: message.into(),
    }
}

fn describe(run: &Run) -> String {
    match &run.run_id {
        Some(id) => format!("{} (build #{id})", run.name),
        None => run.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::build_request::BuildRequest,
        controllers::build_request::decide::{
            Act,
            testing::{ago, object_in, remote, situation},
        },
    };

    fn sent(seconds_ago: i64) -> BuildRequest {
        let mut object = object_in(RunState::Sending);
        object.status.as_mut().unwrap().run.as_mut().unwrap().sent_at = Some(ago(seconds_ago));
        object
    }

    fn token(object: &BuildRequest) -> String {
        object
            .status
            .as_ref()
            .unwrap()
            .run
            .as_ref()
            .unwrap()
            .token
            .clone()
    }

    #[test]
    fn our_own_run_is_adopted_and_a_foreign_one_is_not() {
        let object = sent(1);
        let ours = Found {
            by_name: Some(remote("n", Some(&token(&object)))),
            ..Default::default()
        };
        let run = decide(&situation(&object), &Ok(ours)).status.run.unwrap();
        assert_eq!(
            (run.state, run.uid.as_deref()),
            (RunState::Submitted, Some("uid-of-n"))
        );

        for foreign in [None, Some("another-token")] {
            let found = Found {
                by_name: Some(remote("n", foreign)),
                ..Default::default()
            };
            let decision = decide(&situation(&object), &Ok(found));
            assert!(matches!(
                decision.standing,
                Standing::Stuck {
                    reason: Reason::RunNameTaken,
                    ..
                }
            ));
            assert_eq!(decision.status.run.unwrap().state, RunState::Sending);
            assert_eq!(decision.act, Act::Nothing);
        }
    }

    #[test]
    fn it_is_sent_again_only_after_the_search_window_and_only_if_nothing_is_there() {
        let rows = [
            (0, 0, RunState::Sending),
            (19, 0, RunState::Sending),
            (21, 0, RunState::Intended),
            (21, 1, RunState::Submitted),
        ];
        for (seconds, candidates, state) in rows {
            let object = sent(seconds);
            let found = Found {
                by_name: None,
                candidates: (0..candidates).map(|n| remote(&format!("r{n}"), None)).collect(),
            };
            let decision = decide(&situation(&object), &Ok(found));
            assert_eq!(
                decision.status.run.unwrap().state,
                state,
                "{seconds} s, {candidates} candidates"
            );
            assert_eq!(decision.act, Act::Nothing, "nothing is sent from here");
        }
    }

    #[test]
    fn several_candidates_stall_and_are_named() {
        let found = Found {
            by_name: None,
            candidates: vec![remote("r1", None), remote("r2", None)],
        };
        let decision = decide(&situation(&sent(100)), &Ok(found));
        let Standing::Stuck {
            reason: Reason::AmbiguousRun,
            message,
            ..
        } = &decision.standing
        else {
            panic!("{:?}", decision.standing)
        };
        assert!(message.contains("r1") && message.contains("r2"), "{message}");
        assert_eq!(decision.status.run.unwrap().state, RunState::Sending);
    }

    #[test]
    fn a_rerun_or_a_cancel_gives_the_unclear_run_up() {
        let several = || Found {
            by_name: None,
            candidates: vec![remote("r1", None), remote("r2", None)],
        };
        let foreign = || Found {
            by_name: Some(remote("n", None)),
            ..Default::default()
        };
        for found in [several(), foreign()] {
            let mut rerun = sent(100);
            rerun.metadata.annotations = Some([(crate::api::RERUN_REQUESTED_AT.into(), "1".into())].into());
            let run = decide(&situation(&rerun), &Ok(found.clone())).status.run.unwrap();
            assert_eq!((run.state, run.outcome), (RunState::Ended, Some(Outcome::Lost)));
            let mut cancelled = sent(100);
            cancelled.spec.cancel = true;
            let run = decide(&situation(&cancelled), &Ok(found)).status.run.unwrap();
            assert_eq!(
                (run.state, run.outcome),
                (RunState::Ended, Some(Outcome::Cancelled))
            );
        }
    }

    #[test]
    fn a_remote_that_does_not_answer_changes_nothing() {
        let object = sent(100);
        let decision = decide(
            &situation(&object),
            &Err(Trouble::passing(Reason::RemoteUnavailable, "down")),
        );
        assert_eq!(decision.status.run.unwrap().state, RunState::Sending);
        assert_eq!(decision.wake, Wake::Backoff);
    }
}
