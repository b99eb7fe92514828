//! Builds in Blue Ocean's words, and the reduced form that ks-devops' controller stores.

use serde_json::{Map, Value, json};

use super::JobId;
use super::build::{Build, State, View};
use super::plan::is_fatal;
use crate::clock::{self, Millis};

/// Which answer a run object is part of: they carry different extras (as recorded).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Answer to a trigger or replay.
    Triggered,
    /// GET of one run, list of runs.
    Read,
    /// Answer to a stop.
    Stopped,
    /// `latestRun` of a branch.
    Latest,
}

const RUN: &str = "io.jenkins.blueocean.rest.impl.pipeline.PipelineRunImpl";
const CAUSE: &str = "io.jenkins.blueocean.service.embedded.rest.AbstractRunImpl$BlueCauseImpl";
const NODE: &str = "io.jenkins.blueocean.rest.impl.pipeline.PipelineNodeImpl";
const STEP: &str = "io.jenkins.blueocean.rest.impl.pipeline.PipelineStepImpl";
const INPUT: &str = "io.jenkins.blueocean.rest.impl.pipeline.InputStepImpl";
const LINK: &str = "io.jenkins.blueocean.rest.hal.Link";

fn put(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    map.insert(key.into(), value.into());
}

/// A run in v1alpha2 form.
pub(crate) fn run(id: &JobId, build: &Build, view: &View, shape: Shape, number: u64) -> Value {
    let queued = view.state == State::Queued;
    let mut o = Map::new();
    put(
        &mut o,
        "_class",
        if queued {
            "io.jenkins.blueocean.service.embedded.rest.QueuedBlueRun"
        } else {
            RUN
        },
    );
    let mut links = json!({"parent": {}, "tests": {}, "log": {}, "blueTestSummary": {}, "actions": {}, "artifacts": {},
        "self": {"_class": LINK, "href": format!("{}/runs/{number}/", id.blue_path())}});
    if matches!(shape, Shape::Read | Shape::Latest) {
        links["prevRun"] = json!({});
    }
    if matches!(shape, Shape::Read | Shape::Stopped) && !queued {
        links["nodes"] = json!({});
        links["steps"] = json!({});
    }
    put(&mut o, "_links", links);
    let mut cause = json!({"_class": CAUSE, "shortDescription": build.cause});
    if shape != Shape::Stopped {
        cause["userId"] = Value::from("admin");
        cause["userName"] = Value::from("admin");
    }
    put(&mut o, "causes", json!([cause]));
    put(&mut o, "enQueueTime", clock::jenkins(build.queued_at));
    put(&mut o, "id", number.to_string());
    put(&mut o, "organization", "jenkins");
    put(&mut o, "pipeline", id.leaf());
    put(&mut o, "replayable", true);
    put(&mut o, "result", view.result.as_str());
    put(&mut o, "state", view.state.name());
    put(&mut o, "type", if queued { "QueuedItem" } else { "WorkflowRun" });
    if queued {
        put(&mut o, "causeOfBlockage", "Waiting for next available executor");
        put(&mut o, "queueId", build.queue_id.to_string());
    } else {
        put(
            &mut o,
            "artifactsZipFile",
            format!("{}/{number}/artifact/*zip*/archive.zip", id.path()),
        );
        put(&mut o, "durationInMillis", view.duration);
        put(&mut o, "estimatedDurationInMillis", estimate(build, view));
        let summary = match (view.finished(), view.result.as_str()) {
            (false, _) => "?",
            (true, "SUCCESS") => "stable",
            (true, _) => "broken since this build",
        };
        put(&mut o, "runSummary", summary);
        put(
            &mut o,
            "startTime",
            view.start.map_or(Value::Null, |t| clock::jenkins(t).into()),
        );
    }
    if let Some(end) = view.end {
        put(&mut o, "endTime", clock::jenkins(end));
    }
    match shape {
        Shape::Read if id.branch.is_some() => {
            put(
                &mut o,
                "branch",
                json!({"isPrimary": true, "issues": [], "url": null}),
            );
        }
        Shape::Stopped => put(&mut o, "branch", json!({})),
        _ => {}
    }
    Value::Object(o)
}

fn estimate(build: &Build, view: &View) -> Millis {
    match (&build.forced_end, &build.plan.input) {
        (Some(_), None) if view.finished() => view.duration,
        _ => build.plan.total,
    }
}

/// A run as the controller stores it in the status ConfigMap: times in whole seconds, present even when null.
pub(crate) fn stored_run(run: &Value) -> Value {
    let mut o = run.clone();
    let Some(map) = o.as_object_mut() else { return o };
    map.remove("_class");
    map.remove("_links");
    for key in ["enQueueTime", "startTime", "endTime"] {
        let time = whole_seconds(map.get(key));
        map.insert(key.into(), time);
    }
    if map.get("branch").is_some() {
        let primary = map["branch"]["isPrimary"] == true;
        map.insert(
            "branch".into(),
            if primary {
                json!({"isPrimary": true})
            } else {
                json!({})
            },
        );
    }
    o
}

