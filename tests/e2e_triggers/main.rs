//! Starting a build exactly once: both rungs, lost answers, kills in between, strangers, queues.

#[path = "../common/mod.rs"]
mod common;
mod refusals;
mod strangers;
mod turns;

use common::{PROJECT, Setup, Stage, USER, acme, parameters, scripted, shop};
use serde_json::json;
use tenantry::api::build_request::{BuildRequest, CurrentRun, RunState, TriggerRung};
use tenantry_simulator::{Cut, Fault, FaultAction, Role, world::Project};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

const FAST: (&str, &str) = ("DURATION", "2");
/// Starts through kapis.
const POST: &str = "v3.runs.create";
/// Starts through `/apis`.
const CREATE: &str = "apis.pipelineruns.create";

fn run_of(object: &BuildRequest) -> CurrentRun {
    object
        .status
        .as_ref()
        .and_then(|s| s.run.clone())
        .expect("a run in the status")
}

/// What may become of a request for a start. None of it may cost a build or make a second one.
fn mishaps() -> Vec<(&'static str, FaultAction)> {
    let status = |code| FaultAction::answer(code, "the gateway has a bad day");
    vec![
        ("answer-lost", FaultAction::cut(Cut::AnswerLost)),
        ("request-lost", FaultAction::cut(Cut::RequestLost)),
        ("code-500", status(500)),
        ("code-502", status(502)),
        ("code-503", status(503)),
        ("code-429", status(429)),
        ("answer-late", late()),
    ]
}

/// Carried out at once, and answered when nobody listens any more.
fn late() -> FaultAction {
    FaultAction {
        answer_delay_ms: 600_000,
        ..FaultAction::default()
    }
}

/// How long the operator waits for an answer where one is late. Generous: what else is late here is slow, not broken.
fn short_limit() -> Vec<String> {
    vec!["--tune".into(), "answer-limit=5s".into()]
}

