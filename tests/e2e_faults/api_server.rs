//! The API server goes away and comes back.

use serde_json::json;
use tenantry_simulator::Role;
use tenantry_test_support::{ApiAction, ApiFault, PATIENCE, Seen, Select, wait_for};

use crate::{
    common::{Setup, world},
    stage::{Behind, own_cluster},
};

/// It is killed and started again while one build runs, while another has just been sent and that is about to be written
/// down, and while a third ends on the remote.
async fn restarts(role: Role) {
    let (cluster, _turn) = own_cluster().await;
    let mut stage = Behind::with(
        &[],
        Setup {
            world: world(role),
            cluster: Some(cluster),
            ..Setup::default()
        },
    )
    .await;
    for name in ["runs", "ends"] {
        stage.long_build(name, json!({})).await;
        stage.until_running(name).await;
    }
    // Decided, sent, and not written down: the answer to the write never comes.
    let record = Select::of("update buildrequests/status")
        .named("sent")
        .with_body(|o| o["status"]["run"]["state"] == "Submitted");
    stage.proxy.fault(ApiFault::once(record, ApiAction::Hang));
    stage.long_build("sent", json!({})).await;
    let caught = wait_for("the write to be on its way", PATIENCE, async || {
        let left = stage.proxy.faults();
        Ok(Seen::when(left == 0, || format!("{left} faults are left")))
    })
    .await;
    caught.unwrap_or_else(|e| panic!("{e:#}"));

    cluster.stop_apiserver().await.expect("it stops");
    // What a process that is killed does to its connections.
    stage.proxy.refuse().await;
    stage
        .until_readyz("the API server does not answer", |status, body| {
            status == 503 && body.contains("the API server does not answer")
        })
        .await;
    stage.finish("ends", "SUCCESS").await;
    cluster.start_apiserver().await.expect("it starts");
    stage.proxy.accept().await;
    stage.until_readyz("200", |status, _| status == 200).await;

    stage.assert_built_once_and_whole("ends").await;
    for name in ["runs", "sent"] {
        stage.finish(name, "SUCCESS").await;
        stage.assert_built_once_and_whole(name).await;
    }
    // A change that is only seen by a watch that was begun again.
    stage.long_build("later", json!({})).await;
    stage.finish("later", "SUCCESS").await;
    stage.assert_built_once_and_whole("later").await;
    stage.assert_same_operator_is_ready().await;
}

#[tokio::test]
async fn an_api_server_that_restarts_costs_no_build_and_the_operator_lives_on() {
    restarts(Role::tenant()).await;
}

#[tokio::test]
async fn an_api_server_that_restarts_costs_no_build_that_was_posted() {
    restarts(Role::tenant().without(&["pipelineruns"], &["create"])).await;
}
