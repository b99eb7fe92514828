//! The life of the object around its build: deletion with each policy, artifacts, exactly one build whatever happens to
//! the object or the operator, and what metrics and Events say of it.

mod common;

use std::collections::BTreeMap;

use common::{PROJECT, Setup, Stage, acme, condition, parameters, phase_of, remote, scripted, shop};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tenantry::{
    api::{
        BuildRequest,
        build_request::{BuildPhase, TriggerRung},
    },
    controllers::build_request::inputs,
};
use tenantry_simulator::{Fault, FaultAction, Role};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

const FAST: (&str, &str) = ("DURATION", "2");
const LONG: (&str, &str) = ("DURATION", "6000");

/// A stage with these pipelines beside `build`, where a clean-up is given up soon if it may be.
async fn stage_of(pipelines: &[&str], role: Role, gives_up: bool) -> Stage {
    let project = pipelines.iter().fold(shop(role), |p, n| p.pipeline(scripted(n)));
    let soon = || vec!["--tune".into(), "cleanup-deadline=5s".into()];
    Stage::with(Setup {
        world: acme([project]),
        args: if gives_up { soon() } else { vec![] },
        ..Setup::default()
    })
    .await
}

async fn delete(stage: &Stage, name: &str) {
    stage
        .api::<BuildRequest>()
        .delete(name, &DeleteParams::default())
        .await
        .expect("a deletion");
}

