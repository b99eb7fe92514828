//! ArtifactFetch on a real API server against the simulator: which files come home, from which run, over which rung, and
//! what is said where they do not.

#[path = "../common/mod.rs"]
mod common;
mod keeping;
mod refusals;
mod sources;
mod transfer;

use std::collections::BTreeMap;

use common::{PROJECT, Setup, Stage, USER, world};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tenantry::api::{
    ArtifactFetch, ArtifactFetchStatus,
    conditions::{ConditionType, find},
};
use tenantry_simulator::{Role, world::PipelineWorld};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

/// The files of pipeline `files`: what makes trouble in URLs, in keys, and in text.
const FILES: [(&str, &str); 10] = [
    ("out/app.txt", "application\n"),
    ("out.app.txt", "another that wants the same key\n"),
    ("out/a b.txt", "space\n"),
    ("out/a+b.txt", "plus\n"),
    ("out/a%20b.txt", "percent\n"),
    ("out/résumé ünï.txt", "ütf-8: é\n"),
    ("out/deep/er/x#y?z.txt", "hash and question mark\n"),
    ("out/empty", ""),
    ("out/nul.bin", "not\0text"),
    ("other/readme.md", "# other\n"),
];

/// A stage whose project also has the pipeline `files`.
async fn stage(role: Role) -> Stage {
    let mut world = world(role);
    let files = FILES.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let pipeline = PipelineWorld::regular("files").created_by(USER).script(|script| {
        script.duration = 1.0;
        script.artifacts = String::new();
        script.files = files.into();
    });
    world.projects[0].pipelines.push(pipeline);
    Stage::with(Setup {
        world,
        ..Setup::default()
    })
    .await
}

impl Stage {
    /// Runs a build of `pipeline` on the remote, not through us, to its end. Its number.
    async fn built_by_others(
        &self,
        pipeline: &str,
        branch: Option<&str>,
        parameters: &[(&str, &str)],
        result: &str,
    ) -> u64 {
        let control = self.simulator.control();
        let number = control
            .start_build(PROJECT, pipeline, branch, parameters)
            .expect("a build");
        control
            .finish_build(PROJECT, pipeline, branch, number, result)
            .expect("its end");
        let name = self.run_name(pipeline, number).await;
        wait_for(&format!("run {name} to end"), PATIENCE, async || {
            let run = control.object("pipelineruns", PROJECT, &name).unwrap_or_default();
            let ended = run.pointer("/status/completionTime").is_some();
            Ok(Seen::when(ended, || run["status"].to_string()))
        })
        .await
        .expect("the end of the run");
        number
    }

    /// The name of the PipelineRun of a build.
    async fn run_name(&self, pipeline: &str, number: u64) -> String {
        let number = number.to_string();
        let control = self.simulator.control();
        wait_for(
            &format!("a PipelineRun of {pipeline} #{number}"),
            PATIENCE,
            async || {
                let runs = control.runs(PROJECT);
                let found = runs.iter().find(|run| {
                    run["metadata"]["labels"]["devops.kubesphere.io/pipeline"] == pipeline
                        && run["metadata"]["annotations"]["devops.kubesphere.io/jenkins-pipelinerun-id"]
                            == number
                });
                Ok(found.map_or_else(
                    || Seen::NotYet(format!("{} runs", runs.len())),
                    |run| Seen::Done(run["metadata"]["name"].as_str().unwrap_or_default().to_owned()),
                ))
            },
        )
        .await
        .expect("a PipelineRun")
    }

