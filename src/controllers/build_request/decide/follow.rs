//! A run exists on the remote: where is it in its life, and must we do something about it?

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Act, Decision, Situation, Standing, Wake, end, hindered, outcome, title, verdict};
use crate::{
    api::{
        build_request::{
            BuildPhase, BuildRequestStatus, CurrentRun, InputParameter, Outcome, PendingInput, RunState,
            StageStatus, StopReason, StopRequest,
        },
        common::Duration as ApiDuration,
        conditions::{Reason, bounded},
    },
    gateway::{
        BuildOutcome, JenkinsResult, JenkinsRun, JenkinsState, Run, RunPhase, RunProgress, Stage,
        paused_inputs,
    },
    trouble::Trouble,
};

/// What was seen of a run.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// The run object; None where the remote says that it does not exist.
    pub run: Option<Run>,
    /// What Jenkins itself says, where it was asked.
    pub jenkins: Asked,
    /// The stages, where there are some.
    pub stages: Option<Vec<Stage>>,
    /// What the remote's Events say of a trigger that failed.
    pub trigger_failure: Option<String>,
    /// Where the run is gone: unclaimed runs that Jenkins' event could have made of it.
    pub twins: Vec<Run>,
}

/// What Jenkins itself says of a build.
#[derive(Clone, Debug, Default)]
pub enum Asked {
    /// It was not asked.
    #[default]
    No,
    /// It has no such build.
    Gone,
    /// This.
    Build(Box<JenkinsRun>),
}

/// How many stages a status shows.
const STAGES: usize = 64;
/// How many parameters of an input, and how many of their choices, a status shows.
const SHOWN: usize = 32;

/// Takes over a run that is ours.
pub fn adopt(run: &mut CurrentRun, remote: &Run) {
    run.name = Some(remote.name.clone());
    run.uid = Some(remote.uid.clone());
    run.state = RunState::Submitted;
    run.missing_since = None;
}

/// Decides on a run on its way.
pub fn decide(situation: &Situation<'_>, seen: &Result<Followed, Trouble>) -> Decision {
    let seen = match seen {
        Ok(seen) => seen,
        Err(trouble) => return hindered(situation, trouble),
    };
    let mut status = situation.status();
    let Some(run) = status.run.as_mut() else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    // Another object of the same name is not our run.
    let remote = seen
        .run
        .as_ref()
        .filter(|r| run.uid.as_deref().is_none_or(|uid| uid == r.uid));
    let Some(remote) = remote else {
        return missing(situation, seen);
    };
    take_over(run, remote);
    let started = run.id.is_some();
    let progress = progress(remote, &seen.jenkins);
    if let (Some(stages), true) = (&seen.stages, started) {
        take_stages(&mut status, stages);
    }
    match progress {
        RunProgress::Finished(Some(how)) => over(situation, status, how),
        // It is over, but nobody could tell how: ask again.
        RunProgress::Finished(None) => busy(
            status,
            BuildPhase::Running,
            Reason::Running,
            "the build is over; its result is being read",
            Wake::After(Duration::from_secs(1)),
        ),
        _ if started && matches!(seen.jenkins, Asked::Gone) => lost(situation, status),
        _ if remote.orphan => trigger_failed(situation, status, seen),
        _ => on_its_way(situation, status, progress, seen),
    }
}

/// What the two views of a run say together: Jenkins' own word counts where it was asked and is further.
fn progress(remote: &Run, jenkins: &Asked) -> RunProgress {
    let progress = remote.progress();
    match (progress, jenkins) {
        (RunProgress::Finished(Some(_)), _) => progress,
        (_, Asked::Build(build)) => build
            .outcome()
            .map_or(progress, |how| RunProgress::Finished(Some(how))),
        _ => progress,
    }
}

