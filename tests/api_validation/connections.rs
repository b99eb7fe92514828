//! The rules of TenantConnections.

use serde_json::json;

use super::{refused, taken};

#[tokio::test]
async fn a_tenant_connection_that_cannot_work_is_refused() {
    const ENDPOINT: &str = "endpoint must be the URL of the KubeSphere gateway";
    const ONE_KIND: &str =
        "set exactly one of credentials.password, credentials.token and credentials.kubeconfig";
    let secret = json!({"secretRef": {"name": "ks"}});
    refused(
        "TenantConnection",
        vec![
            (json!({"endpoint": null}), "spec.endpoint: Required value"),
            (json!({"endpoint": "ks.example.org"}), ENDPOINT),
            (json!({"endpoint": "ftp://ks.example.org"}), ENDPOINT),
            (json!({"endpoint": "https://"}), ENDPOINT),
            (json!({"endpoint": "https://ks.example.org/?a=b"}), ENDPOINT),
            (
                json!({"endpoint": "https://alice:secret@ks.example.org"}),
                "endpoint must not contain a user name or password",
            ),
            (json!({"workspace": null}), "spec.workspace: Required value"),
            (json!({"workspace": ""}), "spec.workspace"),
            (json!({"workspace": "Demo"}), "spec.workspace"),
            (json!({"cluster": ""}), "spec.cluster"),
            (json!({"credentials": null}), "spec.credentials: Required value"),
            (json!({"credentials": {"password": null}}), ONE_KIND),
            (json!({"credentials": {"token": secret}}), ONE_KIND),
            (json!({"credentials": {"kubeconfig": secret}}), ONE_KIND),
            (
                json!({"credentials": {"password": {"secretRef": {"name": ""}}}}),
                "spec.credentials.password.secretRef.name",
            ),
            (
                json!({"credentials": {"password": {"usernameKey": ""}}}),
                "spec.credentials.password.usernameKey",
            ),
            (
                json!({"credentials": {"password": {"clientSecretRef": {"name": "a", "key": "a b"}}}}),
                "spec.credentials.password.clientSecretRef.key",
            ),
            (
                json!({"tls": {"insecureSkipVerify": true, "caRef": {"secret": {"name": "a", "key": "ca.crt"}}}}),
                "set tls.caRef or tls.insecureSkipVerify, not both",
            ),
            (
                json!({"tls": {"caRef": {}}}),
                "set exactly one of caRef.secret and caRef.configMap",
            ),
            (
                json!({"tls": {"caRef": {"secret": {"name": "a", "key": "k"}, "configMap": {"name": "a", "key": "k"}}}}),
                "set exactly one of caRef.secret and caRef.configMap",
            ),
            (
                json!({"limits": {"requestsPerSecond": 0}}),
                "spec.limits.requestsPerSecond",
            ),
            (json!({"limits": {"burst": 0}}), "spec.limits.burst"),
            (json!({"limits": {"concurrentRuns": 0}}), "spec.limits.concurrentRuns"),
            (
                json!({"limits": {"concurrentRequests": 0}}),
                "spec.limits.concurrentRequests",
            ),
            (
                json!({"limits": {"concurrentRequests": 257}}),
                "spec.limits.concurrentRequests",
            ),
            (json!({"pollInterval": "soon"}), "spec.pollInterval"),
            (json!({"pollInterval": "-5s"}), "spec.pollInterval"),
            (
                json!({"pollInterval": "10ms"}),
                "pollInterval must be between 1s and 10m",
            ),
            (
                json!({"pollInterval": "1h"}),
                "pollInterval must be between 1s and 10m",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_good_tenant_connection_is_taken() {
    taken(
        "TenantConnection",
        vec![
            json!({}),
            json!({"endpoint": "http://10.0.0.1:30880"}),
            json!({"endpoint": "https://ks.example.org/gateway"}),
            json!({"endpoint": "http://[::1]:9090"}),
            json!({"cluster": "member-1", "limits": {"concurrentRuns": 3}, "pollInterval": "1m30s"}),
            json!({"credentials": {"password": null, "token": {"secretRef": {"name": "sa"}, "key": "jwt"}}}),
            json!({"credentials": {"password": null, "kubeconfig": {"secretRef": {"name": "kc"}}}}),
            json!({"tls": {"caRef": {"configMap": {"name": "ca", "key": "ca.crt"}}}}),
            json!({"tls": {"insecureSkipVerify": true}}),
            json!({"suspend": true}),
        ],
    )
    .await;
}
