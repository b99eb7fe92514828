//! The handles callers hold: a connection, a cluster in it, a project in that.
use jiff::Timestamp;

use super::{
    capabilities::Capabilities,
    config::GatewayConfig,
    error::Result,
    names::ProjectName,
    projects::ProjectDiagnosis,
    wire::project::{Project, Workspace},
};

/// A connection to one gateway as one user. Cheap to clone; all clones share session, budget and memory.
#[derive(Clone)]
pub struct Gateway {}

/// Who we are logged in as, for the connection's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The user's name.
    pub user: String,
    /// When the token ends; None for a static token.
    pub expires_at: Option<Timestamp>,
}

impl Gateway {
    /// Sets up a connection; nothing is sent yet.
    pub fn new(config: GatewayConfig) -> Result<Self> {
        let _ = config;
        todo!()
    }

    /// Makes sure that we are logged in, and says as whom: the way to check credentials.
    pub async fn session(&self) -> Result<SessionInfo> {
        todo!()
    }

    /// The user's name, as the remote writes it into runs. Asked once, then remembered.
    pub async fn user_name(&self) -> Result<String> {
        todo!()
    }

    /// A cluster behind the gateway; None is the one the gateway itself is in.
    pub fn scope(&self, cluster: Option<&str>) -> Scope {
        let _ = cluster;
        todo!()
    }

    /// What is known about the rungs over all projects: yes if it worked somewhere, else no if it was refused anywhere.
    pub fn capabilities(&self) -> Capabilities {
        todo!()
    }
}

/// One cluster behind a gateway.
#[derive(Clone)]
pub struct Scope {}

impl Scope {
    /// The workspaces the user is bound to.
    pub async fn workspaces(&self) -> Result<Vec<Workspace>> {
        todo!()
    }

    /// One workspace. A foreign one may be readable too: this proves existence, not membership (finding F-B).
    pub async fn workspace(&self, name: &str) -> Result<Workspace> {
        let _ = name;
        todo!()
    }

    /// The projects of a workspace that the user may see.
    pub async fn projects(&self, workspace: &str) -> Result<Vec<Project>> {
        let _ = workspace;
        todo!()
    }

    /// Why a project is not in the list, as far as can be found out.
    pub async fn diagnose_project(&self, workspace: &str, name: &str) -> Result<ProjectDiagnosis> {
        let _ = (workspace, name);
        todo!()
    }

    /// A project by its full name.
    pub fn project(&self, name: &ProjectName) -> ProjectScope {
        let _ = name;
        todo!()
    }
}

/// One DevOps project.
#[derive(Clone)]
pub struct ProjectScope {}

impl ProjectScope {
    /// Its full name.
    pub fn name(&self) -> &ProjectName {
        todo!()
    }

    /// What is known about the rungs here.
    pub fn capabilities(&self) -> Capabilities {
        todo!()
    }
}
