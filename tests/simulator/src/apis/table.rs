//! The table form that kubectl asks for.

use serde_json::{Value, json};

use crate::call::Call;
use crate::clock::{self};
use crate::store::{Kind, PIPELINES, RUNS, StoreError, annotation, name};

/// A table that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    include: Include,
    /// Whether the columns are described; a watch does that in its first event only.
    pub(super) headers: bool,
}

/// What a row carries of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

/// The table that the Accept header asks for, if it does.
pub(super) fn wanted(call: &Call<'_>) -> Result<Option<Table>, StoreError> {
    if !call.header("accept").split(',').any(|a| a.contains("as=Table")) {
        return Ok(None);
    }
    let include = match call.query.text("includeObject") {
        "" | "Metadata" => Include::Metadata,
        "None" => Include::Nothing,
        "Object" => Include::Object,
        other => {
            return Err(StoreError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: \"{other}\": must be 'Metadata', \
                 'Object', 'None', or empty"
            )));
        }
    };
    Ok(Some(Table {
        include,
        headers: true,
    }))
}

fn columns(kind: &Kind) -> Vec<Value> {
    let column = |name: &str, kind: &str, format: &str| json!({"name": name, "type": kind, "format": format, "description": "", "priority": 0});
    let mut list = vec![column("Name", "string", "name")];
    if *kind == RUNS {
        list.push(column("ID", "string", ""));
        list.push(column("Phase", "string", ""));
    } else if *kind == PIPELINES {
        list.push(column("Type", "string", ""));
    }
    list.push(column(
        "Age",
        if kind.is_custom() { "date" } else { "string" },
        "",
    ));
    list
}

impl Table {
    fn row(self, kind: &Kind, object: &Value) -> Value {
        // What a custom object does not have is null.
        let text = |pointer: &str| object.pointer(pointer).cloned().unwrap_or_default();
        let mut cells = vec![Value::from(name(object))];
        if *kind == RUNS {
            cells.push(annotation(object, crate::controller::RUN_ID).map_or(Value::Null, Value::from));
            cells.push(text("/status/phase"));
        } else if *kind == PIPELINES {
            cells.push(text("/spec/type"));
        }
        cells.push(
            if object["metadata"]["creationTimestamp"].is_null() && kind.is_custom() {
                Value::Null
            } else {
                Value::from(age(object))
            },
        );
        let object = match self.include {
            Include::Nothing => Value::Null,
            Include::Object => object.clone(),
            Include::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            }),
        };
        json!({"cells": cells, "object": object})
    }

    /// These objects as rows.
    pub(super) fn of(self, kind: &Kind, objects: &[Value], metadata: &Value) -> Value {
        let rows: Vec<Value> = objects.iter().map(|o| self.row(kind, o)).collect();
        let columns = self.headers.then(|| columns(kind));
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        })
    }

    /// One object, as an event of a watch tells it.
    pub(super) fn event(self, kind: &Kind, object: &Value) -> Value {
        let version = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
        self.of(kind, std::slice::from_ref(object), &version)
    }

    /// A bookmark: a row without a name. The one that ends the initial events carries its annotation whatever was asked for.
    pub(super) fn bookmark(self, kind: &Kind, object: &Value) -> Value {
        let mut table = self.event(kind, object);
        if !object["metadata"]["annotations"].is_null() {
            table["rows"][0]["object"] = json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            });
        }
        table
    }
}

/// Like kubectl's ages: seconds, minutes, hours, days.
fn age(object: &Value) -> String {
    let created = object["metadata"]["creationTimestamp"]
        .as_str()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok());
    let Some(created) = created else {
        return "<unknown>".into();
    };
    let seconds = (clock::now() - created.as_millisecond()) / 1_000;
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
