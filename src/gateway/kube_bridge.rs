//! kube's own client on top of our transport, for the `/apis` rungs that need its `Api` and `watcher`.
//!
//! A tower service takes kube's requests through the session, the budget and the redirect rules like any other. kube's
//! TLS, auth and retry layers are not used, so there is one login and one policy.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};
use http::{Method, header};
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    client::Body,
    core::GroupVersionKind,
    runtime::{WatchStreamExt as _, watcher},
};

use super::{
    capabilities::Capability,
    client::{ProjectScope, Scope},
    error::{ErrorKind, GatewayError, Result, Subject},
    exchange::Answered,
    route::{Limit, Request},
    telemetry::RouteClass,
    wire::{refusal::Reply, run, run::Run},
};

/// Longest event of a watch, in bytes: far more than an object may have.
const MAX_LINE: usize = 8 << 20;

/// What happens to the runs of a project. A restart of the watch begins with `Init`: what is not told again between
/// that and `InitDone` is gone.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// A full list begins.
    Init,
    /// A run of the list.
    InitApply(Box<Run>),
    /// The list is complete.
    InitDone,
    /// A run is new or changed.
    Apply(Box<Run>),
    /// A run is gone; its last state.
    Delete(Box<Run>),
}

impl Scope {
    /// A Kubernetes client whose cluster URL is the gateway (with the cluster prefix). It carries the session's current
    /// bearer, spends the connection's budget and does not retry by itself. Must be called inside a tokio runtime.
    ///
    /// Its errors hold a [`GatewayError`] where the answer was not a plain Kubernetes one: see
    /// [`GatewayError::from_kube`].
    pub fn kube_client(&self) -> kube::Client {
        let bridge = Bridge {
            scope: self.clone(),
            watched: None,
        };
        kube::Client::new(bridge, "default")
    }
}

impl ProjectScope {
    /// The project's run objects as kube sees them.
    pub fn runs_api(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("devops.kubesphere.io", "v1alpha3", "PipelineRun");
        let resource = ApiResource::from_gvk_with_plural(&kind, "pipelineruns");
        let bridge = Bridge {
            scope: self.scope.clone(),
            watched: Some(self.clone()),
        };
        let client = kube::Client::new(bridge, self.name.as_str());
        Api::namespaced_with(client, self.name.as_str(), &resource)
    }

    /// Watches the project's runs through `/apis`, for ever: it lists, watches, and starts again when the watch breaks or
    /// is too old, pausing ever longer after errors. Errors are told, so that the caller may leave for a lower rung
    /// (a 403 also goes into [`capabilities`](ProjectScope::capabilities)). Runs come without their Jenkins part.
    pub fn watch_runs(
        &self,
        label_selector: Option<&str>,
    ) -> impl Stream<Item = Result<RunEvent>> + Send + use<> {
        let mut config = watcher::Config::default();
        if let Some(selector) = label_selector {
            config = config.labels(selector);
        }
        let project = self.clone();
        watcher(self.runs_api(), config)
            .default_backoff()
            .map(move |event| {
                let event = event
                    .map_err(|e| watch_failed(e, &project))
                    .and_then(|e| run_event(e, &project));
                // That a watch stands is learnt where it is opened: a quiet project has no events.
                if event.is_err() {
                    project.learn(Capability::WatchRuns, &event);
                }
                event
            })
    }
}

fn run_event(event: watcher::Event<DynamicObject>, project: &ProjectScope) -> Result<RunEvent> {
    let run = |mut object: DynamicObject| {
        object.metadata.managed_fields = None;
        serde_json::to_value(object)
            .and_then(run::run_from_value)
            .map(Box::new)
            .map_err(|_| GatewayError::new(ErrorKind::Garbled, &subject(&watching(project))))
    };
    Ok(match event {
        watcher::Event::Init => RunEvent::Init,
        watcher::Event::InitApply(object) => RunEvent::InitApply(run(object)?),
        watcher::Event::InitDone => RunEvent::InitDone,
        watcher::Event::Apply(object) => RunEvent::Apply(run(object)?),
        watcher::Event::Delete(object) => RunEvent::Delete(run(object)?),
    })
}

fn watch_failed(error: watcher::Error, project: &ProjectScope) -> GatewayError {
    use watcher::Error as W;
    let what = watching(project);
    match error {
        W::InitialListFailed(e) | W::WatchStartFailed(e) | W::WatchFailed(e) => from_kube(e, &what),
        W::WatchError(status) => from_kube(kube::Error::Api(status), &what),
        W::NoResourceVersion => GatewayError::new(ErrorKind::Garbled, &subject(&what))
            .with_remote("a list without resourceVersion"),
    }
}

fn watching(project: &ProjectScope) -> String {
    format!("watch the runs of project {}", project.name)
}

fn subject(what: &str) -> Subject {
    Subject {
        route: RouteClass::Kubernetes,
        what: what.to_owned(),
        write: false,
    }
}

