//! Any exchange, taken through the parser its route has: the door for recordings and other tools.

use http::{HeaderMap, Method};

use super::{
    artifact::{self, Artifact},
    jenkins::{self, JenkinsRun},
    json::garbled,
    oauth::{self, Tokens},
    pipeline::{self, Branch, Pipeline},
    project::{self, NamespaceView, Project, Workspace},
    refusal::{Reply, X_JENKINS},
    run::{self, Page, Run, WatchLine},
    stage::{self, Stage, Step},
};
use crate::gateway::{
    error::{ErrorKind, GatewayError, Result, Subject},
    telemetry::RouteClass,
};

/// A success, as the client understands it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// A login.
    Tokens(Tokens),
    /// Our name.
    UserName(String),
    /// Workspaces.
    Workspaces(Vec<Workspace>),
    /// One workspace.
    Workspace(Workspace),
    /// Projects.
    Projects(Vec<Project>),
    /// The namespace behind a project.
    Namespace(NamespaceView),
    /// One pipeline.
    Pipeline(Box<Pipeline>),
    /// Pipelines.
    Pipelines(Vec<Pipeline>),
    /// One branch.
    Branch(Box<Branch>),
    /// Branches.
    Branches(Vec<Branch>),
    /// One run.
    Run(Box<Run>),
    /// Runs.
    Runs(Page<Run>),
    /// A deletion was taken.
    Deleted,
    /// Stages; None while there are none to tell.
    Stages(Option<Vec<Stage>>),
    /// Steps of a stage.
    Steps(Vec<Step>),
    /// A Jenkins build.
    JenkinsRun(Box<JenkinsRun>),
    /// Artifacts.
    Artifacts(Vec<Artifact>),
    /// Bytes of a log or file, of this length.
    Bytes(usize),
    /// A list of Events.
    Events,
    /// What a watch said before it ended.
    Watch(Vec<WatchLine>),
    /// A success of a route the client has no use for.
    Other,
}

/// The route class of a request, where the client has a use for that route. `path` may have a cluster prefix and a query.
pub fn classify(method: &Method, path: &str) -> Option<RouteClass> {
    match shape(method, path) {
        (_, Holds::Unused) => None,
        (class, _) => Some(class),
    }
}

/// What the route's body holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    One,
    Many,
    Stream,
    /// Nothing that the client reads; only its refusals are.
    Unused,
}

fn shape(method: &Method, path: &str) -> (RouteClass, Holds) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let watch = || query.split('&').any(|p| matches!(p, "watch=true" | "watch=1"));
    match known(method, path.trim_matches('/')) {
        Some((RouteClass::Kubernetes, Holds::Many)) if watch() => (RouteClass::Kubernetes, Holds::Stream),
        Some(shape) => shape,
        // What else is asked of Jenkins through the raw proxy is trusted as little as what is used of it.
        None if path.contains("/v1alpha2/") && path.contains("/jenkins/") => {
            (RouteClass::DownloadProxy, Holds::Unused)
        }
        // A route that is not used has no class of its own: it is refused as its nearest kin is, which for v1alpha2 means
        // Jenkins inside a 500, and elsewhere no rule but the common ones.
        None if path.contains("/devops.kubesphere.io/v1alpha2/") => (RouteClass::JenkinsRun, Holds::Unused),
        None => (RouteClass::RunGet, Holds::Unused),
    }
}

