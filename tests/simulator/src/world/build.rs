//! Pipelines of a world and how their builds behave.

use serde::{Deserialize, Serialize};

/// Regular or multi-branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PipelineKind {
    /// `spec.type: pipeline`
    Regular,
    /// `spec.type: multi-branch-pipeline`
    MultiBranch,
}

/// A declared build parameter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Name.
    pub name: String,
    /// `string`, `text`, `boolean`, `choice`, `password`, …
    #[serde(rename = "type", default = "string_type")]
    pub kind: String,
    /// `default_value`; for a choice the choices, one per line (contract §6.7). Without it Jenkins uses "".
    #[serde(default)]
    pub default: Option<String>,
    /// Description.
    #[serde(default)]
    pub description: String,
}

fn string_type() -> String {
    "string".into()
}

impl Parameter {
    /// A string parameter with a default.
    pub fn string(name: &str, default: &str) -> Self {
        Self {
            name: name.into(),
            kind: "string".into(),
            default: Some(default.into()),
            description: name.into(),
        }
    }

    /// A choice parameter; the first choice is the default.
    pub fn choice(name: &str, choices: &[&str]) -> Self {
        Self {
            name: name.into(),
            kind: "choice".into(),
            default: Some(choices.join("\n")),
            description: name.into(),
        }
    }

    /// The choices, if this is a choice parameter.
    pub fn choices(&self) -> Option<Vec<&str>> {
        (self.kind == "choice").then(|| self.default.as_deref().unwrap_or_default().lines().collect())
    }

    /// What a build gets when no value is sent.
    ///
    /// `None`: a value must be sent (file and run parameters).
    pub fn default_value(&self) -> Option<&str> {
        match (self.kind.as_str(), self.default.as_deref()) {
            ("choice", choices) => Some(choices.unwrap_or_default().lines().next().unwrap_or_default()),
            ("boolean", None) => Some("false"),
            ("file" | "run", default) => default,
            (_, default) => Some(default.unwrap_or_default()),
        }
    }
}

/// A branch of a multi-branch pipeline.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// As git writes it, e.g. `feature/x`.
    pub name: String,
    /// Parameters its Jenkinsfile declares.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// `origin` branch or a pull request's head.
    #[serde(default)]
    pub pull_request: bool,
}

impl Branch {
    /// A branch without parameters.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            parameters: Vec::new(),
            pull_request: false,
        }
    }
}

/// A stage and its share of a build's duration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Display name.
    pub name: String,
    /// Share of the whole duration, in percent.
    pub percent: i64,
}

/// What a build's log looks like.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LogScript {
    /// A header, numbered lines up to the wanted size, and Jenkins' last lines: what was recorded.
    Numbered,
    /// These lines per stage; `{NAME}` is replaced by the parameter's value.
    Stages(Vec<Vec<String>>),
}

/// An input step that a build waits at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputScript {
    /// Input id.
    pub id: String,
    /// Who may answer, comma separated; empty: everybody.
    pub submitter: String,
    /// Parameters as `NAME:default,…`.
    pub parameters: String,
}

/// How builds of a job go, unless their parameters say otherwise (`DURATION`, `QUEUE`, `RESULT`, `LOG_BYTES`,
/// `ARTIFACTS`, `ARTIFACT_BPS`, `INPUT`, `INPUT_SUBMITTER`, `INPUT_PARAMS`, when the job declares them).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildScript {
    /// Seconds a build runs (nominal).
    pub duration: f64,
    /// Seconds it waits for an executor (nominal).
    pub queue: f64,
    /// SUCCESS, FAILURE, UNSTABLE, ABORTED or `NOT_BUILT`.
    pub result: String,
    /// The stage that carries a bad result; by default the second.
    pub bad_stage: Option<String>,
    /// A failing stage ends the build at once, instead of letting the whole duration pass.
    pub ends_at_failure: bool,
    /// Stages.
    pub stages: Vec<Stage>,
    /// Size of a numbered log in bytes as Jenkins stores it.
    pub log_bytes: usize,
    /// Shape of the log.
    pub log: LogScript,
    /// The stored log holds hidden console notes: served text is shorter than the offsets say.
    pub console_notes: bool,
    /// Archived files as `path:size,…`.
    pub artifacts: String,
    /// Archived files with given text; `{NAME}` is replaced by the parameter's value.
    pub files: Vec<(String, String)>,
    /// Bytes per second at which Jenkins serves artifacts; 0: as fast as it can.
    pub artifact_bps: u64,
    /// Input step in the second stage.
    pub input: Option<InputScript>,
}

impl Default for BuildScript {
    fn default() -> Self {
        let stage = |name: &str, percent| Stage {
            name: name.into(),
            percent,
        };
        Self {
            duration: 3.0,
            queue: 0.0,
            result: "SUCCESS".into(),
            bad_stage: None,
            ends_at_failure: false,
            stages: vec![stage("Checkout", 20), stage("Build", 60), stage("Publish", 20)],
            log_bytes: 2_048,
            log: LogScript::Numbered,
            console_notes: false,
            artifacts: String::new(),
            files: Vec::new(),
            artifact_bps: 0,
            input: None,
        }
    }
}

/// A pipeline.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineWorld {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: PipelineKind,
    /// Annotation `kubesphere.io/creator`.
    #[serde(default)]
    pub creator: Option<String>,
    /// Parameters in `spec.pipeline.parameters`.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// Branches (multi-branch only).
    #[serde(default)]
    pub branches: Vec<Branch>,
    /// One build at a time.
    #[serde(default)]
    pub disable_concurrent: bool,
    /// `spec.pipeline.discarder.num_to_keep`.
    #[serde(default)]
    pub keep_builds: Option<usize>,
    /// How its builds go.
    #[serde(default)]
    pub script: BuildScript,
}

impl PipelineWorld {
    /// A regular pipeline.
    pub fn regular(name: &str) -> Self {
        Self {
            name: name.into(),
            kind: PipelineKind::Regular,
            creator: None,
            parameters: Vec::new(),
            branches: Vec::new(),
            disable_concurrent: false,
            keep_builds: None,
            script: BuildScript::default(),
        }
    }

    /// A multi-branch pipeline with these branches; the first is the primary one.
    pub fn multi_branch(name: &str, branches: &[&str]) -> Self {
        Self {
            kind: PipelineKind::MultiBranch,
            branches: branches.iter().map(|b| Branch::new(b)).collect(),
            ..Self::regular(name)
        }
    }

    /// Adds parameters.
    #[must_use]
    pub fn parameters(mut self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Changes how builds go.
    #[must_use]
    pub fn script(mut self, change: impl FnOnce(&mut BuildScript)) -> Self {
        change(&mut self.script);
        self
    }

    /// Created by.
    #[must_use]
    pub fn created_by(mut self, user: &str) -> Self {
        self.creator = Some(user.into());
        self
    }
}