    /// Applies an ArtifactFetch.
    async fn fetch(&self, name: &str, spec: Value) -> ArtifactFetch {
        self.apply(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch", "metadata": {"name": name}, "spec": spec,
        }))
        .await
    }

    /// Changes an ArtifactFetch by merge patch.
    async fn change(&self, name: &str, patch: Value) -> ArtifactFetch {
        let params = PatchParams::default();
        let api = self.api::<ArtifactFetch>();
        api.patch(name, &params, &Patch::Merge(&patch))
            .await
            .expect("a change")
    }

    /// Asks for a look now.
    async fn look_again(&self, name: &str, value: &str) {
        let annotations = json!({"tenantry.dev/reconcile-requested-at": value});
        self.change(name, json!({"metadata": {"annotations": annotations}}))
            .await;
        let handled = |fetch: &ArtifactFetch| {
            let status = fetch.status.as_ref();
            status.and_then(|s| s.last_handled_reconcile_at.as_deref()) == Some(value)
        };
        self.until_it("the look that was asked for", name, handled).await;
    }

    /// Waits until `is` holds of the ArtifactFetch.
    async fn until_it(&self, what: &str, name: &str, is: impl Fn(&ArtifactFetch) -> bool) -> ArtifactFetch {
        let api = self.api::<ArtifactFetch>();
        wait_for(&format!("ArtifactFetch {name}: {what}"), PATIENCE, async || {
            let object = api.get(name).await?;
            Ok(if is(&object) {
                Seen::Done(object)
            } else {
                Seen::NotYet(serde_json::to_string(&object.status)?)
            })
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Waits until it is ready with this spec. Its status.
    async fn fetched(&self, name: &str) -> ArtifactFetchStatus {
        let is_ready =
            |o: &ArtifactFetch| seen(o, ConditionType::Ready).is_some_and(|(status, ..)| status == "True");
        let object = self
            .until_it("Ready", name, |o| is_ready(o) && is_current(o))
            .await;
        object.status.expect("a status")
    }

    /// Waits until it is stalled for `reason` with this spec. The message.
    async fn refused(&self, name: &str, reason: &str) -> String {
        let is = |o: &ArtifactFetch| {
            is_current(o) && seen(o, ConditionType::Stalled).is_some_and(|(_, why, _)| why == reason)
        };
        let object = self.until_it(&format!("Stalled {reason}"), name, is).await;
        let ready = seen(&object, ConditionType::Ready).expect("Ready is always there");
        assert_eq!((ready.0.as_str(), ready.1.as_str()), ("False", reason), "{name}");
        ready.2
    }

    /// What is in the ConfigMap, by key.
    async fn content(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let map: ConfigMap = self.api().get(name).await.expect("the ConfigMap");
        let text = map
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, text)| (key, text.into_bytes()));
        let binary = map
            .binary_data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, bytes)| (key, bytes.0));
        text.chain(binary).collect()
    }

    async fn has_config_map(&self, name: &str) -> bool {
        self.api::<ConfigMap>()
            .get_opt(name)
            .await
            .expect("an answer")
            .is_some()
    }

    /// Requests that reached ks-devops or Jenkins for files: lists and downloads.
    fn file_requests(&self) -> (usize, usize) {
        let ledger = self.simulator.ledger();
        let proxied = ledger.requests("v2.proxy");
        let downloads = proxied.iter().filter(|r| r.path.contains("/artifact/")).count();
        (
            ledger.count("v2.run.artifacts"),
            downloads + ledger.count("v3.run.artifact"),
        )
    }
}

/// Status, reason and message of a condition.
fn seen(object: &ArtifactFetch, kind: ConditionType) -> Option<(String, String, String)> {
    let condition = find(&object.status.as_ref()?.conditions, kind)?;
    Some((
        condition.status.clone(),
        condition.reason.clone(),
        condition.message.clone(),
    ))
}

fn is_current(object: &ArtifactFetch) -> bool {
    object.status.as_ref().and_then(|s| s.observed_generation) == object.metadata.generation
}

/// A run of `pipeline` by coordinates.
fn run(pipeline: &str, which: &Value) -> Value {
    let mut run =
        json!({"connectionRef": {"name": common::CONNECTION}, "project": "shop", "pipeline": pipeline});
    let which = which.as_object().expect("an object").clone();
    run.as_object_mut().expect("an object").extend(which);
    json!({"run": run})
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// `n` files of `size` bytes, as the parameter ARTIFACTS takes them.
fn many(n: usize, size: usize) -> String {
    let files: Vec<_> = (0..n).map(|i| format!("out/f{i:03}.bin:{size}")).collect();
    files.join(",")
}
