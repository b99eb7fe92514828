//! Files onto volumes.

use kube::ResourceExt as _;
use serde_json::json;
use tenantry::{
    api::conditions::ConditionType::{Ready, Reconciling, Stalled},
    fetcher::{outcome::FailureKind, plan::Task},
};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::{kubelet::End, plan, stage, volume_stage, volume_stage_with};

#[tokio::test]
async fn a_job_that_restricted_namespaces_admit_brings_the_files() {
    let stage = volume_stage().await;
    let revision = stage.built_with_files().await;
    stage.claim("data").await;
    stage
        .fetch(json!({"include": ["out/**"], "maxBytes": 1_u64 << 40, "parallel": 2}))
        .await;

    let job = stage.until_attempt(1).await;
    let told = plan(&job);
    assert_eq!(told.revision, revision);
    assert_eq!(
        told.gateway.endpoint.as_str().trim_end_matches('/'),
        stage.simulator.url()
    );
    let Task::Artifacts(task) = &told.task else {
        panic!("{told:?}")
    };
    assert_eq!(
        (task.include.as_slice(), task.max_bytes),
        (["out/**".to_owned()].as_slice(), 1 << 40)
    );
    // That it is there at all says that the admission of `restricted` took it.
    let pod = stage.until_pod(&job).await;
    let spec = pod.spec.clone().unwrap();
    assert_eq!(spec.automount_service_account_token, Some(false));
    let text = serde_json::to_string(&(&job, &pod)).unwrap();
    assert!(
        !text.contains(crate::common::PASSWORD),
        "the Secret is mounted, not copied"
    );
    assert!(
        text.contains("\"secretName\":\"login\"") || text.contains("\"name\":\"login\""),
        "{text}"
    );

    stage.until_reason(Reconciling, "True", "Fetching").await;
    stage.runs(&pod).await;
    stage.ends(&pod, &End::files(&revision)).await;
    let (fetch, message) = stage.until_reason(Ready, "True", "ArtifactsStored").await;
    assert_eq!(
        message,
        format!("2 files (30 bytes) of {revision} on claim data, directory shop/latest")
    );
    let status = fetch.status.unwrap();
    assert_eq!(status.destination.as_deref(), Some("pvc/data:shop/latest"));
    assert_eq!(
        (status.file_count, status.total_bytes, status.job),
        (Some(2), Some(30), None)
    );
    assert_eq!(
        status.volume.unwrap().manifest,
        ".tenantry/artifactfetch.files.json"
    );
    assert_eq!(stage.jobs().await.len(), 1);

    // Asked to look again, another Job does that.
    let annotation = json!({"metadata": {"annotations": {"tenantry.dev/reconcile-requested-at": "now"}}});
    stage.change(annotation).await;
    let again = stage
        .until_job("besides the first", |other| other.name_any() != job.name_any())
        .await;
    assert_eq!(plan(&again), told);
    stage
        .ends(&stage.until_pod(&again).await, &End::files(&revision))
        .await;
    stage.until_reason(Ready, "True", "ArtifactsStored").await;
}

#[tokio::test]
async fn what_a_pod_says_ends_in_a_reason_and_what_can_be_mended_is_tried_again() {
    let stage = volume_stage().await;
    let revision = stage.built_with_files().await;
    stage.claim("data").await;
    stage.fetch(json!({})).await;
    let first = stage.until_attempt(1).await;
    let pod = stage.until_pod(&first).await;
    // Not the end of the Job: Kubernetes starts another pod.
    stage
        .ends(
            &pod,
            &End::failed(FailureKind::RemoteUnavailable, "Jenkins is away"),
        )
        .await;
    let (_, message) = stage.until_reason(Reconciling, "True", "RemoteUnavailable").await;
    assert!(
        message.contains("another pod follows") && message.contains("Jenkins is away"),
        "{message}"
    );
    // The end of the Job, by its policy; a person has to make room.
    let pod = stage.until_pod(&first).await;
    stage
        .ends(
            &pod,
            &End::failed(FailureKind::DiskFull, "claim data is full: make room"),
        )
        .await;
    let (fetch, message) = stage.until_reason(Stalled, "True", "VolumeFull").await;
    assert_eq!(message, "claim data is full: make room");
    assert_eq!(fetch.status.unwrap().failures, Some(1));
    // It is tried again by itself.
    let second = stage.until_attempt(2).await;
    assert_ne!(first.name_any(), second.name_any());
    stage
        .ends(&stage.until_pod(&second).await, &End::files(&revision))
        .await;
    let (fetch, _) = stage.until_reason(Ready, "True", "ArtifactsStored").await;
    assert_eq!(fetch.status.unwrap().failures, None);
}