/// A kube error in our terms.
pub(crate) fn from_kube(error: kube::Error, what: &str) -> GatewayError {
    let subject = subject(what);
    match error {
        kube::Error::Service(inner) => match inner.downcast::<GatewayError>() {
            Ok(ours) => ours.about(&subject),
            Err(other) => {
                GatewayError::new(ErrorKind::ConnectionLost, &subject).with_remote(&other.to_string())
            }
        },
        kube::Error::Api(status) => {
            let body = serde_json::json!({"kind": "Status", "message": status.message, "code": status.code});
            let body = body.to_string();
            let headers = http::HeaderMap::new();
            let reply = Reply {
                subject: &subject,
                status: status.code,
                headers: &headers,
                body: body.as_bytes(),
                secrets: &[],
            };
            super::wire::refusal::refusal(&reply)
        }
        kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
            GatewayError::new(ErrorKind::ConnectionLost, &subject).with_remote(&error.to_string())
        }
        // What a parser says may quote what it read.
        kube::Error::SerdeError(_)
        | kube::Error::FromUtf8(_)
        | kube::Error::LinesCodecMaxLineLengthExceeded => GatewayError::new(ErrorKind::Garbled, &subject),
        other => GatewayError::new(ErrorKind::BadRequestForm, &subject).with_remote(&other.to_string()),
    }
}

#[derive(Clone)]
struct Bridge {
    scope: Scope,
    /// The project whose right to watch is learnt on the way.
    watched: Option<ProjectScope>,
}

type Carried = std::result::Result<http::Response<reqwest::Body>, tower::BoxError>;

impl tower::Service<http::Request<Body>> for Bridge {
    type Response = http::Response<reqwest::Body>;
    type Error = tower::BoxError;
    type Future = Pin<Box<dyn Future<Output = Carried> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Poll::Ready(Ok(())) // the budget is waited for in the call
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let bridge = self.clone();
        Box::pin(async move { bridge.carry(request).await })
    }
}

impl Bridge {
    async fn carry(self, request: http::Request<Body>) -> Carried {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let watching = query.split('&').any(|p| matches!(p, "watch=true" | "watch=1"));
        let what = format!("{} {}", parts.method.as_str().to_lowercase(), parts.uri.path());
        let mut ours = Request::get(RouteClass::Kubernetes, parts.uri.path(), what);
        ours.subject.write = !matches!(parts.method, Method::GET | Method::HEAD);
        ours.query = query;
        ours.method = parts.method;
        ours.headers = parts.headers;
        ours.headers.remove(header::AUTHORIZATION);
        ours.headers.remove(header::HOST);
        ours.body = Some(body.collect_bytes().await?).filter(|b| !b.is_empty());
        ours.limit = if watching { Limit::Watch } else { Limit::Json };

        let whole = match self.scope.send(ours).await? {
            Answered::Success(answer) if watching => {
                if let Some(project) = &self.watched {
                    project.learn(Capability::WatchRuns, &Ok(()));
                }
                let (status, headers, body) = answer.into_parts();
                // kube keeps a line until it ends, however long.
                let pieces = futures::stream::try_unfold((body, 0), |(mut body, line)| async move {
                    let Some(piece) = body.next().await? else {
                        return Ok(None);
                    };
                    let line = match piece.iter().rposition(|byte| *byte == b'\n') {
                        Some(end) => piece.len() - end - 1,
                        None => line + piece.len(),
                    };
                    if line > MAX_LINE {
                        return Err(GatewayError::new(ErrorKind::TooLarge, body.subject()));
                    }
                    Ok(Some((piece, (body, line))))
                });
                return Ok(response(status, &headers, reqwest::Body::wrap_stream(pieces)));
            }
            answered => answered.whole().await?,
        };
        let json = serde_json::from_slice::<Typed>(&whole.body);
        let error = match whole.reply().accept() {
            // kube logs a body that it cannot read, and a run's body holds parameter values: so it never gets to see one.
            Ok(()) if json.is_err() => super::wire::json::garbled(&whole.reply()),
            Ok(()) if super::wire::json::is_crowded(&whole.body) => {
                GatewayError::new(ErrorKind::TooLarge, &whole.subject)
            }
            Ok(()) => return Ok(response(whole.status, &whole.headers, whole.body.into())),
            Err(error) => error,
        };
        // A plain Kubernetes refusal is kube's business (404, 409, 410 steer its watcher); all else is ours.
        let plain = json.is_ok_and(|j| j.kind == "Status");
        if plain && !whole.quotes_a_secret() {
            return Ok(response(whole.status, &whole.headers, whole.body.into()));
        }
        Err(error.into())
    }
}

/// Any Kubernetes object or list.
#[derive(serde::Deserialize)]
struct Typed {
    #[serde(default)]
    kind: String,
}

fn response(status: u16, headers: &http::HeaderMap, body: reqwest::Body) -> http::Response<reqwest::Body> {
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

#[cfg(test)]
#[path = "kube_bridge_tests.rs"]
mod tests;
