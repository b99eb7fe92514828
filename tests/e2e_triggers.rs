//! Starting a build exactly once: both rungs, lost answers, kills in between, strangers, queues.

mod common;

use std::collections::BTreeSet;

use common::{PASSWORD, PROJECT, Setup, Stage, USER, acme, condition, parameters, phase_of, scripted, shop};
use common::{remote, while_nothing_happens};
use serde_json::{Value, json};
use tenantry::{
    api::build_request::{BuildPhase, BuildRequest, CurrentRun, Outcome, RunState, TriggerRung},
    controllers::build_request::inputs,
};
use tenantry_simulator::{
    Cut, Fault, FaultAction, JenkinsFault, JenkinsOutage, Role,
    world::{Project, User},
};
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
    ]
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
    let late = || FaultAction {
        answer_delay_ms: 600_000,
        ..FaultAction::default()
    };
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
async fn runs_that_cannot_be_told_apart_stall_and_a_rerun_goes_on() {
    let stage = Stage::as_role(Role::tenant_without_pipelineruns()).await;
    let same = [("VERSION", "7"), ("DURATION", "20")];
    let stranger = remote::post_run(&stage, USER, PASSWORD, "build", &same).await;
    let fault = Fault::once(POST, FaultAction::cut(Cut::AnswerLost));
    stage.simulator.control().fault(fault);
    stage
        .build("which", json!({"parameters": parameters(&same)}))
        .await;
    let (_, message) = stage.until_stalled("which", "AmbiguousRun").await;
    assert!(message.contains(&stranger), "{message}");
    let ours = stage.simulator.control().runs(PROJECT);
    assert_eq!(ours.len(), 2);
    for run in &ours {
        let name = run["metadata"]["name"].as_str().unwrap();
        assert!(message.contains(name), "{name} is a candidate: {message}");
    }
    while_nothing_happens().await;
    assert_eq!(stage.built("build"), 2, "nothing more is started");
    stage.rerun("which", "a person looked at them").await;
    stage.until_ready("which").await;
    assert_eq!(stage.built("build"), 3);
}

#[tokio::test]
async fn a_run_name_that_somebody_else_took_is_not_adopted() {
    let stage = Stage::new().await;
    let held = stage
        .build(
            "taken",
            json!({"suspend": true, "parameters": parameters(&[FAST])}),
        )
        .await;
    let wanted = inputs::wanted(&held);
    let token = inputs::token(held.metadata.uid.as_deref().unwrap(), &wanted, 1);
    let name = inputs::run_name("build", &token);
    remote::create_run(&stage, &name, "no-such-pipeline").await;
    stage.patch("taken", json!({"spec": {"suspend": false}})).await;
    let (object, message) = stage.until_stalled("taken", "RunNameTaken").await;
    assert!(message.contains(&name), "{message}");
    assert_eq!(run_of(&object).name.as_deref(), Some(name.as_str()));
    while_nothing_happens().await;
    assert_eq!(stage.built("build"), 0);
    stage.rerun("taken", "1").await;
    let object = stage.until_ready("taken").await;
    assert_ne!(run_of(&object).name.as_deref(), Some(name.as_str()));
    assert_eq!(stage.built("build"), 1);
}

#[tokio::test]
async fn equal_builds_at_once_wait_for_each_other_and_none_is_folded() {
    // With the nastiest Jenkins: whoever is queued beside another gets the other's number.
    for role in [Role::tenant(), Role::tenant_without_pipelineruns()] {
        let stage = Stage::with(Setup {
            world: common::world(role),
            config: |mut config| {
                config.quirks.same_expected_id = true;
                config
            },
            ..Setup::default()
        })
        .await;
        let names: Vec<String> = (0..6).map(|n| format!("equal-{n}")).collect();
        for name in &names {
            stage
                .build(
                    name,
                    json!({"parameters": parameters(&[("QUEUE", "5"), ("DURATION", "1")])}),
                )
                .await;
        }
        let last = names.last().unwrap();
        let waiting = stage.until_phase(last, BuildPhase::Queued).await;
        let (_, reason, message) = condition(&waiting, "Ready");
        if reason == "Queued" {
            assert!(
                message.contains("in the queue") && message.contains("equal-"),
                "{message}"
            );
        }
        let mut ids = BTreeSet::new();
        for name in &names {
            ids.insert(run_of(&stage.until_ready(name).await).id);
        }
        assert_eq!(ids.len(), names.len(), "each has its own build");
        let ledger = stage.simulator.ledger();
        assert_eq!(stage.built("build"), names.len());
        assert!(
            ledger.actions("folded").is_empty(),
            "{:?}",
            ledger.actions("folded")
        );
        assert!(ledger.actions("deduplicated").is_empty());
    }
}

#[tokio::test]
async fn no_more_builds_at_once_than_the_connection_allows() {
    let names = ["c1", "c2", "c3", "c4", "c5"];
    let project = names
        .iter()
        .fold(shop(Role::tenant()), |p, n| p.pipeline(scripted(n)));
    let mut stage = Stage::with(Setup {
        world: acme([project]),
        operator: false,
        ..Setup::default()
    })
    .await;
    stage
        .patch_connection(json!({"spec": {"limits": {"concurrentRuns": 2}}}))
        .await;
    stage.start_operator().await;
    for name in names {
        stage
            .build(
                name,
                json!({"pipeline": name, "parameters": parameters(&[("DURATION", "15")])}),
            )
            .await;
    }
    let control = stage.simulator.control();
    let mut most = 0;
    wait_for("all builds to be over", PATIENCE, async || {
        let builds = names.iter().flat_map(|n| control.builds(PROJECT, n).unwrap());
        let active = builds.filter(|b| b.state != "FINISHED").count();
        most = most.max(active);
        let mut left = Vec::new();
        for name in names {
            let object = stage.get(name).await;
            if phase_of(&object) != Some(BuildPhase::Succeeded) {
                left.push(common::describe(&object));
            }
        }
        Ok(Seen::when(left.is_empty(), || left.join("; ")))
    })
    .await
    .unwrap();
    assert_eq!(most, 2, "two at once, and never more");
}

