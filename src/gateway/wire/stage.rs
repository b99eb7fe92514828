//! Stages and steps of a run, and the inputs it waits for (contract §6.1, finding F-L).
use jiff::Timestamp;

use super::run::{JenkinsResult, JenkinsState};
use crate::gateway::wire::pipeline::DeclaredParameter;

/// A stage or parallel branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Node id inside the build.
    pub id: String,
    /// Its name.
    pub name: String,
    /// It is one of several branches that run at once.
    pub parallel: bool,
    /// State; None before Jenkins has reached it.
    pub state: Option<JenkinsState>,
    /// Result; `Unknown` before the end.
    pub result: JenkinsResult,
    /// When it began.
    pub started: Option<Timestamp>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// A step of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Node id inside the build.
    pub id: String,
    /// Its name, e.g. `Shell Script`.
    pub name: String,
    /// What it does, e.g. the command.
    pub description: Option<String>,
    /// State.
    pub state: Option<JenkinsState>,
    /// Result.
    pub result: JenkinsResult,
    /// When it began.
    pub started: Option<Timestamp>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// The question it asks, if it waits for an answer.
    pub input: Option<StageInput>,
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq)]
pub struct StageInput {
    /// The input's id, case sensitive.
    pub id: String,
    /// The question.
    pub message: String,
    /// The text of the button that proceeds.
    pub ok: Option<String>,
    /// Who may answer, comma separated; None means whoever may POST.
    pub submitter: Option<String>,
    /// What it wants to know.
    pub parameters: Vec<DeclaredParameter>,
}

/// An input a run waits for, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct PausedInput {
    /// The stage's id.
    pub stage_id: String,
    /// The stage's name.
    pub stage: String,
    /// The step's id.
    pub step_id: String,
    /// The question.
    pub input: StageInput,
}

/// The inputs that wait for an answer now. `input` hangs on the step, never on the stage, and vanishes when answered.
pub fn paused_inputs(stages: &[Stage]) -> Vec<PausedInput> {
    stages
        .iter()
        .flat_map(|stage| stage.steps.iter().map(move |step| (stage, step)))
        .filter(|(_, step)| step.state == Some(JenkinsState::Paused))
        .filter_map(|(stage, step)| {
            Some(PausedInput {
                stage_id: stage.id.clone(),
                stage: stage.name.clone(),
                step_id: step.id.clone(),
                input: step.input.clone()?,
            })
        })
        .collect()
}

/// The first stage that failed, was aborted or unstable, and in it the first such step.
pub fn first_failed(stages: &[Stage]) -> Option<(&Stage, Option<&Step>)> {
    let bad = |r: &JenkinsResult| {
        matches!(
            r,
            JenkinsResult::Failure | JenkinsResult::Aborted | JenkinsResult::Unstable
        )
    };
    let worst_first = [
        JenkinsResult::Failure,
        JenkinsResult::Aborted,
        JenkinsResult::Unstable,
    ];
    let stage = worst_first
        .iter()
        .find_map(|worst| stages.iter().find(|s| &s.result == worst))?;
    Some((stage, stage.steps.iter().find(|s| bad(&s.result))))
}
