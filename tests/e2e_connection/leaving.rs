//! How the operator leaves while a gateway keeps it waiting.

use std::process::Command;

use tenantry_simulator::{Fault, FaultAction};
use tenantry_test_support::{Operator, PATIENCE, Seen, wait_for};

use crate::common::{Setup, Stage};

/// A stage whose operator waits for an answer of the gateway that never comes.
async fn waiting(args: &[&str]) -> Stage {
    let mut stage = Stage::with(Setup {
        operator: false,
        args: args.iter().map(|&a| a.to_owned()).collect(),
        ..Setup::default()
    })
    .await;
    stage
        .simulator
        .control()
        .fault(Fault::always("oauth.token", FaultAction::hang()));
    stage.start_operator().await;
    let running = r#"tenantry_reconciles_running{kind="TenantConnection"} 1"#;
    let operator = stage.operator.as_ref().expect("an operator");
    wait_for("a reconcile to be in flight", PATIENCE, async || {
        let text = operator.metrics_text().await?;
        Ok(Seen::when(text.contains(running), || text))
    })
    .await
    .expect("in flight");
    stage
}

fn terminate(operator: &Operator) {
    let pid = operator.pid().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
    assert!(sent.success());
}

#[tokio::test]
async fn what_is_in_flight_is_given_up_after_the_grace() {
    let mut stage = waiting(&["--shutdown-grace", "1s"]).await;
    let operator = stage.operator.as_mut().expect("an operator");
    let status = operator.terminate().await.expect("left");
    assert!(status.success(), "{status}");
    let logs = operator.logs().expect("logs");
    assert!(logs.contains("leaving reconciles unfinished"), "{logs}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut stage = waiting(&["--shutdown-grace", "1h"]).await;
    let operator = stage.operator.as_mut().expect("an operator");
    terminate(operator);
    wait_for("the first signal to be heard", PATIENCE, async || {
        let answer = operator.readyz().await?;
        Ok(Seen::when(answer.body.contains("stopping"), || {
            format!("{answer:?}")
        }))
    })
    .await
    .expect("heard");
    assert!(
        operator.exited().expect("known").is_none(),
        "it waits for what is in flight"
    );
    terminate(operator);
    let status = wait_for("it to leave", PATIENCE, async || {
        Ok(operator
            .exited()?
            .map_or_else(|| Seen::NotYet("it runs".into()), Seen::Done))
    })
    .await
    .expect("left");
    assert_eq!(status.code(), Some(130));
}
