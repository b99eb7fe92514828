//! What is told of the matrix: `target/reliability/crash-points.json`, and the tables in `docs/reliability.md`.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::Result;
use serde_json::json;
use tenantry_test_support::page;

use crate::plan::{self, Cell, End, Rung};

/// What came of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// All that must hold holds.
    Passed,
    /// This does not.
    Failed(String),
    /// The write was not made so many times.
    NotReached,
    /// There is no such case, for this reason.
    DoesNotApply(&'static str),
}

/// How the matrix was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Short { seed: usize },
    Long,
}

/// A limit of a rung: what can happen there, and the test that shows it.
pub const LIMITS: [(&str, &str); 3] = [
    (
        "equal requests in flight, post",
        "crash_points::limits::two_equal_posts_of_two_operators_stall_with_both_named",
    ),
    (
        "an equal run of somebody else under the same login, post",
        "crash_points::limits::an_equal_run_under_our_login_is_taken_for_ours_where_ours_never_arrived",
    ),
    (
        "a post that is carried out later than the search window",
        "crash_points::limits::a_post_that_is_carried_out_after_the_search_is_a_second_build",
    ),
];

type Results = [(Cell, Came)];

fn count(results: &Results, what: impl Fn(&Came) -> bool) -> usize {
    results.iter().filter(|(_, came)| what(came)).count()
}

/// The balance in one line.
pub fn balance(results: &Results) -> String {
    format!(
        "{} cells: {} passed, {} failed, {} not reached, {} do not apply",
        results.len(),
        count(results, |came| *came == Came::Passed),
        count(results, |came| matches!(came, Came::Failed(_))),
        count(results, |came| *came == Came::NotReached),
        count(results, |came| matches!(came, Came::DoesNotApply(_))),
    )
}

/// Writes the JSON, and the tables after the long form, or where `TENANTRY_RENEW` asks for them.
pub fn tell(form: Form, results: &Results) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let commit = page::commit(root)?;
    let rows: Vec<_> = results
        .iter()
        .map(|(cell, came)| {
            let (came, why) = match came {
                Came::Passed => ("passed", ""),
                Came::Failed(why) => ("failed", why.as_str()),
                Came::NotReached => ("not reached", ""),
                Came::DoesNotApply(why) => ("does not apply", *why),
            };
            json!({
                "write": cell.write.name(), "scenario": cell.scenario.name(), "rung": cell.rung.name(),
                "end": cell.end.name(), "time": cell.hit, "came": came, "why": why,
            })
        })
        .collect();
    let (name, seed) = match form {
        Form::Short { seed } => ("short", Some(seed)),
        Form::Long => ("long", None),
    };
    let told = json!({
        "commit": commit, "command": command(form), "form": name, "seed": seed,
        "cells": results.len(),
        "passed": count(results, |came| *came == Came::Passed),
        "failed": count(results, |came| matches!(came, Came::Failed(_))),
        "notReached": count(results, |came| *came == Came::NotReached),
        "doesNotApply": count(results, |came| matches!(came, Came::DoesNotApply(_))),
        "limits": LIMITS.map(|(what, test)| json!({"what": what, "test": test})),
        "rows": rows,
    });
    let folder = root.join("target/reliability");
    fs::create_dir_all(&folder)?;
    fs::write(
        folder.join("crash-points.json"),
        serde_json::to_string_pretty(&told)? + "\n",
    )?;
    if form == Form::Long || std::env::var_os("TENANTRY_RENEW").is_some() {
        page::renew_part(
            &root.join("docs/reliability.md"),
            "crash points",
            &tables(form, &commit, results),
        )?;
    }
    Ok(())
}

const fn command(form: Form) -> &'static str {
    match form {
        Form::Short { .. } => {
            "TENANTRY_RENEW=1 cargo test --workspace --features crash-points --test crash_points"
        }
        Form::Long => "make crash-points",
    }
}

/// A table a rung: a line a write, a column a kind of end.
fn tables(form: Form, commit: &str, results: &Results) -> String {
    let mut text = format!(
        "Made by `{}` at commit `{commit}`. {}. An empty field was not tried.\n",
        command(form),
        balance(results)
    );
    let mut reasons: Vec<&str> = Vec::new();
    for rung in Rung::ALL {
        let _ = write!(text, "\n#### Rung {}\n\n| write | scenario |", rung.name());
        for end in End::ALL {
            let _ = write!(text, " {} |", end.name());
        }
        text.push_str("\n|---|---|");
        text.push_str(&"---|".repeat(End::ALL.len()));
        text.push('\n');
        for (write, scenario) in plan::rows() {
            let _ = write!(text, "| {} | {} |", write.name(), scenario.name());
            for end in End::ALL {
                let here: Vec<_> = results
                    .iter()
                    .filter(|(c, _)| (c.write, c.scenario, c.rung, c.end) == (write, scenario, rung, end))
                    .map(|(_, came)| came)
                    .collect();
                let _ = write!(text, " {} |", field(&here, &mut reasons));
            }
            text.push('\n');
        }
    }
    for (number, reason) in reasons.iter().enumerate() {
        let _ = write!(text, "\n– ({}) does not apply: {reason}.", number + 1);
    }
    text
}

fn field(here: &[&Came], reasons: &mut Vec<&'static str>) -> String {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for came in here {
        let word = match came {
            Came::Passed => "ok".to_owned(),
            Came::Failed(_) => "**failed**".to_owned(),
            Came::NotReached => "not reached".to_owned(),
            Came::DoesNotApply(why) => {
                let at = reasons.iter().position(|known| known == why).unwrap_or_else(|| {
                    reasons.push(why);
                    reasons.len() - 1
                });
                format!("– ({})", at + 1)
            }
        };
        *seen.entry(word).or_default() += 1;
    }
    let words: Vec<_> = seen
        .into_iter()
        .map(|(word, times)| {
            if times > 1 && !word.starts_with('–') {
                format!("{word} ×{times}")
            } else {
                word
            }
        })
        .collect();
    words.join(", ")
}
