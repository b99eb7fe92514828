//! A namespace that goes, with all that is in it at once: builds, connection and Secret.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::json;
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::{
    common::{PROJECT, Setup},
    stage::Behind,
};

#[tokio::test]
async fn a_namespace_that_goes_takes_its_builds_along_as_their_policies_have_it() {
    // Nobody waits for this deadline: what has to be done is done.
    let mut stage = Behind::with(&["cleanup-deadline=3600s"], Setup::default()).await;
    for (name, policy) in [("kept", "Retain"), ("stopped", "Abort"), ("removed", "Delete")] {
        stage.long_build(name, json!({"deletionPolicy": policy})).await;
        stage.until_running(name).await;
    }
    let numbers = ["kept", "stopped", "removed"].map(|name| stage.assert_built_once(name));
    let namespaces: Api<Namespace> = Api::all(stage.client.clone());
    namespaces
        .delete(&stage.namespace, &DeleteParams::default())
        .await
        .expect("it is there");
    let gone = wait_for("the namespace to go", PATIENCE, async || {
        let left = namespaces.get_opt(&stage.namespace).await?;
        let conditions = left
            .as_ref()
            .and_then(|n| n.status.as_ref())
            .map(|s| s.conditions.clone());
        Ok(Seen::when(left.is_none(), || format!("{conditions:?}")))
    })
    .await;
    gone.unwrap_or_else(|e| panic!("{e:#}"));

    let control = stage.simulator.control();
    let builds = control.builds(PROJECT, "build").expect("builds");
    let result = |number: u64| {
        let build = builds.iter().find(|build| build.number == number);
        build.map(|build| (build.state.clone(), build.result.clone()))
    };
    let kept = result(numbers[0]).expect("it is there");
    assert_ne!(kept.0, "FINISHED", "{kept:?}");
    assert_eq!(
        result(numbers[1]).map(|build| build.1).as_deref(),
        Some("ABORTED")
    );
    // The remote's controller removes a build with its run.
    let removed = result(numbers[2]);
    assert!(
        removed.as_ref().is_none_or(|build| build.1 == "ABORTED"),
        "{removed:?}"
    );
    assert_eq!(control.runs(PROJECT).len(), 2, "of three runs one is removed");
    for name in ["kept", "stopped", "removed"] {
        assert_eq!(stage.builds_for(name).len(), 1, "{name}");
    }
    stage.assert_same_operator_is_ready().await;
}
