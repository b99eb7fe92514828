//! A run is over: its log and artifacts are brought home, then the outcome is settled, or another try follows.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    super::inputs,
    Act, Decision, Situation, Standing, Wake, busy, outcome,
    step::{asked_by, may_retry, pause_after},
    title, verdict,
};
use crate::{
    api::{
        build_request::{BuildPhase, BuildRequestStatus, CurrentRun, Failure, Outcome},
        common::LocalRef,
        conditions::{Reason, bounded},
    },
    gateway::{Stage, first_failed},
};

/// What was seen of a run that is over.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Its stages, as the remote told them last.
    pub stages: Option<Vec<Stage>>,
    /// How the owned ArtifactFetch stands.
    pub fetch: FetchState,
    /// Its name, where there is one.
    pub fetch_ref: Option<LocalRef>,
    /// Jenkins was asked, and has no such build any more: its log will not come.
    pub build_gone: bool,
    /// Since when this process has been bringing it home. While no process was there, no deadline passes.
    pub begun: Option<Timestamp>,
}

/// How the owned ArtifactFetch stands, seen against this run and this spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FetchState {
    /// There is none, or it is not as the spec has it now.
    #[default]
    Outdated,
    /// It is on its way.
    Working(String),
    /// The files of this run are stored.
    Stored(String),
    /// It needs a person, and goes on by itself after that.
    Held(String),
    /// It ended without, for good.
    Failed(String),
}

/// Decides on a run that is over.
pub fn decide(situation: &Situation<'_>, seen: &Collected) -> Decision {
    let mut status = situation.status();
    let Some(run) = status.run.clone() else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    let outcome = run.outcome.unwrap_or(Outcome::Indeterminate);
    if let Some(stages) = &seen.stages {
        super::facts::take_stages(&mut status, stages);
    }
    explain(situation, &mut status, &run, outcome, seen.stages.as_deref());

    if let Some(reference) = &seen.fetch_ref {
        // The process may have ended between making it and naming it here.
        status.artifact_fetch_ref = Some(reference.clone());
    }
    let ended = run.ended_at.as_ref().map(|at| at.0);
    let overdue = ended
        .max(seen.begun)
        .is_some_and(|at| situation.since(&Time(at)) >= situation.tunables.collect_deadline);
    let log_is_home = run.id.is_none() || status.log.as_ref().is_some_and(|log| log.complete);
    if !log_is_home && !overdue && !seen.build_gone {
        if status.log.as_ref().is_some_and(|log| log.job.is_some()) {
            // What its Job does was told; nothing else is to be said before it is looked at again.
            return Decision::wait(status, Standing::Unchanged, Wake::Now).act(Act::ArchiveLog);
        }
        // The same words as when the end was written down: one write less.
        return super::ending::collecting(status).act(Act::ArchiveLog);
    }
    let spec = &situation.object.spec;
    if !spec.cancel && !asked_by(&run, &inputs::wanted(situation.object)) {
        status.next_attempt_at = None;
        let message = format!("{}; another one is wanted by now", verdict(&run));
        return Decision::wait(
            status,
            Standing::Busy {
                phase: BuildPhase::Queued,
                reason: Reason::Pending,
                message,
            },
            Wake::Now,
        );
    }
    if may_retry(spec, &run) {
        return retry(situation, status, &run);
    }
    status.next_attempt_at = None;

    let Some(_) = spec
        .artifacts
        .as_ref()
        .filter(|_| run.id.is_some() && outcome::may_have_files(outcome))
    else {
        return settle(situation, status, &run, outcome, None);
    };
    match &seen.fetch {
        FetchState::Outdated => collecting(
            status,
            &run,
            "its artifacts are being fetched",
            Wake::After(Duration::from_secs(10)),
        )
        .act(Act::EnsureArtifacts),
        FetchState::Working(message) if !overdue => collecting(
            status,
            &run,
            &format!("its artifacts are being fetched: {message}"),
            Wake::After(Duration::from_secs(10)),
        ),
        FetchState::Held(message) if !overdue => Decision::wait(
            status,
            // Told at once; what is stored before the deadline is stored in time all the same.
            Standing::Stuck {
                phase: BuildPhase::Collecting,
                reason: if outcome::is_success(outcome, spec) {
                    Reason::ArtifactsFailed
                } else {
                    outcome::reason(outcome)
                },
                message: bounded(
                    &format!(
                        "{}, but its artifacts are not stored yet: {message}",
                        verdict(&run)
                    ),
                    1000,
                ),
            },
            Wake::After(Duration::from_secs(10)),
        ),
        FetchState::Working(message) | FetchState::Held(message) => {
            let message = format!("not stored within the deadline: {message}");
            settle(
                situation,
                status,
                &run,
                outcome,
                Some(ArtifactsEnd::Failed(message)),
            )
        }
        FetchState::Stored(message) => settle(
            situation,
            status,
            &run,
            outcome,
            Some(ArtifactsEnd::Stored(message.clone())),
        ),
        FetchState::Failed(message) => settle(
            situation,
            status,
            &run,
            outcome,
            Some(ArtifactsEnd::Failed(message.clone())),
        ),
    }
}

