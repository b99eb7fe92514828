//! The way of a request through ks-apiserver: faults, authentication, cluster dispatch, roles, and on to whoever
//! answers (contract §2).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response};

use crate::call::Call;
use crate::clock;
use crate::clusters::{self, Target};
use crate::control;
use crate::faults::{Cut, FaultAction};
use crate::ledger::RequestRecord;
use crate::listener::Scissors;
use crate::query::{Query, decode};
use crate::rbac::RequestInfo;
use crate::reply::{Chunk, Reply, ReplyBody};
use crate::route::{Found, Gitops, Own, V2, V3};
use crate::server::Shared;
use crate::{apis, gitops, oauth, tenant, v2, v3};

/// A request as far as it can be read without any state.
struct Envelope {
    method: String,
    /// Path and query as sent.
    raw: String,
    /// Segments of the decoded path, cluster prefix removed: `%2F` has become a real slash (contract §2).
    segments: Vec<String>,
    cluster: Option<String>,
    query: Query,
    class: &'static str,
}

const DEVOPS: &str = "devops.kubesphere.io";

/// What passes of a stream that is to be cut in half: it has no end to take the half of.
const STREAM_PART: usize = 300;

impl Envelope {
    fn new(parts: &Parts) -> Self {
        let method = parts.method.as_str().to_owned();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let path = decode(parts.uri.path());
        let all: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        let (cluster, segments) = clusters::split(&all);
        let class = class(
            &method,
            &segments.iter().map(String::as_str).collect::<Vec<_>>(),
            &query,
        );
        Self {
            method,
            raw: parts.uri.to_string(),
            segments,
            cluster,
            query,
            class,
        }
    }
}

/// The name of a request in the ledger and in faults.
fn class(method: &str, segments: &[&str], query: &Query) -> &'static str {
    let found = |class: &'static str| Some(class);
    let known = match segments {
        ["kapis", DEVOPS, "v1alpha3", rest @ ..] => match V3::find(method, rest) {
            Found::Route(_, class, _) => found(class),
            _ => None,
        },
        ["kapis", DEVOPS, "v1alpha2", rest @ ..] => match V2::find(method, rest) {
            Found::Route(_, class, _) => found(class),
            _ => None,
        },
        ["kapis", gitops::GROUP, "v1alpha1", rest @ ..] => match Gitops::find(method, rest) {
            Found::Route(_, class, _) => found(class),
            _ => None,
        },
        ["apis" | "api", ..] => Some(apis::class(method, segments, query)),
        _ => match Own::find(method, segments) {
            Found::Route(_, class, _) => found(class),
            _ => None,
        },
    };
    known.unwrap_or("other")
}

/// Answers a request, with whatever faults are in force.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    scissors: Scissors,
    parts: Parts,
    body: Bytes,
) -> Response<Body> {
    if parts.uri.path().starts_with("/_sim") {
        return control::http::answer(&shared, &parts, &body).into_response();
    }
    let envelope = Envelope::new(&parts);
    let now = clock::now();
    let (identity, fault, number) = {
        let mut state = shared.state();
        let auth = state.auth;
        let drawn = state.dice.draw();
        if drawn.flush {
            state.sessions.flush();
        }
        let identity = state.sessions.authenticate(&parts.headers, &auth, now);
        let user = identity.as_ref().map_or("", |i| i.user.as_str()).to_owned();
        let fault = state
            .faults
            .take(envelope.class, &envelope.method, parts.uri.path(), &user)
            .or(drawn.action);
        let number = shared.ledger.request(RequestRecord {
            number: 0,
            at: now,
            method: envelope.method.clone(),
            path: envelope.raw.clone(),
            class: envelope.class,
            cluster: envelope.cluster.clone().unwrap_or_else(|| "host".into()),
            user,
            status: 0,
            bytes_out: 0,
            faulted: fault.is_some(),
        });
        (identity, fault.unwrap_or_default(), number)
    };
    let held = fault.delay_ms > 0;
    let handling = handle(Handling {
        shared,
        scissors,
        parts,
        body,
        envelope,
        identity,
        fault,
        number,
    });
    if held {
        // Whatever holds a request back carries it out, though the client may have left meanwhile.
        return tokio::spawn(handling)
            .await
            .unwrap_or_else(|_| Response::new(Body::empty()));
    }
    handling.await
}

/// A request that is known to the ledger, and the fault in force for it.
struct Handling {
    shared: Arc<Shared>,
    scissors: Scissors,
    parts: Parts,
    body: Bytes,
    envelope: Envelope,
    identity: Result<oauth::Identity, Reply>,
    fault: FaultAction,
    number: u64,
}

