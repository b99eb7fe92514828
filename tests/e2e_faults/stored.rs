//! What is stored is deleted or edited by hand, while the build runs and after its end.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tenantry::api::{BuildRequest, conditions::ConditionType};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::{
    common::{PROJECT, condition},
    refusals::until_told,
    stage::Behind,
};

/// Deletes a ConfigMap, or edits it.
async fn disturb(stage: &Behind, name: &str, edit: Option<&Value>) {
    let maps = stage.api::<ConfigMap>();
    match edit {
        None => maps.delete(name, &DeleteParams::default()).await.map(|_| ()),
        Some(edit) => maps
            .patch(name, &PatchParams::default(), &Patch::Merge(edit))
            .await
            .map(|_| ()),
    }
    .unwrap_or_else(|error| panic!("{name} {edit:?}: {error}"));
}

/// What may become of a ConfigMap with a log.
fn edits() -> [Option<Value>; 3] {
    [
        None,
        Some(json!({"data": {"log": "tampered"}})),
        Some(json!({"data": {"log": null}})),
    ]
}

async fn text(stage: &Behind, name: &str) -> Option<String> {
    let map = stage.api::<ConfigMap>().get_opt(name).await.expect("an answer")?;
    map.data?.remove("log")
}

#[tokio::test]
async fn a_log_that_is_deleted_or_edited_comes_back_while_it_grows_and_after_the_end() {
    let mut stage = Behind::new().await;
    stage.long_build("b", json!({})).await;
    stage.until_running("b").await;
    let stored = wait_for("a part of the log", PATIENCE, async || {
        Ok(Seen::when(text(&stage, "b-log").await.is_some(), || {
            "there is none".to_owned()
        }))
    })
    .await;
    stored.unwrap_or_else(|e| panic!("{e:#}"));
    // In the middle: at its end it is whole, whatever was done to it.
    disturb(&stage, "b-log", None).await;
    stage.finish("b", "SUCCESS").await;
    let object = stage.assert_built_once_and_whole("b").await;
    let whole = text(&stage, "b-log").await.expect("a log");

    for edit in edits() {
        disturb(&stage, "b-log", edit.as_ref()).await;
        let back = wait_for(
            &format!("the log to come back after {edit:?}"),
            PATIENCE,
            async || {
                let now = text(&stage, "b-log").await;
                Ok(Seen::when(now.as_ref() == Some(&whole), || {
                    format!("{:?}", now.map(|t| t.len()))
                }))
            },
        )
        .await;
        back.unwrap_or_else(|e| panic!("{e:#}"));
        let now = stage.assert_built_once_and_whole("b").await;
        assert_eq!(settled(&now), settled(&object), "what was settled stays");
    }
    stage.assert_same_operator_is_ready().await;
}

fn settled(object: &BuildRequest) -> [String; 2] {
    [ConditionType::Ready, ConditionType::Succeeded].map(|kind| condition(object, kind.as_str()).0)
}

#[tokio::test]
async fn a_log_that_cannot_be_had_again_is_said_to_be_gone_and_nothing_else_changes() {
    let mut stage = Behind::new().await;
    stage.long_build("b", json!({})).await;
    stage.finish("b", "SUCCESS").await;
    let before = stage.assert_built_once_and_whole("b").await;
    let number = stage.assert_built_once("b");
    stage
        .simulator
        .control()
        .vanish_build(PROJECT, "build", None, number)
        .expect("it is there");
    disturb(&stage, "b-log", None).await;
    let object = stage
        .until("b", "LogsArchived False", |o| {
            let (status, reason, message) = condition(o, "LogsArchived");
            status == "False" && reason == "LogUnavailable" && message.contains("b-log")
        })
        .await;
    assert_eq!(settled(&object), settled(&before), "the outcome stays");
    assert_eq!(stage.builds_for("b").len(), 1);
    until_told(&stage, "b", &["b-log"]).await;
    // What happens to it afterwards is its tenant's affair.
    stage.reconcile("b", "again").await;
    stage.assert_same_operator_is_ready().await;
}

#[tokio::test]
async fn files_that_are_deleted_while_the_log_is_brought_home_come_back() {
    let mut stage = Behind::new().await;
    stage.long_build("b", json!({})).await;
    stage.finish("b", "SUCCESS").await;
    let stored = wait_for("the files", PATIENCE, async || {
        let there = stage.api::<ConfigMap>().get_opt("b-artifacts").await?.is_some();
        Ok(Seen::when(there, || "they are not there".to_owned()))
    })
    .await;
    stored.unwrap_or_else(|e| panic!("{e:#}"));
    disturb(&stage, "b-artifacts", None).await;
    let back = wait_for("the files to be back", PATIENCE, async || {
        let there = stage.api::<ConfigMap>().get_opt("b-artifacts").await?.is_some();
        Ok(Seen::when(there, || "they are not there".to_owned()))
    })
    .await;
    back.unwrap_or_else(|e| panic!("{e:#}"));
    stage.assert_built_once_and_whole("b").await;
    stage.assert_same_operator_is_ready().await;
}
