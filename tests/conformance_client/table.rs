//! The table of expectations.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// One line of it.
pub struct Expected {
    /// Kind of value, or `error`, `other`, `cut`, `silence`.
    pub outcome: String,
    /// `key=value` pairs.
    pub facts: String,
    /// Why the client never asks this, if it does not.
    pub why_unused: Option<String>,
}

impl Expected {
    fn pairs(&self) -> BTreeMap<&str, &str> {
        self.facts
            .split("; ")
            .filter_map(|pair| pair.split_once('='))
            .collect()
    }

    /// Compares with what was found, both ways.
    pub fn compare(&self, found: &[(&'static str, String)]) -> Result<(), String> {
        let wanted = self.pairs();
        let found: BTreeMap<&str, &str> = found.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let keys: BTreeSet<&str> = wanted.keys().chain(found.keys()).copied().collect();
        let differs: Vec<_> = keys
            .iter()
            .filter(|key| wanted.get(*key) != found.get(*key))
            .map(|key| {
                let show = |map: &BTreeMap<&str, &str>| map.get(key).copied().unwrap_or("nothing").to_owned();
                format!("{key} is {}, expected {}", show(&found), show(&wanted))
            })
            .collect();
        if differs.is_empty() {
            Ok(())
        } else {
            Err(differs.join("; "))
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.outcome, self.facts)
    }
}

/// The table by recording number.
pub fn read() -> BTreeMap<String, Expected> {
    let text = include_str!("../fixtures/expectations.tsv");
    let mut table = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let mut columns = line.splitn(4, '\t');
        let mut next = || columns.next().unwrap_or_default().to_owned();
        let (number, outcome, facts) = (next(), next(), next());
        let why_unused = Some(next()).filter(|why| !why.is_empty());
        let expected = Expected {
            outcome,
            facts,
            why_unused,
        };
        let before = table.insert(number.clone(), expected);
        assert!(before.is_none(), "two lines for recording {number}");
    }
    table
}