/// What became of the artifacts, for the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactsEnd {
    /// They are stored.
    Stored(String),
    /// They are not.
    Failed(String),
}

fn retry(situation: &Situation<'_>, mut status: BuildRequestStatus, run: &CurrentRun) -> Decision {
    let pause = pause_after(&situation.object.spec, run.attempt);
    let ended = run.ended_at.as_ref().map_or(situation.now, |at| at.0);
    let at = ended
        .saturating_add(jiff::SignedDuration::try_from(pause).unwrap_or_default())
        .unwrap_or(situation.now);
    status.next_attempt_at = Some(Time(at));
    let message = format!(
        "{}; try {} of {} follows",
        verdict(run),
        run.attempt + 1,
        situation.object.spec.retry.limit + 1
    );
    let left = Duration::try_from(at.duration_since(situation.now)).unwrap_or_default();
    Decision::wait(
        status,
        Standing::Busy {
            phase: BuildPhase::Queued,
            reason: Reason::WaitingToRetry,
            message,
        },
        Wake::After(left),
    )
}

fn settle(
    situation: &Situation<'_>,
    mut status: BuildRequestStatus,
    run: &CurrentRun,
    outcome: Outcome,
    artifacts: Option<ArtifactsEnd>,
) -> Decision {
    let spec = &situation.object.spec;
    let phase = outcome::phase(outcome, spec);
    let good = outcome::is_success(outcome, spec);
    let standing = match &artifacts {
        _ if !good => Standing::Stuck {
            phase,
            reason: outcome::reason(outcome),
            message: status
                .failure
                .as_ref()
                .map_or_else(|| verdict(run), |failure| failure.message.clone()),
        },
        Some(ArtifactsEnd::Failed(message)) => Standing::Stuck {
            phase,
            reason: Reason::ArtifactsFailed,
            message: bounded(
                &format!("{}, but its artifacts are not stored: {message}", verdict(run)),
                1000,
            ),
        },
        Some(ArtifactsEnd::Stored(_)) | None => Standing::Done {
            message: verdict(run),
        },
    };
    status.input = None;
    let mut decision = Decision::wait(status, standing, Wake::Now);
    decision.artifacts = artifacts;
    decision
}

/// Says why a run that ended badly did so, once.
fn explain(
    situation: &Situation<'_>,
    status: &mut BuildRequestStatus,
    run: &CurrentRun,
    outcome: Outcome,
    stages: Option<&[Stage]>,
) {
    if outcome::is_success(outcome, &situation.object.spec) {
        status.failure = None;
        return;
    }
    let failed = stages.and_then(first_failed).map(|(stage, step)| {
        let step = step.map(|step| step.description.clone().unwrap_or_else(|| step.name.clone()));
        (stage.name.clone(), step)
    });
    let known = status
        .stages
        .iter()
        .find(|stage| matches!(stage.result.as_deref(), Some("FAILURE" | "ABORTED" | "UNSTABLE")))
        .map(|stage| (stage.name.clone(), None));
    let place = failed.or(known);
    let failure = status.failure.get_or_insert_with(|| {
        let mut message = verdict(run);
        if let Some((stage, step)) = &place {
            message.push_str(&format!(" in stage {stage:?}"));
            if let Some(step) = step {
                message.push_str(&format!(", step {step:?}"));
            }
        }
        Failure {
            stage: None,
            reason: outcome::reason(outcome).as_str().into(),
            message: bounded(&message, 1000),
            log_tail: None,
        }
    });
    failure.stage = place
        .map(|(stage, _)| bounded(&stage, 128))
        .or(failure.stage.take());
}

