//! The run's files at the gateway: which there are, and why one cannot be had. Used by the controller too, for what goes
//! into ConfigMaps.

use crate::{
    api::conditions::Reason,
    gateway::{ErrorClass, ErrorKind, GatewayError, Known, ProjectScope, RunRef},
    sinks::selection::RemoteFile,
    trouble::Trouble,
};

/// A run that ended.
#[derive(Clone, Copy)]
pub struct RemoteRun<'a> {
    /// Its project.
    pub project: &'a ProjectScope,
    /// Where Jenkins keeps it.
    pub run: &'a RunRef,
    /// Name of the PipelineRun, where there is one.
    pub name: Option<&'a str>,
    /// For messages.
    pub revision: &'a str,
}

impl RemoteRun<'_> {
    /// Its archived files.
    pub async fn list(&self) -> Result<Vec<RemoteFile>, Trouble> {
        let listed = self.project.artifacts(self.run).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Trouble::user(
                Reason::RunNotFound,
                format!(
                    "Jenkins has no build {} any more: its files cannot be fetched; what was stored before stays. Ask for a \
                     rerun, or name another run",
                    self.revision
                ),
            ),
            _ => error.into(),
        })?;
        Ok(listed
            .into_iter()
            .map(|artifact| RemoteFile {
                path: artifact.path,
                size: artifact.size,
            })
            .collect())
    }

    /// Why a file that was listed could not be had.
    pub async fn not_had(&self, path: &str, error: GatewayError) -> Trouble {
        let refused = matches!(self.project.capabilities().jenkins_proxy, Known::No { .. });
        let out_of_reach = match self.name {
            None => error.class() == ErrorClass::Denied,
            Some(name) => refused && error.kind() == ErrorKind::NotFound && self.is_gone(name).await,
        };
        let revision = self.revision;
        if out_of_reach {
            return Trouble::user(
                Reason::AccessDenied,
                format!(
                    "{path:?} of {revision} cannot be fetched: the PipelineRun is gone, and the tenant may not use the raw \
                     Jenkins proxy: ask for the right to get jenkins in project {}, or for a rerun",
                    self.project.name()
                ),
            );
        }
        match error.kind() {
            ErrorKind::NotFound => Trouble::passing(
                Reason::RemoteUnavailable,
                format!("{path:?} of {revision} was listed, but is not there: {error}"),
            ),
            _ => error.into(),
        }
    }

    /// Whether the run object is known to be gone.
    async fn is_gone(&self, name: &str) -> bool {
        let answer = self.project.run(name).await;
        answer.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }
}

/// A file ended before its listed size.
pub fn short(path: &str, received: u64, listed: u64) -> Trouble {
    Trouble::passing(
        Reason::RemoteUnavailable,
        format!("{path:?} ended after {received} of {listed} bytes; it is tried again"),
    )
}

/// More came of a file than may.
pub fn too_long(path: &str, limit: u64) -> Trouble {
    Trouble::user(
        Reason::ArtifactsTooLarge,
        format!(
            "{path:?} is larger than the {limit} bytes that its run lists or that are left: it was cut off and nothing is \
             stored; match fewer files"
        ),
    )
}

/// A file is not what `verify` asks for.
pub fn other_digest(path: &str, revision: &str, digest: &str, wanted: &str) -> Trouble {
    Trouble::user(
        Reason::DigestMismatch,
        format!(
            "{path:?} of {revision} has sha256 {digest}, verify asks for {wanted}: nothing is stored; correct spec.verify, or \
             build again"
        ),
    )
}
