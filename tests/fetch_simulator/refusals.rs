//! Everything that can stand in the way, and that it harms nothing.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use serde_json::{Value, json};
use tenantry::fetcher::outcome::{AGAIN, FINAL, FailureKind};
use tenantry_simulator::{Fault, FaultAction, world::BuildScript};

use crate::bench::{Stage, numbered};

/// Fetches, and checks that it is refused in this way and that nothing became visible.
async fn refused(stage: &Stage, task: &Value, kind: FailureKind) -> String {
    let before = stage.visible();
    let ended = stage.fetch(task).await;
    let failure = ended.failure();
    assert_eq!(failure.kind, kind, "{failure}");
    assert_eq!(stage.visible(), before);
    failure.message
}

/// Makes the remote list something else.
fn list(stage: &Stage, files: &[(&str, u64)]) {
    let items: Vec<_> = files
        .iter()
        .map(|(path, size)| json!({"name": path, "path": path, "size": size, "downloadable": true, "url": "", "id": path}))
        .collect();
    let body = Value::from(items).to_string();
    let control = stage.simulator.control();
    control.fault(Fault::always("v2.run.artifacts", FaultAction::answer(200, &body)).after(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_leaves_the_revision_before_as_it_was() {
    let stage = Stage::with_files(&numbered(5)).await;
    stage.fetch(&json!({})).await.success();
    let manifest = stage.manifest();
    let mut other = numbered(6);
    other[0].1 = "changed".into();
    stage
        .build(BuildScript {
            files: other,
            ..BuildScript::default()
        })
        .await;
    let verify = json!([{"path": "f/0005.txt", "sha256": "0".repeat(64)}]);
    let message = refused(&stage, &json!({"verify": verify}), FailureKind::DigestMismatch).await;
    assert!(
        message.contains("f/0005.txt") && message.contains(&"0".repeat(64)),
        "{message}"
    );
    stage.holds(&numbered(5));
    assert_eq!(stage.manifest(), manifest, "the manifest stays true");
    assert_eq!(stage.staged(), 0, "nothing is left over");
    // The right one is taken.
    let sha256 = stage.manifest()["files"][1]["sha256"].clone();
    let verify = json!([{"path": "f/0001.txt", "sha256": sha256}]);
    stage.fetch(&json!({"verify": verify})).await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_known_before_it_is_fetched() {
    let stage = Stage::with_files(&numbered(10)).await;
    for (task, kind) in [
        (json!({"include": ["*.zip"]}), FailureKind::NoMatch),
        (json!({"maxFiles": 9}), FailureKind::TooManyFiles),
        (json!({"maxBytes": 50}), FailureKind::TooLarge),
        (
            json!({"verify": [{"path": "gone", "sha256": "0".repeat(64)}]}),
            FailureKind::VerifyPathMissing,
        ),
        (json!({"include": ["["]}), FailureKind::InvalidPlan),
    ] {
        refused(&stage, &task, kind).await;
    }
    assert_eq!(stage.simulator.ledger().count("v2.proxy"), 0);
    assert!(!stage.has_manifest());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_lies_about_sizes_gets_no_further_than_allowed() {
    let stage = Stage::with_noise("a.bin:50000").await;
    list(&stage, &[("a.bin", 10_000)]);
    refused(&stage, &json!({}), FailureKind::TooLarge).await;
    // No size is told, as of an empty file.
    stage.simulator.control().clear_faults();
    list(&stage, &[("a.bin", 0)]);
    refused(&stage, &json!({"maxBytes": 20_000}), FailureKind::TooLarge).await;
    assert_eq!(
        stage.fetch(&json!({"maxBytes": 60_000})).await.success().bytes,
        50_000
    );
    stage.simulator.control().clear_faults();
    list(&stage, &[("a.bin", 60_000)]);
    let ended = stage.fetch(&json!({"include": ["a*"]})).await;
    assert_eq!(
        (ended.failure().kind, ended.code),
        (FailureKind::RemoteUnavailable, i32::from(AGAIN))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_climbs_out_or_deceives_is_refused() {
    let stage = Stage::with_files(&numbered(1)).await;
    let long = "x".repeat(300);
    for path in ["a\u{202e}txt.exe", &long, "a\u{200b}"] {
        stage.simulator.control().clear_faults();
        list(&stage, &[("f/0000.txt", 11), (path, 5)]);
        refused(&stage, &json!({}), FailureKind::PathRefused).await;
    }
    for path in ["../out", "/etc/x", "a/../../x", "a\\b", "a//b"] {
        stage.simulator.control().clear_faults();
        list(&stage, &[("f/0000.txt", 11), (path, 5)]);
        refused(&stage, &json!({}), FailureKind::UnexpectedAnswer).await;
    }
    stage.simulator.control().clear_faults();
    list(&stage, &[("f", 5), ("f/0000.txt", 11)]);
    let message = refused(&stage, &json!({}), FailureKind::PathRefused).await;
    assert!(message.contains("no volume can hold"), "{message}");
    assert_eq!(stage.simulator.ledger().count("v2.proxy"), 0);
}

type Plant<'a> = &'a dyn Fn(&Stage);

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_symlink_is_neither_followed_nor_replaced() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("0000.txt"), "outside").unwrap();
    let plant: [(&str, Plant<'_>); 5] = [
        ("the file", &|stage| {
            fs::create_dir_all(stage.place("f")).unwrap();
            symlink(outside.path().join("0000.txt"), stage.place("f/0000.txt")).unwrap();
        }),
        ("its directory", &|stage| {
            fs::create_dir_all(stage.place("")).unwrap();
            symlink(outside.path(), stage.place("f")).unwrap();
        }),
        ("the sub-path", &|stage| {
            symlink(outside.path(), stage.volume.path().join("shop")).unwrap();
        }),
        ("a directory of the same volume", &|stage| {
            fs::create_dir_all(stage.place("g")).unwrap();
            symlink("g", stage.place("f")).unwrap();
        }),
        ("our own directory", &|stage| {
            symlink(outside.path(), stage.volume.path().join(".tenantry")).unwrap();
        }),
    ];
    for (what, plant) in plant {
        let stage = Stage::with_files(&numbered(2)).await;
        plant(&stage);
        let ended = stage.fetch(&json!({})).await;
        let failure = ended.failure();
        assert_eq!(failure.kind, FailureKind::PathRefused, "{what}: {failure}");
        assert!(failure.message.contains("symlink"), "{what}: {failure}");
        assert_eq!(
            stage.simulator.ledger().count("v2.proxy"),
            0,
            "{what}: nothing is fetched"
        );
        assert_eq!(
            fs::read_to_string(outside.path().join("0000.txt")).unwrap(),
            "outside"
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_where_a_directory_is_needed_is_refused_and_the_other_way_round() {
    let stage = Stage::with_files(&numbered(2)).await;
    stage.write("f", "a file");
    let message = refused(&stage, &json!({}), FailureKind::PathRefused).await;
    assert!(message.contains("no directory"), "{message}");
    fs::remove_file(stage.place("f")).unwrap();
    fs::create_dir_all(stage.place("f/0000.txt")).unwrap();
    let message = refused(&stage, &json!({}), FailureKind::PathRefused).await;
    assert!(message.contains("is a directory"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_or_is_not_known_is_told_what_to_do() {
    let stage = Stage::with_files(&numbered(1)).await;
    let mut plan = stage.plan(&json!({}));
    plan["run"]["id"] = json!("999");
    let ended = stage.fetch_plan(&plan).await;
    assert_eq!(
        (ended.failure().kind, ended.code),
        (FailureKind::RunNotFound, i32::from(FINAL))
    );
    stage
        .simulator
        .control()
        .set_role("demo2snmj", "alice", None)
        .unwrap();
    refused(&stage, &json!({}), FailureKind::AccessDenied).await;
    stage
        .simulator
        .control()
        .set_password("alice", "another")
        .unwrap();
    refused(&stage, &json!({}), FailureKind::CredentialsInvalid).await;
    assert_eq!(
        stage.simulator.ledger().logins("password", "*") - stage.simulator.ledger().logins("password", "ok"),
        1,
        "one try, since each counts towards a lockout"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_or_a_mount_that_is_missing_is_said_to_be() {
    let stage = Stage::with_files(&numbered(1)).await;
    let mut plan = stage.plan(&json!({}));
    plan["target"]["mountPath"] = json!("/does/not/exist");
    assert_eq!(
        stage.fetch_plan(&plan).await.failure().kind,
        FailureKind::VolumeMissing
    );
    let mut plan = stage.plan(&json!({}));
    plan["gateway"]["credentials"] = json!("token");
    let failure = stage.fetch_plan(&plan).await.failure();
    assert_eq!(failure.kind, FailureKind::CredentialsMissing);
    let failure = stage.fetch_plan(&json!({"more": 1})).await.failure();
    assert_eq!(failure.kind, FailureKind::InvalidPlan);
    assert_eq!(stage.simulator.ledger().snapshot().requests.len(), 0);
}

/// A small file system of its own at a path; None, said aloud, where this machine does not let us make one.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn tmpfs(path: &'a Path, options: &str) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(path)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            Some(Self(path))
        } else {
            println!("SKIPPED: this machine does not let us mount a tmpfs");
            None
        }
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.0)
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_is_told_and_freed_again() {
    let stage = Stage::with_noise("a.bin:600000,b.bin:600000").await;
    let path = stage.volume.path().to_owned();
    let Some(_mount) = Mount::tmpfs(&path, "size=1m") else {
        return;
    };
    // What is listed does not fit: nothing is fetched.
    let message = refused(&stage, &json!({}), FailureKind::DiskFull).await;
    assert!(message.contains("1200000 bytes"), "{message}");
    assert_eq!(stage.simulator.ledger().count("v2.proxy"), 0);
    // It is listed without a size: it is found out on the way.
    list(&stage, &[("a.bin", 0), ("b.bin", 0)]);
    let message = refused(&stage, &json!({}), FailureKind::DiskFull).await;
    assert!(message.contains("make it larger"), "{message}");
    assert_eq!(stage.staged(), 0, "the room is given back");
    stage.simulator.control().clear_faults();
    stage.fetch(&json!({"include": ["a*"]})).await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_volume_is_told() {
    let stage = Stage::with_files(&numbered(2)).await;
    let path = stage.volume.path().to_owned();
    let Some(mount) = Mount::tmpfs(&path, "size=1m") else {
        return;
    };
    mount.remount("ro");
    let ended = stage.fetch(&json!({})).await;
    assert_eq!(
        (ended.failure().kind, ended.code),
        (FailureKind::ReadOnly, i32::from(FINAL))
    );
    mount.remount("rw");
    stage.fetch(&json!({})).await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_belongs_to_somebody_else_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = Stage::with_files(&numbered(2)).await;
    fs::set_permissions(stage.volume.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(stage.volume.path().join("probe"), "").is_ok() {
        println!("SKIPPED: this user may write everywhere");
        return;
    }
    let failure = stage.fetch(&json!({})).await.failure();
    assert_eq!(failure.kind, FailureKind::PermissionDenied);
    assert!(failure.message.contains("fsGroup"), "{failure}");
    fs::set_permissions(stage.volume.path(), fs::Permissions::from_mode(0o755)).unwrap();
}