fn collecting(status: BuildRequestStatus, run: &CurrentRun, what: &str, wake: Wake) -> Decision {
    let message = bounded(&format!("build {} is over; {what}", title(run)), 1000);
    busy(status, BuildPhase::Collecting, Reason::Collecting, &message, wake)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{
            build_request::{BuildRequest, LogStatus, RetryOn, RunState},
            common::Duration as ApiDuration,
        },
        controllers::build_request::decide::testing::{ago, object_in, situation},
    };

    fn ended(outcome: Outcome, log: bool) -> BuildRequest {
        let mut object = object_in(RunState::Ended);
        let status = object.status.as_mut().unwrap();
        status.phase = Some(BuildPhase::Collecting);
        let run = status.run.as_mut().unwrap();
        run.outcome = Some(outcome);
        run.ended_at = Some(ago(5));
        status.log = log.then(|| LogStatus {
            complete: true,
            ..Default::default()
        });
        object
    }

    fn with_artifacts(mut object: BuildRequest) -> BuildRequest {
        object.spec.artifacts = serde_json::from_value(serde_json::json!({"include": ["**"]})).unwrap();
        object
    }

    #[test]
    fn nothing_is_settled_before_the_log_is_home_or_overdue() {
        let mut object = ended(Outcome::Succeeded, false);
        assert_eq!(
            decide(&situation(&object), &Collected::default()).act,
            Act::ArchiveLog
        );
        object.status.as_mut().unwrap().run.as_mut().unwrap().ended_at = Some(ago(100_000));
        let late = decide(&situation(&object), &Collected::default());
        assert_eq!(late.act, Act::Nothing);
        assert!(matches!(late.standing, Standing::Done { .. }));
    }

    #[test]
    fn no_deadline_passes_while_no_process_is_there() {
        let mut object = with_artifacts(ended(Outcome::Succeeded, false));
        object.status.as_mut().unwrap().run.as_mut().unwrap().ended_at = Some(ago(100_000));
        let mut seen = Collected {
            fetch: FetchState::Working("1 of 2 files".into()),
            begun: Some(ago(5).0),
            ..Collected::default()
        };
        assert_eq!(decide(&situation(&object), &seen).act, Act::ArchiveLog);
        let status = object.status.as_mut().unwrap();
        status.log = Some(LogStatus {
            complete: true,
            ..Default::default()
        });
        let waits = decide(&situation(&object), &seen);
        assert!(matches!(waits.standing, Standing::Busy { .. }), "{waits:?}");
        seen.begun = Some(ago(50_000).0);
        let late = decide(&situation(&object), &seen);
        assert!(matches!(late.standing, Standing::Stuck { .. }), "{late:?}");
    }

    #[test]
    fn the_log_of_a_build_that_jenkins_deleted_is_not_waited_for() {
        let gone = Collected {
            build_gone: true,
            ..Collected::default()
        };
        let decision = decide(&situation(&ended(Outcome::Succeeded, false)), &gone);
        assert_eq!(decision.act, Act::Nothing);
        assert!(matches!(decision.standing, Standing::Done { .. }));
    }

    #[test]
    fn every_ending_is_settled_in_its_phase() {
        for outcome in outcome::ALL {
            let object = ended(outcome, true);
            let decision = decide(&situation(&object), &Collected::default());
            match (outcome, &decision.standing) {
                (Outcome::Succeeded | Outcome::Skipped, Standing::Done { .. }) => {}
                (
                    Outcome::Cancelled,
                    Standing::Stuck {
                        phase: BuildPhase::Cancelled,
                        ..
                    },
                ) => {}
                (
                    _,
                    Standing::Stuck {
                        phase: BuildPhase::Failed,
                        reason,
                        ..
                    },
                ) => {
                    assert_eq!(*reason, outcome::reason(outcome));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(
                decision.status.failure.is_some(),
                !matches!(outcome, Outcome::Succeeded | Outcome::Skipped)
            );
        }
    }

    #[test]
    fn a_retry_is_promised_with_its_time_and_not_beyond_the_limit() {
        let mut object = ended(Outcome::Failed, true);
        object.spec.retry.limit = 1;
        object.spec.retry.backoff = ApiDuration::from_secs(60);
        let decision = decide(&situation(&object), &Collected::default());
        assert_eq!(
            decision.wake,
            Wake::After(Duration::from_secs(55)),
            "a minute after the end, which was 5 s ago"
        );
        assert!(matches!(
            decision.standing,
            Standing::Busy {
                reason: Reason::WaitingToRetry,
                ..
            }
        ));
        object.status.as_mut().unwrap().run.as_mut().unwrap().attempt = 2;
        assert!(matches!(
            decide(&situation(&object), &Collected::default()).standing,
            Standing::Stuck { .. }
        ));
        object.status.as_mut().unwrap().run.as_mut().unwrap().attempt = 1;
        object.spec.retry.outcomes = vec![RetryOn::Lost];
        assert!(matches!(
            decide(&situation(&object), &Collected::default()).standing,
            Standing::Stuck { .. }
        ));
    }

    #[test]
    fn artifacts_are_waited_for_and_their_failure_is_not_the_builds() {
        let object = with_artifacts(ended(Outcome::Succeeded, true));
        let see = |fetch| {
            decide(
                &situation(&object),
                &Collected {
                    fetch,
                    ..Collected::default()
                },
            )
        };
        assert_eq!(see(FetchState::Outdated).act, Act::EnsureArtifacts);
        assert!(matches!(
            see(FetchState::Working("1 of 2".into())).standing,
            Standing::Busy { .. }
        ));
        assert!(matches!(
            see(FetchState::Stored(String::new())).standing,
            Standing::Done { .. }
        ));
        let held = see(FetchState::Held("disk full".into()));
        assert!(
            matches!(&held.standing, Standing::Stuck { phase: BuildPhase::Collecting, reason: Reason::ArtifactsFailed, message } if message.contains("disk full"))
        );
        assert_eq!(
            held.wake,
            Wake::After(Duration::from_secs(10)),
            "it is not the end"
        );
        assert_eq!(held.artifacts, None);
        let failed = see(FetchState::Failed("too large".into()));
        assert!(
            matches!(&failed.standing, Standing::Stuck { phase: BuildPhase::Succeeded, reason: Reason::ArtifactsFailed, message } if message.contains("too large"))
        );
    }

    #[test]
    fn a_cancelled_object_settles_although_another_run_was_asked_for() {
        let mut object = ended(Outcome::Cancelled, true);
        object.spec.cancel = true;
        object.metadata.annotations = Some([(crate::api::RERUN_REQUESTED_AT.into(), "1".into())].into());
        let decision = decide(&situation(&object), &Collected::default());
        assert!(
            matches!(
                decision.standing,
                Standing::Stuck {
                    phase: BuildPhase::Cancelled,
                    ..
                }
            ),
            "{:?}",
            decision.standing
        );
    }

    #[test]
    fn a_fetch_that_an_earlier_process_made_is_named() {
        let object = with_artifacts(ended(Outcome::Succeeded, true));
        let seen = Collected {
            fetch: FetchState::Stored(String::new()),
            fetch_ref: Some(LocalRef {
                name: "b-artifacts".into(),
            }),
            ..Collected::default()
        };
        let decision = decide(&situation(&object), &seen);
        assert!(matches!(decision.standing, Standing::Done { .. }));
        assert_eq!(decision.status.artifact_fetch_ref, seen.fetch_ref);
    }

    #[test]
    fn a_run_that_never_was_a_build_has_neither_log_nor_artifacts() {
        let mut object = with_artifacts(ended(Outcome::TriggerFailed, false));
        object.status.as_mut().unwrap().run.as_mut().unwrap().id = None;
        let decision = decide(&situation(&object), &Collected::default());
        assert_eq!(decision.act, Act::Nothing);
        assert!(matches!(
            decision.standing,
            Standing::Stuck {
                reason: Reason::TriggerFailed,
                ..
            }
        ));
    }

    #[test]
    fn what_the_trigger_said_is_not_overwritten() {
        let mut object = ended(Outcome::TriggerFailed, true);
        object.status.as_mut().unwrap().failure = Some(Failure {
            stage: None,
            reason: "TriggerFailed".into(),
            message: "No such parameter definition".into(),
            log_tail: None,
        });
        let decision = decide(&situation(&object), &Collected::default());
        assert!(
            decision
                .status
                .failure
                .unwrap()
                .message
                .contains("No such parameter")
        );
    }

    #[test]
    fn a_spec_that_changed_meanwhile_is_built_next() {
        let mut object = ended(Outcome::Failed, true);
        object.spec.branch = Some("other".into());
        object.spec.retry.limit = 3;
        let decision = decide(&situation(&object), &Collected::default());
        assert_eq!(decision.wake, Wake::Now);
        assert_eq!(
            decision.status.next_attempt_at, None,
            "what is no longer wanted is not tried again"
        );
    }
}
