//! The API server refuses what the operator writes: by a webhook, by a quota.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, ResourceQuota};
use serde_json::{Value, json};
use tenantry::api::ArtifactFetch;
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::{
    common::{Setup, condition, describe, phase_of},
    stage::Behind,
    webhook::{WORDS, Webhook},
};

/// Waits for an Event about `name` that holds these words.
/// Waits for an Event about an object with all these words.
pub async fn until_told(stage: &Behind, name: &str, words: &[&str]) {
    let told = wait_for(
        &format!("an Event about {name} with {words:?}"),
        PATIENCE,
        async || {
            let events = stage.events(name).await;
            let told = events
                .iter()
                .any(|event| words.iter().all(|word| event.contains(word)));
            Ok(Seen::when(told, || format!("{events:#?}")))
        },
    )
    .await;
    told.unwrap_or_else(|e| panic!("{e:#}"));
}

/// Waits until the webhook has refused so much: the operator has tried again.
async fn until_refused(webhook: &Webhook, times: usize) {
    let refused = wait_for(&format!("{times} refusals"), PATIENCE, async || {
        let refused = webhook.refused();
        Ok(Seen::when(refused >= times, || format!("{refused}")))
    })
    .await;
    refused.unwrap_or_else(|e| panic!("{e:#}"));
}

fn state_is(object: &Value, state: &str) -> bool {
    object["status"]["run"]["state"] == state
}

#[tokio::test]
async fn a_webhook_that_refuses_the_intent_has_nothing_sent() {
    let mut stage = Behind::new().await;
    let webhook = Webhook::register(&stage).await;
    webhook.refuse(|review| review.resource == "buildrequests/status" && state_is(&review.object, "Sending"));
    stage.long_build("held", json!({})).await;
    until_told(&stage, "held", &[WORDS]).await;
    until_refused(&webhook, 3).await;
    assert_eq!(
        stage.builds_for("held"),
        Vec::<u64>::new(),
        "nothing that is not written down"
    );
    webhook.let_pass();
    stage.finish("held", "SUCCESS").await;
    stage.assert_built_once_and_whole("held").await;
    webhook.unregister().await;
    stage.assert_same_operator_is_ready().await;
}

#[tokio::test]
async fn a_webhook_that_refuses_the_record_has_nothing_built_twice() {
    let mut stage = Behind::new().await;
    let webhook = Webhook::register(&stage).await;
    webhook.refuse(|review| {
        review.resource == "buildrequests/status"
            && (state_is(&review.object, "Submitted") || state_is(&review.object, "Started"))
    });
    stage.long_build("sent", json!({})).await;
    until_told(&stage, "sent", &[WORDS]).await;
    until_refused(&webhook, 5).await;
    assert_eq!(stage.builds_for("sent").len(), 1);
    // It ends before anybody may write down that it was begun.
    stage.finish("sent", "SUCCESS").await;
    webhook.let_pass();
    stage.assert_built_once_and_whole("sent").await;
    webhook.unregister().await;
    stage.assert_same_operator_is_ready().await;
}

