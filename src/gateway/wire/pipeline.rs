//! Pipelines, their branches, and the parameters they declare (contract §4.6, §6.5, §6.7).

use serde::Deserialize;
use serde_json::Value;

use super::{
    json::{Envelope, Metadata, garbled, null_is_default, read},
    refusal::Reply,
};
use crate::gateway::{
    error::Result,
    names::{EncodedBranch, GitBranch},
};

const SYNC_STATUS: &str = "pipeline.devops.kubesphere.io/syncstatus";
const JENKINS_METADATA: &str = "pipeline.devops.kubesphere.io/jenkins-metadata";
const CREATOR: &str = "kubesphere.io/creator";

/// What kind of pipeline it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipelineKind {
    /// One Jenkinsfile, no branches.
    Regular,
    /// A Jenkins job per branch; a run needs a branch.
    MultiBranch,
    /// A kind we do not know.
    Other(String),
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// Object UID; a new one means it was made anew.
    pub uid: String,
    /// Its kind.
    pub kind: PipelineKind,
    /// `spec` as it is, to be copied into runs.
    pub spec: Value,
    /// Jenkins has its job (`syncstatus` is `successful`).
    pub synced: bool,
    /// The project's user who made it.
    pub creator: Option<String>,
    /// Builds run one after the other.
    pub serial: bool,
    /// What is declared, from the spec and from what Jenkins knows; None when neither says anything, and always for
    /// multi-branch pipelines, whose branches declare.
    pub parameters: Option<Vec<DeclaredParameter>>,
    /// It is being deleted.
    pub deleting: bool,
}

/// A branch of a multi-branch pipeline, from the pipeline's annotation (contract §4.6).
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// The name to run it by.
    pub encoded: EncodedBranch,
    /// The name git has.
    pub git: GitBranch,
    /// Jenkins does not build it.
    pub disabled: bool,
    /// The repository's main branch.
    pub primary: bool,
    /// What it declares; None when Jenkins tells nothing (never run yet, or no parameters).
    pub parameters: Option<Vec<DeclaredParameter>>,
}

/// A parameter a pipeline, branch or input declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredParameter {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: ParameterKind,
    /// Its default; None when there is none. A choice without a default takes its first choice.
    pub default: Option<String>,
    /// What may be chosen; empty unless it is a choice.
    pub choices: Vec<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// The kind of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterKind {
    /// One line of text.
    String,
    /// Lines of text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// One of the choices.
    Choice,
    /// Text that is not shown.
    Password,
    /// A file; cannot be given through the gateway.
    File,
    /// Any other kind.
    Other(String),
}

impl Branch {
    /// The branch with this git name, by the remote's own `rawName`, else by its encoded form.
    pub fn find<'a>(branches: &'a [Branch], wanted: &GitBranch) -> Option<&'a Branch> {
        let encoded = EncodedBranch::from_git(wanted);
        branches
            .iter()
            .find(|b| &b.git == wanted)
            .or_else(|| branches.iter().find(|b| b.encoded == encoded))
    }
}

/// What a run of this pipeline (and branch) may be given. None: nothing is declared yet, so nothing can be checked and
/// the first run may ignore what it is given (contract §8.30).
pub fn declared_parameters<'a>(
    pipeline: &'a Pipeline,
    branch: Option<&'a Branch>,
) -> Option<&'a [DeclaredParameter]> {
    match branch {
        Some(branch) => branch.parameters.as_deref(),
        None => pipeline.parameters.as_deref(),
    }
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
}

/// Reads one pipeline. `kind` and `apiVersion` may be missing (finding F-C).
pub fn pipeline(reply: &Reply<'_>) -> Result<Pipeline> {
    reply.accept()?;
    let pipeline = pipeline_of(read(reply)?);
    if pipeline.name.is_empty() {
        Err(garbled(reply))
    } else {
        Ok(pipeline)
    }
}

/// Reads a list of pipelines.
pub fn pipelines(reply: &Reply<'_>) -> Result<Vec<Pipeline>> {
    reply.accept()?;
    let list: Option<Envelope<Object>> = read(reply)?;
    Ok(list.into_iter().flat_map(|l| l.items).map(pipeline_of).collect())
}

/// Reads a list of branches.
pub fn branches(reply: &Reply<'_>) -> Result<Vec<Branch>> {
    reply.accept()?;
    let list: Option<Envelope<JenkinsBranch>> = read(reply)?;
    Ok(list
        .into_iter()
        .flat_map(|l| l.items)
        .filter_map(branch_of)
        .collect())
}

/// Reads one branch.
pub fn branch(reply: &Reply<'_>) -> Result<Branch> {
    reply.accept()?;
    branch_of(read(reply)?).ok_or_else(|| garbled(reply))
}

fn pipeline_of(object: Object) -> Pipeline {
    let Object {
        metadata: mut meta,
        spec,
    } = object;
    let kind = match spec.get("type").and_then(Value::as_str) {
        Some("pipeline") => PipelineKind::Regular,
        Some("multi-branch-pipeline") => PipelineKind::MultiBranch,
        other => PipelineKind::Other(other.unwrap_or_default().to_owned()),
    };
    let jenkins = meta
        .annotations
        .get(JENKINS_METADATA)
        .and_then(|t| serde_json::from_str(t).ok());
    Pipeline {
        parameters: (kind == PipelineKind::Regular)
            .then(|| declared(&spec, jenkins))
            .flatten(),
        serial: spec
            .pointer("/pipeline/disable_concurrent")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        synced: meta
            .annotations
            .get(SYNC_STATUS)
            .is_some_and(|s| s == "successful"),
        creator: meta.annotations.remove(CREATOR).filter(|c| !c.is_empty()),
        deleting: meta.deletion_timestamp.is_some(),
        name: meta.name,
        uid: meta.uid,
        kind,
        spec,
    }
}

