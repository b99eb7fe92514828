//! A loop whose API server is a function and whose reconciler does what the test says.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::timeout,
};

use super::{Bell, Env, ReconcileError, Reconciler, Requeue, run::Loop};
use crate::{
    api::{FINALIZER, SETTLED, TenantConnection},
    runtime::{
        backoff::{BackoffPolicy, Backoffs},
        events::Announcer,
        glimpse::Glimpse,
        health::Readiness,
        kind::{Kind, ObjectKey},
        metrics::Metrics,
        references::Reference,
        shard::Shard,
        shutdown::Shutdown,
        watches::{Seen, Sighting, channel},
    },
};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a reconcile does, by the name of its object.
type Behaviour = Box<dyn Fn(&str, usize) -> Act + Send + Sync>;

pub enum Act {
    Then(Requeue),
    Fail,
    Panic,
    /// Waits until the test says go.
    Hold,
}

/// A reconciler that does what the test says and counts.
struct Script {
    behaviour: Behaviour,
    log: Arc<Log>,
}

/// What happened, for the test to wait on.
#[derive(Default)]
pub struct Log {
    pub begun: Mutex<Vec<String>>,
    pub running: AtomicUsize,
    pub most: AtomicUsize,
    pub gone: Mutex<Vec<ObjectKey>>,
    pub requests: Mutex<Vec<(Method, String, Value)>>,
    pub changed: Notify,
    /// One permit lets one reconcile go that holds.
    pub go: Gate,
}

pub struct Gate(pub Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Log {
    pub fn count(&self, name: &str) -> usize {
        self.begun.lock().unwrap().iter().filter(|n| *n == name).count()
    }

    /// Waits until `done`, which looks at this.
    pub async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if done(self) {
                    return;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("waited for {what}; begun: {:?}", self.begun.lock().unwrap()));
    }
}

impl Reconciler for Script {
    type Kind = TenantConnection;

    async fn reconcile(&self, object: Arc<TenantConnection>) -> Result<Requeue, ReconcileError> {
        let name = ObjectKey::of(&*object).name;
        let running = self.log.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.log.most.fetch_max(running, Ordering::SeqCst);
        let nth = {
            let mut begun = self.log.begun.lock().unwrap();
            begun.push(name.clone());
            begun.iter().filter(|n| **n == name).count()
        };
        self.log.changed.notify_waiters();
        let act = (self.behaviour)(&name, nth);
        if matches!(act, Act::Hold) {
            self.log.go.0.acquire().await.unwrap().forget();
        }
        self.log.running.fetch_sub(1, Ordering::SeqCst);
        self.log.changed.notify_waiters();
        match act {
            Act::Then(requeue) => Ok(requeue),
            Act::Hold => Ok(Requeue::OnChange),
            Act::Fail => Err(ReconcileError::Other("as the test wants it".into())),
            Act::Panic => panic!("as the test wants it"),
        }
    }

    fn references(&self, object: &TenantConnection) -> std::collections::BTreeSet<Reference> {
        // `via-X-1` goes through the connection `X`, as a BuildRequest would.
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let via = name.strip_prefix("via-").and_then(|rest| rest.split('-').next());
        if let Some(connection) = via {
            return [Reference::to::<TenantConnection>(connection)].into();
        }
        let secret = object.spec.credentials.password.as_ref();
        secret
            .map(|p| Reference::to::<k8s_openapi::api::core::v1::Secret>(p.secret_ref.name.clone()))
            .into_iter()
            .collect()
    }

    fn gone(&self, key: &ObjectKey) {
        self.log.gone.lock().unwrap().push(key.clone());
        self.log.changed.notify_waiters();
    }
}

/// A loop that runs, and the ends of what it listens to.
pub struct Bench {
    pub log: Arc<Log>,
    pub sightings: mpsc::Sender<Sighting>,
    pub bell: Bell,
    pub shutdown: Shutdown,
    pub metrics: Arc<Metrics>,
    pub backoffs: Backoffs,
    pub running: tokio::task::JoinHandle<()>,
}

