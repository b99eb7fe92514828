//! A run exists on the remote: where is it in its life, and must we do something about it?

use std::time::Duration;

use super::{
    Act, Decision, Situation, Standing, Wake, busy,
    ending::{lost, over},
    facts::{pending_input, take_over, take_stages},
    hindered,
    missing::missing,
    ours::is_same,
    stop::{remove, stop_if_due, trigger_failed},
    title,
};
use crate::{
    api::{
        build_request::{BuildPhase, BuildRequestStatus, StopReason},
        conditions::{Reason, bounded},
    },
    gateway::{BuildOutcome, JenkinsRun, Run, RunProgress, Stage},
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
    /// How long the run may be let be, because the observer tells when it changes; None where nobody does.
    pub quiet: Option<Duration>,
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
    let Some(remote) = seen.run.as_ref().filter(|seen| is_same(seen, run)) else {
        return missing(situation, seen);
    };
    take_over(run, remote);
    let started = run.id.is_some();
    let progress = progress(remote, &seen.jenkins);
    if let (Some(stages), true) = (&seen.stages, started) {
        take_stages(&mut status, stages);
    }
    match progress {
        // It was never given to Jenkins, and never will be.
        _ if remote.orphan && !started => trigger_failed(situation, status, seen),
        RunProgress::Finished(Some(how)) => over(situation, status, how),
        RunProgress::Finished(None) => unexplained(situation, status, &seen.jenkins),
        _ if started && matches!(seen.jenkins, Asked::Gone) => lost(situation, status),
        _ => on_its_way(situation, status, progress, seen),
    }
}

/// The remote says that it failed, but not in which of three ways, and Jenkins did not say either (contract §8.8). It is
/// asked again, up to a deadline; a build that Jenkins has forgotten by then failed.
fn unexplained(situation: &Situation<'_>, status: BuildRequestStatus, jenkins: &Asked) -> Decision {
    let run = status.run.as_ref();
    let ended = run.and_then(|run| run.completion_time.as_ref());
    let overdue = ended.is_some_and(|at| situation.since(at) >= situation.tunables.collect_deadline);
    if overdue || matches!(jenkins, Asked::Gone) {
        let stopped = run.is_some_and(|run| run.stop.is_some());
        let how = if stopped {
            BuildOutcome::Aborted
        } else {
            BuildOutcome::Failure
        };
        return over(situation, status, how);
    }
    busy(
        status,
        BuildPhase::Running,
        Reason::Running,
        "the build is over; its result is being read",
        Wake::Backoff,
    )
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
        let own = situation.poll.min(Duration::from_secs(1));
        // Its number shows in its row, why it gets none does not.
        let left = spec.timeouts.trigger.get().saturating_sub(waited);
        let wake = rest(seen.quiet, own, Some(waited / 2), left);
        return busy(status, BuildPhase::Pending, Reason::Starting, &message, wake);
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
    let poll = rest(seen.quiet, situation.poll, None, time_left(situation, &status));
    match progress {
        RunProgress::Submitted | RunProgress::Triggered | RunProgress::Queued => {
            // That it leaves the queue does not show in its row, and others may wait for it.
            let sent_at = status.run.as_ref().and_then(|run| run.sent_at.as_ref());
            let waited = sent_at.map(|at| situation.since(at)).unwrap_or_default();
            let left = time_left(situation, &status);
            let wake = rest(seen.quiet, situation.poll, Some(waited / 4), left);
            let message = format!("{name} waits in the queue of Jenkins");
            busy(status, BuildPhase::Queued, Reason::QueuedRemotely, &message, wake)
        }
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

/// When to look again at a run that goes on: after `own` where nobody tells of it, else as late as `quiet` and what does
/// not show in its row (`unseen`) allow, and in any case when a deadline passes.
fn rest(quiet: Option<Duration>, own: Duration, unseen: Option<Duration>, left: Duration) -> Wake {
    let Some(quiet) = quiet else {
        return Wake::After(own);
    };
    let unseen = unseen.map_or(quiet, |unseen| unseen.max(own));
    Wake::After(quiet.min(unseen).min(left.max(own)))
}

/// What is left of the time that the run may take.
fn time_left(situation: &Situation<'_>, status: &BuildRequestStatus) -> Duration {
    let run = status.run.as_ref();
    let began = run.and_then(|run| run.start_time.as_ref().or(run.sent_at.as_ref()));
    let taken = began.map(|at| situation.since(at)).unwrap_or_default();
    situation.object.spec.timeouts.run.get().saturating_sub(taken)
}

#[cfg(test)]
#[path = "follow_tests.rs"]
pub(super) mod tests;
