//! The main job on a real API server against the simulator: from `kubectl apply` to outcome, log and artifacts.

mod common;

use common::{PROJECT, Setup, Stage, acme, condition, parameters, phase_of, scripted, shop};
use serde_json::json;
use tenantry::api::build_request::{BuildPhase, BuildRequest, Outcome, TriggerRung};
use tenantry_simulator::Role;

const FAST: (&str, &str) = ("DURATION", "2");

fn outcome(object: &BuildRequest) -> Option<Outcome> {
    object.status.as_ref()?.run.as_ref()?.outcome
}

#[tokio::test]
async fn a_build_succeeds_and_its_log_comes_home() {
    let stage = Stage::new().await;
    stage
        .build(
            "ok",
            json!({"parameters": parameters(&[FAST, ("VERSION", "2.0"), ("LOG_BYTES", "5000")])}),
        )
        .await;
    let object = stage.until_ready("ok").await;

    let status = object.status.as_ref().unwrap();
    let run = status.run.as_ref().unwrap();
    assert_eq!(status.phase, Some(BuildPhase::Succeeded));
    assert_eq!(
        (run.outcome, run.result.as_deref()),
        (Some(Outcome::Succeeded), Some("SUCCESS"))
    );
    assert_eq!((run.project.as_str(), run.id.as_deref()), (PROJECT, Some("1")));
    assert_eq!(run.trigger, TriggerRung::ChosenName);
    assert!(run.duration.is_some() && run.start_time.is_some() && run.completion_time.is_some());
    assert_eq!(condition(&object, "Succeeded").0, "True");
    assert_eq!(condition(&object, "LogsArchived").1, "LogStored");
    assert_eq!(
        condition(&object, "Reconciling").0,
        "",
        "kstatus: only while it is true"
    );
    assert_eq!(status.observed_generation, object.metadata.generation);
    assert!(
        status
            .stages
            .iter()
            .any(|s| s.name == "Build" && s.result.as_deref() == Some("SUCCESS")),
        "{status:?}"
    );

    let log = status.log.as_ref().unwrap();
    assert!(log.complete && !log.truncated);
    let text = stage.config_map(&log.config_maps[0], "log").await;
    assert_eq!(i64::try_from(text.len()).unwrap(), log.bytes);
    assert!(text.contains("Finished: SUCCESS"), "{text}");
    assert!(!text.contains('\r'));

    let builds = stage.simulator.ledger().builds_of(PROJECT, "build");
    assert_eq!(builds.len(), 1);
    assert!(
        builds[0].parameters.contains(&("VERSION".into(), "2.0".into())),
        "{:?}",
        builds[0]
    );
}

#[tokio::test]
async fn every_ending_of_jenkins_has_its_own_reason() {
    let stage = Stage::new().await;
    let rows = [
        ("failure", "FAILURE", "BuildFailed", Outcome::Failed),
        ("unstable", "UNSTABLE", "BuildUnstable", Outcome::Unstable),
        ("aborted", "ABORTED", "BuildAborted", Outcome::Aborted),
        (
            "not-built",
            "NOT_BUILT",
            "BuildIndeterminate",
            Outcome::Indeterminate,
        ),
    ];
    for (name, result, _, _) in rows {
        stage
            .build(
                name,
                json!({"parameters": parameters(&[FAST, ("RESULT", result)])}),
            )
            .await;
    }
    for (name, _, reason, expected) in rows {
        let (object, message) = stage.until_stalled(name, reason).await;
        assert_eq!(outcome(&object), Some(expected), "{name}");
        assert_eq!(phase_of(&object), Some(BuildPhase::Failed), "{name}");
        assert_eq!(condition(&object, "Succeeded").0, "False", "{name}");
        assert_eq!(condition(&object, "LogsArchived").0, "True", "{name}");
        assert!(message.contains(PROJECT), "{message}");
    }
    let failed = stage.get("failure").await.status.unwrap().failure.unwrap();
    assert!(failed.stage.is_some(), "{failed:?}");
    assert!(
        failed
            .log_tail
            .as_deref()
            .unwrap_or_default()
            .contains("Finished: FAILURE"),
        "{failed:?}"
    );
    assert_eq!(stage.built("build"), 4);
}

