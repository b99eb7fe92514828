//! One observer for all builds of a project: what following them costs, on each rung, by the ledger of the gateway, and
//! that nothing is lost when it is cut off, told that it is too late, or told nothing any more.

mod common;

use std::time::{Duration, Instant};

use common::{CONNECTION, PROJECT, Setup, Stage, acme, parameters, scripted, shop};
use serde_json::json;
use tenantry::api::build_request::BuildPhase;
use tenantry_simulator::{Fault, FaultAction, Role};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

const BUILDS: usize = 20;
/// Simulated seconds: half a minute of ours, in which a build that polls asks thirty times.
const LONG: (&str, &str) = ("DURATION", "300");
/// Until the test ends it.
const ENDLESS: (&str, &str) = ("DURATION", "60000");

fn name(n: usize) -> String {
    format!("b{n}")
}

/// A stage with this many pipelines of the name `pN`, in which the tenant may do this.
async fn stage_of(pipelines: usize, role: Role, args: &[&str]) -> Stage {
    let names = (0..pipelines).map(|n| format!("p{n}"));
    let project = names.fold(shop(role), |project, name| project.pipeline(scripted(&name)));
    Stage::with(Setup {
        world: acme([project]),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Setup::default()
    })
    .await
}

/// Applies the builds, spread over the pipelines.
async fn start(stage: &Stage, builds: usize, pipelines: usize, duration: (&str, &str)) {
    for n in 0..builds {
        let spec = json!({"pipeline": format!("p{}", n % pipelines), "parameters": parameters(&[duration])});
        stage.build(&name(n), spec).await;
    }
}

/// Each build was built exactly once.
fn assert_built_once(stage: &Stage, builds: usize, pipelines: usize) {
    for p in 0..pipelines {
        let expected = (0..builds).filter(|n| n % pipelines == p).count();
        assert_eq!(stage.built(&format!("p{p}")), expected, "builds of p{p}");
    }
}

/// What the gateway was asked.
struct Bill {
    /// GETs of one run, of its stages, and of its live log.
    looks: [usize; 3],
    lists: usize,
    pipeline_lists: usize,
    watches: usize,
    seconds: usize,
}

impl Bill {
    fn of(stage: &Stage, since: Instant) -> Self {
        let ledger = stage.simulator.ledger();
        Self {
            looks: ["v3.run.get", "v3.run.nodedetails", "*proxy*"].map(|class| ledger.count(class)),
            lists: ledger.count("apis.pipelineruns.list"),
            pipeline_lists: ledger.count("v3.runs.list"),
            watches: ledger.count("apis.pipelineruns.watch"),
            seconds: since.elapsed().as_secs().try_into().expect("a short test"),
        }
    }
}

/// Runs twenty builds of half a minute over so many pipelines, and asserts what was spent on following them: for each build
/// the looks at its beginning, at its changes and at its end, and beside those, whatever their number, the looks of one
/// build that polls every second.
async fn run_all(role: Role, pipelines: usize) -> Bill {
    const EACH: usize = 6;
    let stage = stage_of(pipelines, role, &[]).await;
    let since = Instant::now();
    start(&stage, BUILDS, pipelines, LONG).await;
    for n in 0..BUILDS {
        stage.until_ready(&name(n)).await;
    }
    let bill = Bill::of(&stage, since);
    println!(
        "{BUILDS} builds, {} s: {:?} looks (runs, stages, logs), {} lists, {} lists of pipelines, {} watches",
        bill.seconds, bill.looks, bill.lists, bill.pipeline_lists, bill.watches
    );
    assert_built_once(&stage, BUILDS, pipelines);
    let budget = BUILDS * EACH + bill.seconds * 5 / 4;
    for looks in bill.looks {
        assert!(looks <= budget, "{looks} looks, budget {budget}");
    }
    bill
}

#[tokio::test]
async fn twenty_builds_are_followed_by_one_watch() {
    let bill = run_all(Role::tenant(), BUILDS).await;
    assert_eq!((bill.watches, bill.pipeline_lists), (1, 0));
    assert_eq!(bill.lists, 1, "where the watch begins");
}

#[tokio::test]
async fn who_may_not_watch_follows_twenty_builds_by_one_list_per_tick() {
    let bill = run_all(Role::tenant_without_watch(), BUILDS).await;
    assert_eq!((bill.watches, bill.pipeline_lists), (1, 0), "tried once");
    let budget = 3 + bill.seconds * 5 / 4;
    assert!(bill.lists <= budget, "{} lists, budget {budget}", bill.lists);
}

#[tokio::test]
async fn who_has_only_kapis_follows_twenty_builds_by_one_list_of_each_pipeline() {
    const PIPELINES: usize = 2;
    let role = Role::tenant().without(&["pipelineruns"], &["list", "watch"]);
    let bill = run_all(role, PIPELINES).await;
    assert_eq!((bill.watches, bill.lists), (0, 1), "tried once");
    let budget = PIPELINES * (3 + bill.seconds * 5 / 4);
    assert!(
        bill.pipeline_lists <= budget,
        "{} lists, budget {budget}",
        bill.pipeline_lists
    );
}

/// Waits until the gateway was asked for so many more of a class than at `before`.
async fn until_asked(stage: &Stage, class: &str, before: usize) {
    wait_for(&format!("another {class}"), PATIENCE, async || {
        let now = stage.simulator.ledger().count(class);
        Ok(Seen::when(now > before, || format!("{now} since {before}")))
    })
    .await
    .unwrap();
}