#[tokio::test]
async fn a_webhook_that_refuses_logs_files_and_jobs_is_told_of_and_waited_for() {
    let setup = Setup {
        args: vec!["--fetcher-image".into(), "registry.invalid/tenantry:1".into()],
        ..Setup::default()
    };
    let mut stage = Behind::with(&["stalled-resync=2s"], setup).await;
    stage
        .apply::<PersistentVolumeClaim>(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }))
        .await;
    let webhook = Webhook::register(&stage).await;
    webhook.refuse(|review| review.resource == "configmaps");
    stage.long_build("logs", json!({})).await;
    stage.until_running("logs").await;
    // While it runs its log is a courtesy: told, and no trouble of the build.
    until_told(&stage, "logs", &["not stored while the build runs", WORDS]).await;
    let running = stage.get("logs").await;
    assert_eq!(condition(&running, "Stalled").0, "", "{}", describe(&running));
    stage.finish("logs", "SUCCESS").await;
    let (object, message) = stage.until_stalled("logs", "StorageUnavailable").await;
    assert!(
        message.contains(WORDS) && message.contains("change that policy"),
        "{message}"
    );
    assert_ne!(phase_of(&object), None);

    // One after the other: logs pass, then the fetch is refused, then its files, then its status.
    webhook.refuse(|review| review.resource == "artifactfetches");
    let (_, message) = {
        let object = stage
            .until("logs", "the refusal of the fetch", |o| {
                condition(o, "Stalled").2.contains("ArtifactFetch")
            })
            .await;
        let message = condition(&object, "Stalled").2;
        (object, message)
    };
    assert!(message.contains(WORDS), "{message}");
    webhook.refuse(|review| {
        review.resource == "configmaps"
            && review.object["metadata"]["labels"]["tenantry.dev/content"] == "files"
    });
    let fetch = stage.until_fetch("logs-artifacts", "Stalled", "True").await;
    let fetch = serde_json::to_string(&fetch.status).expect("JSON");
    assert!(fetch.contains(WORDS), "{fetch}");
    webhook.refuse(|review| review.resource == "artifactfetches/status");
    until_told(&stage, "logs-artifacts", &["write the status", WORDS]).await;
    webhook.let_pass();
    stage.assert_built_once_and_whole("logs").await;

    // And Jobs: the files of another go onto a volume.
    webhook.refuse(|review| review.resource == "jobs");
    stage
        .apply::<ArtifactFetch>(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch", "metadata": {"name": "volume"},
            "spec": {
                "source": {"buildRequestRef": {"name": "logs"}},
                "destination": {"volume": {"claimName": "data"}},
            },
        }))
        .await;
    let fetch = stage.until_fetch("volume", "Stalled", "True").await;
    let fetch = serde_json::to_string(&fetch.status).expect("JSON");
    assert!(fetch.contains(WORDS), "{fetch}");
    webhook.let_pass();
    let made = wait_for("the Job to be made", PATIENCE, async || {
        let jobs = stage
            .api::<k8s_openapi::api::batch::v1::Job>()
            .list(&Default::default())
            .await?;
        Ok(Seen::when(jobs.items.len() == 1, || {
            format!("{} Jobs", jobs.items.len())
        }))
    })
    .await;
    made.unwrap_or_else(|e| panic!("{e:#}"));
    webhook.unregister().await;
    stage.assert_same_operator_is_ready().await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_of_and_the_rest_comes_when_it_is_raised() {
    let mut stage = Behind::tuned(&["stalled-resync=2s"]).await;
    let maps = stage.api::<ConfigMap>();
    let there = maps.list(&Default::default()).await.expect("a list").items.len();
    // Room for the log, and none for the files.
    let quota = |room: usize| {
        json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
            "spec": {"hard": {"count/configmaps": (there + room).to_string()}},
        })
    };
    let heeded = async |room: usize| {
        stage.apply::<ResourceQuota>(quota(room)).await;
        let wanted = (there + room).to_string();
        let what = format!("a quota of {wanted} to be heeded");
        let seen = wait_for(&what, PATIENCE, async || {
            let quota = stage.api::<ResourceQuota>().get("few").await?;
            let hard = quota.status.and_then(|status| status.hard).unwrap_or_default();
            let hard = hard.get("count/configmaps").map(|quantity| quantity.0.clone());
            Ok(Seen::when(hard.as_deref() == Some(&*wanted), || {
                format!("{hard:?}")
            }))
        })
        .await;
        seen.unwrap_or_else(|e| panic!("{e:#}"));
    };
    heeded(0).await;
    stage.long_build("b", json!({})).await;
    stage.until_running("b").await;
    until_told(&stage, "b", &["exceeded quota", "raise the namespace's quota"]).await;
    stage.finish("b", "SUCCESS").await;
    let (_, message) = stage.until_stalled("b", "StorageUnavailable").await;
    assert!(message.contains("raise the namespace's quota"), "{message}");
    heeded(1).await;
    let object = stage
        .until("b", "its files to wait", |o| {
            condition(o, "Stalled").1 == "ArtifactsFailed"
        })
        .await;
    let (_, _, message) = condition(&object, "Stalled");
    assert!(message.contains("raise the namespace's quota"), "{message}");
    assert_eq!(condition(&object, "LogsArchived").0, "True");
    heeded(2).await;
    stage.assert_built_once_and_whole("b").await;
    stage.assert_same_operator_is_ready().await;
}
