//! Names that must not be mixed up: projects, run ids, branches as git and as Jenkins writes them.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// A name that may not be used in a path; says which and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {what}: {why}")]
pub struct BadName {
    /// What was meant, e.g. `project name`.
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The full name of a DevOps project, which is also its namespace on the remote (contract §3.3).
///
/// Only DNS labels are let in: the raw Jenkins proxy is not confined to a folder (finding F-A7), so this is what
/// keeps the paths we build inside our own project.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectName(String);

impl ProjectName {
    /// Checks `name` as a DNS label.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let value = name.into();
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let why = if value.is_empty() || value.len() > 63 {
            "it must be 1 to 63 characters long"
        } else if !value.chars().all(legal) || value.starts_with('-') || value.ends_with('-') {
            "only lower case letters, digits and inner dashes are allowed"
        } else {
            return Ok(Self(value));
        };
        Err(BadName {
            what: "project name",
            value,
            why,
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The number Jenkins gave a build, as text. A run has one only after it was triggered (contract §6.2 step 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// Checks that `id` is a number as Jenkins counts builds.
    pub fn new(id: impl Into<String>) -> Result<Self, BadName> {
        let value = id.into();
        if (1..=19).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(value))
        } else {
            Err(BadName {
                what: "run id",
                value,
                why: "it must be a build number",
            })
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A branch as git writes it, e.g. `feature/login`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GitBranch(String);

impl GitBranch {
    /// Takes the name as a person writes it; a leading `refs/heads/` is dropped, as the remote does.
    pub fn new(name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        Self(name.strip_prefix("refs/heads/").unwrap_or(name).to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A branch as Jenkins names its job, e.g. `feature%2Flogin` (contract §6.4). This, and never the git name, goes into
/// `spec.scm.refName`, the `branch` query and branch path segments.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncodedBranch(String);

impl EncodedBranch {
    /// Encodes a git branch as the `NameEncoder` of Jenkins' branch-api plugin does: seven characters that a URL's path
    /// trips over become `%XX`, all else, letters beyond ASCII too, stays as it is (C§6.4).
    ///
    /// Prefer the remote's own `name` where the branch list has the git name ([`Branch::find`](super::Branch::find)):
    /// jobs that a plugin older than 2.0 made, or that got a name of their own (custom name property), and pull
    /// requests and tags, whose jobs are named after their head (`PR-7`), cannot be worked out from git's name.
    pub fn from_git(branch: &GitBranch) -> Self {
        // Names that mean something else as a path segment.
        let whole = match branch.as_str() {
            "" => Some("%00"),
            "." => Some("%2E"),
            ".." => Some("%2E."),
            _ => None,
        };
        if let Some(name) = whole {
            return Self(name.into());
        }
        let mut name = String::with_capacity(branch.as_str().len() + 8);
        for c in branch.as_str().chars() {
            match c {
                '#' | '%' | '/' | '?' | '[' | ']' | '\\' => name.push_str(&format!("%{:02X}", u32::from(c))),
                c => name.push(c),
            }
        }
        Self(name)
    }

    /// Takes a name that the remote gave (`name` of a branch, `refName` of a run).
    pub fn from_remote(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The git name this stands for.
    pub fn to_git(&self) -> GitBranch {
        if self.0 == "%00" {
            return GitBranch(String::new());
        }
        GitBranch(percent_decode_str(&self.0).decode_utf8_lossy().into_owned())
    }

    /// The encoded name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where Jenkins keeps a build: what log, artifact, stop and v1alpha2 calls need.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunRef {
    /// The pipeline's name.
    pub pipeline: String,
    /// The branch job, for multi-branch pipelines.
    pub branch: Option<EncodedBranch>,
    /// The build number.
    pub id: RunId,
}

impl fmt::Display for RunRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pipeline)?;
        if let Some(branch) = &self.branch {
            write!(f, " branch {}", branch.to_git())?;
        }
        write!(f, " #{}", self.id)
    }
}

macro_rules! text_name {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )*};
}
text_name!(ProjectName, RunId, GitBranch, EncodedBranch);

impl TryFrom<String> for ProjectName {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        Self::new(name)
    }
}

impl TryFrom<String> for RunId {
    type Error = BadName;
    fn try_from(id: String) -> Result<Self, BadName> {
        Self::new(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_encoded_as_jenkins_names_its_job_and_back() {
        for (git, encoded) in [
            ("main", "main"),
            ("feature/x", "feature%2Fx"),
            ("refs/heads/feature/login", "feature%2Flogin"),
            ("100%", "100%25"),
            ("100%41", "100%2541"),
            ("fix#12", "fix%2312"),
            ("a[b]\\c?", "a%5Bb%5D%5Cc%3F"),
            // What a path segment can hold is left to whoever writes the URL.
            ("été", "été"),
            ("wip/日本", "wip%2F日本"),
            ("a b&c:d|e\"<f>*", "a b&c:d|e\"<f>*"),
            ("v1.2-rc_3+build", "v1.2-rc_3+build"),
            (".", "%2E"),
            ("..", "%2E."),
            ("", "%00"),
            ("...", "..."),
        ] {
            let branch = GitBranch::new(git);
            let got = EncodedBranch::from_git(&branch);
            assert_eq!(got.as_str(), encoded, "{git}");
            assert_eq!(got.to_git(), branch, "{git}");
        }
    }

    #[test]
    fn a_project_name_can_not_leave_its_path_segment() {
        for bad in ["", "..", "a/b", "a%2Fb", "A", "-a", "a-", &"a".repeat(64)] {
            assert!(ProjectName::new(bad).is_err(), "{bad:?} was let in");
        }
        assert!(ProjectName::new("demo2snmj").is_ok());
    }

    #[test]
    fn a_run_id_is_a_number() {
        for bad in ["", "abc", "1/../2", "-1", "1 "] {
            assert!(RunId::new(bad).is_err(), "{bad:?} was let in");
        }
        assert!(RunId::new("17").is_ok());
    }
}
