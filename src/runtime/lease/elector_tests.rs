//! Electors against an API server that is a function: what each does when another is faster, or answers are lost.

use std::{convert::Infallible, sync::Mutex};

use http::{Method, Request, Response};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use kube::client::Body;
use serde_json::json;
use tokio::sync::Notify;

use super::*;

/// One Lease, with the API server's rules about versions.
#[derive(Default)]
struct Store {
    lease: Mutex<Option<Lease>>,
    mishap: Mutex<Mishap>,
    writes: Mutex<u32>,
    changed: Notify,
}

/// What goes wrong.
#[derive(Clone, Copy, Default, PartialEq)]
enum Mishap {
    #[default]
    Nothing,
    /// No request is answered.
    Silence,
    /// The next write is carried out, and its answer is an error.
    AnswerLost,
}

fn refused(code: u16) -> (u16, serde_json::Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    let status =
        json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": reason});
    (code, status)
}

impl Store {
    fn carry_out(&self, method: &Method, body: &[u8]) -> (u16, serde_json::Value) {
        let mut stored = self.lease.lock().unwrap();
        if method == Method::GET {
            return match &*stored {
                Some(lease) => (200, json!(lease)),
                None => refused(404),
            };
        }
        let mut sent: Lease = serde_json::from_slice(body).unwrap();
        let version = stored.as_ref().map(|l| l.metadata.resource_version.clone());
        match (method, version) {
            (&Method::POST, None) => sent.metadata.uid = Some("u".into()),
            (&Method::POST, Some(_)) => return refused(409),
            (_, None) => return refused(404),
            (_, Some(version)) if version == sent.metadata.resource_version => {}
            (_, Some(_)) => return refused(409),
        }
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        sent.metadata.resource_version = Some(format!("w{writes}"));
        *stored = Some(sent.clone());
        self.changed.notify_waiters();
        let mut mishap = self.mishap.lock().unwrap();
        if *mishap == Mishap::AnswerLost {
            *mishap = Mishap::Nothing;
            return refused(500);
        }
        (200, json!(sent))
    }

    fn client(self: &Arc<Self>) -> Client {
        let store = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let store = store.clone();
            async move {
                if *store.mishap.lock().unwrap() == Mishap::Silence {
                    std::future::pending::<()>().await;
                }
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (code, answer) = store.carry_out(&parts.method, &body);
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn edit(&self, edit: impl FnOnce(&mut Lease)) {
        let mut stored = self.lease.lock().unwrap();
        let lease = stored.as_mut().expect("a lease");
        edit(lease);
        lease.metadata.resource_version = Some("edited".into());
    }

    fn spec(&self) -> LeaseSpec {
        let stored = self.lease.lock().unwrap();
        stored.as_ref().and_then(|l| l.spec.clone()).expect("a spec")
    }

    async fn until_written(&self, times: u32) {
        let end = *self.writes.lock().unwrap() + times;
        loop {
            let changed = self.changed.notified();
            if *self.writes.lock().unwrap() >= end {
                return;
            }
            changed.await;
        }
    }
}

/// A replica, and its fence.
fn replica(store: &Arc<Store>, identity: &str) -> (Elector, Fence) {
    let metrics = Arc::new(Metrics::default());
    let fence = Fence::closed(metrics.clone());
    let place = LeasePlace {
        namespace: "system".into(),
        name: "tenantry".into(),
        identity: identity.into(),
    };
    let times = LeaseTimes {
        duration: Duration::from_secs(60),
        renew_deadline: Duration::from_secs(2),
        retry_period: Duration::from_millis(10),
    };
    let elector = Elector::new(
        store.client(),
        place,
        times,
        fence.clone(),
        metrics,
        Readiness::default(),
    );
    (elector, fence)
}

/// Nothing here takes long: what does, hangs.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), what).await.expect("an end")
}

fn may_write(fence: &Fence) -> bool {
    !fence.left(clock::now()).is_zero()
}

#[tokio::test]
async fn of_those_who_want_a_free_lease_one_gets_it_and_the_next_when_it_is_given_back() {
    for round in 0..20 {
        let store = Arc::new(Store::default());
        let ((mut a, open_a), (mut b, open_b)) = (replica(&store, "a"), replica(&store, "b"));
        let a_leads = soon(async {
            tokio::select! {
                () = a.campaign() => true,
                () = b.campaign() => false,
            }
        })
        .await;
        let (leader, open, mut other, shut) = if a_leads {
            (a, open_a, b, open_b)
        } else {
            (b, open_b, a, open_a)
        };
        assert!(may_write(&open) && !may_write(&shut), "round {round}");
        assert_eq!(
            store.spec().holder_identity.as_deref(),
            Some(&*leader.place.identity)
        );
        let stop = CancellationToken::new();
        let held = tokio::spawn(leader.hold(stop.clone()));
        soon(store.until_written(2)).await;
        assert!(may_write(&open) && !may_write(&shut), "round {round}");

        stop.cancel();
        held.await.unwrap().expect("given back");
        assert!(!may_write(&open));
        assert_eq!(store.spec().holder_identity.as_deref(), Some(""));
        soon(other.campaign()).await;
        assert!(may_write(&shut));
        assert_eq!(store.spec().lease_transitions, Some(1), "round {round}");
    }
}

#[tokio::test]
async fn a_holder_whose_lease_another_took_ends_and_takes_nothing_back() {
    let store = Arc::new(Store::default());
    let (mut elector, fence) = replica(&store, "me");
    soon(elector.campaign()).await;
    store.edit(|lease| lease.spec.get_or_insert_default().holder_identity = Some("other".into()));
    let lost = soon(elector.hold(CancellationToken::new())).await.unwrap_err();
    assert!(lost.to_string().contains("other holds it"), "{lost}");
    assert!(!may_write(&fence));
    assert_eq!(store.spec().holder_identity.as_deref(), Some("other"));
}

#[tokio::test]
async fn a_holder_that_hears_nothing_ends_at_its_deadline() {
    let store = Arc::new(Store::default());
    let (mut elector, fence) = replica(&store, "me");
    soon(elector.campaign()).await;
    *store.mishap.lock().unwrap() = Mishap::Silence;
    let lost = soon(elector.hold(CancellationToken::new())).await.unwrap_err();
    assert!(lost.to_string().contains("was not renewed"), "{lost}");
    assert!(!may_write(&fence));
    assert_eq!(
        store.spec().holder_identity.as_deref(),
        Some("me"),
        "for others to wait for"
    );
}

#[tokio::test]
async fn neither_a_lost_answer_nor_an_edit_nor_a_deletion_costs_the_lease() {
    let store = Arc::new(Store::default());
    *store.mishap.lock().unwrap() = Mishap::AnswerLost;
    let (mut elector, fence) = replica(&store, "me");
    soon(elector.campaign()).await;
    assert_eq!(store.spec().lease_transitions, Some(0), "it was ours already");
    let stop = CancellationToken::new();
    let held = tokio::spawn(elector.hold(stop.clone()));
    soon(store.until_written(2)).await;
    *store.mishap.lock().unwrap() = Mishap::AnswerLost;
    soon(store.until_written(3)).await;
    store.edit(|lease| lease.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into()));
    soon(store.until_written(2)).await;
    let labels = store
        .lease
        .lock()
        .unwrap()
        .as_ref()
        .and_then(|l| l.metadata.labels.clone());
    assert!(labels.is_some(), "what others wrote is kept");
    *store.lease.lock().unwrap() = None;
    soon(store.until_written(2)).await;
    assert!(may_write(&fence) && !held.is_finished());
    stop.cancel();
    held.await.unwrap().expect("given back");
}
