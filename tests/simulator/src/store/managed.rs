//! `metadata.managedFields`: who set which field, close enough to kube-apiserver that the shape of an object fits.

use serde_json::{Map, Value, json};

use super::Part;
use crate::clock::{self, Millis};

/// Who writes, and what of the object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hand<'a> {
    pub(crate) manager: &'a str,
    /// `Update` or `Apply`.
    pub(crate) operation: &'static str,
    pub(crate) part: Part,
    /// All that a manager applies: it owns that and nothing else.
    pub(crate) applied: Option<&'a Value>,
}

/// Adds what this write changed to its manager's entry and takes it from all others.
pub(crate) fn record(old: Option<&Value>, object: &mut Value, hand: Hand<'_>, at: Millis) {
    let changed = fields(old, object);
    let owned = hand
        .applied
        .map_or_else(|| changed.clone(), |applied| fields(None, applied));
    if changed.is_empty() && owned.is_empty() {
        return;
    }
    let api_version = object["apiVersion"].clone();
    let list = object["metadata"]
        .as_object_mut()
        .map(|m| m.entry("managedFields").or_insert_with(|| json!([])));
    let Some(list) = list.and_then(Value::as_array_mut) else {
        return;
    };
    let subresource = (hand.part == Part::Status).then_some("status");
    let is_mine = |e: &Value| {
        e["manager"] == hand.manager
            && e["operation"] == hand.operation
            && e["subresource"].as_str() == subresource
    };
    let gone = Value::Object(changed);
    for entry in list.iter_mut().filter(|e| !is_mine(e)) {
        subtract(&mut entry["fieldsV1"], &gone);
    }
    list.retain(|e| e["fieldsV1"].as_object().is_none_or(|f| !f.is_empty()));
    let time = Value::from(clock::rfc3339(at));
    let owned = Value::Object(owned);
    if let Some(entry) = list.iter_mut().find(|e| is_mine(e)) {
        if hand.applied.is_some() {
            entry["fieldsV1"] = owned;
        } else {
            merge(&mut entry["fieldsV1"], &owned);
        }
        entry["time"] = time;
    } else {
        let mut entry = json!({
            "manager": hand.manager, "operation": hand.operation, "apiVersion": api_version, "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": owned,
        });
        if let Some(subresource) = subresource {
            entry["subresource"] = Value::from(subresource);
        }
        list.push(entry);
    }
}

/// Whether the same managers own the same fields.
pub(crate) fn same_owners(a: &Value, b: &Value) -> bool {
    let owners = |object: &Value| -> Vec<Value> {
        let list = object["metadata"]["managedFields"].as_array();
        let mut list = list.cloned().unwrap_or_default();
        for entry in list.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        list
    };
    owners(a) == owners(b)
}

/// A field that somebody else set to another value than the one that is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The other manager, as errors name it.
    pub(crate) manager: String,
    /// `.spec.action`
    pub(crate) path: String,
}

/// What an apply would take from others.
pub(crate) fn conflicts(live: &Value, applied: &Value, manager: &str) -> Vec<Conflict> {
    let owned = Value::Object(fields(None, applied));
    let mut all = Vec::new();
    for entry in live["metadata"]["managedFields"].as_array().into_iter().flatten() {
        if entry["manager"] == manager && entry["operation"] == "Apply" {
            continue;
        }
        let mut paths = Vec::new();
        contested("", &owned, &entry["fieldsV1"], live, applied, &mut paths);
        let manager = named(entry);
        all.extend(paths.into_iter().map(|path| Conflict {
            manager: manager.clone(),
            path,
        }));
    }
    all
}

fn named(entry: &Value) -> String {
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    let mut name = format!("{:?}", text("manager"));
    if let Some(subresource) = entry["subresource"].as_str() {
        name.push_str(&format!(" with subresource {subresource:?}"));
    }
    if text("operation") == "Update" {
        name.push_str(&format!(" using {} at {}", text("apiVersion"), text("time")));
    }
    name
}

/// Fields of both sets whose values differ.
fn contested(at: &str, mine: &Value, theirs: &Value, live: &Value, applied: &Value, paths: &mut Vec<String>) {
    for (key, below) in mine.as_object().into_iter().flatten() {
        let (Some(field), Some(other)) = (key.strip_prefix("f:"), theirs.get(key)) else {
            continue;
        };
        let at = format!("{at}.{field}");
        if below.as_object().is_none_or(Map::is_empty) {
            if live[field] != applied[field] {
                paths.push(at);
            }
        } else {
            contested(&at, below, other, &live[field], &applied[field], paths);
        }
    }
}

