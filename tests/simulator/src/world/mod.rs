//! What exists in a simulated installation when it starts: plain data, with builders.
//!
//! Nothing here does anything; `state` turns a world into live state. Two worlds are ready-made: the one of
//! the recordings and the one of the demo.

mod argo;
mod build;
mod demo;
mod recorded;

pub use argo::ArgoScript;
pub use build::{Branch, BuildScript, InputScript, LogScript, Parameter, PipelineKind, PipelineWorld, Stage};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rbac::Role;

/// An installation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct World {
    /// Clusters; the first one is the host.
    pub clusters: Vec<ClusterWorld>,
    /// OAuth clients.
    pub clients: Vec<OauthClient>,
    /// People.
    pub users: Vec<User>,
    /// ServiceAccounts with static tokens.
    pub service_accounts: Vec<ServiceAccount>,
    /// Workspaces.
    pub workspaces: Vec<Workspace>,
    /// Projects, of all clusters.
    pub projects: Vec<Project>,
}

/// One cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterWorld {
    /// Its name in `/clusters/{name}`.
    pub name: String,
    /// The connection is direct to the member's ks-apiserver (finding F-O1: fails differently).
    #[serde(default)]
    pub direct: bool,
}

/// An OAuth client of ks-apiserver.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthClient {
    /// `client_id`
    pub id: String,
    /// `client_secret`
    pub secret: String,
    /// May use the password grant.
    pub trusted: bool,
    /// Its own lifetimes (access, extra for refresh), in seconds.
    #[serde(default)]
    pub lifetimes: Option<(i64, i64)>,
}

/// State of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserState {
    /// May log in.
    #[default]
    Active,
    /// `Account suspended.`
    Disabled,
    /// 429 until unlocked.
    AuthLimitExceeded,
}

/// A person.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Password.
    pub password: String,
    /// May do everything everywhere.
    #[serde(default)]
    pub platform_admin: bool,
    /// State at the start.
    #[serde(default)]
    pub state: UserState,
    /// Annotation `iam.kubesphere.io/granted-clusters`.
    #[serde(default)]
    pub granted_clusters: Vec<String>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl User {
    /// An active, ordinary user.
    pub fn new(name: &str, password: &str) -> Self {
        Self {
            name: name.into(),
            password: password.into(),
            platform_admin: false,
            state: UserState::Active,
            granted_clusters: Vec::new(),
        }
    }

    /// A platform administrator.
    pub fn admin(name: &str, password: &str) -> Self {
        Self {
            platform_admin: true,
            ..Self::new(name, password)
        }
    }

    /// In another state.
    #[must_use]
    pub fn state(mut self, state: UserState) -> Self {
        self.state = state;
        self
    }
}

/// A KubeSphere ServiceAccount; its token has no expiry and survives restarts (contract §1.4).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccount {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ServiceAccount {
    /// The user name that requests with its token carry.
    pub fn user_name(&self) -> String {
        format!("kubesphere:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// A workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// Name.
    pub name: String,
    /// Clusters it is placed on.
    pub clusters: Vec<String>,
    /// Users and their role in the workspace.
    #[serde(default)]
    pub members: BTreeMap<String, Role>,
}

impl Workspace {
    /// A workspace on these clusters.
    pub fn new(name: &str, clusters: &[&str]) -> Self {
        Self {
            name: name.into(),
            clusters: clusters.iter().map(|&c| c.to_owned()).collect(),
            members: BTreeMap::new(),
        }
    }

    /// Adds a member.
    #[must_use]
    pub fn member(mut self, user: &str, role: Role) -> Self {
        self.members.insert(user.into(), role);
        self
    }
}

/// A DevOps project.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Cluster it lives in.
    pub cluster: String,
    /// Workspace it belongs to.
    pub workspace: String,
    /// Short name (`metadata.generateName`).
    pub short_name: String,
    /// Full name; without it, the short name and five characters.
    #[serde(default)]
    pub name: Option<String>,
    /// Annotation `kubesphere.io/creator`.
    #[serde(default)]
    pub creator: Option<String>,
    /// The DevOpsProject carries its workspace label: without it the project exists but is listed nowhere.
    pub labelled: bool,
    /// The namespace carries its workspace label: without it tenants' calls in the namespace are 403 (contract §3.3).
    pub namespace_labelled: bool,
    /// Users and their role in the project.
    #[serde(default)]
    pub members: BTreeMap<String, Role>,
    /// Pipelines.
    #[serde(default)]
    pub pipelines: Vec<PipelineWorld>,
}

impl Project {
    /// A project on the host cluster.
    pub fn new(workspace: &str, short_name: &str) -> Self {
        Self {
            cluster: "host".into(),
            workspace: workspace.into(),
            short_name: short_name.into(),
            name: None,
            creator: None,
            labelled: true,
            namespace_labelled: true,
            members: BTreeMap::new(),
            pipelines: Vec::new(),
        }
    }

    /// With this full name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// On this cluster.
    #[must_use]
    pub fn on(mut self, cluster: &str) -> Self {
        self.cluster = cluster.into();
        self
    }

    /// Created by this user, who gets the full tenant role.
    #[must_use]
    pub fn owned_by(mut self, user: &str) -> Self {
        self.creator = Some(user.into());
        self.member(user, Role::tenant())
    }

    /// Adds a member.
    #[must_use]
    pub fn member(mut self, user: &str, role: Role) -> Self {
        self.members.insert(user.into(), role);
        self
    }

    /// Adds a pipeline.
    #[must_use]
    pub fn pipeline(mut self, pipeline: PipelineWorld) -> Self {
        self.pipelines.push(pipeline);
        self
    }

    /// Exists, but no list shows it.
    #[must_use]
    pub fn unlabelled(mut self) -> Self {
        self.labelled = false;
        self
    }
}

impl World {
    /// One host cluster, the stock OAuth client and an administrator; nothing else.
    pub fn empty() -> Self {
        Self {
            clusters: vec![ClusterWorld {
                name: "host".into(),
                direct: false,
            }],
            clients: vec![OauthClient {
                id: "kubesphere".into(),
                secret: "kubesphere".into(),
                trusted: true,
                lifetimes: None,
            }],
            users: vec![User::admin("admin", "admin-Passw0rd")],
            ..Self::default()
        }
    }

    /// Adds a cluster.
    #[must_use]
    pub fn cluster(mut self, name: &str) -> Self {
        self.clusters.push(ClusterWorld {
            name: name.into(),
            direct: false,
        });
        self
    }

    /// Adds a user.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    /// Adds a workspace.
    #[must_use]
    pub fn workspace(mut self, workspace: Workspace) -> Self {
        self.workspaces.push(workspace);
        self
    }

    /// Adds a project.
    #[must_use]
    pub fn project(mut self, project: Project) -> Self {
        self.projects.push(project);
        self
    }

    /// Adds a ServiceAccount; bind its [`user_name`](ServiceAccount::user_name) to roles like a user's.
    #[must_use]
    pub fn service_account(mut self, namespace: &str, name: &str) -> Self {
        self.service_accounts.push(ServiceAccount {
            namespace: namespace.into(),
            name: name.into(),
        });
        self
    }
}
