//! Builds that have to wait for each other.

use std::collections::BTreeSet;

use serde_json::json;
use tenantry::api::{
    TenantConnection,
    build_request::{BuildPhase, QueuePosition},
};
use tenantry_simulator::{Config, Role, Simulator, world::Parameter};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use super::{
    common::{self, PROJECT, Setup, Stage, acme, condition, parameters, phase_of, scripted, shop},
    run_of,
};

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
async fn a_run_that_may_not_be_removed_blocks_nobody_and_ends_when_a_person_removed_it() {
    let stage = Stage::as_role(Role::tenant_without_pipelineruns()).await;
    let control = stage.simulator.control();
    // Jenkins knows less than the Pipeline says: it refuses what is sent with more.
    control
        .set_job_parameters(PROJECT, "build", None, vec![Parameter::string("DURATION", "")])
        .unwrap();
    stage
        .build(
            "stays",
            json!({"timeouts": {"trigger": "2s"}, "parameters": parameters(&[("DURATION", "1"), ("VERSION", "7")])}),
        )
        .await;
    stage
        .until("stays", "it was sent", |o| {
            o.status
                .as_ref()
                .and_then(|s| s.run.as_ref())
                .is_some_and(|r| r.uid.is_some())
        })
        .await;
    stage
        .build("next", json!({"parameters": parameters(&[("DURATION", "1")])}))
        .await;
    let (object, message) = stage.until_stalled("stays", "AccessDenied").await;
    let run = run_of(&object).name.expect("a name");
    for words in [run.as_str(), "Failed to trigger", "Delete it"] {
        assert!(message.contains(words), "{words} is not in: {message}");
    }
    stage.until_ready("next").await;
    assert_eq!(stage.built("build"), 1, "the one behind it in the line");
    let (_, still) = stage.until_stalled("stays", "AccessDenied").await;
    assert_eq!(still, message, "it says the same at every look");

    control.drop_run(PROJECT, &run).unwrap();
    stage.reconcile("stays", "deleted by hand").await;
    stage.until_stalled("stays", "TriggerFailed").await;
    assert_eq!(stage.built("build"), 1);
}

/// What a gateway calls its projects is its own word: who has one of their own cannot make others wait with it.
#[tokio::test]
async fn a_gateway_with_a_project_of_the_same_name_holds_up_nobody_elsewhere() {
    let mut stage = Stage::new().await;
    let config = Config::of(common::world(Role::tenant())).with_time_scale(common::PACE);
    let stranger = Simulator::start(config).await.expect("a second remote");
    let connect = async |name: &str, endpoint: &str| {
        stage
            .apply::<TenantConnection>(json!({
                "apiVersion": "tenantry.dev/v1alpha1", "kind": "TenantConnection", "metadata": {"name": name},
                "spec": {
                    "endpoint": endpoint, "workspace": "acme", "pollInterval": "1s",
                    "credentials": {"password": {"secretRef": {"name": "login"}}},
                },
            }))
            .await;
    };
    connect("stranger", &stranger.url()).await;
    // The good gateway once more, written otherwise: that is no other one.
    connect("same", &format!("{}/", stage.simulator.url())).await;
    let queued = parameters(&[("QUEUE", "100000")]);
    stage
        .build(
            "hoards",
            json!({"connectionRef": {"name": "stranger"}, "parameters": queued}),
        )
        .await;
    let holds = |o: &tenantry::api::BuildRequest| {
        let run = o.status.as_ref().and_then(|s| s.run.as_ref());
        run.is_some_and(|run| run.id.is_some() && !run.dequeued)
    };
    let hoards = stage.until("hoards", "it is in the queue", holds).await;
    assert_eq!(run_of(&hoards).endpoint, Some(stranger.url()));
    assert_eq!(run_of(&hoards).project, PROJECT, "by the name of ours");
    stage.build("first", json!({})).await;
    stage.until_ready("first").await;
    // Another life knows it from the statuses.
    stage.restart_operator().await;
    stage.build("second", json!({})).await;
    let second = stage.until_ready("second").await;
    assert_eq!(run_of(&second).endpoint, Some(stage.simulator.url()));
    assert!(holds(&stage.get("hoards").await), "nobody waited for it");

    // Behind one gateway they wait, through whichever connection.
    stage
        .build(
            "before",
            json!({"parameters": parameters(&[("QUEUE", "100000"), ("VERSION", "before")])}),
        )
        .await;
    stage.until("before", "it is in the queue", holds).await;
    stage
        .build("behind", json!({"connectionRef": {"name": "same"}}))
        .await;
    let waits = stage.until_phase("behind", BuildPhase::Queued).await;
    let (_, _, message) = condition(&waits, "Ready");
    assert!(message.contains("/before is being started"), "{message}");
    // Also for the next life.
    stage.restart_operator().await;
    stage.reconcile("behind", "once more").await;
    let waits = stage.get("behind").await;
    assert!(
        waits.status.as_ref().is_some_and(|s| s.run.is_none()),
        "{waits:?}"
    );
}