fn known(method: &Method, path: &str) -> Option<(RouteClass, Holds)> {
    use Holds::{Many, One};
    use RouteClass as R;
    let all: Vec<&str> = path.split('/').collect();
    let parts = match all.as_slice() {
        ["clusters", _, rest @ ..] | rest => rest,
    };
    let get = method == Method::GET;
    let post = method == Method::POST;
    let delete = method == Method::DELETE;
    Some(match parts {
        ["oauth", "token"] if post => (R::Token, One),
        ["oauth", "userinfo"] if get => (R::UserInfo, One),
        ["kapis", "tenant.kubesphere.io", "v1beta1", "workspaces"] if get => (R::Workspaces, Many),
        ["kapis", "tenant.kubesphere.io", "v1beta1", "workspaces", _] if get => (R::Workspaces, One),
        ["api", "v1", "namespaces", _] if get => (R::Namespace, One),
        ["api", "v1", "namespaces", _, "events"] if get => (R::Events, Many),
        [
            "apis",
            "devops.kubesphere.io",
            "v1alpha3",
            "namespaces",
            _,
            "pipelineruns",
            rest @ ..,
        ] => match rest {
            [] if post => (R::RunCreate, One),
            [] if get => (R::Kubernetes, Many),
            [_] if get => (R::Kubernetes, One),
            [_] if delete => (R::RunDelete, One),
            _ => return None,
        },
        ["kapis", "devops.kubesphere.io", "v1alpha3", rest @ ..] => match rest {
            ["workspaces", _, "namespaces"] if get => (R::Projects, Many),
            ["namespaces", _, "pipelines"] if get => (R::Pipelines, Many),
            ["namespaces", _, "pipelines", _] if get => (R::Pipelines, One),
            ["namespaces", _, "pipelines", _, "branches"] if get => (R::Branches, Many),
            ["namespaces", _, "pipelines", _, "branches", _] if get => (R::Branches, One),
            ["namespaces", _, "pipelines", _, "pipelineruns"] if get => (R::RunList, Many),
            ["namespaces", _, "pipelines", _, "pipelineruns"] if post => (R::RunTrigger, One),
            ["namespaces", _, "pipelineruns", _] if get => (R::RunGet, One),
            ["namespaces", _, "pipelineruns", _] if delete => (R::RunDelete, One),
            ["namespaces", _, "pipelineruns", _, "nodedetails"] if get => (R::Stages, Many),
            ["namespaces", _, "pipelineruns", _, "artifacts", "download"] if get => (R::Download, One),
            _ => return None,
        },
        [
            "kapis",
            "devops.kubesphere.io",
            "v1alpha2",
            "namespaces",
            _,
            rest @ ..,
        ] => match rest {
            ["jenkins", .., "logText", "progressiveText"] | ["jenkins", .., "consoleText"] if get => {
                (R::LogProxy, One)
            }
            ["jenkins", inner @ ..] if get && inner.contains(&"artifact") => (R::DownloadProxy, One),
            ["pipelines", _, "branches", _, "runs", inner @ ..] | ["pipelines", _, "runs", inner @ ..] => {
                match inner {
                    [_] if get => (R::JenkinsRun, One),
                    [_, "stop"] if post => (R::Stop, One),
                    [_, "log"] if get => (R::Log, One),
                    [_, "nodes"] if get => (R::Nodes, Many),
                    [_, "nodes", _, "steps"] if get => (R::Steps, Many),
                    [_, "nodes", _, "steps", _, "log"] if get => (R::StepLog, One),
                    [_, "artifacts"] if get => (R::Artifacts, Many),
                    _ => return None,
                }
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// Takes an exchange through the client's own parsing.
pub fn read(method: &Method, path: &str, status: u16, headers: &HeaderMap, body: &[u8]) -> Result<Answer> {
    let (route, holds) = shape(method, path);
    let write = !matches!(*method, Method::GET | Method::HEAD) && route != RouteClass::Token;
    let what = format!("{method} {}", path.split('?').next().unwrap_or_default());
    let subject = Subject { route, what, write };
    parse(
        &Reply {
            subject: &subject,
            status,
            headers,
            body,
            secrets: &[],
        },
        holds,
    )
}

fn parse(reply: &Reply<'_>, holds: Holds) -> Result<Answer> {
    use RouteClass as R;
    let one = holds == Holds::One;
    if holds == Holds::Unused {
        return match reply.subject.route {
            R::DownloadProxy => proxied(reply),
            _ => reply.accept(),
        }
        .map(|()| Answer::Other);
    }
    Ok(match reply.subject.route {
        R::Token => Answer::Tokens(oauth::tokens(reply)?),
        R::UserInfo => Answer::UserName(oauth::user_name(reply)?),
        R::Workspaces if one => Answer::Workspace(project::workspace(reply)?),
        R::Workspaces => Answer::Workspaces(project::workspaces(reply)?),
        R::Projects => Answer::Projects(project::projects(reply)?),
        R::Namespace => Answer::Namespace(project::namespace(reply)?),
        R::Pipelines if one => Answer::Pipeline(Box::new(pipeline::pipeline(reply)?)),
        R::Pipelines => Answer::Pipelines(pipeline::pipelines(reply)?),
        R::Branches if one => Answer::Branch(Box::new(pipeline::branch(reply)?)),
        R::Branches => Answer::Branches(pipeline::branches(reply)?),
        R::RunCreate | R::RunTrigger | R::RunGet => Answer::Run(Box::new(run::run(reply)?)),
        R::Kubernetes if holds == Holds::Stream => {
            reply.accept()?;
            let lines = reply.body.split(|b| *b == b'\n').filter(|l| !l.is_empty());
            let read: Option<Vec<_>> = lines.map(run::watch_line).collect();
            Answer::Watch(read.ok_or_else(|| garbled(reply))?)
        }
        R::Kubernetes if one => Answer::Run(Box::new(run::run(reply)?)),
        R::RunList | R::Kubernetes => Answer::Runs(run::runs(reply)?),
        R::RunDelete => reply.accept().map(|()| Answer::Deleted)?,
        R::Stages => Answer::Stages(stage::stages(reply)?),
        R::JenkinsRun | R::Stop => Answer::JenkinsRun(Box::new(jenkins::jenkins_run(reply)?)),
        R::Artifacts => Answer::Artifacts(artifact::artifacts(reply)?),
        R::Nodes => Answer::Stages(Some(stage::nodes(reply)?)),
        R::Steps => Answer::Steps(stage::steps(reply)?),
        R::Log | R::StepLog | R::Download => reply.accept().map(|()| Answer::Bytes(reply.body.len()))?,
        R::LogProxy | R::DownloadProxy => proxied(reply).map(|()| Answer::Bytes(reply.body.len()))?,
        R::Events => run::trigger_failure(reply, "").map(|_| Answer::Events)?,
    })
}

/// Trusts an answer of the raw Jenkins proxy only if Jenkins itself gave it: with Jenkins down the proxy says 200 with
/// nothing in it (finding F-H).
pub fn proxied(reply: &Reply<'_>) -> Result<()> {
    reply.accept()?;
    if reply.headers.contains_key(X_JENKINS) {
        return Ok(());
    }
    Err(GatewayError::new(ErrorKind::JenkinsUnavailable, reply.subject)
        .with_status(reply.status)
        .with_remote("the proxy answered instead of Jenkins"))
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
