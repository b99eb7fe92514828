//! The table form that kubectl asks for.

use serde_json::{Value, json};

use crate::call::Call;
use crate::clock::{self};
use crate::store::{Kind, PIPELINES, RUNS, annotation, name};

/// Whether the Accept header asks for a table.
pub(super) fn wanted(call: &Call<'_>) -> bool {
    call.header("accept").split(',').any(|a| a.contains("as=Table"))
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

fn row(kind: &Kind, object: &Value) -> Value {
    let text = |pointer: &str| object.pointer(pointer).cloned().unwrap_or(Value::from(""));
    let mut cells = vec![Value::from(name(object))];
    if *kind == RUNS {
        cells.push(
            annotation(object, crate::controller::RUN_ID)
                .unwrap_or_default()
                .into(),
        );
        cells.push(text("/status/phase"));
    } else if *kind == PIPELINES {
        cells.push(text("/spec/type"));
    }
    cells.push(Value::from(age(object)));
    let metadata = json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
    });
    json!({"cells": cells, "object": metadata})
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

pub(super) fn table(kind: &Kind, objects: &[Value], metadata: Value) -> Value {
    let rows: Vec<Value> = objects.iter().map(|o| row(kind, o)).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns(kind), "rows": rows,
    })
}
