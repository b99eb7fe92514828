//! Starts that Jenkins refuses, or cannot take for a while.

use serde_json::{Value, json};
use tenantry_simulator::{JenkinsFault, JenkinsOutage, Role};

use super::{
    CREATE, FAST,
    common::{PROJECT, Setup, Stage, acme, condition, parameters, scripted, shop},
    run_of,
};

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

#[tokio::test]
async fn a_branch_that_jenkins_has_lost_fails_the_trigger_with_jenkins_text() {
    for role in [Role::tenant(), Role::tenant_without_pipelineruns()] {
        let may_delete = role == Role::tenant();
        let stage = Stage::as_role(role).await;
        let control = stage.simulator.control();
        // ks-devops lists branches from an annotation that it brings up to date now and then (finding F4).
        control
            .jenkins_outage(JenkinsOutage::new(JenkinsFault::Down).on("sync"))
            .unwrap();
        control.set_branches(PROJECT, "web", &["main"]).unwrap();
        stage
            .build(
                "vanished",
                json!({"pipeline": "web", "branch": "feature/login", "timeouts": {"trigger": "2s"}}),
            )
            .await;
        let reason = if may_delete {
            "TriggerFailed"
        } else {
            "AccessDenied"
        };
        let (object, message) = stage.until_stalled("vanished", reason).await;
        let failure = object.status.as_ref().unwrap().failure.as_ref().unwrap();
        assert_eq!(failure.reason, "TriggerFailed");
        for text in [&message, &failure.message] {
            assert!(
                text.contains("Failed to trigger"),
                "the remote's own words: {text}"
            );
        }
        assert_eq!(stage.built("web"), 0);
        let left = control.runs(PROJECT).len();
        assert_eq!(
            left,
            usize::from(!may_delete),
            "it is removed where that is allowed"
        );
    }
}
