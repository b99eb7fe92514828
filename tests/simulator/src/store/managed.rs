//! `metadata.managedFields`: who set which field, close enough to kube-apiserver that the shape of an object fits.

use serde_json::{Map, Value, json};

use super::Part;
use crate::clock::{self, Millis};

/// Adds what this write changed to its manager's entry.
pub(crate) fn record(
    old: Option<&Value>,
    object: &mut Value,
    manager: &str,
    operation: &str,
    part: Part,
    at: Millis,
) {
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
    if fields.is_empty() {
        return;
    }
    let api_version = object["apiVersion"].clone();
    let list = object["metadata"]
        .as_object_mut()
        .map(|m| m.entry("managedFields").or_insert_with(|| json!([])));
    let Some(list) = list.and_then(Value::as_array_mut) else {
        return;
    };
    let subresource = (part == Part::Status).then_some("status");
    let found = list.iter_mut().find(|e| {
        e["manager"] == manager && e["operation"] == operation && e["subresource"].as_str() == subresource
    });
    let time = Value::from(clock::rfc3339(at));
    if let Some(entry) = found {
        merge(&mut entry["fieldsV1"], &Value::Object(fields));
        entry["time"] = time;
    } else {
        let mut entry = json!({
            "manager": manager, "operation": operation, "apiVersion": api_version, "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        });
        if let Some(subresource) = subresource {
            entry["subresource"] = Value::from(subresource);
        }
        list.push(entry);
    }
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
