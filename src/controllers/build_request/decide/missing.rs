//! The remote says that a run does not exist: it may be a stale cache, a duplicate that was dropped, or it was deleted or
//! collected there. Whatever it is, the run is never created again (design §3.2).

use std::time::Duration;

use super::{
    Act, Decision, Situation, Standing, Wake, busy,
    ending::{collecting, end, lost, over, removed},
    facts::{adopt, take_over_build},
    find::given_up,
    follow::{Asked, Followed},
    stop::stop_if_due,
    title,
};
use crate::{
    api::{
        build_request::{BuildPhase, BuildRequestStatus, Failure, StopReason},
        conditions::{Reason, bounded},
    },
    gateway::{JenkinsRun, JenkinsState},
};

/// The remote says that the run does not exist. It is never created again (design §3.2): it may be a stale cache, a
/// duplicate that was dropped, or it was deleted or collected there.
pub(super) fn missing(situation: &Situation<'_>, seen: &Followed) -> Decision {
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
            status.failure = Some(Failure {
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
            if let Some(decision) = given_up(situation) {
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
