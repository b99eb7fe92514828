//! No reference leaves its namespace: there is no field to say so, and no name that would.

use serde_json::{Value, json};

use super::{cluster, refused, try_create, with};

/// All properties of a schema, with their path.
fn properties(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        properties(inner, &path, found);
        found.push((path, inner.clone()));
    }
    if let Some(items) = schema.get("items") {
        properties(items, &format!("{path}[]"), found);
    }
}

#[test]
fn no_reference_of_any_kind_has_a_namespace() {
    let mut references = 0;
    for (file, yaml) in tenantry::runtime::crds::files().expect("the CRDs") {
        let crd: Value = serde_yaml_ng::from_str(&yaml).expect("YAML");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut all = Vec::new();
        properties(schema, "spec", &mut all);
        assert!(all.len() > 10, "{file} has a schema");
        for (path, schema) in all {
            assert!(
                !path.to_lowercase().ends_with("namespace"),
                "{file}: {path} would lead out of the namespace"
            );
            let parent = path.rsplit('.').nth(1).unwrap_or_default().trim_end_matches("[]");
            let is_reference = path.ends_with(".claimName")
                || (path.ends_with(".name")
                    && (parent.ends_with("Ref") || ["configMap", "secret"].contains(&parent)));
            if !is_reference {
                continue;
            }
            references += 1;
            let pattern = schema["pattern"]
                .as_str()
                .unwrap_or_else(|| panic!("{file}: {path} has no pattern"));
            assert!(
                !pattern.contains('/') && pattern.starts_with('^') && pattern.ends_with('$'),
                "{path}: {pattern}"
            );
        }
    }
    assert!(references >= 10, "{references} references were found");
}

#[tokio::test]
async fn a_name_that_points_into_another_namespace_is_refused() {
    for name in [
        "other/login",
        "../other/login",
        "other.svc/login",
        "other%2Flogin",
        "other:login",
    ] {
        let secret = json!({"secretRef": {"name": name}});
        refused(
            "TenantConnection",
            vec![
                (json!({"credentials": {"password": secret}}), "secretRef.name"),
                (
                    json!({"tls": {"caRef": {"configMap": {"name": name, "key": "ca"}}}}),
                    "configMap.name",
                ),
            ],
        )
        .await;
        let parameter = json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}});
        refused(
            "BuildRequest",
            vec![
                (json!({"connectionRef": {"name": name}}), "connectionRef.name"),
                (json!({"parameters": [parameter]}), "secretKeyRef.name"),
                (
                    json!({"logs": {"destination": {"volume": {"claimName": name}}}}),
                    "claimName",
                ),
                (
                    json!({"logs": {"destination": {"configMap": {"name": name}}}}),
                    "configMap.name",
                ),
            ],
        )
        .await;
        refused(
            "ArtifactFetch",
            vec![(
                json!({"source": {"buildRequestRef": {"name": name}}}),
                "buildRequestRef.name",
            )],
        )
        .await;
    }
}

#[tokio::test]
async fn a_namespace_beside_a_name_is_not_stored() {
    let change = json!({"connectionRef": {"name": "ks", "namespace": "other"}});
    let stored = try_create(cluster().await, with("BuildRequest", &change))
        .await
        .expect("taken");
    assert_eq!(stored["spec"]["connectionRef"], json!({"name": "ks"}));
}
