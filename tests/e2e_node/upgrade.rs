//! Builds go on while the operator is upgraded under them.

use serde_json::json;
use tenantry::api::build_request::BuildPhase;

use crate::{
    common::{Setup, parameters},
    node::{Installed, NEXT_TAG, Reach, node},
};

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn nothing_is_built_twice_and_no_log_is_lost_by_an_upgrade() {
    let (cluster, _alone) = node(Reach::Cluster).await;
    let setup = Setup {
        cluster: Some(cluster),
        ..Setup::default()
    };
    let installed = Installed::with(setup, Reach::Cluster, &[]).await;
    let stage = &installed.stage;
    let before = installed.pod().await;

    // One that is over, some that run, one that waits in Jenkins' queue, and one that has not been sent.
    let script = |version: &str, duration: &str, queue: &str| {
        parameters(&[
            ("VERSION", version),
            ("DURATION", duration),
            ("QUEUE", queue),
            ("LOG_BYTES", "30000"),
        ])
    };
    stage
        .build("over", json!({"parameters": script("0", "1", "0")}))
        .await;
    stage.until_ready("over").await;
    let running = ["running-1", "running-2", "running-3"];
    for name in running {
        stage
            .build(name, json!({"parameters": script(name, "400", "0")}))
            .await;
        stage.until_phase(name, BuildPhase::Running).await;
    }
    stage
        .build("queued", json!({"parameters": script("queued", "2", "400")}))
        .await;
    stage.until_phase("queued", BuildPhase::Queued).await;
    stage
        .build("waiting", json!({"parameters": script("waiting", "2", "0")}))
        .await;

    installed.release(NEXT_TAG, &[]).await;
    let after = installed.pod().await;
    assert_ne!(before.metadata.uid, after.metadata.uid, "the same pod");
    let image = after.spec.and_then(|s| s.containers.into_iter().next()?.image);
    assert!(
        image.as_deref().is_some_and(|i| i.ends_with(NEXT_TAG)),
        "{image:?}"
    );

    let all = ["over", "queued", "waiting"].into_iter().chain(running);
    for name in all.clone() {
        let object = stage.until_ready(name).await;
        let log = object.status.and_then(|s| s.log).expect("a log");
        assert!(log.complete && log.bytes == 30_000, "{name}: {log:?}");
    }
    assert_eq!(stage.built("build"), all.count());
    installed.uninstall().await;
}
