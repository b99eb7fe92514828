//! The bench of fetches, with sizes that tell nothing: so that it still runs when somebody needs its figures.

#[path = "../benches/fetch/race.rs"]
#[allow(dead_code)] // the bench uses all of it
mod race;
#[path = "fetch_simulator/bench.rs"]
#[allow(dead_code)] // the suite uses all of it
mod stage;

use std::{path::Path, process::Command};

use race::{Files, Race};
use serde_json::Value;
use tenantry_test_support::bench::Report;

/// One file, or several, that both fetch; the report in the form of all benches.
#[tokio::test(flavor = "multi_thread")]
async fn a_tiny_race_against_curl_ends_in_figures() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI has to have curl");
        println!("passed over: there is no curl");
        return;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_tenantry"));
    let mut report = Report::default();
    for (count, size) in [(1, 1 << 20), (20, 10_000)] {
        let files = Files {
            name: "tiny",
            count,
            size,
        };
        let race = Race::new(program, files).await.expect("a race");
        race.rounds(1, &mut report).expect("both fetch the same");
        race.widest(&mut report).expect("it fetches");
    }
    let lines: Vec<Value> = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!(lines.len(), 12, "{lines:#?}");
    for line in &lines {
        assert!(line["value"].as_f64() > Some(0.0), "{line}");
        assert!(
            !line["name"].as_str().expect("a name").contains("speed") || line["ratio"].as_f64() > Some(0.0),
            "{line}"
        );
    }
    let judged = lines.iter().filter(|line| !line["met"].is_null()).count();
    assert_eq!(judged, 6, "speed and memory are judged: {lines:#?}");
}