/// The API server: any object there is, but those named `bad` do not parse and `missing` is not there. `worn` wears the mark
/// of a finished object that is not true of it.
fn answer(request: &Request<Body>) -> (u16, Value) {
    let path = request.uri().path();
    let name = path.rsplit('/').next().unwrap_or_default();
    let metadata = json!({"name": name, "namespace": "team", "uid": "u", "resourceVersion": "1"});
    let metadata = match name {
        "worn" => {
            let mut metadata = metadata;
            metadata["labels"] = json!({SETTLED: "0123"});
            metadata
        }
        _ => metadata,
    };
    match (request.method(), name) {
        (&Method::GET, "missing") => (
            404,
            json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"}),
        ),
        (&Method::GET, "bad") => (200, json!({"metadata": metadata, "spec": {"endpoint": 7}})),
        (&Method::GET, "bad-and-deleted") => {
            let mut metadata = metadata;
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            metadata["finalizers"] = json!(["other.example.org/keep", FINALIZER]);
            (200, json!({"metadata": metadata, "spec": {}}))
        }
        (&Method::GET, _) => (
            200,
            json!({
                "apiVersion": "tenantry.dev/v1alpha1", "kind": "TenantConnection", "metadata": metadata,
                "spec": {
                    "endpoint": "https://ks.example.org", "workspace": "demo",
                    "credentials": {"password": {"secretRef": {"name": format!("secret-of-{name}")}}},
                },
            }),
        ),
        _ => (200, json!({"metadata": metadata})),
    }
}

pub fn bench(concurrency: usize, behaviour: impl Fn(&str, usize) -> Act + Send + Sync + 'static) -> Bench {
    let log = Arc::new(Log::default());
    let seen = log.clone();
    let server = tower::service_fn(move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            let (status, body) = answer(&request);
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let sent = request.into_body().collect_bytes().await.unwrap_or_default();
            let sent = serde_json::from_slice(&sent).unwrap_or(Value::Null);
            seen.requests.lock().unwrap().push((method, path, sent));
            seen.changed.notify_waiters();
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    });
    let client = Client::new(server, "default");
    let metrics = Arc::new(Metrics::default());
    let shutdown = Shutdown::new(PATIENCE);
    let backoffs = Backoffs::new(BackoffPolicy {
        first: Duration::from_millis(1),
        cap: Duration::from_millis(5),
    });
    let env = Env {
        client: client.clone(),
        announcer: Announcer::new(client, metrics.clone(), "test"),
        metrics: metrics.clone(),
        backoffs: backoffs.clone(),
        readiness: Readiness::default(),
        shard: Shard::default(),
        shutdown: shutdown.clone(),
        concurrency,
        watch_life: PATIENCE,
    };
    let (bell, rings) = Bell::new();
    let (sightings, receiver) = channel();
    let script = Script {
        behaviour: Box::new(behaviour),
        log: log.clone(),
    };
    let mut run = Loop::new(script, env, receiver, rings);
    run.owns(Kind::Job);
    Bench {
        log,
        sightings,
        bell,
        shutdown,
        metrics,
        backoffs,
        running: tokio::spawn(run.run()),
    }
}

impl Bench {
    pub async fn see(&self, kind: Kind, what: Seen) {
        let sighting = Sighting { kind, shard: 0, what };
        self.sightings.send(sighting).await.unwrap();
    }

    pub async fn object(&self, name: &str, fingerprint: u64) {
        self.see(Kind::TenantConnection, Seen::Object(glimpse(name, fingerprint)))
            .await;
    }

    /// Waits until the loop has taken in all that was told: a new object is told and reconciled.
    pub async fn settle(&self) {
        let name = format!("settle-{}", self.log.begun.lock().unwrap().len());
        self.object(&name, 1).await;
        self.log
            .until("the loop to take everything in", |log| log.count(&name) == 1)
            .await;
    }

    /// Waits until so many failures in a row are counted for an object.
    pub async fn until_failures(&self, name: &str, expected: u32) {
        let counted = || self.backoffs.failures(Kind::TenantConnection, &key(name));
        let wait = async {
            while counted() != expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{name}: {} failures in a row, not {expected}", counted()));
    }

    pub async fn stop(self) {
        self.shutdown.request();
        timeout(PATIENCE, self.running)
            .await
            .expect("the loop ends")
            .unwrap();
    }
}

pub fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team", name)
}

pub fn glimpse(name: &str, fingerprint: u64) -> Glimpse {
    Glimpse {
        key: key(name),
        fingerprint,
        owner: None,
        touched: false,
        settled: None,
    }
}
