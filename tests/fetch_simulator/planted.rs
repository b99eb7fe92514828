//! What others who write to the same volume plant in `.tenantry/`: it may cost a fetch its past, never its memory.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::PathBuf,
};

use serde_json::json;
use tenantry::fetcher::outcome::FailureKind;
use tenantry_simulator::world::BuildScript;

use crate::bench::{Ended, Stage, numbered};

/// What a fetch may take of memory where as much is planted as the most files of its own would be, not optimised.
const MOST_KIB: u64 = 200 * 1024;
/// Longer than any pod may grow.
const GIGABYTE: u64 = 1 << 30;

fn state(stage: &Stage, name: &str) -> PathBuf {
    let folder = stage.volume.path().join(".tenantry");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// A file that begins so, and goes on with nothing but NUL: no byte of it takes room on the disk.
fn sparse(stage: &Stage, name: &str, begin: &str) {
    let mut file = File::create(state(stage, name)).unwrap();
    file.write_all(begin.as_bytes()).unwrap();
    file.set_len(GIGABYTE).unwrap();
}

/// A file of many lines.
fn lines(stage: &Stage, name: &str, begin: &str, count: usize, line: impl Fn(usize) -> String, end: &str) {
    let mut file = BufWriter::new(File::create(state(stage, name)).unwrap());
    file.write_all(begin.as_bytes()).unwrap();
    for n in 0..count {
        file.write_all(line(n).as_bytes()).unwrap();
    }
    file.write_all(end.as_bytes()).unwrap();
    file.flush().unwrap();
}

/// The journal of the usual plan, from its first line to a line that is whole.
fn begun(stage: &Stage) -> String {
    let plan = stage.plan(&json!({}));
    let begin = json!({"begin": {
        "subPath": crate::bench::SUB_PATH, "revision": stage.revision(), "boot": "another",
        "selectionDigest": plan["task"]["artifacts"]["selectionDigest"],
    }});
    format!("{begin}\n")
}

/// A file of a journal or manifest, as JSON.
fn kept(path: &str) -> String {
    json!({
        "path": path, "size": 1, "sha256": "0".repeat(64), "inode": 7, "modified": "2026-01-01T00:00:00Z",
    })
    .to_string()
}

/// A volume with a revision before, of which the next lacks a file: so that manifests and journals of others are read too,
/// before that one is removed.
async fn second_revision() -> Stage {
    let files = |count| BuildScript {
        files: numbered(count),
        ..BuildScript::default()
    };
    let stage = Stage::with(files(4)).await;
    stage.fetch(&json!({})).await.success();
    stage.build(files(3)).await;
    stage
}

/// Fetches: all is there in the end, and little memory was taken.
async fn fetches_all(stage: &Stage, what: &str) -> Ended {
    let ended = stage.fetch(&json!({})).await;
    println!("{what}: {} KiB", ended.peak_anonymous_kib);
    ended.success();
    stage.holds(&numbered(3));
    assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_gigabyte_is_not_read() {
    for (what, begin) in [
        ("nothing else", String::new()),
        ("a whole path", r#"{"whole":{"path":""#.into()),
    ] {
        for owner in ["files", "other"] {
            let stage = second_revision().await;
            let text = format!("{}{begin}", begun(&stage));
            sparse(&stage, &format!("artifactfetch.{owner}.journal"), &text);
            fetches_all(&stage, &format!("{what}, {owner}"))
                .await
                .took_little_memory();
        }
    }
}

/// The text of a line of that number.
type Line<'a> = &'a dyn Fn(usize) -> String;

/// A string without an end; what means nothing to us and would be kept while it is read; more files than any fetch has.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_not_read_beyond_what_ours_have() {
    let head = r#"{"version":1,"owner":"artifactfetch.files","subPath":"","revision":"r","selectionDigest":"","files":["#;
    let (path, rest) = kept("f/*")
        .split_once('*')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let text = "x".repeat(1 << 20);
    let numbers = "1,".repeat(500) + "\n";
    let cases: [(&str, &str, String, usize, Line<'_>); 3] = [
        ("one string", "files", r#"{"owner":""#.into(), 256, &|_| {
            text.clone()
        }),
        (
            "numbers of no meaning",
            "other",
            format!(r#"{head}],"x":["#),
            40_000,
            &|_| numbers.clone(),
        ),
        ("files", "files", head.into(), 210_000, &|n| {
            format!("{path}{n}{rest},\n")
        }),
    ];
    for (what, owner, begin, count, line) in cases {
        let stage = second_revision().await;
        lines(
            &stage,
            &format!("artifactfetch.{owner}.json"),
            &begin,
            count,
            line,
            "",
        );
        let ended = fetches_all(&stage, what).await;
        assert!(
            ended.peak_anonymous_kib < MOST_KIB,
            "{what}: {} KiB",
            ended.peak_anonymous_kib
        );
        let files = stage.manifest()["files"].as_array().map(Vec::len);
        assert_eq!(files, Some(3), "{what}");
        // Without a manifest of ours there is nothing to go by; another's takes nothing from us.
        assert_eq!(
            stage.visible().len(),
            if owner == "files" { 4 } else { 3 },
            "{what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_tells_of_no_more_files_than_a_fetch_has() {
    for (what, record, count) in [
        ("whole", format!(r#"{{"whole":{}}}"#, kept("planted/*")), 300_000),
        ("made", r#"{"made":"planted/*"}"#.into(), 300_000),
    ] {
        let stage = second_revision().await;
        let (path, rest) = record.split_once('*').unwrap();
        let line = |n: usize| format!("{path}{n}{rest}\n");
        lines(
            &stage,
            "artifactfetch.files.journal",
            &begun(&stage),
            count,
            line,
            "",
        );
        let ended = fetches_all(&stage, what).await;
        assert!(
            ended.stderr.contains("the rest of a journal is left alone"),
            "{what}: {}",
            ended.stderr
        );
        assert!(
            ended.peak_anonymous_kib < MOST_KIB,
            "{what}: {} KiB",
            ended.peak_anonymous_kib
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_ours_with_names_without_end_is_refused_and_said() {
    let stage = Stage::with_files(&numbered(3)).await;
    let folder = state(&stage, "artifactfetch.files.d");
    fs::create_dir_all(&folder).unwrap();
    let name = |n: usize| folder.join(format!("{n:0>200}"));
    File::create(name(0)).unwrap();
    for n in 1..120_000 {
        fs::hard_link(name(n / 30_000 * 30_000), name(n))
            .or_else(|_| File::create(name(n)).map(drop))
            .unwrap();
    }
    let ended = stage.fetch(&json!({})).await;
    println!("names: {} KiB", ended.peak_anonymous_kib);
    let failure = ended.failure();
    assert_eq!(failure.kind, FailureKind::PathRefused, "{failure}");
    assert!(
        failure.message.contains(".tenantry/artifactfetch.files.d")
            && failure.message.contains("remove them"),
        "{failure}"
    );
    assert!(
        ended.peak_anonymous_kib < MOST_KIB,
        "{} KiB",
        ended.peak_anonymous_kib
    );
    // As many as a fetch leaves itself are cleared away.
    for n in 60_000..120_000 {
        fs::remove_file(name(n)).unwrap();
    }
    fetches_all(&stage, "fewer names").await;
    assert_eq!(
        stage.state_files(),
        ["artifactfetch.files.json", "artifactfetch.files.lock", "lock"]
    );
}