#[tokio::test]
async fn unstable_is_a_success_where_it_is_accepted() {
    let stage = Stage::new().await;
    stage
        .build(
            "u",
            json!({"acceptUnstable": true, "parameters": parameters(&[FAST, ("RESULT", "UNSTABLE")])}),
        )
        .await;
    let object = stage.until_ready("u").await;
    assert_eq!(condition(&object, "Succeeded").1, "BuildUnstable");
}

#[tokio::test]
async fn a_build_that_waits_for_a_person_says_what_it_asks() {
    let stage = Stage::new().await;
    stage
        .build(
            "p",
            json!({"parameters": parameters(&[FAST, ("INPUT", "Deploy")])}),
        )
        .await;
    let object = stage.until_phase("p", BuildPhase::Paused).await;
    let object = if object.status.as_ref().unwrap().input.is_some() {
        object
    } else {
        stage
            .until("p", "input", |o| {
                o.status.as_ref().is_some_and(|s| s.input.is_some())
            })
            .await
    };
    let input = object.status.unwrap().input.unwrap();
    assert_eq!(input.id, "Deploy");
    assert!(!input.message.is_empty() && !input.stage.is_empty(), "{input:?}");
    stage
        .simulator
        .control()
        .answer_input(PROJECT, "build", None, 1, true)
        .unwrap();
    let object = stage.until_ready("p").await;
    assert_eq!(object.status.unwrap().input, None);
}

#[tokio::test]
async fn a_branch_with_a_slash_is_built() {
    let stage = Stage::new().await;
    stage
        .build("slash", json!({"pipeline": "web", "branch": "feature/login"}))
        .await;
    let object = stage.until_ready("slash").await;
    let run = object.status.unwrap().run.unwrap();
    assert_eq!(
        (run.branch.as_deref(), run.encoded_branch.as_deref()),
        (Some("feature/login"), Some("feature%2Flogin"))
    );
    let builds = stage.simulator.ledger().builds_of(PROJECT, "web");
    assert_eq!(builds.len(), 1);
    assert_eq!(builds[0].branch.as_deref(), Some("feature%2Flogin"));
}

