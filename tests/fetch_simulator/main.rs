//! `tenantry fetch` as a process, as a Job's pod runs it, against the simulator and a directory for a volume: files and logs
//! on every rung, killed and stopped pods, and everything that can stand in the way.

mod bench;
mod killed;
mod large;
mod logs;
mod owners;
mod planted;
mod refusals;

use serde_json::json;
use tenantry::fetcher::outcome::{AGAIN, FailureKind, OK, Stored};
use tenantry_simulator::{Fault, FaultAction, JenkinsFault, JenkinsOutage, Role};

use bench::{Stage, numbered, text_of};

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_small_files_land_whole_over_the_raw_proxy() {
    let stage = Stage::with_files(&numbered(2000)).await;
    let ended = stage.fetch(&json!({})).await;
    let success = ended.success();
    ended.took_little_memory();
    assert_eq!((success.files, ended.code), (2000, i32::from(OK)));
    let Stored::Artifacts {
        manifest,
        reused,
        pruned,
        listed,
    } = &success.stored
    else {
        panic!("{success:?}")
    };
    assert_eq!(
        (manifest.as_str(), *reused, *pruned),
        (".tenantry/artifactfetch.files.json", 0, 0)
    );
    assert_eq!(listed.len(), 100, "the outcome is bounded, the manifest has all");
    stage.holds(&numbered(2000));
    let kept = stage.manifest();
    assert_eq!(kept["files"].as_array().unwrap().len(), 2000);
    assert_eq!(kept["revision"], stage.revision());
    assert_eq!(
        stage.state_files(),
        ["artifactfetch.files.json", "artifactfetch.files.lock", "lock"]
    );
    let ledger = stage.simulator.ledger();
    assert_eq!(ledger.count("v2.proxy"), 2000, "each file once");
    assert_eq!(ledger.count("v2.run.artifacts"), 5, "pages of 500, and the end");
    assert_eq!(ledger.logins("password", "ok"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_land_without_the_raw_proxy_too() {
    let stage = Stage::with_files(&numbered(60)).await;
    stage.role(Role::tenant_without_jenkins_proxy());
    let ended = stage.fetch(&json!({})).await;
    assert_eq!(ended.success().files, 60);
    stage.holds(&numbered(60));
    let ledger = stage.simulator.ledger();
    assert_eq!(ledger.count("v3.run.artifact"), 60);
    assert!(
        ledger.count("v2.proxy") <= 4,
        "each worker finds out once at most"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_and_empty_files_land_as_they_are() {
    let files: Vec<_> = [
        "a b+c%.txt",
        "é/ü.txt",
        "out/deep/er/x",
        ".hidden",
        "empty",
        "q?&#=.txt",
        "日本/語",
    ]
    .iter()
    .map(|path| {
        (
            (*path).to_owned(),
            if *path == "empty" {
                String::new()
            } else {
                text_of(path)
            },
        )
    })
    .collect();
    let stage = Stage::with_files(&files).await;
    assert_eq!(stage.fetch(&json!({})).await.success().files, files.len() as u64);
    stage.holds(&files);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_not_fetched_again() {
    let stage = Stage::with_files(&numbered(20)).await;
    stage.fetch(&json!({})).await.success();
    stage.simulator.ledger().clear();
    let again = stage.fetch(&json!({})).await;
    let Stored::Artifacts { reused, .. } = again.success().stored else {
        panic!()
    };
    assert_eq!((reused, stage.simulator.ledger().count("v2.proxy")), (20, 0));
    // What somebody broke is mended, and that alone.
    stage.write("f/0003.txt", "broken");
    std::fs::remove_file(stage.place("f/0004.txt")).unwrap();
    stage.fetch(&json!({})).await.success();
    assert_eq!(stage.simulator.ledger().count("v2.proxy"), 2);
    stage.holds(&numbered(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_selected_lands() {
    let stage = Stage::with_files(&numbered(20)).await;
    let task = json!({"include": ["f/000*"], "exclude": ["**/0001.txt", "**/0002.txt"]});
    assert_eq!(stage.fetch(&task).await.success().files, 8);
    assert!(!stage.place("f/0001.txt").exists() && !stage.place("f/0010.txt").exists());
    assert!(stage.place("f/0003.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_goes_on_where_it_broke() {
    let stage = Stage::with_noise("big.bin:3000000").await;
    let control = stage.simulator.control();
    let cut = JenkinsOutage::new(JenkinsFault::Truncate(1_000_000))
        .on("artifact")
        .times(2);
    control.jenkins_outage(cut).unwrap();
    let success = stage.fetch(&json!({})).await.success();
    assert_eq!(success.bytes, 3_000_000);
    stage.holds_noise("big.bin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_jenkins_is_away_another_pod_is_asked_for() {
    let stage = Stage::with_files(&numbered(5)).await;
    let control = stage.simulator.control();
    control
        .jenkins_outage(JenkinsOutage::new(JenkinsFault::Down))
        .unwrap();
    let ended = stage.fetch(&json!({})).await;
    assert_eq!(
        (ended.failure().kind, ended.code),
        (FailureKind::RemoteUnavailable, i32::from(AGAIN))
    );
    control.jenkins_up().unwrap();
    stage.fetch(&json!({})).await.success();
    stage.holds(&numbered(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_die_in_the_middle_lose_nothing() {
    let stage = Stage::with_files(&numbered(40)).await;
    let control = stage.simulator.control();
    control.fault(Fault::once("v2.proxy", FaultAction::answer(401, "{}")).after(20));
    stage.fetch(&json!({})).await.success();
    stage.holds(&numbered(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_told_holds_a_secret() {
    let stage = Stage::with_files(&numbered(3)).await;
    let ended = stage.fetch(&json!({})).await;
    for text in [&ended.stdout, &ended.stderr, &ended.termination] {
        assert!(!text.contains(bench::PASSWORD) && !text.contains("eyJ"), "{text}");
    }
    assert!(
        ended.stdout.lines().all(|line| line.starts_with('{')),
        "{}",
        ended.stdout
    );
}
