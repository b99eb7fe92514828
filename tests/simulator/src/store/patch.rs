//! JSON merge patch (RFC 7386), JSON patch (RFC 6902) and the merge of server-side apply (who owns what
//! is in `managed`).

use serde_json::Value;

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let map = target.as_object_mut().expect("made an object above");
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902; the error says what did not work.
pub(crate) fn json(target: &mut Value, operations: &Value) -> Result<(), String> {
    let operations = operations.as_array().ok_or("a JSON patch is an array")?;
    for operation in operations {
        let path = operation["path"].as_str().ok_or("an operation needs a path")?;
        let value = || {
            operation
                .get("value")
                .cloned()
                .ok_or_else(|| format!("{path}: value is missing"))
        };
        match operation["op"].as_str().unwrap_or_default() {
            "add" => add(target, path, value()?)?,
            "remove" => remove(target, path).map(|_| ())?,
            "replace" => {
                remove(target, path)?;
                add(target, path, value()?)?;
            }
            "test" => {
                if target.pointer(path) != Some(&value()?) {
                    return Err(format!("testing value {path} failed"));
                }
            }
            "copy" | "move" => {
                let from = operation["from"].as_str().ok_or("from is missing")?;
                let value = target
                    .pointer(from)
                    .cloned()
                    .ok_or_else(|| format!("{from} does not exist"))?;
                if operation["op"] == "move" {
                    remove(target, from)?;
                }
                add(target, path, value)?;
            }
            other => return Err(format!("unknown operation {other:?}")),
        }
    }
    Ok(())
}

fn split(path: &str) -> Result<(&str, String), String> {
    let (parent, last) = path
        .rsplit_once('/')
        .ok_or_else(|| format!("{path:?} is not a JSON pointer"))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.insert(last, value);
            Ok(())
        }
        Some(Value::Array(list)) => {
            let index = if last == "-" {
                Some(list.len())
            } else {
                last.parse().ok()
            };
            match index.filter(|i| *i <= list.len()) {
                Some(i) => {
                    list.insert(i, value);
                    Ok(())
                }
                None => Err(format!("{path} is no index of the list")),
            }
        }
        _ => Err(format!("{parent} does not exist")),
    }
}

fn remove(target: &mut Value, path: &str) -> Result<Value, String> {
    let (parent, last) = split(path)?;
    let gone = match target.pointer_mut(parent) {
        Some(Value::Object(map)) => map.remove(&last),
        Some(Value::Array(list)) => last
            .parse::<usize>()
            .ok()
            .filter(|i| *i < list.len())
            .map(|i| list.remove(i)),
        _ => None,
    };
    gone.ok_or_else(|| format!("{path} does not exist"))
}

/// Server-side apply by one manager: sets what is applied, removes what it applied before and no longer does.
pub(crate) fn apply(target: &mut Value, before: Option<&Value>, applied: &Value) {
    if let Some(before) = before {
        remove_unapplied(target, before, applied);
    }
    set_applied(target, applied);
}

fn set_applied(target: &mut Value, applied: &Value) {
    match (target.as_object_mut(), applied.as_object()) {
        (Some(map), Some(applied)) => {
            for (key, value) in applied {
                set_applied(map.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *target = applied.clone(),
    }
}

fn remove_unapplied(target: &mut Value, before: &Value, applied: &Value) {
    let (Some(map), Some(before)) = (target.as_object_mut(), before.as_object()) else {
        return;
    };
    for (key, value) in before {
        match applied.get(key) {
            None => {
                map.remove(key);
            }
            Some(still) => {
                if let Some(inner) = map.get_mut(key) {
                    remove_unapplied(inner, value, still);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_removes_null() {
        let mut object = json!({"a": 1, "b": {"c": 2}});
        merge(&mut object, &json!({"a": null, "b": {"d": 3}}));
        assert_eq!(object, json!({"b": {"c": 2, "d": 3}}));
    }

    #[test]
    fn json_patch() {
        let mut object = json!({"a": {"x/y": 1}, "l": [1, 3]});
        let patch = json!([
            {"op": "test", "path": "/a/x~1y", "value": 1},
            {"op": "replace", "path": "/a/x~1y", "value": 2},
            {"op": "add", "path": "/l/1", "value": 2},
            {"op": "add", "path": "/l/-", "value": 4},
            {"op": "remove", "path": "/l/0"},
        ]);
        super::json(&mut object, &patch).unwrap();
        assert_eq!(object, json!({"a": {"x/y": 2}, "l": [2, 3, 4]}));
        assert!(super::json(&mut object, &json!([{"op": "remove", "path": "/zzz"}])).is_err());
    }

    #[test]
    fn apply_takes_back_only_what_it_gave() {
        let mut object = json!({"metadata": {"labels": {"mine": "1", "theirs": "1"}}});
        let first = json!({"metadata": {"labels": {"mine": "1", "old": "1"}}});
        apply(&mut object, None, &first);
        apply(
            &mut object,
            Some(&first),
            &json!({"metadata": {"labels": {"mine": "2"}}}),
        );
        assert_eq!(
            object,
            json!({"metadata": {"labels": {"mine": "2", "theirs": "1"}}})
        );
    }
}
