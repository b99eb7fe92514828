//! What is told of the model: `docs/reliability.md`, and numbers for machines in `target/reliability/`.

use std::{env, fmt::Write as _, fs, path::Path};

use serde_json::json;
use tenantry_test_support::page;

use super::{Count, breaks::Break};

const COMMAND: &str = "TENANTRY_RENEW=1 cargo test --workspace --features crash-points --lib -- a_rule_that_is_broken_is_noticed";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Tells after how many sequences each break was noticed; None where it was not.
pub fn breaks(noticed: &[(Break, Option<usize>)]) {
    if env::var_os("TENANTRY_RENEW").is_none() {
        return;
    }
    let commit = page::commit(root()).expect("a commit");
    let mut part = format!(
        "Made by `{COMMAND}` at commit `{commit}`.\n\n\
         | what the operator does wrong | the promise that notices | after so many sequences |\n|---|---|---|\n"
    );
    for (broken, after) in noticed {
        let after = after.map_or_else(|| "not noticed".to_owned(), |after| after.to_string());
        let _ = writeln!(part, "| {} | {} | {after} |", broken.what(), broken.rule());
    }
    let rows: Vec<_> = noticed
        .iter()
        .map(|(broken, after)| json!({"break": broken.what(), "promise": broken.rule(), "sequences": after}))
        .collect();
    tell(
        "model breaks",
        &part,
        &json!({"commit": commit, "command": COMMAND, "rows": rows}),
    );
}

/// Tells of a soak in which all promises held.
pub fn soak(count: &Count, seeds: (u64, u64), seconds: u64) {
    let commit = page::commit(root()).expect("a commit");
    let command = format!("TENANTRY_SOAK_SECONDS={seconds} make soak-model");
    let days = count.lived.get().as_hours() / 24;
    let (sequences, steps, reconciles, kills) = (
        count.sequences.get(),
        count.ops.get(),
        count.looks.get(),
        count.kills.get(),
    );
    let part = format!(
        "Made by `{command}` at commit `{commit}`, seeds {} to {}: {sequences} sequences of {steps} steps, {reconciles} \
         reconciles, {kills} kills, {days} days of virtual time. No promise was broken.",
        seeds.0, seeds.1
    );
    let told = json!({
        "commit": commit, "command": command, "seeds": [seeds.0, seeds.1], "sequences": sequences, "steps": steps,
        "reconciles": reconciles, "kills": kills, "virtualDays": days, "violations": 0,
    });
    tell("model soak", &part, &told);
}

fn tell(name: &str, part: &str, told: &serde_json::Value) {
    let folder = root().join("target/reliability");
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join(name.replace(' ', "-") + ".json");
    fs::write(&file, format!("{told:#}\n")).expect("a file");
    page::renew_part(&root().join("docs/reliability.md"), name, part).expect("a page");
}

#[test]
fn the_page_tells_of_every_break() {
    let page = fs::read_to_string(root().join("docs/reliability.md")).expect("a page");
    for broken in Break::ALL {
        let row = format!("| {} | {} |", broken.what(), broken.rule());
        assert!(
            page.contains(&row),
            "{row} is missing in docs/reliability.md: {COMMAND}"
        );
    }
}