/// Copies what the run object says.
fn take_over(run: &mut CurrentRun, remote: &Run) {
    run.name = Some(remote.name.clone());
    run.uid = Some(remote.uid.clone());
    run.missing_since = None;
    if let Some(id) = &remote.run_id {
        run.id = Some(id.to_string());
        run.state = RunState::Started;
    }
    run.phase = phase_text(remote.phase).map(Into::into);
    if let Some(build) = &remote.jenkins {
        take_over_build(run, build);
    }
    if let Some(ended) = remote.completed {
        run.completion_time = Some(Time(ended));
    }
    run.duration = duration(run);
}

fn take_over_build(run: &mut CurrentRun, build: &JenkinsRun) {
    if let Some(commit) = &build.commit {
        run.commit = Some(commit.clone());
    }
    if let Some(started) = build.started {
        run.start_time = Some(Time(started));
    }
    if build.outcome().is_some() {
        run.result = Some(String::from(build.result));
        if let Some(ended) = build.ended {
            run.completion_time = Some(Time(ended));
        }
    }
}

/// How long a run took; only once it is over, so that the status does not change by itself.
fn duration(run: &CurrentRun) -> Option<String> {
    let took = run
        .completion_time
        .as_ref()?
        .0
        .duration_since(run.start_time.as_ref()?.0);
    Some(ApiDuration::from_secs(u64::try_from(took.as_secs()).unwrap_or_default()).to_string())
}

const fn phase_text(phase: RunPhase) -> Option<&'static str> {
    match phase {
        RunPhase::None => None,
        RunPhase::Pending => Some("Pending"),
        RunPhase::Running => Some("Running"),
        RunPhase::Succeeded => Some("Succeeded"),
        RunPhase::Failed => Some("Failed"),
        RunPhase::Unknown => Some("Unknown"),
        RunPhase::Cancelled => Some("Cancelled"),
    }
}

/// The run is over: write it down, then bring its bytes home.
fn over(situation: &Situation<'_>, mut status: BuildRequestStatus, how: BuildOutcome) -> Decision {
    let stop = status
        .run
        .as_ref()
        .and_then(|run| run.stop.as_ref())
        .map(|stop| stop.reason);
    end(&mut status, situation, outcome::of(how, stop));
    if let Some(run) = &mut status.run {
        run.result.get_or_insert_with(|| result_text(how).into());
        run.duration = duration(run);
    }
    collecting(status)
}

const fn result_text(how: BuildOutcome) -> &'static str {
    match how {
        BuildOutcome::Success => "SUCCESS",
        BuildOutcome::Unstable => "UNSTABLE",
        BuildOutcome::Failure => "FAILURE",
        BuildOutcome::Aborted => "ABORTED",
        BuildOutcome::Skipped => "SKIPPED",
        BuildOutcome::Indeterminate => "UNKNOWN",
    }
}

/// The outcome of a run that is gone after we asked for that.
pub const fn removed(reason: StopReason) -> Outcome {
    match reason {
        StopReason::Cancelled => Outcome::Cancelled,
        StopReason::TimedOut => Outcome::TimedOut,
        StopReason::TriggerTimedOut => Outcome::TriggerFailed,
    }
}

/// The run will never end on the remote: it is forgotten there.
fn lost(situation: &Situation<'_>, mut status: BuildRequestStatus) -> Decision {
    let stop = status
        .run
        .as_ref()
        .and_then(|run| run.stop.as_ref())
        .map(|stop| stop.reason);
    // A build that was stopped in Jenkins' queue leaves nothing behind (contract §6.2): that is its end, not a loss.
    end(&mut status, situation, stop.map_or(Outcome::Lost, removed));
    // What is left of it on the remote would be polled there for ever (finding A5).
    collecting(status).act(Act::DeleteRun)
}

/// The run is over, and its bytes are to be brought home.
pub fn collecting(status: BuildRequestStatus) -> Decision {
    let message = status.run.as_ref().map(verdict).unwrap_or_default();
    busy(
        status,
        BuildPhase::Collecting,
        Reason::Collecting,
        &format!("{message}; its log and artifacts are being brought home"),
        Wake::Now,
    )
}

