//! What a connection asks of its gateway while that does not want to be asked: by the ledger nothing but single probes,
//! however many builds wait; and what becomes of those builds.

mod common;

use common::{CONNECTION, PROJECT, Setup, Stage, acme, condition, parameters, scripted, shop};
use serde_json::json;
use tenantry::api::{TenantConnection, build_request::BuildPhase};
use tenantry_simulator::{Cut, Fault, FaultAction, Role};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

const BUILDS: usize = 20;
/// What may be in flight when the gateway begins to refuse: `spec.limits.concurrentRequests`, and two failures that are
/// not enough to stop.
const IN_FLIGHT: usize = 16 + 2;

fn name(n: usize) -> String {
    format!("b{n}")
}

/// Twenty builds that run until they are ended, of a tenant who has to ask for each of them once a second.
async fn busy() -> Stage {
    let project = (0..BUILDS).fold(shop(Role::tenant_without_pipelineruns()), |project, n| {
        project.pipeline(scripted(&name(n)))
    });
    let stage = Stage::with(Setup {
        world: acme([project]),
        ..Setup::default()
    })
    .await;
    for n in 0..BUILDS {
        let endless = parameters(&[("DURATION", "60000")]);
        stage
            .build(&name(n), json!({"pipeline": name(n), "parameters": endless}))
            .await;
    }
    for n in 0..BUILDS {
        stage.until_phase(&name(n), BuildPhase::Running).await;
    }
    stage
}

/// When requests were refused, in milliseconds since the first of them.
fn refused(stage: &Stage) -> Vec<i64> {
    let requests = stage.simulator.ledger().snapshot().requests;
    let times: Vec<_> = requests.iter().filter(|r| r.faulted).map(|r| r.at).collect();
    times.iter().map(|at| at - times[0]).collect()
}

/// Waits until one request went out after so long a silence, for the `times`th time in a row.
async fn until_probed(stage: &Stage, silence: i64, times: usize) {
    wait_for("single probes", PATIENCE, async || {
        let refused = refused(stage);
        let gaps: Vec<_> = refused.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let single = gaps.iter().rev().take_while(|gap| **gap >= silence).count();
        Ok(Seen::when(single >= times, || format!("{refused:?}")))
    })
    .await
    .unwrap();
}

/// What the connection says of itself.
async fn until_connection(stage: &Stage, status: &str, reason: &str) {
    let api = stage.api::<TenantConnection>();
    wait_for(&format!("Ready={status}({reason})"), PATIENCE, async || {
        let conditions = api
            .get_status(CONNECTION)
            .await?
            .status
            .unwrap_or_default()
            .conditions;
        let ready = conditions.iter().find(|c| c.type_ == "Ready");
        let there = ready.is_some_and(|c| c.status == status && c.reason == reason);
        Ok(Seen::when(there, || format!("{ready:?}")))
    })
    .await
    .unwrap();
}

async fn until_gauge(stage: &Stage, value: u8) {
    wait_for(&format!("the gauge to be {value}"), PATIENCE, async || {
        let text = stage.operator.as_ref().unwrap().metrics_text().await?;
        let line = text
            .lines()
            .find(|l| l.starts_with("tenantry_connection_held_back{"));
        let there = line.is_some_and(|l| l.ends_with(&format!(" {value}")));
        Ok(Seen::when(there, || format!("{line:?}")))
    })
    .await
    .unwrap();
}

/// The builds kept what was known of them, and say why they wait.
async fn assert_held_back(stage: &Stage, reason: &str) {
    for n in 0..BUILDS {
        // Who was the probe hears it from the gateway, and the next time like all others.
        let object = stage
            .until(&name(n), reason, |object| {
                let (_, why, message) = condition(object, "Ready");
                why == reason && message.contains("nothing is sent through this connection")
            })
            .await;
        assert_eq!(
            common::phase_of(&object),
            Some(BuildPhase::Running),
            "the last truth"
        );
    }
}

/// The gateway is well again: everything goes on and ends, and nothing was built twice.
async fn assert_goes_on(stage: &Stage) {
    let control = stage.simulator.control();
    control.clear_faults();
    for n in 0..BUILDS {
        control
            .finish_build(PROJECT, &name(n), None, 1, "SUCCESS")
            .unwrap();
    }
    for n in 0..BUILDS {
        stage.until_ready(&name(n)).await;
        assert_eq!(stage.built(&name(n)), 1);
    }
    until_gauge(stage, 0).await;
    until_connection(stage, "True", "Ready").await;
}

#[tokio::test]
async fn a_gateway_that_says_when_to_come_back_is_asked_once_then_and_not_before() {
    const RETRY_AFTER: i64 = 5;
    let stage = busy().await;
    let answer = FaultAction {
        headers: vec![("Retry-After".into(), RETRY_AFTER.to_string())],
        ..FaultAction::answer(429, "too many requests")
    };
    stage.simulator.control().fault(Fault::always("*", answer));
    // By the clock of the ledger, whose milliseconds are cut off.
    until_probed(&stage, RETRY_AFTER * 1000 - 20, 3).await;
    until_gauge(&stage, 1).await;
    assert_held_back(&stage, "Throttled").await;
    until_connection(&stage, "Unknown", "Throttled").await;
    let refused = refused(&stage);
    let burst = refused.iter().filter(|at| **at < RETRY_AFTER * 1000 - 20).count();
    assert!(burst <= IN_FLIGHT, "{burst} were in flight: {refused:?}");
    let probes = &refused[burst..];
    assert!(
        probes
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= RETRY_AFTER * 1000 - 20),
        "{refused:?}"
    );
    assert_goes_on(&stage).await;
}

#[tokio::test]
async fn a_gateway_that_is_dead_is_asked_ever_more_rarely_and_by_one_at_a_time() {
    let stage = busy().await;
    stage
        .simulator
        .control()
        .fault(Fault::always("*", FaultAction::cut(Cut::RequestLost)));
    // The fourth pause, of 8 s or half of that.
    until_probed(&stage, 3_980, 1).await;
    until_gauge(&stage, 1).await;
    assert_held_back(&stage, "RemoteUnavailable").await;
    until_connection(&stage, "Unknown", "RemoteUnavailable").await;
    let refused = refused(&stage);
    let probes = refused.iter().filter(|at| **at >= 480).count();
    assert!(probes <= 8, "{refused:?}");
    assert!(refused.len() <= IN_FLIGHT + 8, "{refused:?}");
    assert_goes_on(&stage).await;
}
