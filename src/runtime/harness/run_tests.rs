//! The loop against an API server that is a function: what is reconciled when, and what a bad object or a bad reconcile
//! does to the others.

use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use super::*;
use crate::{
    api::TenantConnection,
    runtime::{
        backoff::{BackoffPolicy, Backoffs},
        events::Announcer,
        harness::Bell,
        health::Readiness,
        metrics::Metrics,
        references::Reference,
        shutdown::Shutdown,
        watches::{Glimpse, channel},
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a reconcile does, by the name of its object.
type Behaviour = Box<dyn Fn(&str, usize) -> Act + Send + Sync>;

enum Act {
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
struct Log {
    begun: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
    gone: Mutex<Vec<ObjectKey>>,
    requests: Mutex<Vec<(Method, String, Value)>>,
    changed: Notify,
    /// One permit lets one reconcile go that holds.
    go: Gate,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Log {
    fn count(&self, name: &str) -> usize {
        self.begun.lock().unwrap().iter().filter(|n| *n == name).count()
    }

    /// Waits until `done`, which looks at this.
    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
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
struct Bench {
    log: Arc<Log>,
    sightings: mpsc::Sender<Sighting>,
    bell: Bell,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    backoffs: Backoffs,
    running: tokio::task::JoinHandle<()>,
}

/// The API server: any object there is, but those named `bad` do not parse and `missing` is not there.
fn answer(request: &Request<Body>) -> (u16, Value) {
    let path = request.uri().path();
    let name = path.rsplit('/').next().unwrap_or_default();
    let metadata = json!({"name": name, "namespace": "team", "uid": "u", "resourceVersion": "1"});
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

fn bench(concurrency: usize, behaviour: impl Fn(&str, usize) -> Act + Send + Sync + 'static) -> Bench {
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
        shutdown: shutdown.clone(),
        concurrency,
    };
    let (bell, rings) = Bell::new();
    let (sightings, receiver) = channel();
    let script = Script {
        behaviour: Box::new(behaviour),
        log: log.clone(),
    };
    let run = Loop::new(script, env, receiver, rings);
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
    async fn see(&self, kind: Kind, what: Seen) {
        let sighting = Sighting { kind, shard: 0, what };
        self.sightings.send(sighting).await.unwrap();
    }

    async fn object(&self, name: &str, fingerprint: u64) {
        self.see(Kind::TenantConnection, Seen::Object(glimpse(name, fingerprint)))
            .await;
    }

    /// Waits until the loop has taken in all that was told: a new object is told and reconciled.
    async fn settle(&self) {
        let name = format!("settle-{}", self.log.begun.lock().unwrap().len());
        self.object(&name, 1).await;
        self.log
            .until("the loop to take everything in", |log| log.count(&name) == 1)
            .await;
    }

    /// Waits until so many failures in a row are counted for an object.
    async fn until_failures(&self, name: &str, expected: u32) {
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

    async fn stop(self) {
        self.shutdown.request();
        timeout(PATIENCE, self.running)
            .await
            .expect("the loop ends")
            .unwrap();
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team", name)
}

fn glimpse(name: &str, fingerprint: u64) -> Glimpse {
    Glimpse {
        key: key(name),
        fingerprint,
        owner: None,
    }
}

fn quiet(_: &str, _: usize) -> Act {
    Act::Then(Requeue::OnChange)
}

#[tokio::test]
async fn a_change_is_reconciled_once_and_a_write_of_status_not_at_all() {
    let bench = bench(4, quiet);
    bench.object("a", 1).await;
    bench.object("a", 1).await;
    bench.settle().await;
    assert_eq!(bench.log.count("a"), 1);
    bench.object("a", 2).await;
    bench
        .log
        .until("the change to be reconciled", |log| log.count("a") == 2)
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_and_stops_nobody() {
    let bench = bench(4, |name, nth| match (name, nth) {
        ("fails", ..4) => Act::Fail,
        ("panics", ..4) => Act::Panic,
        ("waits", ..4) => Act::Then(Requeue::Backoff { at_least: None }),
        _ => Act::Then(Requeue::OnChange),
    });
    for name in ["fails", "panics", "waits", "works"] {
        bench.object(name, 1).await;
    }
    bench
        .log
        .until("all to be tried until they work", |log| {
            ["fails", "panics", "waits"]
                .iter()
                .all(|name| log.count(name) == 4)
        })
        .await;
    bench.settle().await;
    assert_eq!(bench.log.count("works"), 1);
    let text = bench.metrics.render();
    for result in ["error", "panic", "waiting"] {
        let line = format!(r#"tenantry_reconciles_total{{kind="TenantConnection",result="{result}"}} 3"#);
        assert!(text.contains(&line), "no {line} in:\n{text}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn an_object_is_never_reconciled_twice_at_a_time_and_no_ring_is_lost() {
    let bench = bench(4, |name, nth| match (name, nth) {
        ("slow", 1) => Act::Hold,
        _ => Act::Then(Requeue::OnChange),
    });
    bench.object("slow", 1).await;
    bench
        .log
        .until("the first reconcile", |log| log.count("slow") == 1)
        .await;
    for _ in 0..50 {
        bench.bell.ring(key("slow"));
    }
    bench.settle().await;
    assert_eq!(bench.log.count("slow"), 1, "while the first still runs");
    bench.log.go.0.add_permits(1);
    bench
        .log
        .until("the rings to be heard", |log| log.count("slow") == 2)
        .await;
    bench.settle().await;
    assert_eq!(bench.log.count("slow"), 2, "fifty rings are one");
    bench.stop().await;
}

#[tokio::test]
async fn no_more_run_at_a_time_than_allowed() {
    let bench = bench(3, |_, _| Act::Hold);
    for i in 0..10 {
        bench.object(&format!("o{i}"), 1).await;
    }
    bench
        .log
        .until("three to run", |log| log.begun.lock().unwrap().len() == 3)
        .await;
    bench.log.go.0.add_permits(10);
    bench
        .log
        .until("all to have run", |log| {
            log.begun.lock().unwrap().len() == 10 && log.running.load(Ordering::SeqCst) == 0
        })
        .await;
    assert_eq!(bench.log.most.load(Ordering::SeqCst), 3);
    bench.stop().await;
}

#[tokio::test]
async fn a_change_of_what_it_refers_to_wakes_an_object_and_no_other() {
    let bench = bench(4, quiet);
    bench.object("a", 1).await;
    bench.object("b", 1).await;
    bench
        .log
        .until("both", |log| log.count("a") + log.count("b") == 2)
        .await;
    bench
        .see(Kind::Secret, Seen::Object(glimpse("secret-of-a", 9)))
        .await;
    bench.log.until("a to be woken", |log| log.count("a") == 2).await;
    bench
        .see(Kind::Secret, Seen::Gone(glimpse("secret-of-a", 9)))
        .await;
    bench
        .log
        .until("a to be woken again", |log| log.count("a") == 3)
        .await;
    bench
        .see(Kind::ConfigMap, Seen::Object(glimpse("secret-of-a", 9)))
        .await;
    bench.settle().await;
    assert_eq!((bench.log.count("a"), bench.log.count("b")), (3, 1));
    bench.stop().await;
}

#[tokio::test]
async fn failures_in_a_row_are_forgotten_after_a_success_or_a_change() {
    let far = Requeue::Backoff {
        at_least: Some(PATIENCE),
    };
    let bench = bench(4, move |name, nth| match (name, nth) {
        ("mends", ..3) => Act::Fail,
        ("mends", _) => Act::Then(Requeue::OnChange),
        _ => Act::Then(far),
    });
    bench.object("mends", 1).await;
    bench.object("waits", 1).await;
    bench
        .log
        .until("both", |log| log.count("mends") == 3 && log.count("waits") == 1)
        .await;
    bench.until_failures("mends", 0).await;
    bench.until_failures("waits", 1).await;
    for nth in 2..10 {
        bench
            .see(Kind::Secret, Seen::Object(glimpse("secret-of-waits", 9)))
            .await;
        bench
            .log
            .until("it to be woken", |log| log.count("waits") == nth)
            .await;
        bench.until_failures("waits", 1).await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_look_after_a_while_comes_and_not_before() {
    const WHILE: Duration = Duration::from_millis(50);
    let bench = bench(4, |_, nth| {
        Act::Then(if nth == 1 {
            Requeue::After(WHILE)
        } else {
            Requeue::OnChange
        })
    });
    let begun = Instant::now();
    bench.object("a", 1).await;
    bench
        .log
        .until("the second look", |log| log.count("a") == 2)
        .await;
    assert!(begun.elapsed() >= WHILE);
    bench.stop().await;
}

#[tokio::test]
async fn what_is_gone_is_forgotten() {
    let bench = bench(4, |name, _| {
        Act::Then(if name == "fails" {
            Requeue::Backoff {
                at_least: Some(PATIENCE),
            }
        } else {
            Requeue::OnChange
        })
    });
    bench.object("fails", 1).await;
    bench.object("missing", 1).await;
    bench
        .log
        .until("the reconcile, and the one that is not there", |log| {
            log.count("fails") == 1 && log.gone.lock().unwrap().contains(&key("missing"))
        })
        .await;
    bench
        .see(Kind::TenantConnection, Seen::Gone(glimpse("fails", 1)))
        .await;
    bench
        .log
        .until("it to be gone", |log| {
            log.gone.lock().unwrap().contains(&key("fails"))
        })
        .await;
    bench.bell.ring(key("fails"));
    bench.settle().await;
    assert_eq!(bench.log.count("fails"), 1, "nobody rings for what is gone");
    assert_eq!(bench.log.count("missing"), 0);
    bench.stop().await;
}

#[tokio::test]
async fn an_object_that_does_not_parse_gets_an_event_and_stops_nobody() {
    let bench = bench(4, quiet);
    bench.object("bad", 1).await;
    bench.object("good", 1).await;
    bench
        .log
        .until("the good one, and an Event about the bad one", |log| {
            log.count("good") == 1
                && log
                    .requests
                    .lock()
                    .unwrap()
                    .iter()
                    .any(|(_, path, _)| path.ends_with("/events"))
        })
        .await;
    {
        let requests = bench.log.requests.lock().unwrap();
        let (_, _, event) = requests.iter().find(|(_, p, _)| p.ends_with("/events")).unwrap();
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["reason"], "InvalidSpec");
        assert_eq!(event["regarding"]["name"], "bad");
        let note = event["note"].as_str().unwrap();
        assert!(
            note.contains("cannot be read") && note.contains("correct it or delete it"),
            "{note}"
        );
    }
    assert_eq!(bench.log.count("bad"), 0);
    bench.stop().await;
}

#[tokio::test]
async fn an_object_that_does_not_parse_can_still_be_deleted() {
    let bench = bench(4, quiet);
    bench.object("bad-and-deleted", 1).await;
    let is_patch = |(method, path, _): &&(Method, String, Value)| {
        method == Method::PATCH && path.ends_with("/bad-and-deleted")
    };
    bench
        .log
        .until("the finalizer to be let go", |log| {
            log.requests.lock().unwrap().iter().any(|r| is_patch(&r))
        })
        .await;
    {
        let requests = bench.log.requests.lock().unwrap();
        let (_, _, patch) = requests.iter().find(is_patch).unwrap();
        assert_eq!(
            patch["metadata"]["finalizers"],
            json!(["other.example.org/keep"]),
            "other people's stay"
        );
        assert_eq!(patch["metadata"]["resourceVersion"], "1");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_in_flight_and_begins_nothing() {
    let bench = bench(4, |name, _| {
        if name == "slow" {
            Act::Hold
        } else {
            Act::Then(Requeue::OnChange)
        }
    });
    bench.object("slow", 1).await;
    bench.log.until("it to begin", |log| log.count("slow") == 1).await;
    bench.shutdown.request();
    bench.bell.ring(key("slow"));
    assert!(!bench.running.is_finished());
    bench.log.go.0.add_permits(1);
    let log = bench.log.clone();
    bench.stop().await;
    assert_eq!(log.running.load(Ordering::SeqCst), 0, "it has ended");
    assert_eq!(log.count("slow"), 1, "nothing else was begun");
}