#[tokio::test]
async fn what_is_so_for_good_is_not_tried_again_before_the_spec_changes() {
    let stage = volume_stage().await;
    let revision = stage.built_with_files().await;
    stage.claim("data").await;
    stage.fetch(json!({"include": ["nothing/**"]})).await;
    let job = stage.until_attempt(1).await;
    stage
        .ends(
            &stage.until_pod(&job).await,
            &End::failed(FailureKind::NoMatch, "no file matches"),
        )
        .await;
    stage.until_reason(Stalled, "True", "NoMatch").await;
    stage.change(json!({"spec": {"include": ["out/**"]}})).await;
    let other = stage
        .until_job("for the new spec", |other| other.name_any() != job.name_any())
        .await;
    assert_eq!(other.annotations()["tenantry.dev/attempt"], "1");
    stage
        .ends(&stage.until_pod(&other).await, &End::files(&revision))
        .await;
    stage.until_reason(Ready, "True", "ArtifactsStored").await;
    assert_eq!(stage.jobs().await.len(), 2, "none for the old spec after its end");
}

#[tokio::test]
async fn a_claim_that_is_not_there_or_never_binds_is_named() {
    // It is not found because somebody looks again one day.
    let stage = volume_stage_with(&["--tune", "stalled-resync=1h"]).await;
    stage.built_with_files().await;
    stage.fetch(json!({})).await;
    let (_, message) = stage.until_reason(Stalled, "True", "ClaimNotFound").await;
    assert!(
        message.contains("\"data\"") && message.contains("create it"),
        "{message}"
    );
    assert!(stage.jobs().await.is_empty());

    stage.claim("data").await;
    let pod = stage.until_pod(&stage.until_attempt(1).await).await;
    let words = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims";
    let unscheduled =
        json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words});
    stage.says(&pod, json!({"conditions": [unscheduled]})).await;
    let (_, message) = stage.until_reason(Stalled, "True", "ClaimNotBound").await;
    assert!(
        message.contains("\"by-hand\"") && message.contains(words),
        "{message}"
    );
    // It is not given up: the pod may start yet.
    assert_eq!(stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn suspend_stops_the_job_and_going_on_makes_another() {
    let stage = volume_stage().await;
    let revision = stage.built_with_files().await;
    stage.claim("data").await;
    stage.fetch(json!({})).await;
    let job = stage.until_attempt(1).await;
    let pod = stage.until_pod(&job).await;
    stage.runs(&pod).await;
    stage.change(json!({"spec": {"suspend": true}})).await;
    stage.until_reason(Ready, "False", "Suspended").await;
    wait_for("no Job", PATIENCE, async || {
        let left = stage.jobs().await.len();
        Ok(Seen::when(left == 0, || format!("{left} Jobs")))
    })
    .await
    .expect("the Job is gone");
    stage.change(json!({"spec": {"suspend": false}})).await;
    let other = stage.until_attempt(1).await;
    assert_ne!(other.uid(), job.uid());
    stage
        .ends(&stage.until_pod(&other).await, &End::files(&revision))
        .await;
    stage.until_reason(Ready, "True", "ArtifactsStored").await;
}

#[tokio::test]
async fn a_changed_spec_has_the_old_job_gone_before_the_new_one_begins() {
    let stage = volume_stage().await;
    let revision = stage.built_with_files().await;
    stage.claim("data").await;
    stage.fetch(json!({})).await;
    let old = stage.until_attempt(1).await;
    stage.runs(&stage.until_pod(&old).await).await;
    stage.change(json!({"spec": {"maxBytes": 1000}})).await;
    let api = stage.api::<k8s_openapi::api::batch::v1::Job>();
    let new = wait_for("the new Job", PATIENCE, async || {
        let all = api.list(&kube::api::ListParams::default()).await?.items;
        assert!(all.len() <= 1, "two at a time: {all:?}");
        let new = all.into_iter().find(|job| job.uid() != old.uid());
        Ok(new.map_or_else(|| Seen::NotYet("the old one".into()), Seen::Done))
    })
    .await
    .expect("a new Job");
    let Task::Artifacts(task) = plan(&new).task else {
        panic!()
    };
    assert_eq!(task.max_bytes, 1000);
    stage
        .ends(&stage.until_pod(&new).await, &End::files(&revision))
        .await;
    stage.until_reason(Ready, "True", "ArtifactsStored").await;
}

#[tokio::test]
async fn an_operator_without_an_image_says_what_its_administrator_must_set() {
    let stage = stage(&[]).await;
    stage.built_with_files().await;
    stage.claim("data").await;
    stage.fetch(json!({})).await;
    let (_, message) = stage.until_reason(Stalled, "True", "FetcherNotConfigured").await;
    assert!(message.contains("--fetcher-image"), "{message}");
}
