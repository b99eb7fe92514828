//! What was asked of our own API server, counted by the proxy in between: requests by verb and resource, and bytes.

use std::{collections::BTreeMap, fmt::Write as _};

use tenantry_test_support::fault_proxy::SeenRequest;

/// Requests of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// How many.
    pub requests: usize,
    /// Bytes that were sent with them.
    pub sent: usize,
    /// Bytes that were answered.
    pub received: usize,
}

/// Requests by `verb resource/subresource`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill(pub BTreeMap<String, Item>);

impl Bill {
    /// Adds these up.
    pub fn of<'a>(seen: impl IntoIterator<Item = &'a SeenRequest>) -> Self {
        let mut all: BTreeMap<String, Item> = BTreeMap::new();
        for one in seen {
            let asked = &one.request;
            let slash = if asked.subresource.is_empty() { "" } else { "/" };
            let resource = if asked.resource.is_empty() {
                "(no resource)"
            } else {
                &asked.resource
            };
            let name = format!("{} {resource}{slash}{}", asked.verb, asked.subresource);
            let item = all.entry(name).or_default();
            item.requests += 1;
            item.sent += one.sent;
            item.received += one.received;
        }
        Self(all)
    }

    /// The sum of the items whose name fits.
    pub fn sum(&self, fits: impl Fn(&str) -> bool) -> Item {
        let fitting = self.0.iter().filter(|(name, _)| fits(name));
        fitting.fold(Item::default(), |sum, (_, item)| Item {
            requests: sum.requests + item.requests,
            sent: sum.sent + item.sent,
            received: sum.received + item.received,
        })
    }

    /// As people read it, a table in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from("| request | count | bytes sent | bytes received |\n|---|--:|--:|--:|\n");
        let sum = self.sum(|_| true);
        let all = self.0.iter().map(|(name, item)| (name.as_str(), *item));
        for (name, item) in all.chain([("all", sum)]) {
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} |",
                item.requests, item.sent, item.received
            );
        }
        text
    }
}
