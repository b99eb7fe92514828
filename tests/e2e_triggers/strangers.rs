//! Runs on the remote that are not ours, or that cannot be told from ours.

use serde_json::json;
use tenantry::{api::build_request::Outcome, controllers::build_request::inputs};
use tenantry_simulator::{Cut, Fault, FaultAction, JenkinsFault, JenkinsOutage, Role, world::User};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use super::{
    CREATE, FAST, POST,
    common::{PASSWORD, PROJECT, Setup, Stage, USER, acme, parameters, remote, shop},
    run_of,
};

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
    stage.while_nothing_happens().await;
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
    stage.while_nothing_happens().await;
    assert_eq!(stage.built("build"), 0);
    stage.rerun("taken", "1").await;
    let object = stage.until_ready("taken").await;
    assert_ne!(run_of(&object).name.as_deref(), Some(name.as_str()));
    assert_eq!(stage.built("build"), 1);
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
    stage.while_nothing_happens().await;
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
