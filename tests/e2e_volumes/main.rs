//! Volumes as destination on a real API server with the real Job controller and pod security `restricted`, without a node:
//! the suite says what a kubelet would. That the pods do their work on a node is the node suite's to prove.

#[path = "../common/mod.rs"]
mod common;
mod files;
mod kubelet;
mod logs;

use common::{Setup, Stage};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use kubelet::plan;
use serde_json::{Value, json};
use tenantry::api::{
    ArtifactFetch,
    conditions::{ConditionType, find},
};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

/// The image of the fetch Jobs; nobody pulls it here.
const IMAGE: &str = "registry.invalid/tenantry:1";

/// A stage whose namespace enforces pod security `restricted`, with these further arguments.
async fn stage(args: &[&str]) -> Stage {
    let mut stage = Stage::with(Setup {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        operator: false,
        ..Setup::default()
    })
    .await;
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    Api::<Namespace>::all(stage.client.clone())
        .patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(&labels))
        .await
        .expect("a label");
    stage.start_operator().await;
    stage
}

/// A stage that can fill volumes.
async fn volume_stage() -> Stage {
    volume_stage_with(&[]).await
}

/// The same, with these further arguments.
async fn volume_stage_with(more: &[&str]) -> Stage {
    let usual = [
        "--fetcher-image",
        IMAGE,
        "--tune",
        "fetch-interval=200ms",
        "--tune",
        "pod-deadline=3s",
    ];
    stage(&[&usual, more].concat()).await
}

impl Stage {
    /// Runs build `b` with two files to its end.
    async fn built_with_files(&self) -> String {
        self.build("b", json!({"parameters": [
            {"name": "DURATION", "value": "1"}, {"name": "ARTIFACTS", "value": "out/a.txt:10,out/b.txt:20"},
        ]}))
        .await;
        let built = self.until_ready("b").await;
        let run = built.status.expect("a status").run.expect("a run");
        format!("{}/{}#{}", run.project, run.pipeline, run.id.expect("a number"))
    }

    /// Applies ArtifactFetch `files` of build `b` into claim `data`; `more` is laid over that.
    async fn fetch(&self, more: Value) -> ArtifactFetch {
        let mut spec = json!({
            "source": {"buildRequestRef": {"name": "b"}},
            "destination": {"volume": {"claimName": "data", "subPath": "shop/latest"}},
        });
        spec.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        self.apply(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch", "metadata": {"name": "files"}, "spec": spec,
        }))
        .await
    }

    /// Changes it by merge patch.
    async fn change(&self, patch: Value) {
        let api = self.api::<ArtifactFetch>();
        api.patch("files", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("a change");
    }

    /// Waits until it has a condition with this reason.
    async fn until_reason(&self, kind: ConditionType, status: &str, reason: &str) -> (ArtifactFetch, String) {
        let api = self.api::<ArtifactFetch>();
        let what = format!("ArtifactFetch files: {}={status}:{reason}", kind.as_str());
        let fetch = wait_for(&what, PATIENCE, async || {
            let object = api.get("files").await?;
            let conditions = object.status.iter().flat_map(|status| status.conditions.clone());
            let conditions: Vec<_> = conditions.collect();
            let met = find(&conditions, kind).is_some_and(|c| c.status == status && c.reason == reason);
            Ok(if met {
                Seen::Done(object)
            } else {
                Seen::NotYet(serde_json::to_string(&object.status)?)
            })
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
        let conditions = &fetch.status.as_ref().expect("a status").conditions;
        let message = find(conditions, kind).expect("the condition").message.clone();
        (fetch, message)
    }
}