fn whole_seconds(time: Option<&Value>) -> Value {
    match time.and_then(Value::as_str) {
        Some(time) if time.len() >= 19 => Value::from(format!("{}Z", &time[..19])),
        _ => Value::Null,
    }
}

/// One step of a stage.
#[derive(Debug, Clone)]
pub(crate) struct StepLook {
    pub(crate) id: u64,
    pub(crate) display: &'static str,
    pub(crate) description: String,
    pub(crate) state: &'static str,
    pub(crate) result: String,
    pub(crate) start: Millis,
    pub(crate) duration: Millis,
    /// Waits to be answered.
    pub(crate) waiting: bool,
    pub(crate) is_input: bool,
}

/// One stage.
#[derive(Debug, Clone)]
pub(crate) struct StageLook {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) state: Option<&'static str>,
    pub(crate) result: String,
    pub(crate) start: Option<Millis>,
    pub(crate) duration: Millis,
    pub(crate) steps: Vec<StepLook>,
}

/// Node ids as recorded (6, 11, 20), then on in the same manner.
fn node_id(index: usize) -> u64 {
    match index {
        0 => 6,
        1 => 11,
        n => 20 + 9 * (n as u64 - 2),
    }
}

/// All stages at one moment; none while the build is queued.
pub(crate) fn stages(build: &Build, view: &View) -> Vec<StageLook> {
    let (plan, Some(start)) = (&build.plan, view.start) else {
        return Vec::new();
    };
    let pause = plan.pause();
    // A build without input that was cut short looks as if it had been planned that short (as recorded).
    let total = match (&build.forced_end, pause, view.end) {
        (Some(_), None, Some(end)) => end - start,
        _ => plan.total,
    };
    let waited = view.duration - view.active;
    let wall = |offset: Millis| match pause {
        Some(pause) if offset > pause => start + offset + waited,
        _ => start + offset,
    };
    let limit = view.end.unwrap_or(view.now);
    let bad = matches!(view.result.as_str(), "FAILURE" | "UNSTABLE" | "ABORTED");
    let mut stopped = false;
    (0..plan.stages.len())
        .map(|i| {
            let name = plan.stages[i].name.clone();
            let (from, to) = (wall(plan.offset(i, total)), wall(plan.offset(i + 1, total)));
            let mut look = StageLook {
                id: node_id(i),
                name,
                state: None,
                result: "UNKNOWN".into(),
                start: None,
                duration: 0,
                steps: Vec::new(),
            };
            if view.finished() && stopped {
                look.state = Some("NOT_BUILT");
                look.result = "NOT_BUILT".into();
                look.start = Some(from.min(limit));
                look.duration = (to.min(limit) - from.min(limit)).max(0);
                return look;
            }
            if limit < from || (limit == from && !view.finished() && i > 0) {
                return look;
            }
            let over = view.finished() || limit >= to;
            look.start = Some(from);
            look.duration = to.min(limit) - from;
            let carries_bad = if pause.is_some() && build.forced_end.is_some() {
                view.finished() && limit < to
            } else {
                i == plan.bad_stage
            };
            if over {
                look.state = Some("FINISHED");
                look.result = "SUCCESS".into();
                if view.finished() && bad && carries_bad {
                    look.result.clone_from(&view.result);
                    stopped = is_fatal(&view.result);
                } else if !view.finished() && i == plan.bad_stage && plan.result != "NOT_BUILT" {
                    look.result.clone_from(&plan.result);
                }
            } else {
                look.state = Some(view.state.name());
            }
            look.steps = steps(build, view, i, &look, from, limit);
            look
        })
        .collect()
}

fn steps(
    build: &Build,
    view: &View,
    stage: usize,
    look: &StageLook,
    from: Millis,
    limit: Millis,
) -> Vec<StepLook> {
    let mut shell = StepLook {
        id: look.id + 1,
        display: "Shell Script",
        description: format!("echo {}", look.name),
        state: look.state.unwrap_or("RUNNING"),
        result: look.result.clone(),
        start: from,
        duration: look.duration,
        waiting: false,
        is_input: false,
    };
    let pause = build
        .plan
        .pause()
        .zip(view.start)
        .map(|(offset, start)| start + offset);
    let Some(pause) = pause.filter(|p| stage == build.plan.input_stage() && limit > *p) else {
        return vec![shell];
    };
    shell.state = "FINISHED";
    shell.result = "SUCCESS".into();
    shell.duration = pause - from;
    let answered = build.answered_at.filter(|a| *a <= limit);
    let waiting = answered.is_none() && !view.finished();
    let (state, result) = match (waiting, answered) {
        (true, _) => ("PAUSED", "UNKNOWN"),
        (false, Some(_)) => ("FINISHED", "SUCCESS"),
        (false, None) => ("FINISHED", "ABORTED"),
    };
    let input = StepLook {
        id: look.id + 2,
        display: "Wait for interactive input",
        description: INPUT_MESSAGE.into(),
        state,
        result: result.into(),
        start: pause,
        duration: answered.unwrap_or(limit) - pause,
        waiting,
        is_input: true,
    };
    vec![shell, input]
}

