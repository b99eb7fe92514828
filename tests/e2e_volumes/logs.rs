//! Logs onto volumes.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tenantry::fetcher::{outcome::FailureKind, plan::Task};

use crate::{common::condition, kubelet::End, plan, volume_stage, volume_stage_with};

#[tokio::test]
async fn the_whole_log_of_a_build_goes_into_a_file_of_its_own() {
    let stage = volume_stage().await;
    stage.claim("logs").await;
    stage.secret("deploy", &[("token", "canary-7d1f")]).await;
    stage
        .build(
            "b",
            json!({
                "parameters": [
                {"name": "VERSION", "valueFrom": {"secretKeyRef": {"name": "deploy", "key": "token"}}},
                {"name": "DURATION", "value": "1"}, {"name": "RESULT", "value": "FAILURE"}],
                "logs": {"destination": {"volume": {"claimName": "logs", "subPath": "shop"}}, "tailLines": 3},
            }),
        )
        .await;
    let job = stage.until_attempt(1).await;
    let Task::Log(task) = plan(&job).task else {
        panic!("{:?}", plan(&job))
    };
    let run = stage.get("b").await.status.unwrap().run.unwrap();
    let file = format!("b-{}-{}.log", run.id.unwrap(), &run.token[..8]);
    assert_eq!((task.file_name.as_str(), task.tail_lines), (file.as_str(), 3));
    // What the log must not show is mounted, not told.
    assert_eq!(task.masks, 1);
    let text = serde_json::to_string(&job).unwrap();
    assert!(
        text.contains("\"deploy\"") && !text.contains("canary-7d1f"),
        "{text}"
    );
    let waits = stage
        .until("b", "it tells of the Job", |object| {
            let log = object.status.as_ref().and_then(|status| status.log.as_ref());
            log.is_some_and(|log| log.job == Some(job.name_any()) && !log.complete)
        })
        .await;
    assert_eq!(condition(&waits, "Reconciling").1, "Collecting");

    // A full disk is said, and another Job follows.
    stage
        .ends(
            &stage.until_pod(&job).await,
            &End::failed(FailureKind::DiskFull, "claim logs is full"),
        )
        .await;
    let (_, message) = stage.until_stalled("b", "VolumeFull").await;
    assert_eq!(message, "claim logs is full");
    let job = stage.until_attempt(2).await;
    let path = format!("shop/{file}");
    let end = End::log("r", &path, "one\ntwo\nthree\n");
    stage.ends(&stage.until_pod(&job).await, &end).await;
    let (object, _) = stage.until_stalled("b", "BuildFailed").await;
    let (status, reason, message) = condition(&object, "LogsArchived");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "LogStored"));
    assert_eq!(message, format!("200000000 bytes are on claim logs, file {path}"));
    let status = object.status.unwrap();
    let log = status.log.unwrap();
    assert_eq!(
        (log.bytes, log.complete, log.truncated, &log.job),
        (200_000_000, true, false, &None)
    );
    assert_eq!(log.volume.unwrap().path, path);
    assert_eq!(
        status.failure.unwrap().log_tail.as_deref(),
        Some("one\ntwo\nthree\n")
    );
    assert!(stage.jobs().await.len() <= 2);
}

#[tokio::test]
async fn a_log_that_is_to_go_elsewhere_by_now_leaves_no_job() {
    let stage = volume_stage().await;
    stage.claim("logs").await;
    let volume = json!({"volume": {"claimName": "logs"}});
    let parameters = json!([{"name": "DURATION", "value": "1"}]);
    stage
        .build(
            "b",
            json!({"parameters": parameters, "logs": {"destination": volume}}),
        )
        .await;
    let job = stage.until_attempt(1).await;
    stage
        .until("b", "it tells of the Job", |object| {
            let log = object.status.as_ref().and_then(|status| status.log.as_ref());
            log.is_some_and(|log| log.job == Some(job.name_any()))
        })
        .await;
    stage
        .patch("b", json!({"spec": {"logs": {"destination": {"volume": null}}}}))
        .await;
    let log = stage.until_ready("b").await.status.unwrap().log.unwrap();
    assert!(
        log.complete && log.job.is_none() && log.volume.is_none(),
        "{log:?}"
    );
    assert!(!log.config_maps.is_empty(), "{log:?}");
    let left = stage.jobs().await;
    assert!(left.is_empty(), "{left:?}");

    // And back: the next run's log is on the volume, and the earlier one's is nowhere else.
    stage
        .patch("b", json!({"spec": {"logs": {"destination": volume}}}))
        .await;
    stage.rerun("b", "once more").await;
    let job = stage.until_attempt(1).await;
    let end = End::log(&plan(&job).revision, "b.log", "");
    stage.ends(&stage.until_pod(&job).await, &end).await;
    let archived = stage
        .until("b", "its log is on the volume", |object| {
            let log = object.status.as_ref().and_then(|status| status.log.as_ref());
            log.is_some_and(|log| log.complete && log.volume.is_some())
        })
        .await;
    assert_eq!(
        archived.status.unwrap().log.unwrap().config_maps,
        Vec::<String>::new()
    );
    for name in &log.config_maps {
        assert!(
            stage
                .api::<ConfigMap>()
                .get_opt(name)
                .await
                .expect("an answer")
                .is_none(),
            "{name} is of no use any more"
        );
    }
}