/// Nothing but removal helps a run that the remote cannot start (contract §6.2 step 5).
fn trigger_failed(situation: &Situation<'_>, mut status: BuildRequestStatus, seen: &Followed) -> Decision {
    let said = seen
        .trigger_failure
        .as_deref()
        .unwrap_or("the remote gave no reason");
    status.failure = Some(crate::api::build_request::Failure {
        stage: None,
        reason: Reason::TriggerFailed.as_str().into(),
        message: bounded(&format!("KubeSphere could not start the run: {said}"), 1000),
        log_tail: None,
    });
    remove(situation, status, StopReason::TriggerTimedOut)
}

/// Removes a run that has no build number. It counts as over when the remote has confirmed that, not before: until then
/// it may still be started there, and another try beside it would be a second build.
fn remove(situation: &Situation<'_>, mut status: BuildRequestStatus, reason: StopReason) -> Decision {
    let Some(run) = &mut status.run else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    run.stop.get_or_insert(StopRequest {
        reason,
        requested_at: situation.time(),
    });
    let message = format!("{} has no build number and is being removed", title(run));
    busy(
        status,
        BuildPhase::Pending,
        Reason::Stopping,
        &message,
        Wake::Backoff,
    )
    .act(Act::DeleteRun)
}

fn on_its_way(
    situation: &Situation<'_>,
    mut status: BuildRequestStatus,
    progress: RunProgress,
    seen: &Followed,
) -> Decision {
    let spec = &situation.object.spec;
    let Some(run) = status.run.as_mut() else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    if run.id.is_none() {
        let waited = run
            .sent_at
            .as_ref()
            .map(|at| situation.since(at))
            .unwrap_or_default();
        if let Some(stop) = &run.stop {
            let reason = stop.reason;
            return remove(situation, status, reason);
        }
        if spec.cancel {
            return remove(situation, status, StopReason::Cancelled);
        }
        if waited >= spec.timeouts.trigger.get() {
            return trigger_failed(situation, status, seen);
        }
        let message = match &seen.trigger_failure {
            Some(said) => bounded(
                &format!("KubeSphere could not start the run yet, it tries again: {said}"),
                1000,
            ),
            None => format!("{} waits for its build number", title(run)),
        };
        let wake = situation.poll.min(Duration::from_secs(1));
        return busy(
            status,
            BuildPhase::Pending,
            Reason::Starting,
            &message,
            Wake::After(wake),
        );
    }
    if !matches!(
        progress,
        RunProgress::Submitted | RunProgress::Triggered | RunProgress::Queued
    ) {
        run.dequeued = true;
    }
    let name = title(run);
    if let Some(decision) = stop_if_due(situation, &status) {
        return decision;
    }
    status.input = None;
    let poll = Wake::After(situation.poll);
    match progress {
        RunProgress::Submitted | RunProgress::Triggered | RunProgress::Queued => busy(
            status,
            BuildPhase::Queued,
            Reason::QueuedRemotely,
            &format!("{name} waits in the queue of Jenkins"),
            poll,
        ),
        RunProgress::Paused => {
            status.input = seen.stages.as_deref().and_then(pending_input);
            let message = match &status.input {
                Some(input) => format!(
                    "{name} waits for a person in stage {:?}: {}",
                    input.stage, input.message
                ),
                None => format!("{name} is paused: Jenkins waits for a person or for its own restart"),
            };
            busy(
                status,
                BuildPhase::Paused,
                Reason::Paused,
                &bounded(&message, 1000),
                poll,
            )
        }
        RunProgress::Running | RunProgress::Undecided | RunProgress::Finished(_) => {
            let mut message = format!("{name} is running");
            if let Some(stage) = status.stages.iter().find(|stage| stage.state == "RUNNING") {
                message = format!("{message}: stage {:?}", stage.name);
            }
            busy(status, BuildPhase::Running, Reason::Running, &message, poll).act(Act::PullLog)
        }
    }
}

