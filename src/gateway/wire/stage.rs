//! Stages and steps of a run, and the inputs it waits for (contract §6.1, finding F-L).

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    jenkins::{JenkinsResult, JenkinsState},
    json::{lenient_time, null_is_default, read},
    pipeline::{DeclaredParameter, JenkinsParameter},
    refusal::Reply,
};
use crate::gateway::error::{ErrorKind, Result};

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    #[serde(default, deserialize_with = "null_is_default")]
    id: String,
    #[serde(default, deserialize_with = "null_is_default")]
    display_name: String,
    display_description: Option<String>,
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    kind: String,
    state: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    result: String,
    #[serde(default, deserialize_with = "lenient_time")]
    start_time: Option<Timestamp>,
    duration_in_millis: Option<i64>,
    input: Option<Input>,
    #[serde(default, deserialize_with = "null_is_default")]
    steps: Vec<Node>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default, deserialize_with = "null_is_default")]
    id: String,
    #[serde(default, deserialize_with = "null_is_default")]
    message: String,
    ok: Option<String>,
    submitter: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    parameters: Vec<JenkinsParameter>,
}

/// Stages and steps that are taken of one answer, together: Jenkins itself gives pages of this size. What is beyond them
/// would be held for nobody, because a status and a log name far fewer.
const MAX_NODES: usize = 10_000;

/// The first nodes, as many as are taken.
fn first(mut nodes: Vec<Node>) -> impl Iterator<Item = Node> {
    let mut room = MAX_NODES;
    nodes.truncate(room);
    nodes.into_iter().map_while(move |mut node| {
        room = room.checked_sub(1)?;
        node.steps.truncate(room);
        room -= node.steps.len();
        Some(node)
    })
}

/// Reads the nodedetails of a run: None while there is nothing to tell, which the remote says with a 500.
pub fn stages(reply: &Reply<'_>) -> Result<Option<Vec<Stage>>> {
    match reply.accept() {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotYet => return Ok(None),
        Err(error) => return Err(error),
    }
    let nodes: Option<Vec<Node>> = read(reply)?;
    Ok(nodes.map(|nodes| first(nodes).map(stage_of).collect()))
}

/// Reads the nodes of a build as v1alpha2 gives them: its stages, without steps.
pub fn nodes(reply: &Reply<'_>) -> Result<Vec<Stage>> {
    reply.accept()?;
    let nodes: Option<Vec<Node>> = read(reply)?;
    Ok(first(nodes.unwrap_or_default()).map(stage_of).collect())
}

/// Reads the steps of a node as v1alpha2 gives them.
pub fn steps(reply: &Reply<'_>) -> Result<Vec<Step>> {
    reply.accept()?;
    let steps: Option<Vec<Node>> = read(reply)?;
    Ok(first(steps.unwrap_or_default()).map(step_of).collect())
}

/// Reads the stages annotation of a run; None if it holds none.
pub fn stages_from_annotation(text: &str) -> Option<Vec<Stage>> {
    let nodes: Vec<Node> = serde_json::from_str(text).ok()?;
    Some(first(nodes).map(stage_of).collect())
}

fn millis(n: Option<i64>) -> Option<u64> {
    n.and_then(|n| u64::try_from(n).ok())
}

fn stage_of(node: Node) -> Stage {
    Stage {
        id: node.id,
        name: node.display_name,
        parallel: node.kind == "PARALLEL",
        state: node.state.filter(|s| !s.is_empty()).map(JenkinsState::from),
        result: JenkinsResult::from(node.result),
        started: node.start_time,
        duration_ms: millis(node.duration_in_millis),
        steps: node.steps.into_iter().map(step_of).collect(),
    }
}

fn step_of(node: Node) -> Step {
    let text = |t: Option<String>| t.filter(|t| !t.is_empty());
    Step {
        id: node.id,
        name: node.display_name,
        description: text(node.display_description),
        state: node.state.filter(|s| !s.is_empty()).map(JenkinsState::from),
        result: JenkinsResult::from(node.result),
        started: node.start_time,
        duration_ms: millis(node.duration_in_millis),
        input: node.input.map(|i| StageInput {
            id: i.id,
            message: i.message,
            ok: text(i.ok),
            submitter: text(i.submitter),
            parameters: i.parameters.into_iter().map(DeclaredParameter::from).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_brings_more_stages_and_steps_than_anybody_reads() {
        let step = r#"{"id":"7"}"#;
        let of = |steps: usize| format!(r#"{{"id":"6","steps":[{}]}}"#, vec![step; steps].join(","));
        for (stages, most) in [
            (vec![of(3), of(4)], (2, 7)),
            (vec![of(20_000)], (1, MAX_NODES - 1)),
            (vec![of(0); 20_000], (MAX_NODES, 0)),
        ] {
            let read = stages_from_annotation(&format!("[{}]", stages.join(","))).expect("stages");
            let steps: usize = read.iter().map(|stage| stage.steps.len()).sum();
            assert_eq!((read.len(), steps), most);
        }
    }
}
