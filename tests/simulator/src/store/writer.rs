//! Who writes, and what a write may not change.

use serde_json::{Value, json};

use super::Part;

/// Who writes, how and what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    pub(crate) operation: &'static str,
    pub(crate) part: Part,
    pub(crate) dry_run: bool,
    /// What is applied, by server-side apply.
    pub(crate) applied: Option<&'a Value>,
}

impl<'a> Writer<'a> {
    pub(crate) fn main(manager: &'a str) -> Self {
        Self {
            manager,
            operation: "Update",
            part: Part::Main,
            dry_run: false,
            applied: None,
        }
    }

    pub(crate) fn status(manager: &'a str) -> Self {
        Self {
            part: Part::Status,
            ..Self::main(manager)
        }
    }
}

pub(super) fn replace(object: &mut Value, field: &str, value: Option<&Value>) {
    match value {
        Some(value) => object[field] = value.clone(),
        None => {
            if let Some(map) = object.as_object_mut() {
                map.remove(field);
            }
        }
    }
}

pub(super) fn keep_system_metadata(object: &mut Value, old: &Value) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    for field in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "generateName",
    ] {
        replace(&mut object["metadata"], field, old["metadata"].get(field));
    }
}

pub(super) fn bump_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64() {
        object["metadata"]["generation"] = Value::from(generation + 1);
    }
}

pub(super) fn has_finalizers(object: &Value) -> bool {
    object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .is_some_and(|f| !f.is_empty())
}