/// Asks for a stop where one is due, again every half minute as long as it has no effect.
fn stop_if_due(situation: &Situation<'_>, status: &BuildRequestStatus) -> Option<Decision> {
    let spec = &situation.object.spec;
    let run = status.run.as_ref()?;
    let began = run.start_time.as_ref().or(run.sent_at.as_ref())?;
    let due = if spec.cancel {
        Some(StopReason::Cancelled)
    } else if situation.since(began) >= spec.timeouts.run.get() {
        Some(StopReason::TimedOut)
    } else {
        None
    };
    // A stop that was asked for is carried through, also if the wish was taken back meanwhile.
    let reason = run.stop.as_ref().map(|stop| stop.reason).or(due)?;
    let asked = run.stop.as_ref().map(|stop| situation.since(&stop.requested_at));
    let mut status = status.clone();
    status.input = None;
    let ask_again = asked.is_none_or(|ago| ago >= Duration::from_secs(30));
    if ask_again && let Some(run) = &mut status.run {
        run.stop = Some(StopRequest {
            reason,
            requested_at: situation.time(),
        });
    }
    let why = match reason {
        StopReason::Cancelled => "spec.cancel is true",
        StopReason::TimedOut => "it took longer than spec.timeouts.run",
        StopReason::TriggerTimedOut => "it took longer than spec.timeouts.trigger to start",
    };
    let name = status.run.as_ref().map(title).unwrap_or_default();
    let phase = situation
        .object
        .status
        .as_ref()
        .and_then(|s| s.phase)
        .unwrap_or(BuildPhase::Running);
    let decision = busy(
        status,
        phase,
        Reason::Stopping,
        &format!("{name} is being stopped: {why}"),
        Wake::After(situation.poll.min(Duration::from_secs(2))),
    );
    Some(if ask_again {
        decision.act(Act::Stop)
    } else {
        decision
    })
}

/// The remote says that the run does not exist. It is never created again (design §3.2): it may be a stale cache, a
/// duplicate that was dropped, or it was deleted or collected there.
fn missing(situation: &Situation<'_>, seen: &Followed) -> Decision {
    let mut status = situation.status();
    let phase = status.phase.unwrap_or(BuildPhase::Pending);
    let Some(run) = status.run.as_mut() else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    let since = run.missing_since.get_or_insert(situation.time()).clone();
    let gone_for = situation.since(&since);
    let name = title(run);
    if gone_for < situation.tunables.missing_grace {
        return busy(
            status,
            phase,
            Reason::Starting,
            &format!("the remote does not know {name}: looking again, its caches may be behind"),
            Wake::After(Duration::from_secs(1)),
        );
    }
    if run.id.is_some() {
        return match &seen.jenkins {
            Asked::Build(build) => {
                take_over_build(run, build);
                without_object(situation, status, build)
            }
            Asked::Gone => lost(situation, status),
            Asked::No => busy(
                status,
                phase,
                Reason::Running,
                &format!("the PipelineRun of {name} was deleted: asking Jenkins about its build"),
                Wake::After(Duration::from_secs(1)),
            ),
        };
    }
    let cancelled = situation.object.spec.cancel.then_some(StopReason::Cancelled);
    if let Some(reason) = run.stop.as_ref().map(|stop| stop.reason).or(cancelled) {
        end(&mut status, situation, removed(reason));
        return collecting(status);
    }
    match seen.twins.as_slice() {
        [one] => {
            adopt(run, one);
            busy(
                status,
                BuildPhase::Pending,
                Reason::Starting,
                &format!(
                    "the remote replaced the run by {:?}, which is the same build",
                    one.name
                ),
                Wake::Now,
            )
        }
        [] if gone_for < situation.tunables.search_window => busy(
            status,
            phase,
            Reason::Starting,
            &format!("the remote removed {name} before it had a build number: looking for its build"),
            Wake::After(Duration::from_secs(2)),
        ),
        [] => {
            status.failure = Some(crate::api::build_request::Failure {
                stage: None,
                reason: Reason::RunLost.as_str().into(),
                message: format!(
                    "the remote removed {name} before it had a build number: Jenkins probably had an equal build in \
                     its queue and took the two for one"
                ),
                log_tail: None,
            });
            lost(situation, status)
        }
        several => {
            if let Some(decision) = super::find::given_up(situation) {
                return decision;
            }
            let names: Vec<_> = several.iter().map(|r| r.name.as_str()).collect();
            let message = format!(
                "the remote removed {name}, and several runs could be its build: {}. Nothing more is started: look at \
                 them, then ask for a rerun",
                names.join(", ")
            );
            Decision::wait(
                status,
                Standing::Stuck {
                    phase,
                    reason: Reason::AmbiguousRun,
                    message: bounded(&message, 1000),
                },
                Wake::After(situation.tunables.stalled_resync),
            )
        }
    }
}