/// The pipelines that Jenkins was asked to build, in that order.
fn started(simulator: &Simulator) -> Vec<String> {
    let builds = simulator.ledger().snapshot().builds;
    builds.into_iter().map(|build| build.pipeline).collect()
}

#[tokio::test]
async fn who_waits_sees_where_it_stands_and_the_higher_priority_is_started_first() {
    // In the order in which they are to start; among equals the older one, which has the smaller name as well.
    let order = [("high", 100), ("older", 0), ("younger", 0), ("low", -10)];
    let project = order
        .iter()
        .fold(shop(Role::tenant()), |p, (name, _)| p.pipeline(scripted(name)));
    let mut stage = Stage::with(Setup {
        world: acme([project]),
        operator: false,
        ..Setup::default()
    })
    .await;
    stage
        .patch_connection(json!({"spec": {"limits": {"concurrentRuns": 1}}}))
        .await;
    stage.start_operator().await;
    stage
        .build(
            "first",
            json!({"parameters": parameters(&[("DURATION", "60000")])}),
        )
        .await;
    stage.until_phase("first", BuildPhase::Running).await;
    for (name, priority) in [order[3], order[1], order[2], order[0]] {
        let short = parameters(&[("DURATION", "1")]);
        stage
            .build(
                name,
                json!({"pipeline": name, "priority": priority, "parameters": short}),
            )
            .await;
    }
    let until_in_line = async |stage: &Stage| {
        for (position, (name, _)) in (1..).zip(order) {
            let here = QueuePosition { position, of: 4 };
            let waits = stage
                .until(name, &format!("{here:?}"), |object| {
                    object
                        .status
                        .as_ref()
                        .is_some_and(|status| status.queue == Some(here))
                })
                .await;
            let (_, reason, message) = condition(&waits, "Ready");
            assert_eq!(
                (phase_of(&waits), reason.as_str()),
                (Some(BuildPhase::Queued), "Queued")
            );
            assert!(
                message.starts_with(&format!("position {position} of 4 in the queue")),
                "{message}"
            );
        }
    };
    until_in_line(&stage).await;
    // The limit and the order outlive the process: all ask again where they stand.
    let before = stage.simulator.ledger().snapshot().requests.len();
    stage.restart_operator().await;
    wait_for("all to stand in line again", PATIENCE, async || {
        let asked = stage.simulator.ledger().snapshot().requests.split_off(before);
        let missing: Vec<_> = order
            .iter()
            .filter(|(name, _)| {
                !asked
                    .iter()
                    .any(|r| r.path.contains(&format!("/pipelines/{name}")))
            })
            .collect();
        Ok(Seen::when(missing.is_empty(), || {
            format!("{missing:?} have not asked")
        }))
    })
    .await
    .unwrap();
    until_in_line(&stage).await;
    assert_eq!(started(&stage.simulator), ["build"], "one at a time");
    stage
        .simulator
        .control()
        .finish_build(PROJECT, "build", None, 1, "SUCCESS")
        .unwrap();
    for (name, _) in order {
        let done = stage.until_ready(name).await;
        assert_eq!(done.status.unwrap().queue, None);
    }
    assert_eq!(
        started(&stage.simulator),
        ["build", "high", "older", "younger", "low"]
    );
}
