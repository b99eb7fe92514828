//! While a build runs and when it ends: outages, flushed tokens, vanished runs and builds, restarts, and its log.

mod common;

use common::{PROJECT, Setup, Stage, acme, condition, parameters, phase_of, remote, scripted, shop};
use serde_json::json;
use sha2::{Digest, Sha256};
use tenantry::api::build_request::{BuildPhase, BuildRequest, LogStatus, Outcome};
use tenantry_simulator::{Cut, Fault, FaultAction, JenkinsFault, JenkinsOutage, Role};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

const FAST: (&str, &str) = ("DURATION", "2");
/// Long enough to be met while it runs: tests end such builds themselves.
const LONG: (&str, &str) = ("DURATION", "6000");

/// A stage with these pipelines beside `build`.
async fn stage_of(pipelines: &[&str], role: Role) -> Stage {
    let project = pipelines.iter().fold(shop(role), |p, n| p.pipeline(scripted(n)));
    Stage::with(Setup {
        world: acme([project]),
        ..Setup::default()
    })
    .await
}

fn outcome(object: &BuildRequest) -> Option<Outcome> {
    object.status.as_ref()?.run.as_ref()?.outcome
}

fn run_name(object: &BuildRequest) -> String {
    let run = object.status.as_ref().and_then(|s| s.run.as_ref());
    run.and_then(|r| r.name.clone()).expect("a run with a name")
}

fn log_of(object: &BuildRequest) -> LogStatus {
    let log = object.status.as_ref().and_then(|s| s.log.clone());
    log.expect("a log in the status")
}

/// The text of a stored log.
async fn stored(stage: &Stage, log: &LogStatus) -> String {
    let mut text = String::new();
    for map in &log.config_maps {
        text.push_str(&stage.config_map(map, "log").await);
    }
    text
}

