use serde_json::json;

use super::*;
use crate::{controllers::fetch_jobs::testing, gateway::EncodedBranch};

fn object(files: &serde_json::Value) -> ArtifactFetch {
    let mut spec = json!({"source": {"buildRequestRef": {"name": "b"}}});
    spec.as_object_mut()
        .unwrap()
        .extend(files.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch",
        "metadata": {"name": "files", "namespace": "team", "uid": "u", "generation": 2}, "spec": spec,
    }))
    .unwrap()
}

fn target() -> Target {
    serde_json::from_value::<RunPlan>(json!({
        "cluster": "east", "project": "shopx7k2p", "pipeline": "web", "branch": "feature%2Fx", "id": "7", "name": "web-1",
    }))
    .map(|plan| Target {
        connection: "ks".into(),
        cluster: plan.cluster.clone(),
        project: plan.project.clone(),
        run: plan.run_ref(),
        run_name: plan.name.clone(),
        revision: "shopx7k2p/web/feature/x#7".into(),
        incarnation: "t".into(),
    })
    .unwrap()
}

#[test]
fn the_pod_is_told_which_run() {
    let told = run(&target());
    assert_eq!(told.run_ref(), target().run);
    assert_eq!(
        told.branch,
        Some(EncodedBranch::from_remote("feature%2Fx".to_owned()))
    );
    assert_eq!(
        (told.cluster.as_deref(), told.name.as_deref()),
        (Some("east"), Some("web-1"))
    );
}

#[test]
fn the_pod_is_told_which_files_and_bounds() {
    let volume = json!({"volume": {"claimName": "data", "subPath": "shop/latest"}});
    let usual = task(&object(&json!({"destination": volume})), &target()).unwrap();
    assert_eq!((usual.max_bytes, usual.max_files), (UNBOUNDED, 1000));
    assert_eq!(
        (usual.include.as_slice(), usual.prune),
        (["**".to_owned()].as_slice(), true)
    );
    assert_eq!(usual.parallel, Parallel::default());
    let own = object(&json!({
        "destination": volume, "maxBytes": 7, "maxFiles": 8, "prune": false, "parallel": 2, "exclude": ["*.tmp"],
        "verify": [{"path": "a", "sha256": "0".repeat(64)}],
    }));
    let own = task(&own, &target()).unwrap();
    assert_eq!((own.max_bytes, own.max_files, own.prune), (7, 8, false));
    assert_eq!(
        (own.parallel.get(), own.exclude.len(), own.verify.len()),
        (2, 1, 1)
    );
    let globs = object(&json!({"destination": volume, "include": ["[z-a]"]}));
    assert_eq!(
        task(&globs, &target()).expect_err("no glob").reason,
        Reason::InvalidSpec
    );
}

#[test]
fn what_is_on_the_volume_counts_wherever_the_files_go_and_is_told_apart_by_content() {
    let of = |files: serde_json::Value| task(&object(&files), &target()).unwrap().selection_digest;
    let here = of(json!({"destination": {"volume": {"claimName": "a"}}}));
    assert_eq!(
        here,
        of(json!({"destination": {"volume": {"claimName": "b"}}, "prune": false, "maxFiles": 7}))
    );
    assert_ne!(
        here,
        of(json!({"destination": {"volume": {"claimName": "a"}}, "include": ["x"]}))
    );
    // The status tells places apart, and whether old files were to go.
    let of = |files: serde_json::Value| selection_digest(&object(&files), &target());
    let here = of(json!({"destination": {"volume": {"claimName": "a"}}}));
    for other in [
        json!({}),
        json!({"destination": {"volume": {"claimName": "b"}}}),
        json!({"destination": {"volume": {"claimName": "a", "subPath": "x"}}}),
        json!({"destination": {"volume": {"claimName": "a"}}, "prune": false}),
    ] {
        assert_ne!(here, of(other.clone()), "{other}");
    }
}

#[test]
fn what_a_job_brought_is_what_the_status_tells() {
    let volume: VolumeDestination =
        serde_json::from_value(json!({"claimName": "data", "subPath": "x"})).unwrap();
    let job = JobSeen::of(&testing::job("s", 1, &json!({})));
    let success: Success = serde_json::from_value(json!({
        "revision": "shopx7k2p/build#7", "files": 2000, "bytes": 20_000,
        "stored": {"artifacts": {
            "manifest": ".tenantry/artifactfetch.files.json", "reused": 0, "pruned": 0,
            "listed": [{"path": "out/a", "size": 10, "sha256": "0".repeat(64)}],
        }},
    }))
    .unwrap();
    let fetched = fetched(&job, &volume, success).unwrap();
    assert_eq!(
        (fetched.count, fetched.bytes, fetched.selection.as_str()),
        (2000, 20_000, "s")
    );
    assert_eq!(fetched.files[0].path, "out/a");
    assert_eq!(
        fetched.place,
        Place::Volume(VolumeStatus {
            claim_name: "data".into(),
            sub_path: Some("x".into()),
            manifest: ".tenantry/artifactfetch.files.json".into(),
        })
    );
    let log = serde_json::from_value(json!({
        "revision": "r", "files": 1, "bytes": 1, "stored": {"log": {"path": "p", "sha256": "0"}},
    }));
    assert_eq!(super::fetched(&job, &volume, log.unwrap()), None);
}
