//! Build logs onto the volume.

use std::fs;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tenantry::fetcher::outcome::{FailureKind, Stored};
use tenantry_simulator::{Fault, FaultAction, JenkinsFault, JenkinsOutage, Role, world::BuildScript};

use crate::bench::{Ended, PASSWORD, PIPELINE, PROJECT, Stage};

async fn stage(log_bytes: usize) -> Stage {
    Stage::with(BuildScript {
        log_bytes,
        ..BuildScript::default()
    })
    .await
}

/// The log as Jenkins keeps it, with LF line ends (finding F-G).
async fn console_text(stage: &Stage) -> String {
    let url = stage.simulator.url();
    let http = reqwest::Client::new();
    let form = [
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", PASSWORD),
        ("client_id", "kubesphere"),
        ("client_secret", "kubesphere"),
    ];
    let login = http
        .post(format!("{url}/oauth/token"))
        .form(&form)
        .send()
        .await
        .unwrap();
    let login: serde_json::Value = login.json().await.unwrap();
    let path = format!(
        "/kapis/devops.kubesphere.io/v1alpha2/namespaces/{PROJECT}/jenkins/job/{PROJECT}/job/{PIPELINE}/{}/consoleText",
        stage.number()
    );
    let answer = http
        .get(url + &path)
        .bearer_auth(login["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

async fn fetch(stage: &Stage) -> Ended {
    let task = json!({"log": {"fileName": "build.log", "tailLines": 5}});
    stage.fetch_plan(&stage.plan_of(&task)).await
}

fn check(ended: &Ended, stage: &Stage, expected: &str) {
    let success = ended.success();
    let text = fs::read_to_string(stage.place("build.log")).unwrap();
    assert!(text == expected, "{} bytes, not {}", text.len(), expected.len());
    assert_eq!((success.files, success.bytes), (1, expected.len() as u64));
    let Stored::Log {
        path,
        sha256,
        last_lines,
    } = success.stored
    else {
        panic!()
    };
    assert_eq!(path, "shop/latest/build.log");
    let digest: String = Sha256::digest(expected)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(sha256, digest);
    let lines: Vec<_> = expected.trim_end().lines().collect();
    assert_eq!(last_lines.lines().collect::<Vec<_>>(), lines[lines.len() - 5..]);
    assert_eq!(
        stage.state_files(),
        ["artifactfetch.files.lock", "lock"],
        "nothing is left over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_the_same_on_both_rungs() {
    for refused in [false, true] {
        let stage = stage(300_000).await;
        let expected = console_text(&stage).await;
        if refused {
            stage.role(Role::tenant_without_jenkins_proxy());
        }
        stage.simulator.ledger().clear();
        check(&fetch(&stage).await, &stage, &expected);
        let ledger = stage.simulator.ledger();
        assert_eq!(
            ledger.count("v2.run.log"),
            usize::from(refused),
            "it travels once"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_takes_no_memory() {
    let stage = stage(40_000_000).await;
    let expected = console_text(&stage).await;
    let ended = fetch(&stage).await;
    check(&ended, &stage, &expected);
    ended.took_little_memory();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_breaks_off_goes_on_and_an_earlier_one_is_replaced_whole() {
    let stage = stage(500_000).await;
    let expected = console_text(&stage).await;
    stage.write("build.log", "of another run");
    let control = stage.simulator.control();
    control.fault(Fault::once("v2.proxy", FaultAction::truncate(200_000)));
    check(&fetch(&stage).await, &stage, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_must_not_show_do_not() {
    let stage = stage(100_000).await;
    let whole = console_text(&stage).await;
    let secret = whole.lines().nth(10).unwrap().trim();
    assert!(secret.len() > 8, "{secret:?}");
    stage.secret("mask-0", &format!("{secret}\n"));
    let task = json!({"log": {"fileName": "build.log", "tailLines": 5, "masks": 1}});
    let ended = stage.fetch_plan(&stage.plan_of(&task)).await;
    check(&ended, &stage, &whole.replace(secret, "****"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_log_is_never_the_log() {
    let stage = stage(5_000).await;
    stage.write("build.log", "of another run");
    let control = stage.simulator.control();
    control
        .jenkins_outage(JenkinsOutage::new(JenkinsFault::Down))
        .unwrap();
    let ended = fetch(&stage).await;
    assert_eq!(ended.failure().kind, FailureKind::RemoteUnavailable);
    assert_eq!(
        fs::read_to_string(stage.place("build.log")).unwrap(),
        "of another run"
    );
}
