//! What the CRD schemas refuse, and which fields they do not know.

use serde_json::Value;

use crate::store::{APPLICATIONS, Cause, Kind, PIPELINES, RUNS, StoreError, name};

/// Top-level fields of the specs the schemas know.
fn known_fields(kind: &Kind) -> Option<&'static [&'static str]> {
    if *kind == RUNS {
        Some(&["pipelineRef", "pipelineSpec", "parameters", "scm", "action"])
    } else if *kind == PIPELINES {
        Some(&["type", "pipeline", "multi_branch_pipeline"])
    } else if *kind == APPLICATIONS {
        Some(&["kind", "argoApp", "fluxApp"])
    } else {
        None
    }
}

/// Removes fields the schema does not know; returns them as error texts name them.
pub(super) fn prune(kind: &Kind, object: &mut Value) -> Vec<String> {
    let Some(known) = known_fields(kind) else {
        return Vec::new();
    };
    let mut unknown = Vec::new();
    if let Some(top) = object.as_object_mut() {
        let all = ["apiVersion", "kind", "metadata", "spec", "status"];
        top.retain(|key, _| all.contains(&key.as_str()) || (unknown.push(key.clone()), false).1);
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, _| known.contains(&key.as_str()) || (unknown.push(format!("spec.{key}")), false).1);
    }
    unknown
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Checks a PipelineRun against its schema.
pub(super) fn check(kind: &'static Kind, object: &Value) -> Result<(), StoreError> {
    if *kind != RUNS {
        return Ok(());
    }
    let spec = &object["spec"];
    let mut causes = Vec::new();
    let mut texts = |value: &Value, path: &str, fields: &[&str]| {
        for field in fields {
            let at = format!("{path}.{field}");
            match value.get(field) {
                None => causes.push(Cause::required(&at, "")),
                Some(Value::String(_)) => {}
                Some(other) => causes.push(Cause::wrong_type(&at, type_name(other), "string")),
            }
        }
    };
    for (i, parameter) in spec["parameters"].as_array().into_iter().flatten().enumerate() {
        texts(parameter, &format!("spec.parameters[{i}]"), &["name", "value"]);
    }
    if spec.get("scm").is_some() {
        texts(&spec["scm"], "spec.scm", &["refName", "refType"]);
    }
    match spec.get("pipelineRef") {
        None | Some(Value::Null) => causes.push(Cause::required("spec.pipelineRef", "")),
        Some(Value::Object(_)) => {}
        Some(other) => causes.push(Cause::wrong_type("spec.pipelineRef", type_name(other), "object")),
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(StoreError::invalid(kind, name(object), causes))
    }
}
