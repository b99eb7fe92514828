//! The way of one request through the proxy.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use kube::{Client, client::Body as KubeBody};

use super::{
    Shared,
    fault::{ApiAction, Refusal},
    request::ApiRequest,
    wire::Scissors,
};

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// What belongs to one connection and is not passed on.
const HOP_BY_HOP: [header::HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::UPGRADE,
    header::HOST,
];

/// Answers a request, with whatever fault is in force for it.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    scissors: Scissors,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    // A client that left in the middle of its request asked for nothing.
    let Ok(body) = body.collect().await else {
        return Ok(cut(&scissors).await);
    };
    let body = body.to_bytes();
    let asked = ApiRequest::of(
        &parts.method,
        parts.uri.path(),
        parts.uri.query().unwrap_or_default(),
    );
    let (action, number) = shared.meet(&asked, &body);
    let answer = match action {
        Some(action) => spoil(&shared, &scissors, &asked, &action, parts, body).await,
        None => match forward(&shared, parts, body).await {
            Ok(answer) => pass(&shared, &scissors, asked.clone(), answer),
            Err(error) => unreachable(&error),
        },
    };
    shared.answered(number, answer.status());
    let counted = answer.map(|body| {
        let piece = move |piece: Frame<Bytes>| {
            shared.received(number, piece.data_ref().map_or(0, Bytes::len));
            piece
        };
        body.map_frame(piece).boxed_unsync()
    });
    Ok(counted)
}

async fn spoil(
    shared: &Arc<Shared>,
    scissors: &Scissors,
    asked: &ApiRequest,
    action: &ApiAction,
    parts: Parts,
    body: Bytes,
) -> Answer {
    let (before, after) = match action {
        ApiAction::RequestLost => return cut(scissors).await,
        ApiAction::Hang => return std::future::pending().await,
        ApiAction::Refuse(refusal) => return refused(refusal),
        ApiAction::WatchError(refusal) => return told_by_the_watch(refusal),
        ApiAction::RequestLate(pause) => (Some(*pause), None),
        ApiAction::AnswerLate(pause) => (None, Some(*pause)),
        ApiAction::AnswerLost | ApiAction::HalfBody | ApiAction::CarriedOutThough(_) => (None, None),
    };
    // A task of its own: the client may leave meanwhile, and this future with it.
    let carrying_out = tokio::spawn({
        let shared = Arc::clone(shared);
        async move {
            if let Some(pause) = before {
                tokio::time::sleep(pause).await;
            }
            let (parts, body) = forward(&shared, parts, body).await?.into_parts();
            Ok::<_, anyhow::Error>((parts, body.collect_bytes().await?))
        }
    });
    let (parts, bytes) = match carrying_out.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return unreachable(&error),
        Err(error) => return unreachable(&error.into()),
    };
    if let Some(pause) = after {
        tokio::time::sleep(pause).await;
    }
    match action {
        ApiAction::AnswerLost => cut(scissors).await,
        ApiAction::CarriedOutThough(refusal) => refused(refusal),
        ApiAction::HalfBody => half(scissors, parts, &bytes),
        _ => {
            let whole = stream::iter([Ok::<_, kube::Error>(Frame::data(bytes))]);
            pass(
                shared,
                scissors,
                asked.clone(),
                Response::from_parts(parts, StreamBody::new(whole)),
            )
        }
    }
}

/// Resets the connection: no answer is ever seen.
async fn cut(scissors: &Scissors) -> Answer {
    scissors.cut();
    std::future::pending().await
}

/// Asks the API server, with the credentials of the proxy.
async fn forward(shared: &Shared, parts: Parts, body: Bytes) -> anyhow::Result<Response<KubeBody>> {
    let client: &Client = &shared.client;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(parts.method)
        .uri(path)
        .body(KubeBody::from(body.to_vec()))?;
    *request.headers_mut() = end_to_end(parts.headers);
    Ok(client.send(request).await?)
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // Whoever asks speaks as the proxy does.
    headers.remove(header::AUTHORIZATION);
    headers
}

/// Passes an answer on piece by piece as it comes, which is what a watch needs.
fn pass<B>(shared: &Arc<Shared>, scissors: &Scissors, asked: ApiRequest, answer: Response<B>) -> Answer
where
    B: hyper::body::Body<Data = Bytes, Error = kube::Error> + Send + Unpin + 'static,
{
    let (mut parts, body) = answer.into_parts();
    parts.headers = end_to_end(parts.headers);
    if asked.verb != "watch" {
        return Response::from_parts(parts, body.map_err(io::Error::other).boxed_unsync());
    }
    let watch = shared.watch_begins(asked, scissors.clone());
    let pieces = stream::unfold((body, watch), async |(mut body, mut watch)| {
        let piece = body.frame().await;
        // Its end is told as little as anything else.
        watch.may_speak().await;
        Some((piece?.map_err(io::Error::other), (body, watch)))
    });
    Response::from_parts(parts, StreamBody::new(pieces).boxed_unsync())
}

fn half(scissors: &Scissors, mut parts: http::response::Parts, bytes: &Bytes) -> Answer {
    parts.headers = end_to_end(parts.headers);
    // The promise is kept by half only.
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let first = stream::iter([Ok(Frame::data(bytes.slice(..bytes.len() / 2)))]);
    let scissors = scissors.clone();
    let end = stream::once(async move {
        // The server sends what it has whenever a body has nothing to give for a moment.
        tokio::task::yield_now().await;
        scissors.cut();
        std::future::pending().await
    });
    Response::from_parts(parts, StreamBody::new(first.chain(end)).boxed_unsync())
}

fn refused(refusal: &Refusal) -> Answer {
    let mut answer = json_answer(refusal.code, refusal.body());
    if let Some(seconds) = refusal.retry_after {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn told_by_the_watch(refusal: &Refusal) -> Answer {
    json_answer(200, refusal.watch_event())
}

/// The proxy itself found no API server.
fn unreachable(error: &anyhow::Error) -> Answer {
    let refusal = Refusal::code(502).saying(&format!("the API server behind the fault proxy: {error:#}"));
    refused(&refusal)
}

fn json_answer(code: u16, body: Vec<u8>) -> Answer {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
