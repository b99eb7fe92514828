//! Label and field selectors.

use serde_json::Value;

use super::{label, name, namespace};

enum Rule {
    Equals(String, String),
    NotEquals(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

/// A parsed selector.
#[derive(Default)]
pub(crate) struct Selector(Vec<Rule>);

fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

impl Selector {
    /// Parses a label selector; the error is the offending part.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let depth_end = end_of_requirement(rest);
            let (part, tail) = rest.split_at(depth_end);
            rules.push(parse_rule(part.trim())?);
            rest = tail.strip_prefix(',').unwrap_or(tail).trim();
        }
        Ok(Self(rules))
    }

    /// Whether the object's labels fit.
    pub(crate) fn fits_labels(&self, object: &Value) -> bool {
        self.fits(|key| label(object, key))
    }

    /// Whether the object's fields fit (`metadata.name`, `involvedObject.uid`, …).
    pub(crate) fn fits_fields(&self, object: &Value) -> bool {
        self.fits(|key| match key {
            "metadata.name" => Some(name(object)),
            "metadata.namespace" => Some(namespace(object)),
            _ => Some(
                object
                    .pointer(&format!("/{}", key.replace('.', "/")))
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            ),
        })
    }

    /// The keys of a field selector, to refuse those the API server does not know.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|rule| match rule {
            Rule::Equals(k, _)
            | Rule::NotEquals(k, _)
            | Rule::In(k, _)
            | Rule::NotIn(k, _)
            | Rule::Exists(k)
            | Rule::Missing(k) => k.as_str(),
        })
    }

    fn fits<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|rule| match rule {
            Rule::Equals(key, wanted) => value(key) == Some(wanted),
            Rule::NotEquals(key, unwanted) => value(key) != Some(unwanted),
            Rule::In(key, list) => value(key).is_some_and(|v| list.iter().any(|l| l == v)),
            Rule::NotIn(key, list) => !value(key).is_some_and(|v| list.iter().any(|l| l == v)),
            Rule::Exists(key) => value(key).is_some(),
            Rule::Missing(key) => value(key).is_none(),
        })
    }
}

/// Commas inside parentheses do not end a requirement.
fn end_of_requirement(text: &str) -> usize {
    let mut depth = 0_i32;
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => return i,
            _ => {}
        }
    }
    text.len()
}

fn parse_rule(part: &str) -> Result<Rule, String> {
    let key = |k: &str| {
        let k = k.trim();
        if is_key(k) {
            Ok(k.to_owned())
        } else {
            Err(part.to_owned())
        }
    };
    if let Some((k, v)) = part.split_once("!=") {
        return Ok(Rule::NotEquals(key(k)?, v.trim().into()));
    }
    if let Some((k, v)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Rule::Equals(key(k)?, v.trim().into()));
    }
    if let Some(k) = part.strip_prefix('!') {
        return Ok(Rule::Missing(key(k)?));
    }
    let list = |v: &str| {
        v.trim()
            .trim_start_matches('(')
            .trim_end_matches(')')
            .split(',')
            .map(|s| s.trim().to_owned())
            .collect()
    };
    if let Some((k, v)) = part.split_once(" notin ") {
        return Ok(Rule::NotIn(key(k)?, list(v)));
    }
    if let Some((k, v)) = part.split_once(" in ") {
        return Ok(Rule::In(key(k)?, list(v)));
    }
    Ok(Rule::Exists(key(part)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        for (selector, fits) in [
            ("", true),
            ("a=1", true),
            ("a==1,b!=3", true),
            ("a in (1,2),b", true),
            ("a notin (1,2)", false),
            ("!c", true),
            ("c", false),
        ] {
            assert_eq!(
                Selector::parse(selector).unwrap().fits_labels(&object),
                fits,
                "{selector}"
            );
        }
        assert!(Selector::parse("a b=1").is_err());
    }

    #[test]
    fn fields() {
        let object = json!({"metadata": {"name": "n"}, "involvedObject": {"uid": "u"}});
        let fits = |s| Selector::parse(s).unwrap().fits_fields(&object);
        assert!(fits("metadata.name=n,involvedObject.uid=u"));
        assert!(!fits("metadata.name!=n"));
    }
}
