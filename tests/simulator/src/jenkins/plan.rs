//! How a build will go, worked out from its job's script and its parameters when it is triggered.

use std::sync::Arc;

use crate::clock::{Millis, Scale};
use crate::world::{BuildScript, InputScript, LogScript, Stage};

/// An archived file.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    pub(crate) path: String,
    pub(crate) size: u64,
    /// Its text; without it the bytes are made up from name and build.
    pub(crate) text: Option<String>,
}

/// The plan of one build. Lengths are real (scaled) milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) total: Millis,
    pub(crate) queue: Millis,
    pub(crate) result: String,
    pub(crate) stages: Vec<Stage>,
    /// Index of the stage that carries a bad result.
    pub(crate) bad_stage: usize,
    pub(crate) ends_at_failure: bool,
    pub(crate) log_bytes: usize,
    pub(crate) log: LogScript,
    pub(crate) console_notes: bool,
    /// Shared, since a build is copied for every request that is about it.
    pub(crate) artifacts: Arc<[Artifact]>,
    pub(crate) artifact_bps: u64,
    pub(crate) input: Option<InputScript>,
}

/// Replaces `{NAME}` by parameter values; the demo's two names have a value even where nothing was declared.
pub(crate) fn fill(text: &str, parameters: &[(String, String)]) -> String {
    let mut text = text.to_owned();
    for (name, value) in parameters {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text.replace("{VERSION}", "0.0.0-dev")
        .replace("{TARGET}", "staging")
}

impl Plan {
    pub(crate) fn new(script: &BuildScript, parameters: &[(String, String)], scale: Scale) -> Self {
        let given = |name: &str| {
            parameters
                .iter()
                .find(|(n, v)| n == name && !v.is_empty())
                .map(|(_, v)| v.as_str())
        };
        let seconds = |name: &str, default: f64| {
            let nominal = given(name).and_then(|v| v.parse::<f64>().ok()).unwrap_or(default);
            scale.seconds(nominal)
        };
        let input = given("INPUT")
            .map(|id| InputScript {
                id: id.to_owned(),
                submitter: given("INPUT_SUBMITTER").unwrap_or_default().to_owned(),
                parameters: given("INPUT_PARAMS").unwrap_or_default().to_owned(),
            })
            .or_else(|| script.input.clone());
        let mut artifacts = parse_artifacts(given("ARTIFACTS").unwrap_or(&script.artifacts));
        artifacts.extend(script.files.iter().map(|(path, text)| {
            let text = fill(text, parameters);
            Artifact {
                path: path.clone(),
                size: text.len() as u64,
                text: Some(text),
            }
        }));
        let bad_stage = script
            .bad_stage
            .as_ref()
            .and_then(|bad| script.stages.iter().position(|s| s.name == *bad))
            .unwrap_or_else(|| 1.min(script.stages.len().saturating_sub(1)));
        Self {
            total: seconds("DURATION", script.duration),
            queue: seconds("QUEUE", script.queue),
            result: given("RESULT").unwrap_or(&script.result).to_owned(),
            stages: script.stages.clone(),
            bad_stage,
            ends_at_failure: script.ends_at_failure,
            log_bytes: given("LOG_BYTES")
                .and_then(|v| v.parse().ok())
                .unwrap_or(script.log_bytes),
            log: match &script.log {
                LogScript::Numbered => LogScript::Numbered,
                LogScript::Stages(stages) => LogScript::Stages(
                    stages
                        .iter()
                        .map(|s| s.iter().map(|l| fill(l, parameters)).collect())
                        .collect(),
                ),
            },
            console_notes: script.console_notes,
            artifacts: artifacts.into(),
            artifact_bps: given("ARTIFACT_BPS")
                .and_then(|v| v.parse().ok())
                .unwrap_or(script.artifact_bps),
            input,
        }
    }

    /// Offset at which stage `index` begins; `stages.len()` gives the end.
    pub(crate) fn offset(&self, index: usize, total: Millis) -> Millis {
        let percent: i64 = self.stages.iter().take(index).map(|s| s.percent).sum();
        if index >= self.stages.len() {
            total
        } else {
            total * percent / 100
        }
    }

    /// Index of the stage with the input step.
    pub(crate) fn input_stage(&self) -> usize {
        1.min(self.stages.len().saturating_sub(1))
    }

    /// Offset at which the build stops to wait for a human.
    pub(crate) fn pause(&self) -> Option<Millis> {
        self.input.as_ref().map(|_| {
            let stage = self.input_stage();
            i64::midpoint(self.offset(stage, self.total), self.offset(stage + 1, self.total))
        })
    }

    /// Active time until the build ends by itself.
    pub(crate) fn active_total(&self) -> Millis {
        if self.ends_at_failure && is_fatal(&self.result) {
            self.offset(self.bad_stage + 1, self.total)
        } else {
            self.total
        }
    }
}

/// Results after which later stages do not run.
pub(crate) fn is_fatal(result: &str) -> bool {
    matches!(result, "FAILURE" | "ABORTED")
}

fn parse_artifacts(text: &str) -> Vec<Artifact> {
    text.split(',')
        .filter_map(|item| {
            let (path, size) = item.trim().rsplit_once(':')?;
            Some(Artifact {
                path: path.to_owned(),
                size: size.parse().ok()?,
                text: None,
            })
        })
        .collect()
}