/// Waits until the ledger has so many requests of a class.
async fn until_asked(stage: &Stage, class: &str, times: usize) {
    let ledger = stage.simulator.ledger();
    wait_for(&format!("{times} requests of {class}"), PATIENCE, async || {
        let seen = ledger.count(class);
        Ok(Seen::when(seen >= times, || format!("{seen} of them")))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn who_may_not_choose_names_posts_and_a_refusal_is_remembered() {
    let stage = Stage::as_role(Role::tenant_without_pipelineruns()).await;
    stage
        .build("one", json!({"parameters": parameters(&[FAST])}))
        .await;
    let object = stage.until_ready("one").await;
    assert_eq!(run_of(&object).trigger, TriggerRung::Post);
    stage
        .build(
            "two",
            json!({"parameters": parameters(&[FAST, ("VERSION", "2")])}),
        )
        .await;
    stage.until_ready("two").await;
    let ledger = stage.simulator.ledger();
    assert_eq!(ledger.count(CREATE), 1, "403 is remembered");
    assert_eq!((ledger.count(POST), stage.built("build")), (2, 2));
}

#[tokio::test]
async fn the_intent_is_written_down_before_anything_is_sent() {
    for (role, class, rung) in [
        (Role::tenant(), CREATE, TriggerRung::ChosenName),
        (Role::tenant_without_pipelineruns(), POST, TriggerRung::Post),
    ] {
        let stage = Stage::as_role(role).await;
        // A 403 on the first rung would be a request that nobody waits for.
        stage
            .build("first", json!({"parameters": parameters(&[FAST])}))
            .await;
        stage.until_ready("first").await;
        let before = stage.simulator.ledger().count(class);
        let held = stage
            .simulator
            .control()
            .fault(Fault::always(class, FaultAction::hang()));
        stage
            .build(
                "held",
                json!({"parameters": parameters(&[FAST, ("VERSION", "2")])}),
            )
            .await;
        until_asked(&stage, class, before + 1).await;
        let run = run_of(&stage.get("held").await);
        assert_eq!((run.state, run.trigger), (RunState::Sending, rung));
        assert_eq!(run.name.is_some(), rung == TriggerRung::ChosenName);
        stage.simulator.control().remove_fault(held);
    }
}

#[tokio::test]
async fn whatever_becomes_of_a_create_there_is_one_build() {
    let projects = mishaps().into_iter().map(|(name, _)| {
        Project::new("acme", name)
            .named(&format!("{name}x7k2p"))
            .owned_by(USER)
            .pipeline(scripted("build"))
    });
    let stage = Stage::with(Setup {
        world: acme(projects),
        args: short_limit(),
        ..Setup::default()
    })
    .await;
    for (name, action) in mishaps() {
        let fault = Fault::once(CREATE, action).on_path(&format!("*/namespaces/{name}x7k2p/*"));
        stage.simulator.control().fault(fault);
        stage
            .build(name, json!({"project": name, "parameters": parameters(&[FAST])}))
            .await;
    }
    for (name, _) in mishaps() {
        let object = stage.until_ready(name).await;
        let builds = stage
            .simulator
            .ledger()
            .builds_of(&format!("{name}x7k2p"), "build");
        assert_eq!(builds.len(), 1, "{name}");
        assert_eq!(run_of(&object).trigger, TriggerRung::ChosenName, "{name}");
    }
    assert!(
        stage.simulator.control().faults().is_empty(),
        "all of them struck"
    );
}

#[tokio::test]
async fn whatever_becomes_of_a_post_there_is_one_build() {
    let rows: Vec<(String, FaultAction, bool)> = mishaps()
        .into_iter()
        .flat_map(|(name, action)| {
            [
                (name.to_owned(), action.clone(), false),
                (format!("{name}-corr"), action, true),
            ]
        })
        .collect();
    let project = rows
        .iter()
        .fold(shop(Role::tenant_without_pipelineruns()), |p, (name, _, _)| {
            p.pipeline(scripted(name))
        });
    let stage = Stage::with(Setup {
        world: acme([project]),
        args: short_limit(),
        ..Setup::default()
    })
    .await;
    for (name, action, correlated) in &rows {
        let fault = Fault::once(POST, action.clone()).on_path(&format!("*/pipelines/{name}/*"));
        stage.simulator.control().fault(fault);
        let mut spec = json!({"pipeline": name, "parameters": parameters(&[FAST])});
        if *correlated {
            spec["correlationParameter"] = json!("CORR");
        }
        stage.build(name, spec).await;
    }
    for (name, _, correlated) in &rows {
        let run = run_of(&stage.until_ready(name).await);
        let builds = stage.simulator.ledger().builds_of(PROJECT, name);
        assert_eq!(builds.len(), 1, "{name}");
        let correlation = builds[0].parameters.iter().find(|(n, _)| n == "CORR").unwrap();
        assert_eq!(correlation.1 == run.token, *correlated, "{name}: {correlation:?}");
    }
    assert!(
        stage.simulator.control().faults().is_empty(),
        "all of them struck"
    );
}

#[tokio::test]
async fn a_kill_between_intent_and_answer_makes_no_second_build_and_loses_none() {
    // Carried out or not when the operator dies: it cannot know.
    let rows = [
        (Role::tenant(), CREATE, late(), 1),
        (Role::tenant(), CREATE, FaultAction::hang(), 0),
        (Role::tenant_without_pipelineruns(), POST, late(), 1),
        (Role::tenant_without_pipelineruns(), POST, FaultAction::hang(), 0),
    ];
    for (role, class, action, built) in rows {
        let mut stage = Stage::as_role(role).await;
        stage.simulator.control().fault(Fault::once(class, action));
        stage
            .build("kill", json!({"parameters": parameters(&[FAST])}))
            .await;
        until_asked(&stage, class, 1).await;
        wait_for("the build, where it was carried out", PATIENCE, async || {
            Ok(Seen::when(stage.built("build") == built, || {
                stage.built("build").to_string()
            }))
        })
        .await
        .unwrap();
        stage.kill_operator();
        assert_eq!(run_of(&stage.get("kill").await).state, RunState::Sending);
        stage.restart_operator().await;
        stage.until_ready("kill").await;
        assert_eq!(stage.built("build"), 1, "{class}, {built} before the kill");
    }
}

#[tokio::test]
async fn a_404_right_after_the_start_is_a_stale_cache() {
    for role in [Role::tenant(), Role::tenant_without_pipelineruns()] {
        let stage = Stage::with(Setup {
            world: common::world(role),
            config: |mut config| {
                config.timings.stale_get = 50_000;
                config
            },
            args: vec!["--tune".into(), "missing-grace=20s".into()],
            ..Setup::default()
        })
        .await;
        stage
            .build("stale", json!({"parameters": parameters(&[("DURATION", "20")])}))
            .await;
        let object = stage.until_ready("stale").await;
        assert_eq!(run_of(&object).missing_since, None);
        let ledger = stage.simulator.ledger();
        assert!(ledger.count_status("v3.run.get", 404) > 0, "the cache was stale");
        assert_eq!(stage.built("build"), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_later_than_our_patience_is_not_asked_for_again() {
    for (role, class) in [
        (Role::tenant(), CREATE),
        (Role::tenant_without_pipelineruns(), POST),
    ] {
        let stage = Stage::with(Setup {
            world: common::world(role),
            args: short_limit(),
            ..Setup::default()
        })
        .await;
        stage.simulator.control().fault(Fault::once(class, late()));
        stage
            .build("late", json!({"parameters": parameters(&[("DURATION", "20")])}))
            .await;
        stage.until_ready("late").await;
        assert!(stage.simulator.control().faults().is_empty(), "it struck");
        assert_eq!(
            (stage.simulator.ledger().count(class), stage.built("build")),
            (1, 1),
            "{class}: sent once"
        );
    }
}
