//! What Jenkins stores as a build's log (LF, with hidden console notes) and how much of it is there yet.

use super::build::{Build, View};
use super::plan::Plan;
use super::{JobId, State};
use crate::clock::Millis;
use crate::world::LogScript;

const NOTE_START: &[u8] = b"\x1b[8mha:";
const NOTE_END: &[u8] = b"\x1b[0m";
/// A hidden note as the console annotator stores it: it counts for offsets and is never shown.
const NOTE: &str = "\x1b[8mha:////4AAAAKAfiwgAAAAAAAD/tY8xDsIwEATP\x1b[0m";

fn parameters(build: &Build) -> String {
    let mut sorted = build.parameters.clone();
    sorted.sort();
    let pairs: Vec<String> = sorted
        .iter()
        .map(|(n, v)| {
            format!(
                "{}: {}",
                serde_json::Value::from(n.as_str()),
                serde_json::Value::from(v.as_str())
            )
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

fn head(job: &JobId, build: &Build, plan: &Plan) -> String {
    let note = if plan.console_notes { NOTE } else { "" };
    format!("{note}{}\n[Pipeline] Start of Pipeline\n", build.cause)
        + &match plan.log {
            LogScript::Numbered => {
                format!(
                    "build {} #{} parameters {}\n",
                    job.full_name(),
                    build.number,
                    parameters(build)
                )
            }
            LogScript::Stages(_) => "[Pipeline] node\nRunning on agent-1 in /home/jenkins/workspace\n".into(),
        }
}

fn tail(result: &str) -> String {
    format!("[Pipeline] End of Pipeline\nFinished: {result}\n")
}

/// Everything but the last lines.
fn body(job: &JobId, build: &Build) -> Vec<u8> {
    let plan = &build.plan;
    let mut text = head(job, build, plan).into_bytes();
    match &plan.log {
        LogScript::Numbered => {
            let size = plan.log_bytes.saturating_sub(tail(&plan.result).len());
            let note = if plan.console_notes { NOTE } else { "" };
            for line in 0.. {
                if text.len() >= size {
                    break;
                }
                let line = format!("line {line:08} {note}{}\n", ".".repeat(49));
                text.extend_from_slice(line.as_bytes());
            }
            text.truncate(size);
        }
        LogScript::Stages(stages) => {
            for (stage, lines) in plan.stages.iter().zip(stages) {
                text.extend_from_slice(stage_part(&stage.name, lines).as_bytes());
                if plan.ends_at_failure
                    && super::plan::is_fatal(&plan.result)
                    && plan.stages[plan.bad_stage].name == stage.name
                {
                    break;
                }
            }
        }
    }
    text
}

fn stage_part(name: &str, lines: &[String]) -> String {
    format!("[Pipeline] {{ ({name})\n{}[Pipeline] }}\n", stage_text(lines))
}

/// How many bytes of a log that is written stage by stage are there: what a stage has printed is there when it ends.
fn written(job: &JobId, build: &Build, stages: &[Vec<String>], active: Millis) -> usize {
    let plan = &build.plan;
    let mut length = head(job, build, plan).len();
    for (i, (stage, lines)) in plan.stages.iter().zip(stages).enumerate() {
        let (from, to) = (plan.offset(i, plan.total), plan.offset(i + 1, plan.total));
        let part = stage_part(&stage.name, lines).len();
        if active < to {
            let part = i64::try_from(part).unwrap_or(i64::MAX);
            let share = part.saturating_mul((active - from).max(0)) / (to - from).max(1);
            return length + usize::try_from(share).unwrap_or_default();
        }
        length += part;
    }
    length
}

fn stage_text(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

/// The log as stored at this moment.
pub(crate) fn stored(job: &JobId, build: &Build, view: &View) -> Vec<u8> {
    if view.state == State::Queued {
        return Vec::new();
    }
    let body = build.log.get_or_init(|| body(job, build));
    if view.finished() && build.forced_end.is_none() {
        return [body.as_slice(), tail(&view.result).as_bytes()].concat();
    }
    let total = build.plan.active_total().max(1);
    let share = |length: usize| {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        usize::try_from(length.saturating_mul(view.active.min(total)) / total).unwrap_or_default()
    };
    let mut seen = share(body.len()).min(body.len());
    if let LogScript::Stages(stages) = &build.plan.log {
        seen = written(job, build, stages, view.active).min(body.len());
        // People read this one: only whole lines.
        seen = body[..seen]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
    }
    let mut text = body[..seen].to_vec();
    if view.finished() {
        if text.last().is_some_and(|b| *b != b'\n') {
            text.push(b'\n');
        }
        if view.result == "ABORTED" {
            text.extend_from_slice(b"Aborted by admin\n");
        }
        text.extend_from_slice(tail(&view.result).as_bytes());
    }
    text
}

/// The stored log of one stage's step. The numbered log is one text for all of them (as recorded).
pub(crate) fn stored_of_stage(job: &JobId, build: &Build, view: &View, stage: usize) -> Vec<u8> {
    let LogScript::Stages(stages) = &build.plan.log else {
        return stored(job, build, view);
    };
    let lines = stages.get(stage).map(|l| stage_text(l)).unwrap_or_default();
    let whole = stored(job, build, view);
    let marker = format!("[Pipeline] {{ ({})\n", build.plan.stages[stage].name);
    let text = String::from_utf8_lossy(&whole);
    match text.find(&marker) {
        None => Vec::new(),
        Some(at) => {
            let from = at + marker.len();
            let to = (from + lines.len()).min(text.len());
            text.as_bytes()[from..to].to_vec()
        }
    }
}

/// What Jenkins makes of stored text when it serves it: hidden notes go, and with `crlf` (Blue Ocean) every LF becomes
/// CR LF.
pub(crate) fn serve(stored: &[u8], crlf: bool) -> Vec<u8> {
    let text = strip_notes(stored);
    if !crlf {
        return text;
    }
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    for byte in text {
        if byte == b'\n' {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}

/// Removes hidden console notes.
pub(crate) fn strip_notes(stored: &[u8]) -> Vec<u8> {
    let find = |from: usize, what: &[u8]| {
        stored[from..]
            .windows(what.len())
            .position(|w| w == what)
            .map(|at| from + at)
    };
    if !stored.contains(&0x1b) {
        return stored.to_vec();
    }
    let mut out = Vec::with_capacity(stored.len());
    let mut at = 0;
    while let Some(start) = find(at, NOTE_START) {
        out.extend_from_slice(&stored[at..start]);
        at = find(start, NOTE_END).map_or(stored.len(), |end| end + NOTE_END.len());
    }
    out.extend_from_slice(&stored[at..]);
    out
}
