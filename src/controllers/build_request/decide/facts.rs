//! What a run says of itself, as the status writes it: bounded, and only what does not change by itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        build_request::{
            BuildRequestStatus, CurrentRun, InputParameter, PendingInput, RunState, StageStatus,
        },
        common::Duration as ApiDuration,
        conditions::bounded,
    },
    gateway::{JenkinsResult, JenkinsRun, JenkinsState, Run, RunPhase, Stage, paused_inputs},
};

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

/// Copies what the run object says.
pub(super) fn take_over(run: &mut CurrentRun, remote: &Run) {
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

pub(super) fn take_over_build(run: &mut CurrentRun, build: &JenkinsRun) {
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
pub(super) fn duration(run: &CurrentRun) -> Option<String> {
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

pub(super) fn pending_input(stages: &[Stage]) -> Option<PendingInput> {
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
