//! Watches that say nothing, and requests that nobody answers.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tenantry::{
    api::{BuildRequest, build_request::BuildPhase},
    controllers::Tunables,
};
use tenantry_test_support::{
    ApiAction, ApiFault, PATIENCE, Seen, Select, TestCluster, fault_proxy::Refusal, wait_for,
};

use crate::{
    common::{Setup, phase_of},
    stage::{Behind, own_cluster},
};

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
                phase_of(o) == Some(BuildPhase::Running)
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
    plurals.map(|plural| listed(stage, plural)).iter().sum()
}

/// How often all objects of a kind were listed, page by page or by streaming.
fn listed(stage: &Behind, plural: &str) -> usize {
    let pages = stage.proxy.count(&Select::of(&format!("list {plural}")));
    pages
        + stage
            .proxy
            .count(&Select::of(&format!("watch {plural}")).that_lists())
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
    // Too old to go on, so that all are listed again; that listing breaks off, and the next one hangs.
    let old = || ApiAction::WatchError(Refusal::code(410));
    let listing = watches.clone().that_lists();
    for fault in [
        ApiFault::once(watches.clone(), old()),
        ApiFault::once(listing.clone(), old()),
        ApiFault::once(listing, ApiAction::Hang),
    ] {
        stage.proxy.fault(fault);
    }
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

/// The operator is away for so long that etcd and the API server forget where its watches stood.
#[tokio::test]
async fn what_changed_while_etcd_was_compacted_is_seen() {
    let (cluster, _turn) = own_cluster().await;
    let setup = Setup {
        cluster: Some(cluster),
        ..Setup::default()
    };
    let mut stage = Behind::with(&["connection-resync=3600s", "stalled-resync=3600s"], setup).await;
    stage.long_build("done", json!({})).await;
    stage.finish("done", "SUCCESS").await;
    stage.assert_built_once_and_whole("done").await;
    stage.long_build("held", json!({"suspend": true})).await;
    stage.until_phase("held", BuildPhase::Suspended).await;
    for name in ["runs", "goes"] {
        stage.long_build(name, json!({"deletionPolicy": "Abort"})).await;
        stage.until_running(name).await;
    }
    let listed_before = listed(&stage, "buildrequests");
    let (before, _) = expired(&mut stage);

    stage.proxy.refuse().await;
    stage.patch("held", json!({"spec": {"suspend": false}})).await;
    stage.long_build("new", json!({})).await;
    let gone = DeleteParams::default();
    stage
        .api::<BuildRequest>()
        .delete("goes", &gone)
        .await
        .expect("there");
    stage
        .api::<ConfigMap>()
        .delete("done-artifacts", &gone)
        .await
        .expect("there");
    stage
        .api::<ConfigMap>()
        .delete("done-log", &gone)
        .await
        .expect("there");
    compact(cluster).await;
    // It remembers more than etcd, until it starts again.
    cluster.restart_apiserver().await.expect("it starts");
    stage.proxy.accept().await;

    for name in ["held", "new"] {
        stage.until_running(name).await;
    }
    let gone = wait_for("what was deleted to go", PATIENCE, async || {
        let left = stage.api::<BuildRequest>().get_opt("goes").await?;
        Ok(Seen::when(left.is_none(), || "it is there".to_owned()))
    })
    .await;
    gone.unwrap_or_else(|e| panic!("{e:#}"));
    for map in ["done-artifacts", "done-log"] {
        let back = wait_for(&format!("{map} to come back"), PATIENCE, async || {
            let there = stage.api::<ConfigMap>().get_opt(map).await?;
            Ok(Seen::when(there.is_some(), || "it is not there".to_owned()))
        })
        .await;
        back.unwrap_or_else(|e| panic!("{e:#}"));
    }
    let (after, log) = expired(&mut stage);
    assert!(after > before, "nothing was too old: {log}");
    assert!(listed(&stage, "buildrequests") > listed_before);
    for name in ["held", "new", "runs"] {
        stage.finish(name, "SUCCESS").await;
        stage.assert_built_once_and_whole(name).await;
    }
    stage.assert_built_once_and_whole("done").await;
    stage.assert_same_operator_is_ready().await;
}

/// How often the operator was told that where it stood is forgotten, and its log.
fn expired(stage: &mut Behind) -> (usize, String) {
    let log = stage.operator().logs().expect("a log");
    (log.matches("was away for too long").count(), log)
}

/// Lets etcd forget all but the present.
async fn compact(cluster: &TestCluster) {
    let pid = cluster.pids()["etcd"];
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
    let url = command
        .split('\0')
        .find_map(|arg| arg.strip_prefix("--listen-client-urls="))
        .expect("it listens");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = async |path: &str, body: Value| -> Value {
        let answer = client
            .post(format!("{url}{path}"))
            .body(body.to_string())
            .send()
            .await;
        let text = answer.expect("an answer").text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e} in {text}"))
    };
    let seen = ask("/v3/kv/range", json!({"key": "AA=="})).await;
    let revision = seen["header"]["revision"]
        .as_str()
        .unwrap_or_else(|| panic!("{seen}"));
    let done = ask(
        "/v3/kv/compaction",
        json!({"revision": revision, "physical": true}),
    )
    .await;
    assert!(done["header"].is_object(), "{done}");
}

