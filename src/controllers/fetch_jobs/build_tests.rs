use serde_json::{Value, json};

use super::{
    super::{template::PodTemplate, testing},
    *,
};

fn fetcher(template: &str) -> Fetcher {
    Fetcher {
        image: Some("ghcr.io/tenantry/tenantry:1".into()),
        template: PodTemplate::parse(template).unwrap(),
    }
}

fn built(template: &str) -> Value {
    serde_json::to_value(job(&testing::order(), &fetcher(template)).unwrap()).unwrap()
}

#[test]
fn the_job_is_this_one() {
    let plan = testing::order().plan.env_value().unwrap();
    let labels = json!({
        "app.kubernetes.io/name": "tenantry", "app.kubernetes.io/component": "fetch",
        "app.kubernetes.io/managed-by": "tenantry", "tenantry.dev/owner-uid": "uid-1", "tenantry.dev/content": "files",
    });
    let expected = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name("files", "asked-1", "selection-1", 2), "namespace": "team", "labels": labels,
            "annotations": {"tenantry.dev/asked": "asked-1", "tenantry.dev/selection": "selection-1", "tenantry.dev/attempt": "2"},
            "ownerReferences": [{
                "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch", "name": "files", "uid": "uid-1",
                "controller": true,
            }],
        },
        "spec": {
            "activeDeadlineSeconds": 86400, "backoffLimit": 6, "ttlSecondsAfterFinished": 3600,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [
                {"action": "FailJob", "onExitCodes": {"containerName": "fetch", "operator": "In", "values": [2, 78]}},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": false, "enableServiceLinks": false, "restartPolicy": "Never",
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "fetch", "image": "ghcr.io/tenantry/tenantry:1", "args": ["fetch"],
                        "env": [{"name": "TENANTRY_FETCH_PLAN", "value": plan}],
                        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "terminationMessagePolicy": "File",
                        "volumeMounts": [
                            {"name": "claim", "mountPath": "/data"},
                            {"name": "credentials", "mountPath": "/etc/tenantry/credentials", "readOnly": true},
                        ],
                    }],
                    "volumes": [
                        {"name": "claim", "persistentVolumeClaim": {"claimName": "data"}},
                        {"name": "credentials", "projected": {"defaultMode": 288, "sources": [{"secret": {
                            "name": "login", "items": [
                                {"key": "user", "path": "username"}, {"key": "pass", "path": "password"},
                            ],
                        }}]}},
                    ],
                },
            },
        },
    });
    assert_eq!(built(""), expected);
}

#[test]
fn a_template_is_laid_over_and_takes_nothing_away() {
    let laid = built(
        "
metadata: {labels: {team: build}}
spec:
  hostNetwork: true
  securityContext: {runAsUser: 1000}
  containers:
  - name: fetch
    imagePullPolicy: Never
    resources: {limits: {memory: 1Gi}}
    env: [{name: HTTPS_PROXY, value: 'http://proxy:3128'}]
    securityContext: {privileged: false}
",
    );
    let mut expected = built("");
    let pod = &mut expected["spec"]["template"];
    pod["metadata"]["labels"]["team"] = json!("build");
    let spec = &mut pod["spec"];
    spec["hostNetwork"] = json!(true);
    spec["securityContext"]["runAsUser"] = json!(1000);
    let container = &mut spec["containers"][0];
    container["imagePullPolicy"] = json!("Never");
    container["resources"]["limits"]["memory"] = json!("1Gi");
    container["securityContext"]["privileged"] = json!(false);
    container["env"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "HTTPS_PROXY", "value": "http://proxy:3128"}));
    assert_eq!(laid, expected);
}

#[test]
fn a_name_is_short_legal_and_its_own() {
    let long = "a.".repeat(120) + "z";
    for owner in ["files", "a.b", &long] {
        let name = name(owner, "a", "k", 1);
        assert!(name.len() <= 63, "{name}");
        assert!(
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                && !name.contains("--"),
            "{name}"
        );
    }
    let names = [
        name("f", "a", "k", 1),
        name("f", "a", "k", 2),
        name("f", "a", "l", 1),
        name("f", "b", "k", 1),
        name("g", "a", "k", 1),
    ];
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert_eq!(name("f", "a", "k", 1), names[0]);
}

#[test]
fn without_an_image_it_says_who_has_to_do_what() {
    let trouble = job(&testing::order(), &Fetcher::default()).expect_err("no image");
    assert_eq!(trouble.reason, Reason::FetcherNotConfigured);
    assert!(
        trouble.is_stalled() && trouble.message.contains("--fetcher-image"),
        "{trouble}"
    );
}
