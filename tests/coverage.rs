//! `docs/coverage.md` is complete, and every test it names exists.

use std::{collections::BTreeSet, path::Path};

/// How many findings each group has; the contract's sharp edges are group C of their own table.
const EDGES: usize = 35;
const FINDINGS: [(char, usize); 11] = [
    ('A', 8),
    ('B', 14),
    ('C', 5),
    ('D', 11),
    ('E', 6),
    ('F', 7),
    ('G', 4),
    ('H', 6),
    ('I', 5),
    ('L', 10),
    ('O', 7),
];

/// Number and cover of each line of a part of the document.
fn lines(part: &str) -> Vec<(String, String)> {
    let cells = |line: &str| {
        line.split(" | ")
            .map(|c| c.trim_matches(['|', ' ']).to_owned())
            .collect::<Vec<_>>()
    };
    part.lines()
        .filter(|l| l.starts_with("| ") && !l.starts_with("| no."))
        .map(cells)
        .map(|cells| {
            assert_eq!(cells.len(), 3, "a line of another form: {cells:?}");
            (cells[0].clone(), cells[2].clone())
        })
        .collect()
}

/// A line and what it says.
type Rows = Vec<(String, String)>;

fn document() -> (Rows, Rows) {
    let text = include_str!("../docs/coverage.md");
    let (edges, findings) = text.split_once("## Findings").expect("two parts");
    (lines(edges), lines(findings))
}

#[test]
fn no_edge_and_no_finding_is_left_out() {
    let (edges, findings) = document();
    let have: Vec<_> = edges.into_iter().map(|(n, _)| n).collect();
    let want: Vec<_> = (1..=EDGES).map(|n| format!("C{n}")).collect();
    assert_eq!(have, want);
    let have: Vec<_> = findings.into_iter().map(|(n, _)| n).collect();
    let want: Vec<_> = FINDINGS
        .iter()
        .flat_map(|(group, count)| (1..=*count).map(move |n| format!("{group}{n}")))
        .collect();
    assert_eq!(have, want);
}

#[test]
fn every_line_says_something_and_every_test_it_names_exists() {
    let (edges, findings) = document();
    let mut wrong = BTreeSet::new();
    for (number, cover) in edges.into_iter().chain(findings) {
        if named(&cover).is_empty() && !cover.starts_with("does not apply") {
            wrong.insert(format!("{number}: names no test and no reason: {cover}"));
        }
        wrong.extend(
            missing(&cover)
                .into_iter()
                .map(|what| format!("{number}: {what}")),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// File and name of each test that a text names.
fn named(text: &str) -> Vec<(&str, &str)> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.split_once("::")).collect()
}

/// The tests that a text names and that do not exist.
fn missing(text: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for (file, test) in named(text) {
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        // The groups of the simulator's replay are made by a macro, from a list of names.
        let made = [format!("fn {test}("), format!("    {test} \"")];
        if !made.iter().any(|sign| source.contains(sign)) {
            missing.push(format!("there is no {file}::{test}"));
        }
    }
    missing
}

/// Every threat of SECURITY.md is met, and each test that is said to show it exists.
#[test]
fn every_threat_names_tests_that_exist() {
    let mut threats = 0;
    let mut wrong = BTreeSet::new();
    let (_, text) = include_str!("../SECURITY.md")
        .split_once("## Threats")
        .expect("threats");
    for line in text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| threat"))
    {
        threats += 1;
        let cells: Vec<_> = line.trim_matches(['|', ' ']).split(" | ").collect();
        assert_eq!(cells.len(), 3, "a line of another form: {cells:?}");
        if named(cells[2]).is_empty() {
            wrong.insert(format!("{}: names no test", cells[0]));
        }
        wrong.extend(
            missing(cells[2])
                .into_iter()
                .map(|what| format!("{}: {what}", cells[0])),
        );
    }
    assert!(threats > 15, "the tables are read");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// ARCHITECTURE.md tells the way of a build file by file: each of these files is there.
#[test]
fn every_file_that_the_architecture_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let rooms = [
        "",
        "src",
        "src/controllers",
        "src/controllers/build_request",
        "src/runtime",
    ];
    let text = include_str!("../ARCHITECTURE.md");
    let named: Vec<_> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.ends_with(".rs"))
        .collect();
    assert!(named.len() > 15, "the page names files: {named:?}");
    for file in named {
        assert!(
            rooms.iter().any(|room| root.join(room).join(file).is_file()),
            "{file} is not in any of {rooms:?}"
        );
    }
}
