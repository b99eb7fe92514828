//! The rules of BuildRequests.

use serde_json::{Value, json};

use super::{many, merge, refused, taken};

#[tokio::test]
async fn a_build_request_that_cannot_work_is_refused() {
    const BRANCH: &str = "branch must be written as git shows it, like feature/login";
    const ONE_VALUE: &str = "set exactly one of value and valueFrom";
    const ONE_SOURCE: &str = "set exactly one of valueFrom.secretKeyRef and valueFrom.configMapKeyRef";
    let parameter = |rest: Value| {
        let mut parameter = json!({"name": "VERSION"});
        merge(&mut parameter, &rest);
        json!({"parameters": [parameter]})
    };
    let key = json!({"name": "a", "key": "k"});
    refused(
        "BuildRequest",
        vec![
            (
                json!({"connectionRef": null}),
                "spec.connectionRef: Required value",
            ),
            (json!({"connectionRef": {"name": ""}}), "spec.connectionRef.name"),
            (json!({"project": null}), "spec.project: Required value"),
            (json!({"project": ""}), "spec.project"),
            (json!({"project": "../other"}), "spec.project"),
            (json!({"pipeline": ""}), "spec.pipeline"),
            (json!({"pipeline": "a/b"}), "spec.pipeline"),
            (json!({"branch": ""}), "spec.branch"),
            (json!({"branch": "refs/heads/main"}), BRANCH),
            (json!({"branch": "feature%2Flogin"}), BRANCH),
            (json!({"branch": "a branch"}), BRANCH),
            (json!({"branch": "a\nb"}), BRANCH),
            (json!({"branch": "a[b"}), BRANCH),
            (json!({"branch": "a\\b"}), BRANCH),
            (parameter(json!({})), ONE_VALUE),
            (
                parameter(json!({"value": "1", "valueFrom": {"secretKeyRef": key}})),
                ONE_VALUE,
            ),
            (parameter(json!({"valueFrom": {}})), ONE_SOURCE),
            (
                parameter(json!({"valueFrom": {"secretKeyRef": key, "configMapKeyRef": key}})),
                ONE_SOURCE,
            ),
            (
                parameter(json!({"name": "", "value": "1"})),
                "spec.parameters[0].name",
            ),
            (parameter(json!({"value": 1})), "spec.parameters[0].value"),
            (
                json!({"parameters": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
                "Duplicate value",
            ),
            (
                json!({"parameters": many(65, |i| json!({"name": format!("P{i}"), "value": "1"}))}),
                "spec.parameters: Too many",
            ),
            (
                json!({"correlationParameter": "ID", "parameters": [{"name": "ID", "value": "1"}]}),
                "correlationParameter is set by the operator: do not list it in parameters",
            ),
            (
                json!({"correlationParameter": "1 D"}),
                "spec.correlationParameter",
            ),
            (
                json!({"timeouts": {"trigger": "ten minutes"}}),
                "spec.timeouts.trigger",
            ),
            (
                json!({"timeouts": {"trigger": "0s"}}),
                "timeouts.trigger must be at least 1s",
            ),
            (
                json!({"timeouts": {"run": "10ms"}}),
                "timeouts.run must be at least 1s",
            ),
            (json!({"retry": {"limit": -1}}), "spec.retry.limit"),
            (json!({"retry": {"limit": 21}}), "spec.retry.limit"),
            (
                json!({"retry": {"outcomes": ["Whenever"]}}),
                "spec.retry.outcomes[0]: Unsupported value",
            ),
            (
                json!({"retry": {"outcomes": ["Failure", "Failure"]}}),
                "Duplicate value",
            ),
            (json!({"logs": {"maxBytes": 100}}), "spec.logs.maxBytes"),
            (
                json!({"logs": {"destination": {"configMap": {}, "volume": {"claimName": "c"}}}}),
                "set at most one of logs.destination.configMap and logs.destination.volume",
            ),
            (
                json!({"logs": {"destination": {"volume": {"claimName": "c", "subPath": "../x"}}}}),
                "volume.subPath is a directory inside the volume",
            ),
            (
                json!({"artifacts": {"destination": {"volume": {"claimName": "c", "subPath": "/x"}}}}),
                "volume.subPath is a directory inside the volume",
            ),
            (json!({"logs": {"maxBytes": 8_388_609}}), "spec.logs.maxBytes"),
            (json!({"logs": {"tailLines": 101}}), "spec.logs.tailLines"),
            (
                json!({"logs": {"destination": {"configMap": {"name": "A"}}}}),
                "spec.logs.destination.configMap.name",
            ),
            (
                json!({"artifacts": {"include": ["/etc/passwd"]}}),
                "a glob is relative to the artifact root",
            ),
            (json!({"ttlAfterFinished": "later"}), "spec.ttlAfterFinished"),
            (
                json!({"deletionPolicy": "Shred"}),
                "spec.deletionPolicy: Unsupported value",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_good_build_request_is_taken() {
    taken(
        "BuildRequest",
        vec![
            json!({}),
            json!({"branch": "feature/login"}),
            json!({"branch": "été"}),
            json!({"branch": "release-1.2_rc#3"}),
            json!({"parameters": many(64, |i| json!({"name": format!("P{i}"), "value": "x".repeat(1000)}))}),
            json!({"parameters": [
                {"name": "EMPTY", "value": ""},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a.b_c-d"}}},
            ]}),
            json!({"correlationParameter": "RUN_ID", "parameters": [{"name": "A", "value": "1"}]}),
            json!({"timeouts": {"trigger": "90s", "run": "1h30m"}, "retry": {"limit": 20, "backoff": "0s"}}),
            json!({"retry": {"outcomes": ["Failure", "Unstable", "Aborted", "TriggerFailed", "TimedOut", "Lost"]}}),
            json!({"logs": {"maxBytes": 8_388_608, "tailLines": 0, "destination": {"configMap": {"name": "log"}}}}),
            json!({"artifacts": {"include": ["out/**/*.{tar,zip}"], "destination": {"configMap": {"name": "a"}}}}),
            json!({"logs": {"destination": {"volume": {"claimName": "logs", "subPath": "shop"}}}}),
            json!({"artifacts": {"destination": {"volume": {"claimName": "data"}}, "parallel": 2}}),
            json!({"ttlAfterFinished": "24h", "deletionPolicy": "Abort", "suspend": true, "cancel": true}),
        ],
    )
    .await;
}
