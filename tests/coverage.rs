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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (edges, findings) = document();
    let mut wrong = BTreeSet::new();
    for (number, cover) in edges.into_iter().chain(findings) {
        let named: Vec<_> = cover
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|code| code.split_once("::"))
            .collect();
        if named.is_empty() && !cover.starts_with("does not apply") {
            wrong.insert(format!("{number}: names no test and no reason: {cover}"));
        }
        for (file, test) in named {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            // The groups of the simulator's replay are made by a macro, from a list of names.
            let made = [format!("fn {test}("), format!("    {test} \"")];
            if !made.iter().any(|sign| source.contains(sign)) {
                wrong.insert(format!("{number}: there is no {file}::{test}"));
            }
        }
    }
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