/// Ends the build of this number; it must show although nobody looks at it again for minutes.
fn finish(stage: &Stage, n: usize) {
    let control = stage.simulator.control();
    control
        .finish_build(PROJECT, &format!("p{n}"), None, 1, "SUCCESS")
        .unwrap();
}

#[tokio::test]
async fn a_watch_that_is_cut_too_old_or_hangs_delays_nothing_but_its_news() {
    const ALL: usize = 4;
    const WATCH: &str = "apis.pipelineruns.watch";
    let tunes = ["--tune", "watch-life=2s", "--tune", "answer-limit=5s"];
    let stage = stage_of(ALL, Role::tenant(), &tunes).await;
    start(&stage, ALL, ALL, ENDLESS).await;
    for n in 0..ALL {
        stage.until_phase(&name(n), BuildPhase::Running).await;
    }
    // Only the observer can tell of an end in time: by itself a build looks every ten minutes from now on.
    let looks = stage.simulator.ledger().count("v3.run.get");
    stage
        .patch_connection(json!({"spec": {"pollInterval": "10m"}}))
        .await;
    until_asked(&stage, "v3.run.get", looks + ALL - 1).await;
    let (control, ledger) = (stage.simulator.control(), stage.simulator.ledger());
    // It ends by itself, and stands again.
    until_asked(&stage, WATCH, ledger.count(WATCH)).await;
    finish(&stage, 0);
    stage.until_ready(&name(0)).await;
    // It breaks after its first bytes.
    let cuts = FaultAction {
        half_body: true,
        ..FaultAction::default()
    };
    control.fault(Fault::always(WATCH, cuts).times(2));
    until_asked(&stage, WATCH, ledger.count(WATCH)).await;
    finish(&stage, 1);
    stage.until_ready(&name(1)).await;
    // It hangs: what happens meanwhile is told by the list that follows.
    let fault = control.fault(Fault::once(WATCH, FaultAction::hang()));
    until_asked(&stage, WATCH, ledger.count(WATCH)).await;
    finish(&stage, 2);
    stage.until_ready(&name(2)).await;
    control.remove_fault(fault);
    // One lives and ends: five in a row that come to nothing would be given up for lists.
    until_asked(&stage, WATCH, ledger.count(WATCH) + 1).await;
    // It is refused as too old.
    let lists = ledger.count("apis.pipelineruns.list");
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#;
    control.fault(Fault::once(WATCH, FaultAction::answer(200, &format!("{gone}\n"))));
    until_asked(&stage, "apis.pipelineruns.list", lists).await;
    finish(&stage, 3);
    stage.until_ready(&name(3)).await;
    assert_built_once(&stage, ALL, ALL);
}

#[tokio::test]
async fn while_the_gateway_is_away_builds_wait_and_then_they_are_watched_again() {
    let stage = stage_of(2, Role::tenant(), &["--tune", "watch-life=2s"]).await;
    start(&stage, 2, 2, ENDLESS).await;
    for n in 0..2 {
        stage.until_phase(&name(n), BuildPhase::Running).await;
    }
    let text = stage.operator.as_ref().unwrap().metrics_text().await.unwrap();
    for shown in [
        "observers{rung=\"watch\"} 1",
        "observed_builds{rung=\"watch\"} 2",
        "observer_age_seconds{",
    ] {
        assert!(text.contains(&format!("tenantry_{shown}")), "{shown}: {text}");
    }
    let (control, ledger) = (stage.simulator.control(), stage.simulator.ledger());
    let away = control.fault(Fault::always("*", FaultAction::answer(502, "bad gateway")));
    until_asked(
        &stage,
        "apis.pipelineruns.list",
        ledger.count("apis.pipelineruns.list"),
    )
    .await;
    for n in 0..2 {
        finish(&stage, n);
    }
    control.remove_fault(away);
    for n in 0..2 {
        stage.until_ready(&name(n)).await;
    }
    assert_built_once(&stage, 2, 2);
}

#[tokio::test]
async fn other_credentials_are_tried_on_the_highest_rung_again() {
    const WATCH: &str = "apis.pipelineruns.watch";
    let stage = stage_of(2, Role::tenant_without_watch(), &[]).await;
    start(&stage, 2, 2, ENDLESS).await;
    for n in 0..2 {
        stage.until_phase(&name(n), BuildPhase::Running).await;
    }
    let ledger = stage.simulator.ledger();
    assert_eq!(ledger.count_status(WATCH, 403), ledger.count(WATCH));
    stage
        .simulator
        .control()
        .set_role(PROJECT, common::USER, Some(Role::tenant()))
        .unwrap();
    // The same login with another limit is another session.
    let limits = json!({"spec": {"limits": {"requestsPerSecond": 190, "burst": 400}}});
    stage.patch_connection(limits).await;
    wait_for(
        &format!("{CONNECTION} to be watched with"),
        Duration::from_secs(120),
        async || {
            let stand = ledger.count_status(WATCH, 200);
            Ok(Seen::when(stand > 0, || {
                format!("{} refused", ledger.count(WATCH))
            }))
        },
    )
    .await
    .unwrap();
    for n in 0..2 {
        finish(&stage, n);
        stage.until_ready(&name(n)).await;
    }
    assert_built_once(&stage, 2, 2);
}