#[tokio::test]
async fn nothing_that_makes_no_other_build_builds_again() {
    let stage = Stage::new().await;
    let spec = json!({"parameters": parameters(&[FAST])});
    stage.build("once", spec.clone()).await;
    let first = stage.until_ready("once").await;
    for _ in 0..5 {
        stage.build("once", spec.clone()).await;
    }
    stage
        .patch("once", json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    stage
        .patch(
            "once",
            json!({"spec": {"logs": {"tailLines": 5}, "ttlAfterFinished": "1h"}}),
        )
        .await;
    stage.reconcile("once", "now").await;
    let last = stage
        .until("once", "the new generation is seen", |o| {
            o.status
                .as_ref()
                .is_some_and(|s| s.observed_generation == o.metadata.generation)
        })
        .await;
    assert_eq!(last.status.unwrap().run, first.status.unwrap().run);
    assert_eq!(stage.built("build"), 1);
}

#[tokio::test]
async fn a_rerun_builds_once_more_and_the_first_is_remembered() {
    let stage = Stage::new().await;
    stage
        .build("again", json!({"parameters": parameters(&[FAST])}))
        .await;
    let first = stage.until_ready("again").await.status.unwrap().run.unwrap();
    stage.rerun("again", "1").await;
    let object = stage
        .until("again", "the second build is over", |o| {
            phase_of(o) == Some(BuildPhase::Succeeded)
                && o.status
                    .as_ref()
                    .and_then(|s| s.run.as_ref())
                    .is_some_and(|r| r.token != first.token)
        })
        .await;
    let status = object.status.unwrap();
    assert_eq!(status.run.unwrap().id.as_deref(), Some("2"));
    assert_eq!(status.history.len(), 1);
    assert_eq!(status.history[0].token, first.token);
    stage.rerun("again", "1").await;
    stage.while_nothing_happens().await;
    assert_eq!(stage.built("build"), 2, "the same value asks for nothing more");
}

#[tokio::test]
async fn a_spec_that_changes_while_it_runs_is_built_after_the_first_ended() {
    let stage = Stage::new().await;
    stage
        .build(
            "edit",
            json!({"parameters": parameters(&[("DURATION", "40"), ("VERSION", "1")])}),
        )
        .await;
    stage.until_phase("edit", BuildPhase::Running).await;
    stage
        .build(
            "edit",
            json!({"parameters": parameters(&[FAST, ("VERSION", "2")])}),
        )
        .await;
    let object = stage
        .until("edit", "the second build succeeded", |o| {
            phase_of(o) == Some(BuildPhase::Succeeded)
                && o.status
                    .as_ref()
                    .and_then(|s| s.run.as_ref())
                    .is_some_and(|r| r.id.as_deref() == Some("2"))
        })
        .await;
    let past = &object.status.unwrap().history;
    assert_eq!(
        past[0].outcome,
        Some(Outcome::Succeeded),
        "the first was followed to its end"
    );
    let builds = stage.simulator.ledger().builds_of(PROJECT, "build");
    assert_eq!(builds.len(), 2);
    assert!(builds[1].parameters.contains(&("VERSION".into(), "2".into())));
}

#[tokio::test]
async fn suspend_holds_back_what_was_not_started() {
    let stage = Stage::new().await;
    stage
        .build(
            "held",
            json!({"suspend": true, "parameters": parameters(&[FAST])}),
        )
        .await;
    stage.until_phase("held", BuildPhase::Suspended).await;
    stage.while_nothing_happens().await;
    assert_eq!(stage.built("build"), 0);
    stage.patch("held", json!({"spec": {"suspend": false}})).await;
    stage.until_ready("held").await;
    assert_eq!(stage.built("build"), 1);
}

#[tokio::test]
async fn retries_end_at_the_limit_and_each_is_a_build_of_its_own() {
    let stage = Stage::new().await;
    stage
        .build(
            "retry",
            json!({
                "retry": {"limit": 2, "backoff": "1s"}, "parameters": parameters(&[FAST, ("RESULT", "FAILURE")]),
            }),
        )
        .await;
    let (object, _) = stage.until_stalled("retry", "BuildFailed").await;
    let status = object.status.unwrap();
    assert_eq!(status.run.unwrap().attempt, 3);
    assert_eq!(
        status.history.iter().map(|r| r.attempt).collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(stage.built("build"), 3);
}

#[tokio::test]
async fn only_the_endings_that_retry_names_are_tried_again() {
    let result = |result| json!({"parameters": parameters(&[FAST, ("RESULT", result)])});
    let long = parameters(&[("DURATION", "6000")]);
    let rows = [
        ("Failure", result("FAILURE"), "BuildFailed"),
        ("Unstable", result("UNSTABLE"), "BuildUnstable"),
        ("Aborted", result("ABORTED"), "BuildAborted"),
        (
            "TimedOut",
            json!({"parameters": long, "timeouts": {"run": "2s"}}),
            "RunTimedOut",
        ),
        (
            "TriggerFailed",
            json!({"timeouts": {"trigger": "1s"}}),
            "TriggerFailed",
        ),
        ("Lost", json!({"parameters": long}), "RunLost"),
    ];
    // Each ending where it is named, and where only its neighbour is.
    let mut cases = Vec::new();
    for (n, (ending, spec, reason)) in rows.iter().enumerate() {
        let neighbour = rows[(n + 1) % rows.len()].0;
        for (named, tries) in [(*ending, 2), (neighbour, 1)] {
            let name = format!("{}-{tries}", ending.to_lowercase());
            let mut spec = spec.clone();
            spec["pipeline"] = json!(name);
            spec["retry"] = json!({"limit": 1, "backoff": "1s", "outcomes": [named]});
            cases.push((name, *ending, spec, *reason, tries));
        }
    }
    let project = cases
        .iter()
        .fold(shop(Role::tenant()), |p, (name, ..)| p.pipeline(scripted(name)));
    let stage = Stage::with(Setup {
        world: acme([project]),
        ..Setup::default()
    })
    .await;
    let control = stage.simulator.control();
    for (name, ending, spec, ..) in &cases {
        if *ending == "TriggerFailed" {
            control.disable_job(PROJECT, name, true).unwrap();
        }
        stage.build(name, spec.clone()).await;
    }
    for (name, _, _, _, tries) in cases.iter().filter(|case| case.1 == "Lost") {
        for number in 1..=*tries {
            stage
                .until(name, &format!("build {number} runs"), |o| {
                    let id = o.status.as_ref().and_then(|s| s.run.as_ref()?.id.as_deref());
                    phase_of(o) == Some(BuildPhase::Running) && id == Some(&number.to_string())
                })
                .await;
            control.vanish_build(PROJECT, name, None, number).unwrap();
        }
    }
    for (name, ending, _, reason, tries) in &cases {
        let (object, _) = stage.until_stalled(name, reason).await;
        let run = object.status.unwrap().run.unwrap();
        assert_eq!(u64::from(run.attempt), *tries, "{name}");
        let built = usize::try_from(*tries).unwrap();
        let built = if *ending == "TriggerFailed" { 0 } else { built };
        assert_eq!(stage.built(name), built, "{name}");
    }
}

#[tokio::test]
async fn cancel_stops_a_running_build() {
    let stage = Stage::new().await;
    stage
        .build("stop", json!({"parameters": parameters(&[("DURATION", "600")])}))
        .await;
    stage.until_phase("stop", BuildPhase::Running).await;
    stage.patch("stop", json!({"spec": {"cancel": true}})).await;
    let (object, _) = stage.until_stalled("stop", "Cancelled").await;
    assert_eq!(
        (phase_of(&object), outcome(&object)),
        (Some(BuildPhase::Cancelled), Some(Outcome::Cancelled))
    );
    assert_eq!(
        condition(&object, "LogsArchived").0,
        "True",
        "the log of a stopped build is kept, too"
    );
    assert!(!stage.simulator.ledger().actions("stop").is_empty());
    stage.patch("stop", json!({"spec": {"cancel": false}})).await;
    stage.while_nothing_happens().await;
    assert_eq!(stage.built("build"), 1, "taking cancel back does not build again");
}

#[tokio::test]
async fn cancel_stops_a_build_that_waits_in_the_queue_of_jenkins() {
    for vanishes in [false, true] {
        let stage = Stage::with(common::Setup {
            config: if vanishes {
                |mut config| {
                    config.quirks.queued_stop_vanishes = true;
                    config
                }
            } else {
                |config| config
            },
            ..Default::default()
        })
        .await;
        stage
            .build("queued", json!({"parameters": parameters(&[("QUEUE", "600")])}))
            .await;
        stage.until_phase("queued", BuildPhase::Queued).await;
        stage.patch("queued", json!({"spec": {"cancel": true}})).await;
        let (object, _) = stage.until_stalled("queued", "Cancelled").await;
        assert_eq!(outcome(&object), Some(Outcome::Cancelled), "vanishes: {vanishes}");
    }
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_stopped() {
    let stage = Stage::new().await;
    stage
        .build(
            "slow",
            json!({"timeouts": {"run": "2s"}, "parameters": parameters(&[("DURATION", "900")])}),
        )
        .await;
    let (object, _) = stage.until_stalled("slow", "RunTimedOut").await;
    assert_eq!(outcome(&object), Some(Outcome::TimedOut));
    assert!(!stage.simulator.ledger().actions("stop").is_empty());
}

#[tokio::test]
async fn a_finished_object_goes_after_its_time() {
    let stage = Stage::new().await;
    stage
        .build(
            "ttl",
            json!({"ttlAfterFinished": "1s", "parameters": parameters(&[FAST])}),
        )
        .await;
    let api = stage.api::<BuildRequest>();
    tenantry_test_support::wait_for(
        "the object is gone",
        tenantry_test_support::PATIENCE,
        async || {
            let left = api.get_opt("ttl").await?;
            Ok(tenantry_test_support::Seen::when(left.is_none(), || {
                format!("{left:?}")
            }))
        },
    )
    .await
    .unwrap();
    assert_eq!(stage.built("build"), 1);
}