const INPUT_MESSAGE: &str = "Deploy to production?";

/// Parameters of an input: `(name, default)`.
pub(crate) fn input_parameters(text: &str) -> Vec<(String, String)> {
    text.split(',')
        .filter(|p| !p.trim().is_empty())
        .map(|p| p.trim().split_once(':').unwrap_or((p.trim(), "")))
        .map(|(n, d)| (n.to_owned(), d.to_owned()))
        .collect()
}

/// Stages in v1alpha2 form.
pub(crate) fn nodes(stages: &[StageLook]) -> Vec<Value> {
    let mut previous: Option<u64> = None;
    stages
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let mut o = Map::new();
            put(&mut o, "_class", NODE);
            put(&mut o, "_links", json!({"self": {}, "actions": {}, "steps": {}}));
            put(&mut o, "displayName", s.name.as_str());
            put(&mut o, "id", s.id.to_string());
            put(&mut o, "result", s.result.as_str());
            put(&mut o, "type", "STAGE");
            if s.duration > 0 {
                put(&mut o, "durationInMillis", s.duration);
            }
            if let Some(start) = s.start {
                put(&mut o, "startTime", clock::jenkins(start));
            }
            if let Some(state) = s.state {
                put(&mut o, "state", state);
            }
            if let Some(next) = stages.get(i + 1) {
                let edge =
                    json!({"_class": format!("{NODE}$EdgeImpl"), "id": next.id.to_string(), "type": "STAGE"});
                put(&mut o, "edges", json!([edge]));
            }
            if let Some(parent) = previous.replace(s.id) {
                put(&mut o, "firstParent", parent.to_string());
            }
            Value::Object(o)
        })
        .collect()
}

/// Steps in v1alpha2 form; `approvable` is what the caller may answer (spelled `aprovable` on the wire).
pub(crate) fn steps_v2(
    id: &JobId,
    build: &Build,
    node: u64,
    steps: &[StepLook],
    approvable: impl Fn(&StepLook) -> bool,
) -> Vec<Value> {
    steps
        .iter()
        .map(|s| {
            let mut o = json!({
                "_class": STEP, "_links": {"self": {}, "actions": {}},
                "displayDescription": s.description, "displayName": s.display, "id": s.id.to_string(),
                "result": s.result, "startTime": clock::jenkins(s.start), "state": s.state, "type": "STEP",
                "aprovable": approvable(s),
            });
            if s.duration > 0 {
                o["durationInMillis"] = Value::from(s.duration);
            }
            if s.waiting
                && let Some(input) = input_v2(id, build, node, s.id)
            {
                o["input"] = input;
            }
            o
        })
        .collect()
}

fn input_v2(id: &JobId, build: &Build, node: u64, step: u64) -> Option<Value> {
    const STRING: &str = "hudson.model.StringParameter";
    let input = build.plan.input.as_ref()?;
    let href = format!(
        "{}/runs/{}/nodes/{node}/steps/{step}/input/",
        id.blue_path(),
        build.number
    );
    let mut o = json!({
        "_class": INPUT, "_links": {"self": {"_class": LINK, "href": href}},
        "id": input.id, "message": INPUT_MESSAGE, "ok": "Proceed",
    });
    let parameters: Vec<Value> = input_parameters(&input.parameters)
        .iter()
        .map(|(name, default)| {
            json!({
                "_class": format!("{STRING}Definition"), "description": name, "name": name,
                "type": "StringParameterDefinition",
                "defaultParameterValue": {"_class": format!("{STRING}Value"), "name": name, "value": default},
            })
        })
        .collect();
    if !parameters.is_empty() {
        o["parameters"] = Value::from(parameters);
    }
    if !input.submitter.is_empty() {
        o["submitter"] = Value::from(input.submitter.as_str());
    }
    Some(o)
}

/// Stages with steps as the controller stores them.
pub(crate) fn stored_stages(id: &JobId, build: &Build, stages: &[StageLook]) -> Value {
    let nodes = nodes(stages);
    stages
        .iter()
        .zip(nodes)
        .map(|(look, mut node)| {
            strip(&mut node);
            node["startTime"] = look.start.map_or(Value::Null, |t| clock::rfc3339(t).into());
            let steps: Vec<Value> = steps_v2(id, build, look.id, &look.steps, |_| false)
                .into_iter()
                .map(|mut step| {
                    strip(&mut step);
                    step.as_object_mut()
                        .expect("a step is an object")
                        .remove("aprovable");
                    step["startTime"] = whole_seconds(step.get("startTime"));
                    for parameter in step
                        .pointer_mut("/input/parameters")
                        .and_then(Value::as_array_mut)
                        .into_iter()
                        .flatten()
                    {
                        parameter["value"] = Value::from("");
                    }
                    step
                })
                .collect();
            if !steps.is_empty() {
                node["steps"] = Value::from(steps);
            }
            node
        })
        .collect()
}

/// Removes `_class` and `_links` at every depth.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("_class");
            map.remove("_links");
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}