/// Takes fields out of a set; what is left without fields goes as well.
fn subtract(from: &mut Value, gone: &Value) {
    let (Some(from), Some(gone)) = (from.as_object_mut(), gone.as_object()) else {
        return;
    };
    for (key, below) in gone.iter().filter(|(key, _)| *key != ".") {
        let leaf = below.as_object().is_none_or(Map::is_empty);
        let Some(mine) = from.get_mut(key) else { continue };
        if !leaf {
            subtract(mine, below);
        }
        if leaf || mine.as_object().is_none_or(|m| m.keys().all(|k| k == ".")) {
            from.remove(key);
        }
    }
}

/// The set of fields in which an object differs from an older one, or all of them.
fn fields(old: Option<&Value>, object: &Value) -> Map<String, Value> {
    let mut fields = Map::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let set = metadata(old.map(|o| &o["metadata"]), value);
                if !set.is_empty() {
                    fields.insert("f:metadata".into(), Value::Object(set));
                }
            }
            _ => {
                let before = old.and_then(|o| o.get(key));
                if before != Some(value) {
                    fields.insert(format!("f:{key}"), set(before, value, true));
                }
            }
        }
    }
    fields
}

fn metadata(old: Option<&Value>, new: &Value) -> Map<String, Value> {
    let mut fields = Map::new();
    let changed = |key: &str| new.get(key).filter(|v| old.and_then(|o| o.get(key)) != Some(v));
    for key in ["annotations", "labels"] {
        if let Some(value) = changed(key) {
            fields.insert(format!("f:{key}"), set(old.and_then(|o| o.get(key)), value, true));
        }
    }
    if changed("generateName").is_some() {
        fields.insert("f:generateName".into(), json!({}));
    }
    if let Some(list) = changed("finalizers").and_then(Value::as_array) {
        let keys = list.iter().map(|f| (format!("v:{f}"), json!({})));
        fields.insert(
            "f:finalizers".into(),
            std::iter::once((".".to_owned(), json!({}))).chain(keys).collect(),
        );
    }
    if let Some(list) = changed("ownerReferences").and_then(Value::as_array) {
        let keys = list
            .iter()
            .map(|r| (format!("k:{{\"uid\":{}}}", r["uid"]), json!({})));
        fields.insert(
            "f:ownerReferences".into(),
            std::iter::once((".".to_owned(), json!({}))).chain(keys).collect(),
        );
    }
    fields
}

/// The set of changed fields below a value; lists are atomic.
fn set(old: Option<&Value>, new: &Value, dot: bool) -> Value {
    let Some(map) = new.as_object() else {
        return json!({});
    };
    let mut fields = Map::new();
    if dot && old.is_none() {
        fields.insert(".".into(), json!({}));
    }
    for (key, value) in map {
        let before = old.and_then(|o| o.get(key));
        if before != Some(value) {
            fields.insert(format!("f:{key}"), set(before, value, true));
        }
    }
    Value::Object(fields)
}

fn merge(into: &mut Value, from: &Value) {
    match (into.as_object_mut(), from.as_object()) {
        (Some(into), Some(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert_with(|| json!({})), value);
            }
        }
        _ => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand<'a>(manager: &'a str, applied: Option<&'a Value>) -> Hand<'a> {
        Hand {
            manager,
            operation: if applied.is_some() { "Apply" } else { "Update" },
            part: Part::Main,
            applied,
        }
    }

    #[test]
    fn whoever_changes_a_field_owns_it_alone() {
        let mut object = json!({"apiVersion": "v1", "metadata": {}, "spec": {"a": 1, "b": 1}});
        record(None, &mut object, hand("one", None), 0);
        let old = object.clone();
        object["spec"]["a"] = json!(2);
        record(Some(&old), &mut object, hand("two", None), 0);
        let mine = json!({"spec": {"a": 3, "b": 3}});
        let found = conflicts(&object, &mine, "me");
        let paths: Vec<(&str, &str)> = found
            .iter()
            .map(|c| (c.manager.split(' ').next().unwrap_or_default(), c.path.as_str()))
            .collect();
        assert_eq!(paths, [("\"one\"", ".spec.b"), ("\"two\"", ".spec.a")]);
    }

    #[test]
    fn the_same_value_is_no_conflict_and_is_owned_by_both() {
        let mut object = json!({"apiVersion": "v1", "metadata": {}, "spec": {"a": 1}});
        record(None, &mut object, hand("one", None), 0);
        let mine = json!({"spec": {"a": 1}});
        assert_eq!(conflicts(&object, &mine, "me"), []);
        let old = object.clone();
        record(Some(&old), &mut object, hand("me", Some(&mine)), 0);
        assert_eq!(
            object["metadata"]["managedFields"].as_array().map(Vec::len),
            Some(2)
        );
        // One's own applied fields never stand in one's way.
        let other = json!({"spec": {"a": 5}});
        assert_eq!(conflicts(&object, &other, "me").len(), 1);
        assert_eq!(conflicts(&object, &other, "you").len(), 2);
    }
}