async fn handle(handling: Handling) -> Response<Body> {
    let Handling {
        shared,
        scissors,
        parts,
        body,
        envelope,
        identity,
        fault,
        number,
    } = handling;
    sleep(fault.delay_ms).await;
    if fault.hang {
        std::future::pending::<()>().await;
    }
    if fault.cut == Some(Cut::RequestLost) {
        return cut(&scissors);
    }
    let outcome = (fault.status.is_none() || fault.carried_out).then(|| {
        let outcome = dispatch(&shared, &envelope, &parts, &body, identity);
        // What was handled may have given the controller something to do.
        shared.wake.notify_one();
        outcome
    });
    let mut reply = match (fault.status, outcome) {
        (None, Some(Outcome::Reply(reply))) => *reply,
        (None, _) => std::future::pending().await,
        (Some(status), _) => made_up(status, &fault),
    };
    sleep(u64::try_from(reply.wait).unwrap_or_default() + fault.answer_delay_ms).await;
    if fault.cut == Some(Cut::AnswerLost) {
        return cut(&scissors);
    }
    for (name, value) in &fault.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            reply.headers.insert(name, value);
        }
    }
    let half = fault
        .half_body
        .then(|| reply.bytes().map_or(STREAM_PART, |body| body.len() / 2));
    if let Some(limit) = fault.truncate.or(half) {
        reply = truncated(reply, limit, scissors);
    }
    shared.ledger.amend(number, |r| r.status = reply.status.as_u16());
    counted(reply, &shared, number, envelope.method == "HEAD").into_response()
}

async fn sleep(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn cut(scissors: &Scissors) -> Response<Body> {
    scissors.cut();
    Response::new(Body::empty())
}

fn made_up(status: u16, fault: &FaultAction) -> Reply {
    let guessed = if fault.body.starts_with(['{', '[']) {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    };
    Reply::new(
        status,
        fault.content_type.as_deref().unwrap_or(guessed),
        fault.body.clone(),
    )
}

/// Sends so many bytes, then cuts the connection; a length that was promised stays promised.
pub(crate) fn truncated(mut reply: Reply, limit: usize, scissors: Scissors) -> Reply {
    if let ReplyBody::Full(bytes) = &reply.body {
        reply
            .headers
            .insert(http::header::CONTENT_LENGTH, bytes.len().into());
    }
    let body = std::mem::replace(&mut reply.body, ReplyBody::Full(Bytes::new()));
    let chunks = into_stream(body);
    reply.body = ReplyBody::Stream(limit_stream(chunks, limit, move || scissors.cut()).boxed());
    reply
}

fn limit_stream(
    chunks: impl Stream<Item = Chunk> + Send + 'static,
    limit: usize,
    at_end: impl FnOnce() + Send + 'static,
) -> impl Stream<Item = Chunk> + Send {
    let limited = chunks.scan(limit, |left, chunk| {
        let piece = match chunk {
            Ok(mut bytes) if *left > 0 => {
                bytes.truncate(*left);
                *left -= bytes.len();
                Some(Ok(bytes))
            }
            _ => None,
        };
        std::future::ready(piece)
    });
    let end = stream::once(async move {
        flushed().await;
        at_end();
        Err(std::io::ErrorKind::ConnectionReset.into())
    });
    limited.chain(end)
}

/// Lets the server flush what was sent so far: it does so whenever a body has nothing to give for a moment.
pub(crate) async fn flushed() {
    tokio::task::yield_now().await;
}

fn into_stream(body: ReplyBody) -> futures::stream::BoxStream<'static, Chunk> {
    match body {
        ReplyBody::Full(bytes) | ReplyBody::Chunked(bytes) => stream::iter([Ok(bytes)]).boxed(),
        ReplyBody::Stream(stream) => stream,
    }
}

/// Counts the bytes that go out.
fn counted(mut reply: Reply, shared: &Arc<Shared>, number: u64, head: bool) -> Reply {
    if let Some(bytes) = reply.bytes() {
        let length = if head { 0 } else { bytes.len() as u64 };
        shared.ledger.amend(number, |r| r.bytes_out = length);
        return reply;
    }
    let body = std::mem::replace(&mut reply.body, ReplyBody::Full(Bytes::new()));
    let ledger = shared.ledger.clone();
    let stream = into_stream(body).inspect(move |chunk| {
        if let Ok(bytes) = chunk {
            ledger.amend(number, |r| r.bytes_out += bytes.len() as u64);
        }
    });
    reply.body = ReplyBody::Stream(stream.boxed());
    reply
}