#[tokio::test]
async fn files_and_log_of_one_build_go_onto_volumes_side_by_side() {
    let stage = volume_stage().await;
    stage.claim("data").await;
    let volume = json!({"volume": {"claimName": "data"}});
    stage
        .build("b", json!({
            "parameters": [{"name": "DURATION", "value": "1"}, {"name": "ARTIFACTS", "value": "out/a.txt:10"}],
            "logs": {"destination": volume}, "artifacts": {"destination": volume},
        }))
        .await;
    let of = |content: &'static str| {
        move |job: &k8s_openapi::api::batch::v1::Job| {
            job.labels()
                .get("tenantry.dev/content")
                .is_some_and(|c| c == content)
        }
    };
    let log = stage.until_job("for the log", of("log")).await;
    let revision = plan(&log).revision;
    stage
        .ends(&stage.until_pod(&log).await, &End::log(&revision, "b.log", ""))
        .await;
    let files = stage.until_job("for the files", of("files")).await;
    assert_eq!(plan(&files).revision, revision);
    stage
        .ends(&stage.until_pod(&files).await, &End::files(&revision))
        .await;
    let object = stage.until_ready("b").await;
    assert_eq!(condition(&object, "LogsArchived").0, "True");
    assert_eq!(condition(&object, "ArtifactsStored").0, "True");
}

#[tokio::test]
async fn a_build_ends_well_although_its_claim_comes_late() {
    // It does not go on because somebody looks again one day.
    let stage = volume_stage_with(&["--tune", "stalled-resync=1h"]).await;
    let volume = json!({"volume": {"claimName": "late"}});
    stage
        .build("b", json!({
            "parameters": [{"name": "DURATION", "value": "1"}, {"name": "ARTIFACTS", "value": "out/a.txt:10"}],
            "logs": {"destination": volume}, "artifacts": {"destination": volume},
        }))
        .await;
    let (_, message) = stage.until_stalled("b", "ClaimNotFound").await;
    assert!(message.contains("create it"), "{message}");
    stage.claim("late").await;
    let of = |content: &'static str| {
        move |job: &k8s_openapi::api::batch::v1::Job| job.labels()["tenantry.dev/content"] == content
    };
    let log = stage.until_job("for the log", of("log")).await;
    let revision = plan(&log).revision;
    stage
        .ends(&stage.until_pod(&log).await, &End::log(&revision, "b.log", ""))
        .await;

    // The files: a person has to make room, and is told so by the BuildRequest too.
    let files = stage.until_job("for the files", of("files")).await;
    let full = End::failed(FailureKind::DiskFull, "claim late is full: make room");
    stage.ends(&stage.until_pod(&files).await, &full).await;
    let (held, message) = stage.until_stalled("b", "ArtifactsFailed").await;
    assert!(message.contains("claim late is full: make room"), "{message}");
    assert_eq!(condition(&held, "Succeeded").0, "Unknown", "it is not over");
    let asked = json!({"metadata": {"annotations": {"tenantry.dev/reconcile-requested-at": "room"}}});
    stage
        .api::<tenantry::api::ArtifactFetch>()
        .patch("b-artifacts", &PatchParams::default(), &Patch::Merge(&asked))
        .await
        .expect("asked");
    let again = stage
        .until_job("after there is room", |job| {
            of("files")(job) && job.metadata.uid != files.metadata.uid
        })
        .await;
    stage
        .ends(&stage.until_pod(&again).await, &End::files(&revision))
        .await;
    let object = stage.until_ready("b").await;
    assert_eq!(condition(&object, "ArtifactsStored").0, "True");
}
