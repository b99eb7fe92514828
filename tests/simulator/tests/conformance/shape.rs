//! What is compared: status, content type, and of the body the JSON shape or the text with numbers and times taken out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// An answer, recorded or simulated.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub json: Option<Value>,
    pub body: Vec<u8>,
    /// The recording kept only head and tail: lengths are compared.
    pub shortened: bool,
}

/// The differences, in words that stay the same from run to run; empty if there are none.
pub fn differences(recorded: &Answer, simulated: &Answer) -> Vec<String> {
    if recorded.status != simulated.status {
        return vec![format!(
            "status {} instead of {}",
            simulated.status, recorded.status
        )];
    }
    let mut all = Vec::new();
    if recorded.content_type != simulated.content_type {
        all.push(format!(
            "content type {:?} instead of {:?}",
            simulated.content_type, recorded.content_type
        ));
    }
    match (&recorded.json, &simulated.json) {
        (Some(wanted), Some(got)) => {
            compare("", &Shape::of(wanted), &Shape::of(got), &mut all);
            let phase = |json: &Value| json.pointer("/status/phase").map(Value::to_string);
            if all.is_empty() && phase(wanted) != phase(got) {
                let show = |json| phase(json).unwrap_or_else(|| "none".into());
                all.push(format!("phase {} instead of {}", show(got), show(wanted)));
            }
        }
        (Some(_), None) => all.push("no JSON".into()),
        (None, _) if recorded.shortened => {
            if recorded.body.len() != simulated.body.len() {
                all.push(format!(
                    "{} bytes instead of {}",
                    simulated.body.len(),
                    recorded.body.len()
                ));
            }
        }
        (None, _) => {
            let (wanted, got) = (pattern(&recorded.body), pattern(&simulated.body));
            // Of a longer text, such as a growing log, what its lines look like is compared.
            if wanted != got
                && (wanted.lines().count() < 6 || kinds_of_lines(&wanted) != kinds_of_lines(&got))
            {
                all.push(format!("text {:?} instead of {:?}", cut(&got), cut(&wanted)));
            }
        }
    }
    all
}

fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}

/// The kinds of lines of a text. The first and the last may be cut anywhere.
fn kinds_of_lines(text: &str) -> BTreeSet<&str> {
    let lines: Vec<_> = text.lines().collect();
    let whole = lines.get(1..lines.len().saturating_sub(1)).unwrap_or_default();
    whole.iter().copied().collect()
}

/// Text with every number taken out: ports, times, counters, sizes.
fn pattern(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

/// The shape of one or several JSON values.
#[derive(Debug, Default)]
struct Shape {
    kinds: BTreeSet<&'static str>,
    keys: BTreeMap<String, Shape>,
    /// Keys that not every object has.
    sometimes: BTreeSet<String>,
    objects: usize,
    items: Option<Box<Shape>>,
}

impl Shape {
    fn of(value: &Value) -> Self {
        let mut shape = Self::default();
        shape.add(value);
        shape
    }

    fn add(&mut self, value: &Value) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(text) => {
                // JSON inside a string has a shape as well.
                if let Some(inner) = embedded(text) {
                    self.items.get_or_insert_default().add(&inner);
                    "JSON in a string"
                } else if text.is_empty() {
                    "empty string"
                } else {
                    "string"
                }
            }
            Value::Array(list) => {
                for item in list {
                    self.items.get_or_insert_default().add(item);
                }
                if list.is_empty() { "empty list" } else { "list" }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    if self.objects > 0 && !self.keys.contains_key(key) {
                        self.sometimes.insert(key.clone());
                    }
                    self.keys.entry(key.clone()).or_default().add(value);
                }
                for key in self.keys.keys() {
                    if !map.contains_key(key) {
                        self.sometimes.insert(key.clone());
                    }
                }
                self.objects += 1;
                "object"
            }
        };
        self.kinds.insert(kind);
    }
}

fn embedded(text: &str) -> Option<Value> {
    let value = serde_json::from_str(text).ok()?;
    matches!(value, Value::Object(_) | Value::Array(_)).then_some(value)
}

fn compare(at: &str, wanted: &Shape, got: &Shape, all: &mut Vec<String>) {
    let place = if at.is_empty() { "the body" } else { at };
    // How many entries there are of a kind is not the shape's business; that there are some is.
    // A parameter's value may be empty or not; an annotation that is still empty says something.
    let plain = |kinds: &BTreeSet<&'static str>| -> BTreeSet<&'static str> {
        let value = at.ends_with(".value");
        let one = |kind: &&'static str| {
            if value && *kind == "empty string" {
                "string"
            } else {
                kind
            }
        };
        kinds.iter().map(one).collect()
    };
    if plain(&wanted.kinds) != plain(&got.kinds) {
        let show = |kinds: &BTreeSet<&str>| kinds.iter().copied().collect::<Vec<_>>().join(" or ");
        all.push(format!(
            "{place} is {} instead of {}",
            show(&got.kinds),
            show(&wanted.kinds)
        ));
        return;
    }
    // Written by several hands over time: who wrote what, and when, is the API server's book-keeping.
    if at.ends_with(".fieldsV1") {
        return;
    }
    for (key, shape) in &wanted.keys {
        let below = format!("{at}.{key}");
        match got.keys.get(key) {
            Some(other) => compare(&below, shape, other, all),
            None if wanted.sometimes.contains(key) => {}
            None => all.push(format!("{below} is missing")),
        }
    }
    for key in got.keys.keys() {
        if !wanted.keys.contains_key(key) && !got.sometimes.contains(key) {
            all.push(format!("{at}.{key} is too much"));
        }
    }
    if let (Some(wanted), Some(got)) = (&wanted.items, &got.items) {
        compare(&format!("{at}[]"), wanted, got, all);
    }
}
