//! What is reconciled when, and what a bad object or a bad reconcile does to the others.

use std::sync::atomic::Ordering;

use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{EXPIRES_AT, SETTLED},
    runtime::{
        glimpse::Glimpse,
        harness::bench::{Act, Log, PATIENCE, bench, glimpse, key},
        settled::Settled,
    },
};

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

#[tokio::test]
async fn a_connection_that_hangs_leaves_places_for_the_others() {
    let bench = bench(8, |name, _| match name {
        name if name.starts_with("via-hangs") => Act::Hold,
        _ => Act::Then(Requeue::OnChange),
    });
    for n in 0..20 {
        bench.object(&format!("via-hangs-{n}"), 1).await;
    }
    bench
        .log
        .until("its share to hang", |log| log.running.load(Ordering::SeqCst) == 6)
        .await;
    // Others are worked on as if nothing were, also where there are many of them.
    for n in 0..20 {
        bench.object(&format!("via-works-{n}"), 1).await;
    }
    let worked = |log: &Log| (0..20).all(|n| log.count(&format!("via-works-{n}")) == 1);
    bench.log.until("the others to be worked on", worked).await;
    let hanging = || bench.log.running.load(Ordering::SeqCst);
    assert!(hanging() <= 6, "{} hang", hanging());
    // Nobody who waited for a place is forgotten.
    bench.log.go.0.add_permits(20);
    let all = |log: &Log| (0..20).all(|n| log.count(&format!("via-hangs-{n}")) == 1);
    bench.log.until("all that waited", all).await;
    bench.stop().await;
}

fn at_rest(name: &str, until: Option<Timestamp>) -> Seen {
    Seen::Object(Glimpse {
        settled: Some(Settled { until, holds: 0 }),
        ..glimpse(name, 1)
    })
}

#[tokio::test]
async fn a_finished_object_is_marked_and_costs_the_next_process_nothing() {
    let rests = |_: &str, _| Act::Then(Requeue::Settled(Settled::default()));
    let before = bench(4, rests);
    before.object("a", 1).await;
    let is_mark = |(method, path, patch): &&(Method, String, Value)| {
        method == Method::PATCH && path.ends_with("/a") && patch["metadata"]["labels"][SETTLED].is_string()
    };
    before
        .log
        .until("the mark", |log| {
            log.requests.lock().unwrap().iter().any(|r| is_mark(&r))
        })
        .await;
    before.stop().await;

    let next = bench(4, rests);
    next.see(Kind::TenantConnection, at_rest("a", None)).await;
    let owned = Glimpse {
        owner: Some(("TenantConnection".into(), "a".into())),
        ..glimpse("job", 1)
    };
    next.see(Kind::Job, Seen::Object(owned.clone())).await;
    next.settle().await;
    let reads = |log: &Log| {
        let requests = log.requests.lock().unwrap();
        requests
            .iter()
            .filter(|(_, path, _)| path.ends_with("/a"))
            .count()
    };
    assert_eq!((next.log.count("a"), reads(&next.log)), (0, 0));
    // Until it changes, or somebody takes the mark away.
    next.object("a", 1).await;
    next.log.until("the look", |log| log.count("a") == 1).await;
    next.see(Kind::Job, Seen::Object(owned)).await;
    next.log
        .until("what it owns to count", |log| log.count("a") == 2)
        .await;
    next.stop().await;
}

#[tokio::test]
async fn a_finished_object_is_looked_at_when_its_time_has_come() {
    let bench = bench(4, |_, _| Act::Then(Requeue::Settled(Settled::default())));
    let now = Timestamp::now();
    bench
        .see(
            Kind::TenantConnection,
            at_rest("far", now.checked_add(PATIENCE).ok()),
        )
        .await;
    bench.see(Kind::TenantConnection, at_rest("due", Some(now))).await;
    bench.log.until("the look", |log| log.count("due") == 1).await;
    bench.settle().await;
    assert_eq!(bench.log.count("far"), 0);
    bench.stop().await;
}

#[tokio::test]
async fn a_stale_mark_is_taken_off_before_anything_is_done() {
    let bench = bench(4, quiet);
    bench.object("worn", 1).await;
    bench
        .log
        .until("the reconcile", |log| log.count("worn") == 1)
        .await;
    {
        let requests = bench.log.requests.lock().unwrap();
        let of_it: Vec<_> = requests
            .iter()
            .filter(|(_, path, _)| path.ends_with("/worn"))
            .collect();
        assert_eq!(of_it.len(), 2, "{of_it:?}");
        assert_eq!(of_it[1].0, Method::PATCH);
        assert_eq!(
            of_it[1].2["metadata"],
            json!({"labels": {SETTLED: null}, "annotations": {EXPIRES_AT: null}, "resourceVersion": "1"})
        );
    }
    bench.stop().await;
}
