//! The handles callers hold: a connection, a cluster in it, a project in that. And the one way every request takes:
//! bearer, budget, a second try where that is safe.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::{
    capabilities::{Capabilities, Capability},
    config::{Credentials, GatewayConfig},
    error::{ErrorKind, GatewayError, Result},
    exchange::{Answered, Whole},
    names::ProjectName,
    projects::ProjectDiagnosis,
    purpose::Purpose,
    route::{Request, V3, segment},
    session::Session,
    telemetry::RouteClass,
    transport::Transport,
    wire::{
        oauth,
        project::{self, Project, Workspace},
    },
};

/// A connection to one gateway as one user. Cheap to clone; all clones share session, budget and memory.
#[derive(Clone)]
pub struct Gateway {
    connection: Arc<Connection>,
    purpose: Purpose,
}

pub(crate) struct Connection {
    transport: Transport,
    session: Session,
    user: Mutex<Option<String>>,
    capabilities: Mutex<HashMap<Place, Capabilities>>,
}

/// A project in a cluster: where capabilities are granted.
type Place = (Option<String>, ProjectName);

/// Who we are logged in as, for the connection's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The user's name.
    pub user: String,
    /// When the token ends; None if it is not known to end.
    pub expires_at: Option<Timestamp>,
}

impl Gateway {
    /// Sets up a connection; nothing is sent yet.
    pub fn new(config: GatewayConfig) -> Result<Self> {
        let inline_ca = match &config.credentials {
            Credentials::Kubeconfig(kubeconfig) => kubeconfig.ca_pem.clone(),
            Credentials::Password { .. } | Credentials::Token(_) => None,
        };
        let ca_pem = config.tls.ca_pem.clone().or(inline_ca);
        let transport = Transport::new(&config, ca_pem.as_deref())?;
        let GatewayConfig {
            credentials,
            session,
            observer,
            ..
        } = config;
        let session = Session::new(credentials, session, observer);
        let connection = Connection {
            transport,
            session,
            user: Mutex::default(),
            capabilities: Mutex::default(),
        };
        Ok(Self {
            connection: Arc::new(connection),
            purpose: Purpose::default(),
        })
    }

    /// The same, for this purpose: what is asked by it, and by all that comes of it, is asked on that object's behalf.
    #[must_use]
    pub fn on_behalf_of(&self, purpose: Purpose) -> Self {
        Self {
            connection: self.connection.clone(),
            purpose,
        }
    }

    /// Makes sure that we are logged in, and says as whom: the way to check credentials. A fixed token is checked too,
    /// by asking the gateway whose it is.
    pub async fn session(&self) -> Result<SessionInfo> {
        let connection = &self.connection;
        let bearer = connection.session.bearer(&connection.transport).await?;
        if !connection.session.renewable() {
            let asked = connection.ask_user_name().await;
            // A service account may not be known to this route; what counts is that the token was let in.
            if let Err(error) = asked.map(|name| connection.remember_user(name))
                && !matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::RouteMissing | ErrorKind::Forbidden
                )
            {
                return Err(error);
            }
        }
        Ok(SessionInfo {
            user: self.user_name().await?,
            expires_at: bearer.expires,
        })
    }

    /// The user's name as the remote writes it into runs: the token's `sub`, which is what ks-devops itself reads
    /// (contract §1.3), else what `/oauth/userinfo` says, else the configured name. Remembered.
    pub async fn user_name(&self) -> Result<String> {
        let connection = &self.connection;
        if let Some(name) = connection.known_user() {
            return Ok(name);
        }
        let bearer = connection.session.bearer(&connection.transport).await?;
        if let Some(name) = oauth::claims(bearer.access.expose_secret()).user {
            return Ok(connection.remember_user(name));
        }
        match (
            connection.ask_user_name().await,
            connection.session.configured_user(),
        ) {
            (Ok(name), _) => Ok(connection.remember_user(name)),
            (Err(error), Some(name)) if error.kind() == ErrorKind::RouteMissing => Ok(name.to_owned()),
            (Err(error), _) => Err(error),
        }
    }

    /// Which gateway this is: the endpoint's scheme, host, port and path, however it was written down.
    pub fn endpoint(&self) -> String {
        self.connection
            .transport
            .endpoint()
            .as_str()
            .trim_end_matches('/')
            .to_owned()
    }

    /// A cluster behind the gateway; None is the one the gateway itself is in.
    pub fn scope(&self, cluster: Option<&str>) -> Scope {
        let cluster = cluster.filter(|c| !c.is_empty()).map(str::to_owned);
        let prefix = cluster
            .as_ref()
            .map(|c| format!("/clusters/{}", segment(c)))
            .unwrap_or_default();
        Scope {
            connection: self.connection.clone(),
            purpose: self.purpose.clone(),
            prefix,
            cluster,
        }
    }

    /// What is known about the rungs over all projects: yes if it worked somewhere, else no if it was refused anywhere.
    pub fn capabilities(&self) -> Capabilities {
        self.connection
            .lock_capabilities()
            .values()
            .fold(Capabilities::default(), Capabilities::or)
    }
}

