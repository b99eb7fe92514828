//! "May I write now?", asked right before each write: to Kubernetes by a layer of its client, to the gateway by its
//! transport. It is answered from memory, by our own clock, so it also holds in a process that was stopped for minutes
//! and has not yet looked at anything.
//!
//! What remains is a pause between the answer and the packet: a process that is stopped exactly there, for longer than
//! what is left of the Lease, sends one write when it wakes. `docs/high-availability.md` says why that is harmless.

use std::{
    future::{Future as _, poll_fn, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{Method, Request};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use super::clock;
use crate::{gateway::WriteGate, runtime::metrics::Metrics};

/// Never by the clock.
const FOR_EVER: u64 = u64::MAX;

/// Says whether this process may write. All clones are the same.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Nanoseconds since boot.
    open_until: AtomicU64,
    metrics: Arc<Metrics>,
}

/// A write that was stopped, because this process does not hold the Lease (any more).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("stopped: this replica does not hold the lease any more, so it may not write")]
pub struct Fenced;

impl Fenced {
    /// Whether this is why a call to the API server failed.
    pub fn caused(error: &kube::Error) -> bool {
        matches!(error, kube::Error::Service(inner) if inner.is::<Self>())
    }
}

impl Fence {
    /// A fence that lets nothing through yet.
    pub fn closed(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            open_until: AtomicU64::new(0),
            metrics,
        }))
    }

    /// Lets everything through for ever: there is only one replica.
    pub fn open_for_ever(&self) {
        self.0.open_until.store(FOR_EVER, SeqCst);
    }

    /// Lets everything through until `time` (since boot).
    pub(super) fn open_until(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(FOR_EVER - 1);
        self.0.open_until.store(nanos, SeqCst);
    }

    /// Lets nothing through any more.
    pub(super) fn close(&self) {
        self.0.open_until.store(0, SeqCst);
    }

    /// How long it is still open at `now`; zero where it is closed.
    pub(super) fn left(&self, now: Duration) -> Duration {
        Duration::from_nanos(self.0.open_until.load(SeqCst)).saturating_sub(now)
    }

    fn is_open(&self) -> bool {
        !self.left(clock::now()).is_zero()
    }

    fn refuse(&self, target: &'static str, what: &str) {
        self.0.metrics.lease.write_fenced(target);
        tracing::warn!(target_system = target, "{what}: {Fenced}");
    }
}

/// As a layer of the Kubernetes client: reads go through, writes only while the fence is open.
impl<S> Layer<S> for Fence {
    type Service = FencedService<S>;

    fn layer(&self, inner: S) -> FencedService<S> {
        FencedService {
            inner,
            fence: self.clone(),
        }
    }
}

/// A client behind the fence.
#[derive(Clone, Debug)]
pub struct FencedService<S> {
    inner: S,
    fence: Fence,
}

impl<S> Service<Request<Body>> for FencedService<S>
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
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return self.inner.call(request).map(|r| r.map_err(Into::into)).boxed();
        }
        let what = format!("{} {}", request.method(), request.uri().path());
        if !self.fence.is_open() {
            self.fence.refuse("kubernetes", &what);
            return ready(Err(Fenced.into())).boxed();
        }
        let fence = self.fence.clone();
        let mut answer = Box::pin(self.inner.call(request));
        // Asked at each step: what waits for a connection when the process is stopped is not sent when it wakes.
        poll_fn(move |cx| {
            if !fence.is_open() {
                fence.refuse("kubernetes", &what);
                return Poll::Ready(Err(Fenced.into()));
            }
            answer.as_mut().poll(cx).map_err(Into::into)
        })
        .boxed()
    }
}

impl WriteGate for Fence {
    fn may_write(&self, what: &str) -> bool {
        let open = self.is_open();
        if !open {
            self.refuse("gateway", what);
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    async fn sent(fence: &Fence, method: Method) -> Result<(), BoxError> {
        let service = fence.layer(service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(()) }));
        let request = Request::builder().method(method).uri("/api/v1/x");
        service.oneshot(request.body(Body::empty()).unwrap()).await
    }

    /// A write that waits, such as for a connection.
    #[tokio::test]
    async fn a_write_that_is_under_way_is_stopped_with_its_next_step() {
        let fence = Fence::closed(Arc::default());
        fence.open_for_ever();
        let (go, gone) = tokio::sync::oneshot::channel();
        let mut gone = Some(gone);
        let service = fence.layer(service_fn(move |_: Request<Body>| {
            let gone = gone.take().expect("one request");
            async move { gone.await.map_err(BoxError::from) }
        }));
        let request = Request::builder().method(Method::POST).uri("/api/v1/x");
        let mut write = Box::pin(service.oneshot(request.body(Body::empty()).unwrap()));
        assert!(futures::poll!(write.as_mut()).is_pending());
        fence.close();
        go.send(()).expect("somebody waits");
        let error = write.await.expect_err("stopped");
        assert!(Fenced::caused(&kube::Error::Service(error)));
    }

    /// What it is, how it comes to be, and whether writes pass then.
    type Case<'a> = (&'a str, &'a dyn Fn(&Fence), bool);

    #[tokio::test]
    async fn writes_pass_while_it_is_open_and_reads_always() {
        let metrics = Arc::new(Metrics::default());
        let fence = Fence::closed(metrics.clone());
        let past = |fence: &Fence| fence.open_until(clock::now().saturating_sub(Duration::from_nanos(1)));
        let cases: [Case<'_>; 5] = [
            ("not yet", &|_| {}, false),
            ("for ever", &Fence::open_for_ever, true),
            (
                "held",
                &|f| f.open_until(clock::now() + Duration::from_secs(60)),
                true,
            ),
            ("held for too long", &past, false),
            ("released", &Fence::close, false),
        ];
        for (name, set, open) in cases {
            set(&fence);
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let result = sent(&fence, method.clone()).await;
                assert_eq!(result.is_ok(), open, "{name}: {method}");
                if let Err(error) = result {
                    assert!(Fenced::caused(&kube::Error::Service(error)), "{name}");
                }
            }
            for method in [Method::GET, Method::HEAD] {
                assert!(sent(&fence, method.clone()).await.is_ok(), "{name}: {method}");
            }
            assert_eq!(fence.may_write("start a run"), open, "{name}");
        }
        let text = metrics.render();
        for line in [
            "tenantry_fenced_writes_total{target=\"kubernetes\"} 12",
            "tenantry_fenced_writes_total{target=\"gateway\"} 3",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