async fn until_gone(stage: &Stage, name: &str) {
    let api = stage.api::<BuildRequest>();
    wait_for(&format!("BuildRequest {name} to be gone"), PATIENCE, async || {
        let left = api.get_opt(name).await?;
        Ok(Seen::when(left.is_none(), || format!("{left:?}")))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
}

fn run_name(object: &BuildRequest) -> String {
    let run = object.status.as_ref().and_then(|s| s.run.as_ref());
    run.and_then(|r| r.name.clone()).expect("a run with a name")
}

#[tokio::test]
async fn deletion_does_on_the_remote_what_the_policy_says() {
    // Policy, whether it is over by then; whether the build goes on, whether the run object stays.
    let rows = [
        ("retain-running", "Retain", false, true, true),
        ("retain-over", "Retain", true, false, true),
        ("abort-running", "Abort", false, false, true),
        ("abort-over", "Abort", true, false, true),
        ("delete-running", "Delete", false, false, false),
        ("delete-over", "Delete", true, false, false),
    ];
    let names: Vec<_> = rows.iter().map(|row| row.0).collect();
    for role in [Role::tenant(), Role::tenant_without_pipelineruns()] {
        let may_delete = role == Role::tenant();
        let stage = stage_of(&names, role, !may_delete).await;
        for (name, policy, over, ..) in rows {
            let duration = if over { FAST } else { LONG };
            stage
                .build(
                    name,
                    json!({"pipeline": name, "deletionPolicy": policy, "parameters": parameters(&[duration])}),
                )
                .await;
        }
        let mut runs = BTreeMap::new();
        for (name, _, over, ..) in rows {
            let object = if over {
                stage.until_ready(name).await
            } else {
                stage.until_phase(name, BuildPhase::Running).await
            };
            runs.insert(name, run_name(&object));
            delete(&stage, name).await;
        }
        let control = stage.simulator.control();
        for (name, _, _, goes_on, stays) in rows {
            until_gone(&stage, name).await;
            let left = || control.object("pipelineruns", PROJECT, &runs[name]);
            if stays {
                assert!(left().is_some(), "{name}: its run stays");
            } else if !may_delete {
                // Nobody can do what the role forbids: the object goes all the same.
                let events = stage.events(name).await;
                assert!(
                    events.iter().any(|e| e.starts_with("CleanupAbandoned:")),
                    "{name}: {events:#?}"
                );
            } else {
                wait_for(&format!("{name}: its run to go"), PATIENCE, async || {
                    Ok(Seen::when(left().is_none(), || "it is still there".into()))
                })
                .await
                .unwrap();
            }
            let builds = control.builds(PROJECT, name).unwrap();
            let active = builds.iter().any(|b| b.state != "FINISHED");
            assert_eq!(active, goes_on, "{name}: {builds:?}");
        }
    }
}

#[tokio::test]
async fn what_never_started_is_deleted_at_once_and_what_has_no_number_never_starts() {
    let stage = Stage::new().await;
    let control = stage.simulator.control();
    stage
        .build("held", json!({"suspend": true, "deletionPolicy": "Delete"}))
        .await;
    stage.until_phase("held", BuildPhase::Suspended).await;
    control.controller(false).unwrap();
    stage
        .build(
            "early",
            json!({"deletionPolicy": "Abort", "parameters": parameters(&[FAST])}),
        )
        .await;
    stage
        .until("early", "it waits for its number", |o| {
            condition(o, "Ready").2.contains("waits for its build number")
        })
        .await;
    for name in ["held", "early"] {
        delete(&stage, name).await;
        until_gone(&stage, name).await;
    }
    control.controller(true).unwrap();
    stage.while_nothing_happens().await;
    assert_eq!(stage.built("build"), 0);
}

#[tokio::test]
async fn a_run_whose_answer_was_lost_is_cleaned_up_all_the_same() {
    for (role, class) in [
        (Role::tenant(), "apis.pipelineruns.create"),
        (
            Role::tenant().without(&["pipelineruns"], &["create"]),
            "v3.runs.create",
        ),
    ] {
        let mut stage = Stage::as_role(role).await;
        let control = stage.simulator.control();
        let late = FaultAction {
            answer_delay_ms: 600_000,
            ..FaultAction::default()
        };
        control.fault(Fault::once(class, late));
        let spec = json!({"deletionPolicy": "Delete", "parameters": parameters(&[LONG])});
        stage.build("lost", spec).await;
        wait_for("its build", PATIENCE, async || {
            Ok(Seen::when(stage.built("build") == 1, || "not yet".into()))
        })
        .await
        .unwrap();
        // Nobody has written down that it arrived, or what it is called.
        stage.kill_operator();
        delete(&stage, "lost").await;
        stage.restart_operator().await;
        until_gone(&stage, "lost").await;
        wait_for("its run to go", PATIENCE, async || {
            let left = control.runs(PROJECT);
            Ok(Seen::when(left.is_empty(), || format!("{left:?}")))
        })
        .await
        .unwrap_or_else(|error| panic!("{class}: {error:#}"));
        let builds = control.builds(PROJECT, "build").unwrap();
        assert!(
            builds.iter().all(|b| b.state == "FINISHED"),
            "{class}: {builds:?}"
        );
    }
}

#[tokio::test]
async fn a_run_of_somebody_else_under_our_name_is_not_cleaned_up() {
    let stage = Stage::new().await;
    let held = stage
        .build("taken", json!({"suspend": true, "deletionPolicy": "Delete"}))
        .await;
    let wanted = inputs::wanted(&held);
    let token = inputs::token(held.metadata.uid.as_deref().unwrap(), &wanted, 1);
    let name = inputs::run_name("build", &token);
    remote::create_run(&stage, &name, "no-such-pipeline").await;
    stage.patch("taken", json!({"spec": {"suspend": false}})).await;
    stage.until_stalled("taken", "RunNameTaken").await;
    delete(&stage, "taken").await;
    until_gone(&stage, "taken").await;
    let left = stage.simulator.control().object("pipelineruns", PROJECT, &name);
    assert!(left.is_some(), "it is not ours");
}

#[tokio::test]
async fn deletion_lets_go_after_its_deadline_and_says_so() {
    let stage = stage_of(&[], Role::tenant(), true).await;
    stage
        .build(
            "stuck",
            json!({"deletionPolicy": "Delete", "parameters": parameters(&[LONG])}),
        )
        .await;
    stage.until_phase("stuck", BuildPhase::Running).await;
    let down = FaultAction::answer(503, "no gateway today");
    stage.simulator.control().fault(Fault::always("*", down));
    delete(&stage, "stuck").await;
    until_gone(&stage, "stuck").await;
    wait_for("an Event", PATIENCE, async || {
        let events = stage.events("stuck").await;
        let said = events
            .iter()
            .any(|e| e.starts_with("CleanupAbandoned:") && e.contains("shopx7k2p/build#1"));
        Ok(Seen::when(said, || format!("{events:#?}")))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
}

#[tokio::test]
async fn a_log_comes_home_although_nobody_was_there_until_its_deadline() {
    const DEADLINE: i64 = 10;
    let args = vec!["--tune".into(), format!("collect-deadline={DEADLINE}s")];
    let mut stage = Stage::with(Setup {
        args,
        ..Setup::default()
    })
    .await;
    let control = stage.simulator.control();
    for class in ["v2.proxy", "v2.run.log", "v2.run.steplog"] {
        control.fault(Fault::always(class, FaultAction::answer(503, "not now")));
    }
    stage
        .build("late", json!({"parameters": parameters(&[FAST])}))
        .await;
    let over = stage
        .until("late", "it is over", |object| {
            let run = object.status.as_ref().and_then(|status| status.run.as_ref());
            run.is_some_and(|run| run.ended_at.is_some())
        })
        .await;
    stage.operator.as_mut().unwrap().kill9().unwrap();
    let ended = over.status.unwrap().run.unwrap().ended_at.unwrap().0;
    wait_for("its deadline to pass", PATIENCE, async || {
        let passed = jiff::Timestamp::now().as_second() > ended.as_second() + DEADLINE + 1;
        Ok(Seen::when(passed, || format!("it was over at {ended}")))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    stage.simulator.control().clear_faults();
    stage.operator.as_mut().unwrap().restart().await.unwrap();
    let object = stage.until_ready("late").await;
    let (status, _, message) = condition(&object, "LogsArchived");
    assert_eq!(status, "True", "{message}");
}

#[tokio::test]
async fn artifacts_come_home_with_the_build_and_with_each_rerun() {
    let stage = Stage::new().await;
    stage
        .build(
            "files",
            json!({
                "artifacts": {"include": ["dist/**"], "destination": {"configMap": {"name": "files"}}},
                "parameters": parameters(&[FAST, ("ARTIFACTS", "dist/app.bin:2000,notes.txt:10")]),
            }),
        )
        .await;
    let object = stage.until_ready("files").await;
    assert_eq!(condition(&object, "ArtifactsStored").0, "True");
    let fetch_name = object
        .status
        .as_ref()
        .unwrap()
        .artifact_fetch_ref
        .clone()
        .unwrap()
        .name;
    let fetch = stage.until_fetch(&fetch_name, "Ready", "True").await;
    let owner = &fetch.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.name.as_str(), owner.controller), ("files", Some(true)));
    let status = fetch.status.unwrap();
    assert_eq!(status.files.len(), 1, "{:?}", status.files);
    assert_eq!(status.files[0].path, "dist/app.bin");
    let first = status.revision;

    stage.rerun("files", "1").await;
    let object = stage
        .until("files", "the second build is home", |o| {
            let run = o.status.as_ref().and_then(|s| s.run.as_ref());
            run.is_some_and(|r| r.id.as_deref() == Some("2")) && condition(o, "Ready").0 == "True"
        })
        .await;
    assert_eq!(condition(&object, "ArtifactsStored").0, "True");
    let fetch = stage.until_fetch(&fetch_name, "Ready", "True").await;
    assert_ne!(fetch.status.unwrap().revision, first, "it follows the rerun");
}

/// The promise of the whole project.
#[tokio::test]
async fn one_build_whatever_is_done_to_the_object_and_the_operator() {
    const APPLIES: usize = 100;
    /// So many while it runs, and again when it is over.
    const RECONCILES: usize = 500;
    const RESTARTS: usize = 20;
    let mut stage = Stage::new().await;
    let spec =
        json!({"parameters": parameters(&[("QUEUE", "30"), ("DURATION", "150"), ("LOG_BYTES", "20000")])});
    stage.build("once", spec.clone()).await;
    let api = stage.api::<BuildRequest>();
    let applying = {
        let (api, object) = (api.clone(), common::build_request("once", spec));
        tokio::spawn(async move {
            for _ in 0..APPLIES {
                let how = PatchParams::apply("suite").force();
                api.patch("once", &how, &Patch::Apply(&object))
                    .await
                    .expect("an apply");
                tokio::task::yield_now().await;
            }
        })
    };
    let force = async |from: usize| {
        for n in from..from + RECONCILES {
            let patch =
                json!({"metadata": {"annotations": {"tenantry.dev/reconcile-requested-at": n.to_string()}}});
            let how = PatchParams::default();
            api.patch("once", &how, &Patch::Merge(&patch))
                .await
                .expect("a patch");
        }
    };
    // At moments that depend on nothing but a number: what the operator is doing then is chance enough.
    let mut seed = u64::from(std::process::id());
    println!("restarts seeded with {seed}");
    let restarting = async {
        for _ in 0..RESTARTS {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let moment = std::time::Duration::from_millis((seed >> 33) % 1_000);
            tokio::time::sleep(moment).await;
            stage.restart_operator().await;
        }
    };
    let ((), (), applied) = tokio::join!(restarting, force(1), applying);
    applied.unwrap();
    stage.until_phase("once", BuildPhase::Succeeded).await;
    force(RECONCILES + 1).await;
    let last = (2 * RECONCILES).to_string();
    let object = stage
        .until("once", "all is done and handled", |o| {
            phase_of(o) == Some(BuildPhase::Succeeded)
                && o.status
                    .as_ref()
                    .and_then(|s| s.last_handled_reconcile_at.as_deref())
                    == Some(last.as_str())
        })
        .await;
    let ledger = stage.simulator.ledger();
    assert_eq!(stage.built("build"), 1);
    assert_eq!(ledger.count_status("apis.pipelineruns.create", 201), 1);
    assert_eq!(object.status.as_ref().unwrap().history.len(), 0);
    assert_eq!(
        object.status.as_ref().unwrap().run.as_ref().unwrap().trigger,
        TriggerRung::ChosenName
    );
}

/// Value of a metric whose line starts so.
fn metric(text: &str, line: &str) -> f64 {
    let found = text.lines().filter_map(|l| l.strip_prefix(line));
    found.filter_map(|rest| rest.trim().parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn a_build_costs_few_reconciles_and_writes_and_tells_what_happened() {
    let stage = Stage::new().await;
    let watched = stage.api::<BuildRequest>();
    stage
        .build(
            "calm",
            json!({"parameters": parameters(&[("DURATION", "10"), ("LOG_BYTES", "4000")])}),
        )
        .await;
    stage.until_ready("calm").await;
    let object = stage.until_settled("calm").await;
    // What happened is told after it was written down.
    wait_for("the Event of the end", PATIENCE, async || {
        let events = stage.events("calm").await;
        let told = events.iter().any(|e| e.starts_with("Succeeded:"));
        Ok(Seen::when(told, || format!("{events:?}")))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    let text = stage.operator.as_ref().unwrap().metrics_text().await.unwrap();
    let reconciles = metric(
        &text,
        r#"tenantry_reconciles_total{kind="BuildRequest",result="ok"}"#,
    );
    assert!(
        (1.0..=15.0).contains(&reconciles),
        "{reconciles} reconciles of one build"
    );
    assert_eq!(
        metric(&text, r#"tenantry_builds_ended_total{outcome="succeeded"}"#),
        1.0
    );
    assert_eq!(metric(&text, r#"tenantry_builds{phase="running"}"#), 0.0);
    assert!(metric(&text, r#"tenantry_logins_total{grant="password",outcome="ok"}"#) >= 1.0);

    let events = stage.events("calm").await;
    for reason in ["Starting", "Running", "Succeeded"] {
        let told = events
            .iter()
            .filter(|e| e.starts_with(&format!("{reason}:")))
            .count();
        assert_eq!(told, 1, "{reason} once: {events:#?}");
    }

    // What is over is left alone: nothing is written, and nothing asked of the remote.
    let asked = stage.simulator.ledger().snapshot().requests.len();
    stage.while_nothing_happens().await;
    let later = watched.get("calm").await.unwrap();
    assert_eq!(later.metadata.resource_version, object.metadata.resource_version);
    let since = stage.simulator.ledger().snapshot().requests.split_off(asked);
    let about_runs: Vec<_> = since.iter().filter(|r| r.class.contains("run")).collect();
    assert!(about_runs.is_empty(), "{about_runs:?}");
}