/// A parameter as Jenkins declares it: in the metadata annotation, on branches, on inputs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JenkinsParameter {
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    kind: String,
    description: Option<String>,
    default_parameter_value: Option<DefaultValue>,
    #[serde(default, deserialize_with = "null_is_default")]
    choices: Vec<String>,
}

#[derive(Deserialize)]
struct DefaultValue {
    #[serde(default)]
    value: Value,
}

/// A parameter as the Pipeline object declares it (contract §6.7).
#[derive(Deserialize)]
struct SpecParameter {
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    default_value: String,
    description: Option<String>,
}

#[derive(Deserialize)]
struct JenkinsMetadata {
    #[serde(default, deserialize_with = "null_is_default")]
    parameters: Vec<JenkinsParameter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JenkinsBranch {
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    raw_name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    disabled: bool,
    branch: Option<BranchFacts>,
    #[serde(default, deserialize_with = "null_is_default")]
    parameters: Vec<JenkinsParameter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BranchFacts {
    #[serde(default, deserialize_with = "null_is_default")]
    is_primary: bool,
}

fn branch_of(branch: JenkinsBranch) -> Option<Branch> {
    if branch.name.is_empty() {
        return None;
    }
    let encoded = EncodedBranch::from_remote(branch.name);
    let git = if branch.raw_name.is_empty() {
        encoded.to_git()
    } else {
        GitBranch::new(branch.raw_name)
    };
    let parameters: Vec<_> = branch
        .parameters
        .into_iter()
        .map(DeclaredParameter::from)
        .collect();
    Some(Branch {
        encoded,
        git,
        disabled: branch.disabled,
        primary: branch.branch.is_some_and(|b| b.is_primary),
        parameters: (!parameters.is_empty()).then_some(parameters),
    })
}

/// What the spec and Jenkins declare together. The two may differ for some seconds after an edit, so both count: a value
/// that either of them takes is not refused here.
fn declared(spec: &Value, jenkins: Option<JenkinsMetadata>) -> Option<Vec<DeclaredParameter>> {
    let from_spec = spec.pointer("/pipeline/parameters").cloned().unwrap_or_default();
    let from_spec: Vec<SpecParameter> = serde_json::from_value(from_spec).unwrap_or_default();
    let mut all: Vec<DeclaredParameter> = from_spec.into_iter().map(DeclaredParameter::from).collect();
    for known in jenkins
        .into_iter()
        .flat_map(|m| m.parameters)
        .map(DeclaredParameter::from)
    {
        match all.iter_mut().find(|p| p.name == known.name) {
            Some(p) => {
                p.choices.extend(
                    known
                        .choices
                        .into_iter()
                        .filter(|c| !p.choices.contains(c))
                        .collect::<Vec<_>>(),
                );
                p.default = known.default.or(p.default.take());
            }
            None => all.push(known),
        }
    }
    all.retain(|p| !p.name.is_empty());
    (!all.is_empty()).then_some(all)
}

impl From<SpecParameter> for DeclaredParameter {
    fn from(p: SpecParameter) -> Self {
        let kind = ParameterKind::read(&p.kind);
        let lines = || {
            p.default_value
                .lines()
                .map(str::to_owned)
                .filter(|l| !l.is_empty())
        };
        // ks-devops writes a default for each of these into the Jenkins job, the empty one if none is given.
        let (default, choices) = match kind {
            ParameterKind::Choice => (lines().next(), lines().collect()),
            ParameterKind::File | ParameterKind::Other(_) => (
                Some(p.default_value.clone()).filter(|d| !d.is_empty()),
                Vec::new(),
            ),
            ParameterKind::Boolean if p.default_value.is_empty() => (Some("false".into()), Vec::new()),
            _ => (Some(p.default_value.clone()), Vec::new()),
        };
        Self {
            name: p.name,
            kind,
            default,
            choices,
            description: p.description.filter(|d| !d.is_empty()),
        }
    }
}

impl From<JenkinsParameter> for DeclaredParameter {
    fn from(p: JenkinsParameter) -> Self {
        let default = match p.default_parameter_value.map(|d| d.value) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => Some(other.to_string()),
        };
        Self {
            name: p.name,
            kind: ParameterKind::read(&p.kind),
            default: default.or_else(|| p.choices.first().cloned()),
            choices: p.choices,
            description: p.description.filter(|d| !d.is_empty()),
        }
    }
}

impl ParameterKind {
    /// Reads `string` and `StringParameterDefinition` alike.
    fn read(text: &str) -> Self {
        let word = text
            .strip_suffix("ParameterDefinition")
            .unwrap_or(text)
            .to_ascii_lowercase();
        match word.as_str() {
            "string" => Self::String,
            "text" => Self::Text,
            "boolean" => Self::Boolean,
            "choice" => Self::Choice,
            "password" => Self::Password,
            "file" => Self::File,
            _ => Self::Other(text.to_owned()),
        }
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
