//! `tenantry fetch` against a gateway that means harm: it ends, says why, keeps its memory, and leaves nothing outside.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tenantry::fetcher::outcome::FailureKind as K;
use tenantry_test_support::PATIENCE;

use crate::{
    pod::{Ended, PASSWORD, Stage, numbered},
    server::{Evil, Hostile, Trap, answer, bomb, endless_head, json as json_answer},
};

/// The fetch pod at its peak, not optimised, its own pages aside.
const MEMORY: u64 = 100 * 1024;

async fn fetch(stage: &Stage, spoils: Vec<(Vec<&'static str>, Evil)>) -> Ended {
    let hostile = Hostile::start(&stage.simulator.url(), spoils).await;
    let mut plan: Value = stage.plan(&json!({}));
    plan["gateway"]["endpoint"] = json!(hostile.url());
    let ended = tokio::time::timeout(Duration::from_secs(300), stage.fetch_plan(&plan))
        .await
        .expect("it ends");
    assert!(hostile.count() > 0, "nothing was spoilt");
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_gateway_makes_no_pod_grow_hang_or_write_elsewhere() {
    let stage = Stage::with_files(&numbered(3)).await;
    let trap = Trap::start().await;
    let list = |items: &str| Evil::Bytes(json_answer(&format!("[{items}]")));
    let million = (0..1_000_000)
        .map(|n| format!(r#"{{"path":"a/{n}.txt","size":1}}"#))
        .collect::<Vec<_>>()
        .join(",");
    let listed = || vec!["GET", "/artifacts?"];
    let file = || vec!["GET", "/artifact/"];
    let away = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        trap.address
    );
    for (name, spoils, kinds) in [
        (
            "a million files",
            vec![(listed(), list(&million))],
            &[K::UnexpectedAnswer][..],
        ),
        (
            "a bomb of objects",
            vec![(listed(), Evil::Bytes(bomb("{},", 5_000_000)))],
            &[K::UnexpectedAnswer],
        ),
        (
            "an absolute path",
            vec![(listed(), list(r#"{"path":"/etc/passwd","size":3}"#))],
            &[K::UnexpectedAnswer, K::PathRefused],
        ),
        (
            "a climbing path",
            vec![(listed(), list(r#"{"path":"a/../../../../tmp/x","size":3}"#))],
            &[K::UnexpectedAnswer, K::PathRefused],
        ),
        (
            "our own folder",
            vec![(listed(), list(r#"{"path":"../../.tenantry/x","size":3}"#))],
            &[K::UnexpectedAnswer, K::PathRefused],
        ),
        (
            "files elsewhere",
            vec![(file(), Evil::Bytes(away.clone().into()))],
            &[K::InvalidPlan, K::UnexpectedAnswer, K::RemoteRejected],
        ),
        (
            "endless files",
            vec![(
                file(),
                Evil::Endless {
                    head: endless_head("application/octet-stream"),
                    piece: vec![b'x'; 4096],
                    per_second: 100 << 20,
                },
            )],
            &[K::TooLarge],
        ),
        (
            "broken files",
            vec![(
                file(),
                Evil::Bytes(
                    b"HTTP/1.1 200 OK\r\nX-Jenkins: 2\r\nContent-Length: 999999999\r\n\r\nf".to_vec(),
                ),
            )],
            &[K::RemoteUnavailable],
        ),
        (
            "an error of control characters",
            vec![(
                listed(),
                Evil::Bytes(answer(
                    "500 Internal Server Error",
                    "text/plain",
                    &b"\x1b[2J\xff".repeat(10_000),
                )),
            )],
            &[K::RemoteUnavailable],
        ),
    ] {
        let before = stage.visible();
        let ended = fetch(&stage, spoils).await;
        let failure = ended.failure();
        println!(
            "{name}: {:?}: {failure} ({} KiB)",
            failure.kind, ended.peak_anonymous_kib
        );
        assert!(kinds.contains(&failure.kind), "{name}: {failure:?}");
        assert!(
            ended.peak_anonymous_kib < MEMORY,
            "{name}: {} KiB",
            ended.peak_anonymous_kib
        );
        assert!(!ended.stderr.contains("panicked"), "{name}: {}", ended.stderr);
        assert!(
            failure.message.len() < 2_000 && !failure.message.chars().any(char::is_control),
            "{name}: {failure:?}"
        );
        assert_eq!(stage.visible(), before, "{name}");
    }
    assert_eq!(trap.came(), 0, "a bearer went elsewhere");
    // And where nobody spoils anything, all is fetched as ever, after the one byte that came.
    stage.fetch(&json!({})).await.success();
    stage.holds(&numbered(3));
}

/// All bytes of all files below a directory.
fn all_files(folder: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(all_files(&path));
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            all.push((
                path.display().to_string(),
                String::from_utf8_lossy(&bytes).into_owned(),
            ));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_writes_at_the_finest_level_holds_no_secret_in_no_form() {
    let stage = Stage::with_files(&numbered(3)).await;
    let mut canaries = tenantry::disguise::forms(PASSWORD);
    canaries.push("eyJ".into());
    for (name, words) in [
        ("nothing", vec!["no such request"]),
        ("the login", vec!["/oauth/token"]),
        ("the list", vec!["GET", "/artifacts?"]),
        ("the files", vec!["GET", "/artifact/"]),
    ] {
        let hostile = Hostile::start(&stage.simulator.url(), vec![(words, Evil::Echo)]).await;
        let mut plan = stage.plan(&json!({}));
        plan["gateway"]["endpoint"] = json!(hostile.url());
        let desk = tempfile::tempdir().expect("a directory");
        for (file, content) in [("username", "alice"), ("password", PASSWORD)] {
            std::fs::write(desk.path().join(file), content).expect("written");
        }
        let termination = stage.volume.path().join("termination");
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_tenantry"))
            .args(["fetch", "--log-level", "trace", "--credentials"])
            .arg(desk.path())
            .arg("--termination-message")
            .arg(&termination)
            .env_clear()
            .env("TENANTRY_FETCH_PLAN", plan.to_string())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, child)
            .await
            .expect("it ends")
            .expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut written = all_files(stage.volume.path());
        assert!(
            written.iter().any(|(path, _)| path.ends_with("termination")),
            "{written:?}"
        );
        assert!(
            text(&output.stderr).contains("TRACE"),
            "nothing was logged, so nothing was proven"
        );
        written.push(("stdout".into(), text(&output.stdout)));
        written.push(("stderr".into(), text(&output.stderr)));
        for (what, text) in written {
            for canary in &canaries {
                assert!(
                    !text.contains(canary.as_str()),
                    "{name}: {canary} in {what}: {text}"
                );
            }
        }
    }
}
