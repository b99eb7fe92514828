//! Pipelines, their branches, and the parameters they declare (contract §4.6, §6.5, §6.7).

use super::run::JenkinsRun;
use crate::gateway::names::{EncodedBranch, GitBranch};

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
    pub spec: serde_json::Value,
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