/// More objects than a page of a list holds.
const MANY: usize = 520;

/// 410 in the middle of a list that comes page by page, from an API server that does not stream them, and as the answer to a
/// watch.
#[tokio::test]
async fn a_list_that_expires_in_its_middle_is_begun_again_and_so_is_a_watch_that_is_refused() {
    let mut stage = Behind::new().await;
    stage.long_build("runs", json!({})).await;
    stage.until_running("runs").await;
    let maps = stage.api::<ConfigMap>();
    let made = (0..MANY).map(async |n| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("many-{n}")}});
        let map = serde_json::from_value(map).expect("a ConfigMap");
        maps.create(&Default::default(), &map).await.expect("made");
    });
    futures::stream::iter(made)
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await;

    let (lists, watches) = (Select::of("list configmaps"), Select::of("watch configmaps"));
    let listed = stage.proxy.count(&lists);
    let old = || Refusal::code(410).saying("The provided continue parameter is too old");
    stage
        .proxy
        .fault(ApiFault::once(watches.clone(), ApiAction::Refuse(old())));
    let refused = Refusal::code(422).saying(
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless WatchList is enabled",
    );
    let streamed = watches.clone().that_lists();
    stage
        .proxy
        .fault(ApiFault::once(streamed, ApiAction::Refuse(refused)));
    stage
        .proxy
        .fault(ApiFault::once(lists.clone(), ApiAction::Refuse(old())).after(1));
    assert!(stage.proxy.drop_watches(&watches) > 0, "no watch is open");
    let seen = wait_for("all to be listed and watched", PATIENCE, async || {
        let (open, left) = (stage.proxy.watches(&watches), stage.proxy.faults());
        Ok(Seen::when(open == 1 && left == 0, || {
            format!("{open} watches are open, {left} faults are left")
        }))
    })
    .await;
    seen.unwrap_or_else(|e| panic!("{e:#}"));
    // A page, a refusal, and two pages.
    assert!(stage.proxy.count(&lists) >= listed + 4, "{listed}");
    // The watch is of use: a ConfigMap that a build waits for is seen by it alone.
    let from =
        json!([{"name": "VERSION", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "version"}}}]);
    stage.build("waits", json!({"parameters": from})).await;
    stage.until_stalled("waits", "ReferenceNotFound").await;
    stage
        .apply::<ConfigMap>(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"version": "waits"},
        }))
        .await;
    stage.until_ready("waits").await;
    stage.assert_built_once("waits");
    stage.finish("runs", "SUCCESS").await;
    stage.assert_built_once_and_whole("runs").await;
    stage.assert_same_operator_is_ready().await;
}
