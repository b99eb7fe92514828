//! What a rung cannot promise, shown: where two runs cannot be told apart nothing is built a second time, and the one case
//! in which something is, is told.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry_simulator::{Cut, Fault, FaultAction, Role};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::common::{PASSWORD, PROJECT, Setup, Stage, USER, parameters, remote};

const CREATE: &str = "apis.pipelineruns.create";
const POST: &str = "v3.runs.create";
/// What both ask for.
const SAME: [(&str, &str); 2] = [("VERSION", "7"), ("DURATION", "600")];

/// A stage whose runs are posted, with an operator that waits so long for an answer.
async fn posting(answer_limit: &str) -> Stage {
    Stage::with(Setup {
        world: crate::common::world(Role::tenant().without(&["pipelineruns"], &["create"])),
        args: vec!["--tune".into(), format!("answer-limit={answer_limit}")],
        ..Setup::default()
    })
    .await
}

/// Waits until so many builds of `build` have left the queue.
async fn until_running(stage: &Stage, builds: usize) {
    let control = stage.simulator.control();
    wait_for("the builds to run", PATIENCE, async || {
        let seen = control.builds(PROJECT, "build").unwrap_or_default();
        let running = seen.iter().filter(|build| build.state == "RUNNING").count();
        Ok(Seen::when(running == builds, || format!("{seen:?}")))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}"));
}

fn names_of_runs(stage: &Stage) -> Vec<String> {
    let name = |run: &Value| run["metadata"]["name"].as_str().map(str::to_owned);
    stage
        .simulator
        .control()
        .runs(PROJECT)
        .iter()
        .filter_map(name)
        .collect()
}

/// Two operators that do not see each other's objects, as in two clusters, post equal requests under one login, and both
/// answers are lost: neither can know its own run. Both name the two and wait for a person.
#[tokio::test]
async fn two_equal_posts_of_two_operators_stall_with_both_named() {
    let one = posting("10s").await;
    let mut other = Stage::with(Setup {
        operator: false,
        ..Setup::default()
    })
    .await;
    other.connect(&one.simulator.url(), PASSWORD).await;
    other.start_operator().await;

    let late = FaultAction {
        answer_delay_ms: 3_600_000,
        ..FaultAction::default()
    };
    let control = one.simulator.control();
    control.fault(Fault::once(POST, late));
    one.build("one", json!({"parameters": parameters(&SAME)})).await;
    // Equal ones in the queue would be one build.
    until_running(&one, 1).await;
    control.fault(Fault::once(POST, FaultAction::cut(Cut::AnswerLost)));
    other
        .build("other", json!({"parameters": parameters(&SAME)}))
        .await;

    let (_, of_other) = other.until_stalled("other", "AmbiguousRun").await;
    let (_, of_one) = one.until_stalled("one", "AmbiguousRun").await;
    let runs = names_of_runs(&one);
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert!(
            of_one.contains(run) && of_other.contains(run),
            "{run}: {of_one} / {of_other}"
        );
    }
    one.while_nothing_happens().await;
    other.while_nothing_happens().await;
    assert_eq!(
        (one.built("build"), names_of_runs(&one).len()),
        (2, 2),
        "one each, and none more"
    );
}

/// The request never arrived, and meanwhile somebody starts an equal run under our login: there is one candidate, and it is
/// taken for ours. A correlation parameter tells them apart.
#[tokio::test]
async fn an_equal_run_under_our_login_is_taken_for_ours_where_ours_never_arrived() {
    for (correlated, builds) in [(false, 1), (true, 2)] {
        let stage = posting("30s").await;
        let stranger = remote::post_run(&stage, USER, PASSWORD, "build", &SAME).await;
        until_running(&stage, 1).await;
        let lost = FaultAction::cut(Cut::RequestLost);
        stage.simulator.control().fault(Fault::once(POST, lost));
        let mut spec = json!({"parameters": parameters(&SAME)});
        if correlated {
            spec["correlationParameter"] = json!("CORR");
        }
        stage.build("ours", spec).await;
        let object = stage
            .until("ours", "a run", |o| {
                let run = o.status.as_ref().and_then(|s| s.run.as_ref());
                run.is_some_and(|run| run.id.is_some())
            })
            .await;
        let run = object.status.and_then(|s| s.run).and_then(|run| run.name);
        assert_eq!(run == Some(stranger), !correlated);
        assert_eq!(stage.built("build"), builds, "correlated: {correlated}");
    }
}

/// Something between us and the gateway holds a POST back for longer than we wait, and searched: it is sent again, and then
/// there are two builds, of which the second is ours. Under a chosen name there is one.
#[tokio::test]
async fn a_post_that_is_carried_out_after_the_search_is_a_second_build() {
    for (role, class, builds) in [
        (Role::tenant(), CREATE, 1),
        (Role::tenant().without(&["pipelineruns"], &["create"]), POST, 2),
    ] {
        let stage = Stage::with(Setup {
            world: crate::common::world(role),
            args: ["--tune", "answer-limit=2s", "--tune", "search-window=1s"]
                .map(Into::into)
                .to_vec(),
            ..Setup::default()
        })
        .await;
        let held = Duration::from_secs(12);
        let held = FaultAction::delay(u64::try_from(held.as_millis()).unwrap_or_default());
        stage.simulator.control().fault(Fault::once(class, held));
        // Apart from each other, also in the queue.
        stage
            .build("held", json!({"parameters": parameters(&[("DURATION", "2")])}))
            .await;
        stage.until_ready("held").await;
        let asked = || {
            stage
                .simulator
                .ledger()
                .requests(class)
                .iter()
                .filter(|r| r.faulted && r.status != 0)
                .count()
        };
        wait_for(
            "the request that was held back to be carried out",
            PATIENCE,
            async || Ok(Seen::when(asked() == 1, || "not yet".into())),
        )
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
        let wanted = builds;
        wait_for("its build, where it makes one", PATIENCE, async || {
            let built = stage.built("build");
            Ok(Seen::when(built == wanted, || built.to_string()))
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
        stage.while_nothing_happens().await;
        assert_eq!(stage.built("build"), builds, "{class}");
        let status = stage.get("held").await.status.unwrap_or_default();
        assert!(
            status.history.is_empty(),
            "the other one is nobody's: {:?}",
            status.history
        );
    }
}
