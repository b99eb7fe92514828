//! The client against what a real system was seen to answer: every recorded answer goes through the client's own
//! parsing and ends in the value or error that the papers call for.
//!
//! Three layers: the table `tests/fixtures/expectations.tsv` (one line per recording, written from contract and
//! findings), rules that hold for any recording of such a system (also for those in `TENANTRY_RECORDINGS`), and the whole
//! client with its transport against a server that plays recordings back.

#[path = "conformance_client/facts.rs"]
mod facts;
#[path = "conformance_client/playback.rs"]
mod playback;
#[path = "conformance_client/rules.rs"]
mod rules;
#[path = "conformance_client/table.rs"]
mod table;
#[path = "conformance_client/whole.rs"]
mod whole;

use std::{collections::BTreeSet, sync::OnceLock};

use table::Expected;
use tenantry::gateway::wire::answer;
use tenantry_test_support::recorded::{self, Exchange, Recording};

fn exchanges() -> &'static [Exchange] {
    static ALL: OnceLock<Vec<Exchange>> = OnceLock::new();
    ALL.get_or_init(|| recorded::exchanges().expect("the recordings can be read"))
}

/// What the client makes of an exchange; None if there was no answer.
fn understood(exchange: &Exchange) -> Option<tenantry::gateway::Result<answer::Answer>> {
    let response = exchange.response.as_ref()?;
    Some(answer::read(
        &exchange.method,
        &exchange.path,
        response.status,
        &response.headers,
        &response.body,
    ))
}

/// Whether the client ever asks this.
fn is_used(exchange: &Exchange) -> bool {
    answer::classify(&exchange.method, &exchange.path).is_some()
}

fn report(title: &str, wrong: &[String], checked: usize) {
    assert!(
        wrong.is_empty(),
        "{title}: {} of {checked} are wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    println!("{title}: {checked} checked");
}

#[test]
fn every_recorded_answer_ends_as_the_table_says() {
    if !recorded::is_own() {
        println!("skipped: the table is for the project's own recordings");
        return;
    }
    let table = table::read();
    let mut wrong = Vec::new();
    let exchanges = exchanges();
    for exchange in exchanges {
        let Some(expected) = table.get(exchange.number.as_str()) else {
            wrong.push(format!(
                "{}: add a line to expectations.tsv; the client makes of it: {}",
                exchange.name,
                facts::describe(understood(exchange))
            ));
            continue;
        };
        if let Err(why) = check(exchange, expected) {
            wrong.push(format!("{}: {why}", exchange.name));
        }
    }
    report("the table", &wrong, exchanges.len());
}

fn check(exchange: &Exchange, expected: &Expected) -> Result<(), String> {
    if is_used(exchange) == expected.why_unused.is_some() {
        return Err(match &expected.why_unused {
            Some(why) => format!("the client asks this after all, though {why}"),
            None => "the client never asks this, and the table does not say why not".into(),
        });
    }
    let (outcome, found) = match (expected.outcome.as_str(), &exchange.response) {
        // What these end in takes the whole client to see: `whole.rs`.
        ("silence", None) => return Ok(()),
        ("cut", Some(response)) => {
            let promised = response.announced.unwrap_or(0).to_string();
            let came = response.size.to_string();
            ("cut", vec![("promised", promised), ("came", came)])
        }
        (_, None) => return Err("there was no answer".into()),
        (_, Some(_)) => facts::of(understood(exchange).as_ref().ok_or("no answer")?),
    };
    if outcome != expected.outcome {
        return Err(format!(
            "expected {expected}, got {}",
            facts::describe(understood(exchange))
        ));
    }
    expected.compare(&found)
}

#[test]
fn the_table_names_only_recordings_that_exist() {
    if !recorded::is_own() {
        return;
    }
    let known: BTreeSet<String> = exchanges().iter().map(|e| e.number.clone()).collect();
    let stray: Vec<_> = table::read()
        .into_keys()
        .filter(|number| !known.contains(number))
        .collect();
    assert!(stray.is_empty(), "expectations without a recording: {stray:?}");
}

#[test]
fn the_rules_of_the_papers_hold_for_every_recorded_answer() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for exchange in exchanges() {
        let Some(rule) = rules::expected(exchange) else {
            continue;
        };
        checked += 1;
        let got = facts::describe(understood(exchange));
        if !rule.admits(&got) {
            wrong.push(format!("{}: the rule says {rule}, got {got}", exchange.name));
        }
    }
    report("the rules", &wrong, checked);
}

#[test]
fn no_recorded_answer_brings_a_token_or_a_lot_of_text_into_an_error() {
    for exchange in exchanges() {
        let Some(Err(error)) = understood(exchange) else {
            continue;
        };
        let text = format!("{error} {error:?}");
        assert!(!text.contains("eyJ"), "{}: a token is in {text}", exchange.name);
        assert!(text.len() < 2_500, "{}: {} bytes", exchange.name, text.len());
        assert!(
            !text.contains('\n'),
            "{}: more than one line in {text:?}",
            exchange.name
        );
        let path = exchange.path.split('?').next().unwrap_or_default();
        assert!(
            text.contains(path),
            "{}: {text} does not say what was asked",
            exchange.name
        );
    }
}

#[test]
fn evidence_is_never_taken_for_an_answer() {
    let recordings = recorded::all().expect("the recordings can be read");
    let evidence = recordings
        .iter()
        .filter_map(|r| match r {
            Recording::Evidence(name) => Some(name),
            Recording::Exchange(_) => None,
        })
        .collect::<Vec<_>>();
    assert!(
        evidence.iter().all(|name| name.contains("evidence")),
        "neither an exchange nor evidence: {evidence:?}"
    );
    println!(
        "{} recordings, {} of them evidence",
        recordings.len(),
        evidence.len()
    );
}