#[tokio::test]
async fn a_run_that_jenkins_folded_into_somebody_elses_is_lost_and_never_made_again() {
    let project = shop(Role::tenant()).member("eve", Role::tenant());
    let world = acme([project]).user(User::new("eve", "eve-Passw0rd"));
    let stage = Stage::with(Setup {
        world,
        ..Setup::default()
    })
    .await;
    let same = [("QUEUE", "3000"), ("VERSION", "7")];
    remote::post_run(&stage, "eve", "eve-Passw0rd", "build", &same).await;
    wait_for("her build to be queued", PATIENCE, async || {
        Ok(Seen::when(stage.built("build") == 1, || "not yet".into()))
    })
    .await
    .unwrap();
    stage
        .build("folded", json!({"parameters": parameters(&same)}))
        .await;
    let (object, message) = stage.until_stalled("folded", "RunLost").await;
    assert_eq!(run_of(&object).outcome, Some(Outcome::Lost));
    assert!(message.contains("equal build"), "{message}");
    while_nothing_happens().await;
    let ledger = stage.simulator.ledger();
    assert_eq!(ledger.actions("deduplicated").len(), 1, "the remote dropped it");
    assert_eq!((ledger.count_status(CREATE, 201), stage.built("build")), (1, 1));
}

#[tokio::test]
async fn a_late_answer_of_jenkins_makes_two_builds_there_and_we_follow_ours() {
    for role in [Role::tenant(), Role::tenant_without_pipelineruns()] {
        let stage = Stage::as_role(role).await;
        let late = JenkinsOutage::new(JenkinsFault::Late(17_000))
            .on("trigger")
            .times(1);
        stage.simulator.control().jenkins_outage(late).unwrap();
        stage
            .build(
                "late",
                json!({"correlationParameter": "CORR", "parameters": parameters(&[("DURATION", "30")])}),
            )
            .await;
        let run = run_of(&stage.until_ready("late").await);
        let control = stage.simulator.control();
        let ours = control
            .object("pipelineruns", PROJECT, run.name.as_deref().unwrap())
            .unwrap();
        assert_eq!(ours["metadata"]["uid"], json!(run.uid));
        wait_for("Jenkins to have taken both", PATIENCE, async || {
            Ok(Seen::when(stage.built("build") == 2, || {
                stage.built("build").to_string()
            }))
        })
        .await
        .unwrap();
        stage.reconcile("late", "1").await;
        let ledger = stage.simulator.ledger();
        let started = ledger.count_status(CREATE, 201) + ledger.count_status(POST, 200);
        assert_eq!(started, 1, "both builds come of one start");
        assert_eq!(run_of(&stage.get("late").await), run, "and we stay with ours");
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
async fn a_trigger_that_jenkins_refuses_ends_at_its_deadline_with_jenkins_text() {
    let project = shop(Role::tenant()).pipeline(scripted("off"));
    let stage = Stage::with(Setup {
        world: acme([project]),
        ..Setup::default()
    })
    .await;
    stage
        .simulator
        .control()
        .disable_job(PROJECT, "off", true)
        .unwrap();
    stage
        .build(
            "refused",
            json!({
                "pipeline": "off", "timeouts": {"trigger": "2s"}, "retry": {"limit": 1, "backoff": "1s"},
                "parameters": parameters(&[FAST]),
            }),
        )
        .await;
    let (object, message) = stage.until_stalled("refused", "TriggerFailed").await;
    let status = object.status.as_ref().unwrap();
    let failure = status.failure.as_ref().unwrap();
    assert_eq!(failure.reason, "TriggerFailed");
    for text in [&message, &failure.message] {
        assert!(
            text.contains("Failed to trigger") && text.contains("500"),
            "the remote's own words: {text}"
        );
    }
    assert_eq!(run_of(&object).attempt, 2, "it counts as a failed try");
    let ledger = stage.simulator.ledger();
    assert_eq!((ledger.count_status(CREATE, 201), stage.built("off")), (2, 0));
    assert_eq!(
        stage.simulator.control().runs(PROJECT),
        Vec::<Value>::new(),
        "it is removed"
    );
    assert_eq!(condition(&object, "LogsArchived").1, "NoLog");
}

#[tokio::test]
async fn jenkins_down_at_the_start_and_back_is_one_build() {
    let stage = Stage::new().await;
    let control = stage.simulator.control();
    control
        .jenkins_outage(JenkinsOutage::new(JenkinsFault::Down))
        .unwrap();
    stage
        .build("down", json!({"parameters": parameters(&[FAST])}))
        .await;
    stage
        .until("down", "the reason is shown while it waits", |o| {
            condition(o, "Ready").2.contains("tries again")
        })
        .await;
    control.jenkins_up().unwrap();
    stage.until_ready("down").await;
    let ledger = stage.simulator.ledger();
    assert_eq!((ledger.count_status(CREATE, 201), stage.built("build")), (1, 1));
}
