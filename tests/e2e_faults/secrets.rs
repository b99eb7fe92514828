//! A Secret that comes late, goes and comes back.

use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use tenantry::api::{BuildRequest, TenantConnection};
use tenantry_test_support::wait_condition;

use crate::{
    common::{CONNECTION, PASSWORD, Setup, condition, phase_of},
    stage::Behind,
};

/// Times so long that nothing but a watch can bring an object forward.
const NEVER: [&str; 4] = [
    "stalled-resync=3600s",
    "connection-resync=3600s",
    "backoff-first=3600s",
    "backoff-cap=3600s",
];

async fn delete_login(stage: &Behind) {
    stage
        .api::<Secret>()
        .delete("login", &DeleteParams::default())
        .await
        .expect("it was there");
}

/// Waits until the object says that it waits for the Secret, in words that name it.
async fn until_it_waits(stage: &Behind, name: &str) -> BuildRequest {
    stage
        .until(name, "Stalled, naming the Secret", |o| {
            let (status, reason, message) = condition(o, "Stalled");
            status == "True" && reason == "ReferenceNotFound" && message.contains("login")
        })
        .await
}

#[tokio::test]
async fn a_secret_that_comes_late_is_waited_for_and_taken_up_at_once() {
    let mut stage = Behind::with(&NEVER, Setup::default()).await;
    wait_condition(&stage.api::<TenantConnection>(), CONNECTION, "Ready", "True")
        .await
        .expect("ready");
    delete_login(&stage).await;
    wait_condition(&stage.api::<TenantConnection>(), CONNECTION, "Stalled", "True")
        .await
        .expect("stalled");
    stage.long_build("waits", json!({})).await;
    let object = until_it_waits(&stage, "waits").await;
    assert_eq!(condition(&object, "Ready").0, "False");
    assert_eq!(stage.built("build"), 0);
    stage
        .secret(
            "login",
            &[("username", crate::common::USER), ("password", PASSWORD)],
        )
        .await;
    stage.until_running("waits").await;
    stage.finish("waits", "SUCCESS").await;
    stage.assert_built_once_and_whole("waits").await;
    stage.assert_same_operator_is_ready().await;
}

#[tokio::test]
async fn a_secret_that_goes_while_a_build_runs_and_comes_back_loses_nothing() {
    let mut stage = Behind::with(&NEVER, Setup::default()).await;
    stage.long_build("runs", json!({})).await;
    let running = stage.until_running("runs").await;
    delete_login(&stage).await;
    let object = until_it_waits(&stage, "runs").await;
    assert_eq!(phase_of(&object), phase_of(&running), "unknown is not failed");
    assert_eq!(condition(&object, "Succeeded").0, "Unknown");
    // It ends while nobody can look.
    stage.finish("runs", "SUCCESS").await;
    stage
        .secret(
            "login",
            &[("username", crate::common::USER), ("password", PASSWORD)],
        )
        .await;
    stage.assert_built_once_and_whole("runs").await;
    stage.assert_same_operator_is_ready().await;
}
