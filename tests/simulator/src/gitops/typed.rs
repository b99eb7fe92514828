//! What Go's types make of JSON on its way through ks-devops: fields that are always there, and errors for values that
//! do not fit.

use serde_json::{Value, json};

/// An Application as Go writes it: structs that are no pointers are never left out.
pub(super) fn application(mut object: Value) -> Value {
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    default(&mut object["status"], "fluxApp", json!({}));
    if let Some(app) = object.pointer_mut("/spec/argoApp").filter(|a| a.is_object()) {
        default(app, "spec", json!({}));
        let spec = &mut app["spec"];
        for (key, value) in [
            ("source", json!({"repoURL": ""})),
            ("destination", json!({})),
            ("project", json!("")),
        ] {
            default(spec, key, value);
        }
        if let Some(operation) = app.get_mut("operation").filter(|o| o.is_object()) {
            for key in ["initiatedBy", "retry"] {
                default(operation, key, json!({}));
            }
        }
    }
    object
}

fn default(object: &mut Value, key: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.entry(key).or_insert(value);
    }
}

/// What a field has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Text,
    Flag,
    Object,
    List,
    Texts,
    Objects,
}

impl Must {
    fn fits(self, value: &Value) -> bool {
        let all = |fits: fn(&Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(fits));
        value.is_null()
            || match self {
                Self::Text => value.is_string(),
                Self::Flag => value.is_boolean(),
                Self::Object => value.is_object(),
                Self::List => value.is_array(),
                Self::Texts => all(Value::is_string),
                Self::Objects => all(Value::is_object),
            }
    }
}

/// Path, the struct that holds the field, its type in Go, and what it has to be.
const APPLICATION: [(&str, &str, &str, Must); 13] = [
    ("metadata", "Application", "v1.ObjectMeta", Must::Object),
    ("metadata.name", "ObjectMeta", "string", Must::Text),
    ("metadata.namespace", "ObjectMeta", "string", Must::Text),
    ("metadata.labels", "ObjectMeta", "map[string]string", Must::Object),
    (
        "metadata.annotations",
        "ObjectMeta",
        "map[string]string",
        Must::Object,
    ),
    ("metadata.finalizers", "ObjectMeta", "[]string", Must::List),
    ("spec", "Application", "v1alpha1.ApplicationSpec", Must::Object),
    ("spec.kind", "ApplicationSpec", "v1alpha1.Engine", Must::Text),
    (
        "spec.argoApp",
        "ApplicationSpec",
        "v1alpha1.ArgoApplication",
        Must::Object,
    ),
    (
        "spec.argoApp.spec",
        "ArgoApplication",
        "v1alpha1.ArgoApplicationSpec",
        Must::Object,
    ),
    (
        "spec.argoApp.spec.project",
        "ArgoApplicationSpec",
        "string",
        Must::Text,
    ),
    (
        "spec.argoApp.spec.source",
        "ArgoApplicationSpec",
        "v1alpha1.ApplicationSource",
        Must::Object,
    ),
    (
        "spec.argoApp.spec.destination",
        "ArgoApplicationSpec",
        "v1alpha1.ApplicationDestination",
        Must::Object,
    ),
];

/// Checks an Application; the error is Go's.
pub(super) fn check_application(body: &Value) -> Result<(), String> {
    if !body.is_object() {
        let is = go_kind(body);
        return Err(format!(
            "json: cannot unmarshal {is} into Go value of type v1alpha1.Application"
        ));
    }
    for (path, holder, kind, must) in APPLICATION {
        let pointer = format!("/{}", path.replace('.', "/"));
        if let Some(value) = body.pointer(&pointer)
            && !must.fits(value)
        {
            return Err(format!(
                "json: cannot unmarshal {} into Go struct field {holder}.{path} of type {kind}",
                go_kind(value)
            ));
        }
    }
    Ok(())
}

/// Whether this can be read as a sync request.
pub(super) fn is_sync_request(body: &Value) -> bool {
    const FIELDS: [(&str, Must); 9] = [
        ("revision", Must::Text),
        ("dryRun", Must::Flag),
        ("prune", Must::Flag),
        ("strategy", Must::Object),
        ("resources", Must::Objects),
        ("manifests", Must::Texts),
        ("infos", Must::Objects),
        ("retryStrategy", Must::Object),
        ("syncOptions", Must::Texts),
    ];
    body.is_object()
        && FIELDS
            .iter()
            .all(|(key, must)| body.get(key).is_none_or(|v| must.fits(v)))
}

/// What encoding/json calls a value.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_names_the_struct_and_the_whole_path() {
        let error = check_application(&json!({"metadata": {"name": "x"}, "spec": {"kind": 3}}));
        let text = "json: cannot unmarshal number into Go struct field ApplicationSpec.spec.kind of type v1alpha1.Engine";
        assert_eq!(error, Err(text.to_owned()));
        let good = json!({"metadata": {"name": "x"}, "spec": {"kind": "argocd", "argoApp": null}});
        assert_eq!(check_application(&good), Ok(()));
    }

    #[test]
    fn structs_are_never_left_out() {
        let object = json!({"spec": {"argoApp": {"operation": {"sync": {}}}}});
        let typed = application(object);
        assert_eq!(
            typed["spec"]["argoApp"]["operation"],
            json!({"sync": {}, "initiatedBy": {}, "retry": {}})
        );
        assert_eq!(typed["status"], json!({"fluxApp": {}}));
        assert_eq!(
            application(json!({"spec": {"kind": "argocd"}}))["spec"],
            json!({"kind": "argocd"})
        );
    }

    #[test]
    fn a_sync_request_is_checked_down_to_its_lists() {
        assert!(is_sync_request(&json!({})));
        assert!(is_sync_request(
            &json!({"prune": true, "syncOptions": ["a=b"], "unknown": 1})
        ));
        for bad in [
            json!({"prune": "yes"}),
            json!({"syncOptions": [1]}),
            json!({"resources": ["a"]}),
            json!([]),
        ] {
            assert!(!is_sync_request(&bad), "{bad}");
        }
    }
}