impl Connection {
    /// Sends a request with the current bearer and waits for the headers of a success, or for all of a refusal. A 401 of
    /// the gateway logs in again, once: it says for certain that nothing was carried out, so this is safe for writes
    /// too. A read whose connection broke is sent once more.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answered> {
        let mut bearer = self.session.bearer(&self.transport).await?;
        let mut relogin = self.session.renewable();
        let mut resend = !request.subject.write;
        loop {
            let secrets = self.session.secrets(&bearer);
            match self.transport.send(request, Some(&bearer.access), &secrets).await {
                Ok(Answered::Refused(whole)) if whole.rejects_the_token() => {
                    let error = whole.refusal();
                    self.session.reject(&bearer, &error);
                    if !std::mem::take(&mut relogin) {
                        return Err(error);
                    }
                    bearer = self.session.bearer(&self.transport).await?;
                }
                Ok(answered) => {
                    bearer.mark_accepted();
                    return Ok(answered);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::ConnectFailed) =>
                {
                    if !std::mem::take(&mut resend) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// [`send`](Self::send), with the whole body, of a refusal too.
    pub(crate) async fn exchange(&self, request: &Request) -> Result<Whole> {
        self.send(request).await?.whole().await
    }

    async fn ask_user_name(&self) -> Result<String> {
        let request = Request::get(RouteClass::UserInfo, "/oauth/userinfo", "ask who we are");
        oauth::user_name(&self.exchange(&request).await?.reply())
    }

    fn known_user(&self) -> Option<String> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember_user(&self, name: String) -> String {
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.clone());
        name
    }

    fn lock_capabilities(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Capabilities>> {
        self.capabilities.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One cluster behind a gateway.
#[derive(Clone)]
pub struct Scope {
    connection: Arc<Connection>,
    purpose: Purpose,
    prefix: String,
    cluster: Option<String>,
}

impl Scope {
    /// The workspaces the user is bound to.
    pub async fn workspaces(&self) -> Result<Vec<Workspace>> {
        let path = "/kapis/tenant.kubesphere.io/v1beta1/workspaces";
        let request = Request::get(RouteClass::Workspaces, path, "list workspaces");
        project::workspaces(&self.exchange(request).await?.reply())
    }

    /// One workspace. A foreign one may be readable too: this proves existence, not membership (finding F-B).
    pub async fn workspace(&self, name: &str) -> Result<Workspace> {
        let path = format!("/kapis/tenant.kubesphere.io/v1beta1/workspaces/{}", segment(name));
        let request = Request::get(RouteClass::Workspaces, path, format!("get workspace {name:?}"));
        project::workspace(&self.exchange(request).await?.reply())
    }

    /// The projects of a workspace that the user may see.
    pub async fn projects(&self, workspace: &str) -> Result<Vec<Project>> {
        let path = format!("{V3}/workspaces/{}/namespaces", segment(workspace));
        let what = format!("list the projects of workspace {workspace:?}{self}");
        project::projects(
            &self
                .exchange(Request::get(RouteClass::Projects, path, what))
                .await?
                .reply(),
        )
    }

    /// Why a project is not in the list, as far as its own namespace tells (contract §3.3). `name` is the full name; for
    /// anything that cannot be one the answer is `NotReadable`.
    pub async fn diagnose_project(&self, workspace: &str, name: &str) -> Result<ProjectDiagnosis> {
        let Ok(name) = ProjectName::new(name) else {
            return Ok(ProjectDiagnosis::NotReadable);
        };
        let path = format!("/api/v1/namespaces/{name}");
        let request = Request::get(
            RouteClass::Namespace,
            path,
            format!("get the namespace of project {name}{self}"),
        );
        let whole = self.exchange(request).await?;
        match project::namespace(&whole.reply()) {
            Ok(view) if view.workspace.as_deref() == Some(workspace) => Ok(ProjectDiagnosis::NotListed),
            Ok(view) => Ok(ProjectDiagnosis::LabelMismatch {
                label: view.workspace,
            }),
            Err(e) if matches!(e.kind(), ErrorKind::Forbidden | ErrorKind::NotFound) => {
                Ok(ProjectDiagnosis::NotReadable)
            }
            Err(error) => Err(error),
        }
    }

    /// A project by its full name.
    pub fn project(&self, name: &ProjectName) -> ProjectScope {
        ProjectScope {
            scope: self.clone(),
            name: name.clone(),
        }
    }

    pub(crate) async fn exchange(&self, request: Request) -> Result<Whole> {
        self.connection.exchange(&self.prefixed(request)).await
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Answered> {
        self.connection.send(&self.prefixed(request)).await
    }

    fn prefixed(&self, mut request: Request) -> Request {
        request.path.insert_str(0, &self.prefix);
        request.purpose = self.purpose.clone();
        request
    }
}

impl std::fmt::Display for Scope {
    /// Ends a description: ` in cluster "x"`, or nothing for the gateway's own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.cluster {
            Some(cluster) => write!(f, " in cluster {cluster:?}"),
            None => Ok(()),
        }
    }
}

/// One DevOps project.
#[derive(Clone)]
pub struct ProjectScope {
    pub(crate) scope: Scope,
    pub(crate) name: ProjectName,
}

impl ProjectScope {
    /// Its full name.
    pub fn name(&self) -> &ProjectName {
        &self.name
    }

    /// The same, for another purpose; see [`Gateway::on_behalf_of`].
    #[must_use]
    pub fn on_behalf_of(&self, purpose: Purpose) -> Self {
        let mut other = self.clone();
        other.scope.purpose = purpose;
        other
    }

    /// The cluster it is in.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What tells it from others as long as it is held: the connection with its session, the cluster, the name.
    pub fn identity(&self) -> (usize, Option<String>, ProjectName) {
        let connection = Arc::as_ptr(&self.scope.connection) as usize;
        (connection, self.scope.cluster.clone(), self.name.clone())
    }

    /// What is known about the rungs here.
    pub fn capabilities(&self) -> Capabilities {
        let place = self.place();
        self.scope
            .connection
            .lock_capabilities()
            .get(&place)
            .copied()
            .unwrap_or_default()
    }

    /// Remembers what the outcome of a call tells about a rung: a success or a 403 does, anything else does not.
    pub(crate) fn learn<T>(&self, capability: Capability, outcome: &Result<T>) {
        let granted = match outcome {
            Ok(_) => true,
            Err(error) => match error.kind() {
                ErrorKind::Forbidden => false,
                // These are said by who is behind the check.
                ErrorKind::NotFound | ErrorKind::Conflict => true,
                _ => return,
            },
        };
        let mut all = self.scope.connection.lock_capabilities();
        all.entry(self.place())
            .or_default()
            .set(capability, granted, Timestamp::now());
    }

    /// Whether a rung is worth trying now.
    pub(crate) fn may_try(&self, capability: Capability) -> bool {
        self.capabilities().get(capability).worth_trying(Timestamp::now())
    }

    fn place(&self) -> Place {
        (self.scope.cluster.clone(), self.name.clone())
    }
}

impl GatewayError {
    /// What a kube call through [`Scope::kube_client`] ended in, in our own terms.
    pub fn from_kube(error: kube::Error, what: &str) -> Self {
        super::kube_bridge::from_kube(error, what)
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
