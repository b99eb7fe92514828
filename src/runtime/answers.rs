//! A layer of the Kubernetes client: an answer must begin within a time. Single reads and writes are bounded where they
//! are made; this is for the watcher, which waits for the beginning of a list or a watch for ever: on a connection whose
//! other end is gone without a word that is until the kernel gives up, a quarter of an hour later.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::Request;
use kube::client::Body;
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

/// The API server did not answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the API server did not begin to answer within {} s", .0.as_secs())]
pub struct NoAnswer(Duration);

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerWithin(pub Duration);

impl<S> Layer<S> for AnswerWithin {
    type Service = BoundedService<S>;

    fn layer(&self, inner: S) -> BoundedService<S> {
        BoundedService { inner, limit: self.0 }
    }
}

/// A client whose answers begin in time.
#[derive(Clone, Debug)]
pub struct BoundedService<S> {
    inner: S,
    limit: Duration,
}

impl<S> Service<Request<Body>> for BoundedService<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = self.limit;
        timeout(limit, self.inner.call(request))
            .map(move |answer| match answer {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(NoAnswer(limit).into()),
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_does_not_begin_is_an_error_and_one_that_goes_on_is_none() {
        let silent = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<()>, std::convert::Infallible>>()
        });
        let limit = Duration::from_millis(100);
        let error = AnswerWithin(limit)
            .layer(silent)
            .oneshot(Request::new(Body::empty()))
            .await
            .unwrap_err();
        assert!(error.is::<NoAnswer>(), "{error}");
        let prompt = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, std::convert::Infallible>(Response::new(()))
        });
        let answered = AnswerWithin(limit)
            .layer(prompt)
            .oneshot(Request::new(Body::empty()))
            .await;
        assert!(answered.is_ok());
    }
}