fn sha256(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The stored log is the one that Jenkins has, whole and once.
async fn assert_log_is_whole(stage: &Stage, object: &BuildRequest, pipeline: &str) {
    let log = log_of(object);
    let whole = remote::console_text(stage, pipeline, 1)
        .await
        .replace("\r\n", "\n");
    assert!(log.complete && !log.truncated, "{log:?}");
    assert_eq!(stored(stage, &log).await, whole);
    assert_eq!(log.sha256, Some(sha256(&whole)));
    assert_eq!(log.bytes, i64::try_from(whole.len()).unwrap());
}

fn broken(calls: &str) -> JenkinsOutage {
    let starting = JenkinsFault::Status {
        code: 503,
        body: "busy".into(),
    };
    JenkinsOutage::new(starting).on(calls)
}

#[tokio::test]
async fn tokens_flushed_and_the_gateway_down_while_it_runs_change_nothing() {
    let stage = Stage::new().await;
    let control = stage.simulator.control();
    stage.build("b", json!({"parameters": parameters(&[LONG])})).await;
    stage.until_phase("b", BuildPhase::Running).await;
    let issued = stage.simulator.ledger().tokens_issued();
    control.flush_tokens();
    wait_for("another login", PATIENCE, async || {
        let now = stage.simulator.ledger().tokens_issued();
        Ok(Seen::when(now > issued, || format!("{now} tokens")))
    })
    .await
    .unwrap();
    let bad_day = control.fault(Fault::always("*", FaultAction::answer(502, "bad gateway")));
    let object = stage
        .until("b", "RemoteUnavailable", |o| {
            condition(o, "Reconciling").1 == "RemoteUnavailable"
        })
        .await;
    assert_eq!(
        phase_of(&object),
        Some(BuildPhase::Running),
        "unknown is not failed"
    );
    assert_eq!(condition(&object, "Succeeded").0, "Unknown");
    assert_eq!(condition(&object, "Stalled").0, "");
    control.remove_fault(bad_day);
    stage
        .until("b", "it is followed again", |o| {
            condition(o, "Reconciling").1 == "Running"
        })
        .await;
    control
        .finish_build(PROJECT, "build", None, 1, "SUCCESS")
        .unwrap();
    let object = stage.until_ready("b").await;
    assert_log_is_whole(&stage, &object, "build").await;
    assert_eq!(stage.built("build"), 1);
    assert!(
        stage.simulator.ledger().tokens_issued() <= issued + 3,
        "no storm of logins"
    );
}

#[tokio::test]
async fn runs_and_builds_that_vanish_while_they_run() {
    let stage = stage_of(&["object", "both"], Role::tenant()).await;
    let control = stage.simulator.control();
    for name in ["object", "both"] {
        stage
            .build(name, json!({"pipeline": name, "parameters": parameters(&[LONG])}))
            .await;
    }
    // The run object goes, its build goes on: Jenkins is asked.
    let object = stage.until_phase("object", BuildPhase::Running).await;
    control.drop_run(PROJECT, &run_name(&object)).unwrap();
    // The build goes, its run object stays as it was, for ever (finding A5).
    let both = stage.until_phase("both", BuildPhase::Running).await;
    control.vanish_build(PROJECT, "both", None, 1).unwrap();

    stage
        .until("object", "Jenkins is asked", |o| {
            condition(o, "Ready").2.contains("Jenkins is asked")
        })
        .await;
    control
        .finish_build(PROJECT, "object", None, 1, "SUCCESS")
        .unwrap();
    let object = stage.until_ready("object").await;
    assert_log_is_whole(&stage, &object, "object").await;

    let (lost, _) = stage.until_stalled("both", "RunLost").await;
    assert_eq!(condition(&lost, "LogsArchived").1, "LogUnavailable");
    assert_eq!(outcome(&lost), Some(Outcome::Lost));
    wait_for("what is left of it to be removed", PATIENCE, async || {
        let left = control.object("pipelineruns", PROJECT, &run_name(&both));
        Ok(Seen::when(left.is_none(), || "it is still there".into()))
    })
    .await
    .unwrap();
    assert_eq!(
        (stage.built("object"), stage.built("both")),
        (1, 1),
        "nothing is built again"
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_read_at_the_end_comes_later_even_if_the_run_is_gone() {
    let names = ["later", "dropped", "collected"];
    let stage = stage_of(&names, Role::tenant()).await;
    let control = stage.simulator.control();
    for calls in ["log", "proxy"] {
        control.jenkins_outage(broken(calls)).unwrap();
    }
    for name in names {
        stage
            .build(name, json!({"pipeline": name, "parameters": parameters(&[FAST])}))
            .await;
    }
    for name in names {
        let object = stage.until_phase(name, BuildPhase::Collecting).await;
        assert_eq!(outcome(&object), Some(Outcome::Succeeded), "the outcome is ours");
        assert_eq!(
            condition(&object, "Succeeded").0,
            "Unknown",
            "and not told before all is home"
        );
    }
    let dropped = run_name(&stage.get("dropped").await);
    control.drop_run(PROJECT, &dropped).unwrap();
    // The garbage collector of ks-devops takes the build along.
    assert_eq!(control.gc_runs(PROJECT, "collected", 0).unwrap().len(), 1);
    wait_for("Jenkins to delete the build", PATIENCE, async || {
        let left = control.builds(PROJECT, "collected").unwrap().len();
        Ok(Seen::when(left == 0, || format!("{left} left")))
    })
    .await
    .unwrap();
    control.jenkins_up().unwrap();
    for name in ["later", "dropped"] {
        let object = stage.until_ready(name).await;
        assert_log_is_whole(&stage, &object, name).await;
    }
    let object = stage.until_ready("collected").await;
    assert_eq!(condition(&object, "LogsArchived").1, "LogUnavailable");
    for name in names {
        assert_eq!(stage.built(name), 1);
    }
}

#[tokio::test]
async fn an_empty_log_is_never_taken_for_its_end() {
    // Without the proxy nothing but the text itself tells whether it is whole.
    let stage = Stage::as_role(Role::tenant_without_jenkins_proxy()).await;
    let control = stage.simulator.control();
    stage
        .build(
            "empty",
            json!({"parameters": parameters(&[LONG, ("LOG_BYTES", "20000")])}),
        )
        .await;
    stage
        .until("empty", "a live log", |o| {
            o.status.as_ref().is_some_and(|s| s.log.is_some())
        })
        .await;
    // 200 and an empty body is what a connection that breaks behind ks-devops looks like (finding H).
    let empty = control.fault(Fault::always("v2.run.log", FaultAction::answer(200, "")));
    let steps = control.fault(Fault::always("v2.run.steplog", FaultAction::answer(200, "")));
    control
        .finish_build(PROJECT, "build", None, 1, "SUCCESS")
        .unwrap();
    stage.until_phase("empty", BuildPhase::Collecting).await;
    let asked = stage.simulator.ledger().count("v2.run.log");
    wait_for("it to be asked for again and again", PATIENCE, async || {
        let now = stage.simulator.ledger().count("v2.run.log");
        Ok(Seen::when(now >= asked + 6, || format!("{} times", now - asked)))
    })
    .await
    .unwrap();
    let object = stage.get("empty").await;
    assert_eq!(phase_of(&object), Some(BuildPhase::Collecting));
    assert!(!log_of(&object).complete);
    control.remove_fault(empty);
    // The steps stay empty: a look that began before must not settle for them.
    let object = stage.until_ready("empty").await;
    control.remove_fault(steps);
    assert_log_is_whole(&stage, &object, "build").await;
}

#[tokio::test]
async fn a_live_log_grows_and_a_cut_in_the_middle_repeats_nothing() {
    for role in [Role::tenant(), Role::tenant_without_jenkins_proxy()] {
        let stage = Stage::as_role(role).await;
        let control = stage.simulator.control();
        for class in ["v2.proxy", "v2.run.steplog"] {
            control.fault(Fault::once(class, FaultAction::truncate(3_000)).after(1));
        }
        stage
            .build(
                "grows",
                json!({"parameters": parameters(&[("DURATION", "60"), ("LOG_BYTES", "40000")])}),
            )
            .await;
        let first = stage
            .until("grows", "a live log", |o| {
                o.status.as_ref().is_some_and(|s| s.log.is_some())
            })
            .await;
        let before = log_of(&first);
        assert!(!before.complete && before.sha256.is_none());
        stage
            .until("grows", "more of it", |o| {
                o.status
                    .as_ref()
                    .and_then(|s| s.log.as_ref())
                    .is_some_and(|l| l.bytes > before.bytes)
            })
            .await;
        let object = stage.until_ready("grows").await;
        let left = control.faults();
        assert_eq!(
            left.len(),
            1,
            "it was cut on the rung that it was read on: {left:?}"
        );
        control.clear_faults();
        assert_log_is_whole(&stage, &object, "build").await;
    }
}

#[tokio::test]
async fn long_logs_are_cut_in_the_middle_or_spread_over_several_config_maps() {
    let stage = stage_of(&["cut", "wide"], Role::tenant()).await;
    let rows = [("cut", "60000", 4096), ("wide", "2500000", 8_388_608)];
    for (name, bytes, max) in rows {
        stage
            .build(
                name,
                json!({
                    "pipeline": name, "logs": {"maxBytes": max},
                    "parameters": parameters(&[FAST, ("LOG_BYTES", bytes)]),
                }),
            )
            .await;
    }
    let cut = stage.until_ready("cut").await;
    let log = log_of(&cut);
    let whole = remote::console_text(&stage, "cut", 1).await.replace("\r\n", "\n");
    let text = stored(&stage, &log).await;
    assert!(log.truncated && text.len() <= 4096, "{log:?}");
    assert_eq!(condition(&cut, "LogsArchived").1, "LogTruncated");
    let (head, rest) = text.split_once("\n… ").expect("a mark");
    let (mark, tail) = rest.split_once("…\n").expect("the end of the mark");
    assert!(mark.contains("left out by tenantry"), "{mark}");
    assert!(whole.starts_with(head) && whole.ends_with(tail) && tail.contains("Finished: SUCCESS"));
    assert_eq!(log.sha256, Some(sha256(&whole)), "the digest is of the whole");
    assert_eq!(
        log.bytes,
        i64::try_from(whole.len()).unwrap(),
        "and so is the size"
    );

    let wide = stage.until_ready("wide").await;
    assert!(log_of(&wide).config_maps.len() > 1, "{:?}", log_of(&wide));
    assert_log_is_whole(&stage, &wide, "wide").await;
}

#[tokio::test]
async fn with_the_controller_of_ks_devops_down_it_waits() {
    let stage = Stage::new().await;
    let control = stage.simulator.control();
    control.controller(false).unwrap();
    stage
        .build("waits", json!({"parameters": parameters(&[FAST])}))
        .await;
    stage
        .until("waits", "it is there and has no number", |o| {
            condition(o, "Ready").2.contains("waits for its build number")
        })
        .await;
    control.controller(true).unwrap();
    stage.until_ready("waits").await;
    assert_eq!(stage.built("build"), 1);
}

#[tokio::test]
async fn a_kill_in_any_phase_costs_nothing() {
    let mut stage = Stage::new().await;
    let control = stage.simulator.control();
    stage.kill_operator();
    stage
        .build(
            "kill",
            json!({"parameters": parameters(&[("QUEUE", "60"), LONG, ("LOG_BYTES", "30000")])}),
        )
        .await;
    control.controller(false).unwrap();
    stage.restart_operator().await;
    stage
        .until("kill", "it was sent and has no number yet", |o| {
            condition(o, "Ready").2.contains("waits for its build number")
        })
        .await;
    stage.kill_operator();
    control.controller(true).unwrap();
    for phase in [BuildPhase::Queued, BuildPhase::Running] {
        stage.restart_operator().await;
        stage.until_phase("kill", phase).await;
        stage.kill_operator();
    }
    for calls in ["log", "proxy"] {
        control.jenkins_outage(broken(calls)).unwrap();
    }
    control
        .finish_build(PROJECT, "build", None, 1, "FAILURE")
        .unwrap();
    stage.restart_operator().await;
    stage.until_phase("kill", BuildPhase::Collecting).await;
    stage.kill_operator();
    control.jenkins_up().unwrap();
    stage.restart_operator().await;
    stage.until_stalled("kill", "BuildFailed").await;
    let object = stage.until_settled("kill").await;
    assert_log_is_whole(&stage, &object, "build").await;
    let asked = stage.simulator.ledger().snapshot().requests.len();
    stage.restart_operator().await;
    stage.while_nothing_happens().await;
    assert_eq!(
        stage.get("kill").await.metadata.resource_version,
        object.metadata.resource_version
    );
    let about_runs = stage.simulator.ledger().snapshot().requests.split_off(asked);
    let about_runs = about_runs.iter().filter(|r| r.class.contains("run")).count();
    assert_eq!((about_runs, stage.built("build")), (0, 1), "what is over is over");
}

#[tokio::test]
async fn the_answer_to_a_stop_may_be_lost() {
    let stage = Stage::new().await;
    let fault = Fault::once("v2.run.stop", FaultAction::cut(Cut::AnswerLost));
    stage.simulator.control().fault(fault);
    stage
        .build("stop", json!({"parameters": parameters(&[LONG])}))
        .await;
    stage.until_phase("stop", BuildPhase::Running).await;
    stage.patch("stop", json!({"spec": {"cancel": true}})).await;
    let (object, _) = stage.until_stalled("stop", "Cancelled").await;
    assert_eq!(outcome(&object), Some(Outcome::Cancelled));
}

#[tokio::test]
async fn a_status_that_is_frozen_on_the_remote_is_read_in_jenkins() {
    let stage = Stage::new().await;
    let control = stage.simulator.control();
    stage
        .build(
            "frozen",
            json!({"parameters": parameters(&[LONG, ("LOG_BYTES", "3000")])}),
        )
        .await;
    stage.until_phase("frozen", BuildPhase::Running).await;
    // Whatever keeps ks-devops from writing it down: its build ends all the same.
    control.controller(false).unwrap();
    control
        .finish_build(PROJECT, "build", None, 1, "UNSTABLE")
        .unwrap();
    let (object, _) = stage.until_stalled("frozen", "BuildUnstable").await;
    let there = control
        .object("pipelineruns", PROJECT, &run_name(&object))
        .unwrap();
    assert_eq!(there["status"]["phase"], "Running", "the remote has not noticed");
    assert_log_is_whole(&stage, &object, "build").await;
}
