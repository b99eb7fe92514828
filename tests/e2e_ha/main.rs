//! Two operators on one real API server, of which one leads: it is killed, stopped, cut off and asked to leave under load,
//! and the other goes on. Each has a ServiceAccount of its own, so that the API server's audit log tells who wrote what.

#[path = "../common/mod.rs"]
mod common;
mod load;
mod pair;
mod shards;

use std::time::Instant;

use tenantry_test_support::{PATIENCE, Seen, wait_for};

use load::{Balance, until_all_follow};
use pair::Pair;

#[tokio::test]
async fn a_leader_that_is_killed_is_replaced_and_each_build_ran_once() {
    let mut pair = Pair::start("kill").await;
    until_all_follow(&pair.stage).await;
    let begun = Instant::now();
    pair.first.kill9().expect("it runs");
    pair.until_second_leads().await;
    let took = begun.elapsed();
    Balance::settle(&pair).await.record("kill -9", took);
}

/// The old leader is stopped in the middle of its work, with answers of both servers on their way to it, and woken when
/// another has done all of that work.
#[tokio::test]
async fn a_leader_that_wakes_after_its_lease_writes_nothing() {
    let mut pair = Pair::start("pause").await;
    until_all_follow(&pair.stage).await;
    let begun = Instant::now();
    pair.first.pause().expect("it runs");
    pair.until_second_leads().await;
    let took = begun.elapsed();
    let balance = Balance::settle(&pair).await;

    let written = pair.remote_writes();
    pair.first.resume().expect("it is there");
    let ended = pair.first.wait_exited().await.expect("it ends by itself");
    assert!(!ended.success(), "{ended}");
    let log = pair.first.logs().expect("a log");
    assert!(log.contains("is lost"), "{log}");
    println!(
        "fenced when it woke: {} writes",
        log.matches("stopped: this replica").count()
    );
    assert_eq!(
        pair.remote_writes(),
        written,
        "it wrote to the gateway when it woke"
    );
    pair.assert_first_wrote_nothing_after_its_time().await;
    // What the other did was done before; this is again the same balance.
    let after = Balance::settle(&pair).await;
    assert_eq!(after, balance);
    balance.record("SIGSTOP longer than the lease", took);
}

#[tokio::test]
async fn a_leader_that_the_api_server_does_not_hear_stops_and_the_other_takes_over() {
    let mut pair = Pair::start("cut-off").await;
    until_all_follow(&pair.stage).await;
    let begun = Instant::now();
    pair.proxy.refuse().await;
    let ended = pair.first.wait_exited().await.expect("it ends by itself");
    assert!(!ended.success(), "{ended}");
    let log = pair.first.logs().expect("a log");
    assert!(log.contains("it was not renewed for"), "{log}");
    pair.until_second_leads().await;
    let took = begun.elapsed();
    pair.proxy.accept().await;
    pair.assert_first_wrote_nothing_after_its_time().await;
    Balance::settle(&pair)
        .await
        .record("no way to the API server", took);
}

#[tokio::test]
async fn a_leader_that_is_asked_to_leave_gives_the_lease_back_and_is_followed_at_once() {
    let mut pair = Pair::start("leave").await;
    until_all_follow(&pair.stage).await;
    let ended = pair.first.terminate().await.expect("it leaves");
    assert!(ended.success(), "{ended}");
    let begun = Instant::now();
    // Nobody has to wait for it to run out.
    assert_ne!(pair.holder().await, pair::FIRST);
    pair.until_second_leads().await;
    let took = begun.elapsed();
    pair.assert_first_wrote_nothing_after_its_time().await;
    Balance::settle(&pair).await.record("SIGTERM", took);
}

#[tokio::test]
async fn an_api_server_that_is_away_for_longer_than_the_lease_costs_no_build() {
    let mut pair = Pair::start_on_its_own("away").await;
    until_all_follow(&pair.stage).await;
    let begun = Instant::now();
    pair.stage.cluster.stop_apiserver().await.expect("it stops");
    let ended = pair.first.wait_exited().await.expect("it ends by itself");
    assert!(!ended.success(), "{ended}");
    pair.stage.cluster.start_apiserver().await.expect("it starts");
    // What the kubelet does with the one that ended.
    pair.first.restart().await.expect("it starts again");
    let led = wait_for("one of the two to lead", PATIENCE, async || {
        let holder = pair.holder().await;
        Ok(Seen::when(!holder.is_empty(), || "nobody".to_owned()))
    })
    .await;
    led.unwrap_or_else(|e| panic!("{e:#}"));
    let took = begun.elapsed();
    Balance::settle(&pair).await.record("API server away", took);
}
