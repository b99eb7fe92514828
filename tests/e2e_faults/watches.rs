//! Watches that say nothing, and requests that nobody answers.

use std::time::{Duration, Instant};

use serde_json::json;
use tenantry::{api::build_request::BuildPhase, controllers::Tunables};
use tenantry_test_support::{ApiAction, ApiFault, PATIENCE, Seen, Select, wait_for};

use crate::stage::Behind;

/// A watch that is silent for so long beyond its life is taken for dead.
const MARGIN: Duration = Duration::from_secs(5);
/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// What a busy machine may add to a time.
const SLACK: Duration = Duration::from_secs(20);

/// Connections that stay open and say nothing, as where the other machine is gone without a word.
async fn silence(life: Duration) {
    let tune = format!("watch-life={}s", life.as_secs());
    let mut stage = Behind::tuned(&[&tune]).await;
    stage.long_build("held", json!({"suspend": true})).await;
    stage.until_phase("held", BuildPhase::Suspended).await;
    stage.long_build("runs", json!({})).await;
    stage.until_running("runs").await;
    let listed = lists(&stage);

    let dead = stage.proxy.kill_silently(&Select::of("watch *"));
    assert!(dead > 0, "no watch is open");
    let begun = Instant::now();
    // Changes that only a watch can tell of.
    stage.patch("held", json!({"spec": {"suspend": false}})).await;
    stage.long_build("new", json!({})).await;
    for name in ["held", "new"] {
        stage
            .until_within(life + PATIENCE, name, "Running", |o| {
                crate::common::phase_of(o) == Some(BuildPhase::Running)
            })
            .await;
    }
    let took = begun.elapsed();
    println!("a silence was noticed within {took:?}, of {life:?} and {MARGIN:?}");
    assert!(took <= life + MARGIN + SLACK, "{took:?}");
    assert_eq!(lists(&stage), listed, "each watch goes on where it stood");

    for name in ["held", "new", "runs"] {
        stage.finish(name, "SUCCESS").await;
        stage.assert_built_once_and_whole(name).await;
    }
    stage.assert_same_operator_is_ready().await;
}

/// How often all objects were listed of the kinds that are listed for watches only.
fn lists(stage: &Behind) -> usize {
    let plurals = ["buildrequests", "tenantconnections", "artifactfetches", "secrets"];
    let count = |plural| stage.proxy.count(&Select::of(&format!("list {plural}")));
    plurals.map(count).iter().sum()
}

/// With the life of production in the long form: see `docs/reliability.md`.
#[tokio::test]
async fn watches_that_fall_silent_are_begun_again_within_their_time() {
    let long = std::env::var("TENANTRY_RELIABILITY").is_ok_and(|form| form == "long");
    let life = if long {
        Tunables::default().watch_life
    } else {
        Duration::from_secs(4)
    };
    silence(life).await;
}

/// The watch that is begun again is not answered either; then neither is the listing that follows.
#[tokio::test]
async fn lists_and_watches_that_are_not_answered_are_asked_for_again() {
    let mut stage = Behind::new().await;
    stage.long_build("runs", json!({})).await;
    stage.until_running("runs").await;
    let watches = Select::of("watch buildrequests");
    stage
        .proxy
        .fault(ApiFault::once(watches.clone(), ApiAction::Hang));
    // Too old to go on, so that all are listed again; and that listing hangs.
    let old = tenantry_test_support::fault_proxy::Refusal::code(410);
    stage
        .proxy
        .fault(ApiFault::once(watches.clone(), ApiAction::WatchError(old)));
    stage
        .proxy
        .fault(ApiFault::once(Select::of("list buildrequests"), ApiAction::Hang));
    let begun = Instant::now();
    assert!(stage.proxy.drop_watches(&watches) > 0, "no watch is open");
    stage.long_build("new", json!({})).await;
    let seen = wait_for("what hangs to be given up", PATIENCE * 2, async || {
        let open = stage.proxy.watches(&watches);
        let left = stage.proxy.faults();
        Ok(Seen::when(open == 1 && left == 0, || {
            format!("{open} watches are open, {left} faults are left")
        }))
    })
    .await;
    seen.unwrap_or_else(|e| panic!("{e:#}"));
    let took = begun.elapsed();
    println!("a watch and a listing without answer took {took:?}, of {ANSWER:?} each");
    assert!(took <= 2 * (ANSWER + SLACK), "{took:?}");
    for name in ["runs", "new"] {
        stage.finish(name, "SUCCESS").await;
        stage.assert_built_once_and_whole(name).await;
    }
    stage.assert_same_operator_is_ready().await;
}
