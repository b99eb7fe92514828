//! The list of known differences.

use std::collections::BTreeMap;

use tenantry_test_support::recorded::Exchange;

/// Differences by recording number.
pub type Found = BTreeMap<String, Vec<String>>;

/// Holds what was found against the list, both ways.
pub fn hold_against_the_list(prefix: &str, exchanges: &[Exchange], found: &Found) {
    let known = read();
    let mut wrong = Vec::new();
    for exchange in exchanges {
        let here = found.get(&exchange.number).map(|all| all.join("; "));
        let listed = known.get(&exchange.number);
        match (here, listed) {
            (None, None) => {}
            (Some(here), Some((there, _))) if here == *there => {}
            (Some(here), _) => wrong.push(format!("{}\t{here}", exchange.name)),
            (None, Some((there, _))) => {
                wrong.push(format!(
                    "{}\tis listed but answered alike: {there}",
                    exchange.name
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "recordings {prefix}xx: {} differ from differences.tsv\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Differences and their reasons by number.
pub fn read() -> BTreeMap<String, (String, String)> {
    let text = include_str!("../../../fixtures/differences.tsv");
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let mut columns = line.splitn(3, '\t');
        let mut next = || columns.next().unwrap_or_default().to_owned();
        let (number, difference, reason) = (next(), next(), next());
        assert!(
            !difference.contains('*'),
            "{number}: a line that stands for any difference checks nothing"
        );
        assert!(
            !reason.is_empty(),
            "no reason is given for the difference of {number}"
        );
        let before = all.insert(number.clone(), (difference, reason));
        assert!(before.is_none(), "two lines for {number}");
    }
    all
}
