use serde_json::json;

use super::*;

fn pipeline_from(annotations: Value, spec: Value) -> Pipeline {
    let object = json!({"metadata": {"name": "p", "uid": "u", "annotations": annotations}, "spec": spec});
    pipeline_of(serde_json::from_value(object).unwrap())
}

#[test]
fn what_the_spec_and_jenkins_declare_counts_together() {
    let jenkins = json!({"parameters": [
        {"name": "VERSION", "type": "string", "value": "", "defaultParameterValue": {"name": "VERSION", "value": "1.0.0"}},
        {"name": "ENV", "type": "ChoiceParameterDefinition", "choices": ["prod", "test"],
         "defaultParameterValue": {"name": "ENV", "value": "prod"}},
        {"name": "DRY", "type": "boolean", "defaultParameterValue": {"name": "DRY", "value": true}},
        {"name": "MUST", "type": "string", "defaultParameterValue": null},
    ]});
    let spec = json!({"type": "pipeline", "pipeline": {"disable_concurrent": true, "parameters": [
        {"name": "VERSION", "type": "string", "description": "what to build"},
        {"name": "ENV", "type": "choice", "default_value": "dev\nprod\n"},
        {"name": "NEW", "type": "boolean"},
    ]}});
    let got = pipeline_from(json!({ JENKINS_METADATA: jenkins.to_string() }), spec);
    assert!(got.serial);
    let all = declared_parameters(&got, None).unwrap();
    let row = |name: &str| all.iter().find(|p| p.name == name).unwrap();
    assert_eq!(row("VERSION").default.as_deref(), Some("1.0.0"));
    assert_eq!(row("VERSION").description.as_deref(), Some("what to build"));
    assert_eq!(row("ENV").choices, ["dev", "prod", "test"]);
    assert_eq!(
        (&row("ENV").kind, row("ENV").default.as_deref()),
        (&ParameterKind::Choice, Some("prod"))
    );
    assert_eq!(row("DRY").default.as_deref(), Some("true"));
    assert_eq!(row("NEW").default.as_deref(), Some("false"));
    assert_eq!(row("MUST").default, None);
    assert_eq!(all.len(), 5);
}

#[test]
fn nothing_declared_is_not_an_empty_declaration() {
    for annotations in [
        json!({}),
        json!({ JENKINS_METADATA: "{\"name\":\"p\"}" }),
        json!({ JENKINS_METADATA: "junk" }),
    ] {
        let got = pipeline_from(annotations, json!({"type": "pipeline", "pipeline": {}}));
        assert_eq!(declared_parameters(&got, None), None);
    }
    let multi = pipeline_from(json!({}), json!({"type": "multi-branch-pipeline"}));
    assert_eq!(
        (&multi.kind, &multi.parameters),
        (&PipelineKind::MultiBranch, &None)
    );
}

#[test]
fn a_branch_is_found_by_its_git_name_even_if_the_remote_encodes_it_otherwise() {
    let branch = |json| branch_of(serde_json::from_value(json).unwrap()).unwrap();
    let branches = [
        branch(json!({"name": "main", "rawName": "main", "branch": {"isPrimary": true}})),
        branch(json!({"name": "feature%2Fx", "rawName": "feature/x", "branch": {}})),
        branch(json!({"name": "odd%7Ename", "rawName": "odd~name"})),
        branch(json!({"name": "no%2Fraw"})),
    ];
    for (git, encoded) in [
        ("main", "main"),
        ("feature/x", "feature%2Fx"),
        ("odd~name", "odd%7Ename"),
        ("no/raw", "no%2Fraw"),
    ] {
        let found = Branch::find(&branches, &GitBranch::new(git)).expect(git);
        assert_eq!(found.encoded.as_str(), encoded);
    }
    assert!(branches[0].primary && !branches[1].primary);
    assert!(Branch::find(&branches, &GitBranch::new("feature")).is_none());
}
