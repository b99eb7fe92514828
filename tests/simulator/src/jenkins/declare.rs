//! What a job declares and what a build archived, in Blue Ocean's words.

use serde_json::{Value, json};

use super::{Job, JobId};
use crate::query::escape_segment;

/// An item of the artifact list.
pub(crate) fn artifact(id: &JobId, number: u64, path: &str, size: u64) -> Value {
    const CLASS: &str = "io.jenkins.blueocean.service.embedded.rest.ArtifactImpl";
    let escaped: Vec<String> = path.split('/').map(escape_segment).collect();
    let mut o = json!({
        "_class": CLASS, "_links": {"self": {}}, "downloadable": true,
        "id": format!("{CLASS}:%2F{}", escaped.join("%2F")),
        "name": path.rsplit('/').next().unwrap_or(path), "path": path,
        "url": format!("{}/{number}/artifact/{}", id.path(), escaped.join("/")),
    });
    if size > 0 {
        o["size"] = Value::from(size);
    }
    o
}

/// A job's parameter definitions, in Jenkins' words.
pub(crate) fn parameter_definitions(job: &Job) -> Vec<Value> {
    job.parameters
        .iter()
        .map(|p| {
            let class = match p.kind.as_str() {
                "choice" => "ChoiceParameter",
                "boolean" => "BooleanParameter",
                "text" => "TextParameter",
                "password" => "PasswordParameter",
                "file" => "FileParameter",
                _ => "StringParameter",
            };
            let value_class = if class == "ChoiceParameter" {
                "StringParameter"
            } else {
                class
            };
            let mut o = json!({
                "_class": format!("hudson.model.{class}Definition"), "description": "", "name": p.name,
                "type": format!("{class}Definition"),
                "defaultParameterValue": {
                    "_class": format!("hudson.model.{value_class}Value"), "name": p.name,
                    "value": p.default_value().unwrap_or_default(),
                },
            });
            if let Some(choices) = p.choices() {
                o["choices"] = Value::from(choices);
            }
            o
        })
        .collect()
}

/// Parameters as the controller stores them in a pipeline's jenkins-metadata annotation.
pub(crate) fn stored_parameters(job: &Job) -> Vec<Value> {
    job.parameters
        .iter()
        .map(|p| {
            let mut o = json!({
                "name": p.name, "type": p.kind, "value": "",
                // Jenkins has none for files and the like.
                "defaultParameterValue": p.default_value().map(|value| json!({"name": p.name, "value": value})),
            });
            if let Some(choices) = p.choices() {
                o["choices"] = Value::from(choices);
            }
            o
        })
        .collect()
}