/// The run object is gone, the build in Jenkins is not: it is followed there.
fn without_object(situation: &Situation<'_>, mut status: BuildRequestStatus, build: &JenkinsRun) -> Decision {
    if let Some(how) = build.outcome() {
        return over(situation, status, how);
    }
    if let Some(run) = &mut status.run {
        run.dequeued |= build.state != JenkinsState::Queued;
    }
    if let Some(decision) = stop_if_due(situation, &status) {
        return decision;
    }
    let name = status.run.as_ref().map(title).unwrap_or_default();
    busy(
        status,
        BuildPhase::Running,
        Reason::Running,
        &format!("{name} is running; its PipelineRun was deleted on the remote, so Jenkins is asked"),
        Wake::After(situation.poll),
    )
    .act(Act::PullLog)
}

/// Copies the stages, bounded.
pub fn take_stages(status: &mut BuildRequestStatus, stages: &[Stage]) {
    status.stages = stages.iter().take(STAGES).map(stage_status).collect();
}

fn stage_status(stage: &Stage) -> StageStatus {
    let state = stage
        .state
        .clone()
        .map_or_else(|| "NOT_STARTED".into(), String::from);
    let over = stage.state == Some(JenkinsState::Finished);
    StageStatus {
        name: bounded(&stage.name, 128),
        result: (stage.result != JenkinsResult::Unknown).then(|| String::from(stage.result)),
        // Only once it is over, so that the status does not change by itself.
        duration: stage
            .duration_ms
            .filter(|_| over)
            .map(|ms| ApiDuration::from_secs(ms.div_ceil(1000)).to_string()),
        state,
    }
}

fn pending_input(stages: &[Stage]) -> Option<PendingInput> {
    let paused = paused_inputs(stages).into_iter().next()?;
    Some(PendingInput {
        stage: bounded(&paused.stage, 128),
        id: bounded(&paused.input.id, 256),
        message: bounded(&paused.input.message, 1000),
        parameters: paused
            .input
            .parameters
            .iter()
            .take(SHOWN)
            .map(|p| InputParameter {
                name: bounded(&p.name, 128),
                kind: format!("{:?}", p.kind),
                default: p.default.as_deref().map(|d| bounded(d, 256)),
                choices: p.choices.iter().take(SHOWN).map(|c| bounded(c, 128)).collect(),
            })
            .collect(),
    })
}

fn busy(
    status: BuildRequestStatus,
    phase: BuildPhase,
    reason: Reason,
    message: &str,
    wake: Wake,
) -> Decision {
    Decision::wait(
        status,
        Standing::Busy {
            phase,
            reason,
            message: message.into(),
        },
        wake,
    )
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
