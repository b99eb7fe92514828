//! The hook through which calls are metered. Labels are closed sets: nothing the remote says becomes a label.

use std::time::Duration;

use super::{Class, ErrorKind};

/// Which kind of request this is: the label of metrics and the subject of error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RouteClass {
    /// `POST /oauth/token`
    Token,
    /// `GET /oauth/userinfo`
    UserInfo,
    /// Workspaces, list and get.
    Workspaces,
    /// DevOps projects of a workspace.
    Projects,
    /// One Namespace object, to diagnose a label mismatch.
    Namespace,
    /// Pipelines, list and get.
    Pipelines,
    /// Branches of a multi-branch pipeline.
    Branches,
    /// `/apis` create of a run with a chosen name.
    RunCreate,
    /// kapis POST of a run.
    RunTrigger,
    /// kapis GET of one run.
    RunGet,
    /// kapis list of a pipeline's runs.
    RunList,
    /// Deletion of a run, both routes.
    RunDelete,
    /// Other `/apis` requests (get, list, watch) through the Kubernetes client.
    Kubernetes,
    /// kapis nodedetails.
    Stages,
    /// v1alpha2 GET of one Jenkins build.
    JenkinsRun,
    /// v1alpha2 stop.
    Stop,
    /// Whole-log route of v1alpha2.
    Log,
    /// v1alpha2 nodes: the stages of a build as Jenkins has them now.
    Nodes,
    /// v1alpha2 steps of a stage.
    Steps,
    /// v1alpha2 log of one step.
    StepLog,
    /// progressiveText through the raw Jenkins proxy.
    LogProxy,
    /// v1alpha2 artifact list.
    Artifacts,
    /// v1alpha3 artifact download (buffered on the remote).
    Download,
    /// Artifact through the raw Jenkins proxy (streamed).
    DownloadProxy,
    /// Events of a run.
    Events,
}

impl RouteClass {
    /// Every class, for tables and docs.
    pub const ALL: [Self; 25] = [
        Self::Token,
        Self::UserInfo,
        Self::Workspaces,
        Self::Projects,
        Self::Namespace,
        Self::Pipelines,
        Self::Branches,
        Self::RunCreate,
        Self::RunTrigger,
        Self::RunGet,
        Self::RunList,
        Self::RunDelete,
        Self::Kubernetes,
        Self::Stages,
        Self::JenkinsRun,
        Self::Stop,
        Self::Log,
        Self::Nodes,
        Self::Steps,
        Self::StepLog,
        Self::LogProxy,
        Self::Artifacts,
        Self::Download,
        Self::DownloadProxy,
        Self::Events,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::UserInfo => "userinfo",
            Self::Workspaces => "workspaces",
            Self::Projects => "projects",
            Self::Namespace => "namespace",
            Self::Pipelines => "pipelines",
            Self::Branches => "branches",
            Self::RunCreate => "run_create",
            Self::RunTrigger => "run_trigger",
            Self::RunGet => "run_get",
            Self::RunList => "run_list",
            Self::RunDelete => "run_delete",
            Self::Kubernetes => "kubernetes",
            Self::Stages => "stages",
            Self::JenkinsRun => "jenkins_run",
            Self::Stop => "stop",
            Self::Log => "log",
            Self::Nodes => "nodes",
            Self::Steps => "steps",
            Self::StepLog => "step_log",
            Self::LogProxy => "log_proxy",
            Self::Artifacts => "artifacts",
            Self::Download => "download",
            Self::DownloadProxy => "download_proxy",
            Self::Events => "events",
        }
    }

    /// Answered by Jenkins through ks-devops: errors come as 500 with Jenkins' own body (contract §5.1).
    pub(crate) const fn behind_jenkins(self) -> bool {
        matches!(
            self,
            Self::JenkinsRun
                | Self::Stop
                | Self::Log
                | Self::Nodes
                | Self::Steps
                | Self::StepLog
                | Self::LogProxy
                | Self::Artifacts
                | Self::Download
                | Self::DownloadProxy
        )
    }
}

/// How a call ended, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// An answer that was understood.
    Ok,
    /// An error, by kind.
    Error(ErrorKind),
}

impl CallOutcome {
    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error(kind) => kind.label(),
        }
    }
}

/// The OAuth grant of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// User name and password.
    Password,
    /// A refresh token.
    Refresh,
}

impl Grant {
    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Refresh => "refresh",
        }
    }
}

/// How a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoginOutcome {
    /// A token was issued.
    Ok,
    /// Refused for good: wrong password, client, suspended account, dead refresh token.
    Refused,
    /// Locked out after too many failures.
    LockedOut,
    /// No answer that says anything.
    Failed,
}

impl LoginOutcome {
    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::LockedOut => "locked_out",
            Self::Failed => "failed",
        }
    }
}

/// What meters calls; implemented by `runtime`, which turns it into metrics. Must not block.
pub trait CallObserver: Send + Sync + 'static {
    /// One HTTP exchange ended. `elapsed` is until the headers were there, or until the failure.
    fn call(&self, route: RouteClass, outcome: CallOutcome, elapsed: Duration);
    /// A request waited so long for the budget of its connection.
    fn waited(&self, class: Class, waited: Duration);
    /// From now on nothing is sent, because the gateway wants to be left alone or is not there; or it is again.
    fn held_back(&self, held: bool);
    /// One login was tried.
    fn login(&self, grant: Grant, outcome: LoginOutcome);
    /// The current token was issued now and ends at this time; None when it has no known end.
    fn token(&self, expires_at: Option<jiff::Timestamp>);
}

/// Meters nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl CallObserver for NoObserver {
    fn call(&self, _: RouteClass, _: CallOutcome, _: Duration) {}
    fn waited(&self, _: Class, _: Duration) {}
    fn held_back(&self, _: bool) {}
    fn login(&self, _: Grant, _: LoginOutcome) {}
    fn token(&self, _: Option<jiff::Timestamp>) {}
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_are_distinct() {
        let labels: BTreeSet<_> = RouteClass::ALL.iter().map(|c| c.label()).collect();
        assert_eq!(labels.len(), RouteClass::ALL.len());
    }
}