enum Outcome {
    Reply(Box<Reply>),
    Hang,
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

fn dispatch(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    parts: &Parts,
    body: &[u8],
    identity: Result<oauth::Identity, Reply>,
) -> Outcome {
    if parts.uri.path().contains("//") {
        let clean = envelope.raw.replace("//", "/");
        let text = format!("<a href=\"{clean}\">Temporary Redirect</a>.\n\n");
        return Reply::new(307, "text/html; charset=utf-8", text)
            .header("location", &clean)
            .into();
    }
    let identity = match identity {
        Ok(identity) => identity,
        Err(reply) => return reply.into(),
    };
    let now = clock::now();
    let mut state = shared.state();
    for cluster in &mut state.clusters {
        cluster.jenkins.advance(now);
    }
    let segments: Vec<&str> = envelope.segments.iter().map(String::as_str).collect();
    let target = clusters::resolve(&state, envelope.cluster.as_deref());
    let cluster = match target {
        Target::Host => 0,
        Target::Member(index) => index,
        Target::Refused(reply) => return (*reply).into(),
        Target::Hangs => return Outcome::Hang,
    };
    let watch = envelope.query.flag("watch");
    let info = RequestInfo::parse(&envelope.method, &segments, watch);
    let open = segments
        .first()
        .is_some_and(|s| matches!(*s, "oauth" | ".well-known" | "version" | "healthz"));
    if !open && !state.may(&identity.user, &state.clusters[cluster], &info) {
        let path = format!("/{}", segments.join("/"));
        let reply = info.forbidden(&identity.user, &envelope.method, &path);
        return clusters::through(reply, cluster, &state, &segments).into();
    }
    let mut call = Call {
        shared,
        state: &mut state,
        cluster,
        user: identity.user,
        method: &envelope.method,
        query: envelope.query.clone(),
        headers: &parts.headers,
        body,
        now,
    };
    let reply = route(&mut call, &segments, identity.basic);
    clusters::through(reply, cluster, &state, &segments).into()
}

fn route(call: &mut Call<'_>, segments: &[&str], basic: bool) -> Reply {
    match segments {
        ["kapis", group @ (DEVOPS | gitops::GROUP), version, rest @ ..] => {
            if let Some(reply) = clusters::devops_hop(call, group, version) {
                return reply;
            }
            if basic {
                return Reply::unauthorized("Unauthorized: %!s(<nil>)");
            }
            match (*group, *version) {
                (gitops::GROUP, "v1alpha1") => found(Gitops::find(call.method, rest), call, gitops::handle),
                (DEVOPS, "v1alpha3") => found(V3::find(call.method, rest), call, v3::handle),
                (DEVOPS, "v1alpha2") => found(V2::find(call.method, rest), call, v2::handle),
                _ => Reply::restful(404, "404: Page Not Found"),
            }
        }
        ["apis" | "api", ..] => apis::handle(call, segments),
        _ => found(Own::find(call.method, segments), call, own),
    }
}

fn found<R>(found: Found<R>, call: &mut Call<'_>, handle: fn(&mut Call<'_>, R, &[String]) -> Reply) -> Reply {
    match found {
        Found::Route(route, _, taken) => handle(call, route, &taken),
        Found::WrongMethod(allow) => Reply::restful(405, "405: Method Not Allowed").header("allow", &allow),
        Found::None => Reply::restful(404, "404: Page Not Found"),
    }
}

fn own(call: &mut Call<'_>, route: Own, taken: &[String]) -> Reply {
    match route {
        Own::Token => oauth::token(call),
        Own::UserInfo => oauth::userinfo(call),
        Own::Logout => oauth::logout(call),
        Own::WellKnown => oauth::well_known(),
        Own::Version | Own::KapisVersion => tenant::version(),
        Own::Healthz => Reply::new(200, "text/plain; charset=utf-8", "ok"),
        Own::User => tenant::user(call, &taken[0]),
        Own::WorkspaceList => tenant::workspaces(call),
        Own::WorkspaceGet => tenant::workspace(call, &taken[0]),
        Own::WorkspaceClusters => tenant::workspace_clusters(call, &taken[0]),
        Own::TemplateList => tenant::templates(call),
        Own::TemplateGet | Own::OldWorkspaceGet => tenant::template(call, &taken[0]),
        Own::ClusterList => tenant::clusters(call),
        Own::ResourceClusters => tenant::all_clusters(call),
    }
}
