//! Objects that are stored and would not be taken today.

use std::fmt::Write as _;

use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use tenantry::{
    api::{BuildRequest, FINALIZER, conditions},
    runtime::crds,
};
use tenantry_test_support::{ClusterOptions, PATIENCE, Seen, TestCluster, wait_condition, wait_for};

use super::{connection, connections, crd_folder, make_and_wait, operator};

#[tokio::test]
async fn a_stored_object_that_no_longer_parses_stops_nothing_else() {
    let cluster = TestCluster::start(ClusterOptions::default())
        .await
        .expect("a cluster");
    cluster.apply_crds(&crd_folder()).await.expect("the CRDs");
    // What an older version of the CRD let in, say.
    loosen(&cluster).await;
    let mut connection = serde_json::to_value(connection("odd")).expect("JSON");
    connection["spec"]["suspend"] = json!("yes, please");
    let build = json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest", "metadata": {"name": "odd"},
        "spec": {"connectionRef": {"name": "good"}, "project": "shop", "pipeline": "hello", "deletionPolicy": "Shred"},
    });
    for mut odd in [connection, build] {
        odd["metadata"]["namespace"] = json!("default");
        odd["metadata"]["finalizers"] = json!([FINALIZER]);
        cluster
            .kubectl_with_input(["create", "-f", "-"], &odd.to_string())
            .await
            .expect("stored");
    }
    tighten(&cluster).await;

    let operator = operator(&cluster).start().await.expect("ready");
    let api = connections(&cluster, "default").await;
    make_and_wait(&api, "good").await;
    let events: Api<Event> = Api::namespaced(cluster.client().await.expect("a client"), "default");
    for kind in ["TenantConnection", "BuildRequest"] {
        wait_for(&format!("a warning about the odd {kind}"), PATIENCE, async || {
            let all = events.list(&ListParams::default()).await?;
            let mut seen = String::new();
            for event in all.items {
                let about = event.regarding.unwrap_or_default();
                let (note, reason) = (event.note.unwrap_or_default(), event.reason.unwrap_or_default());
                if about.kind.as_deref() == Some(kind)
                    && about.name.as_deref() == Some("odd")
                    && reason == "InvalidSpec"
                    && event.type_.as_deref() == Some("Warning")
                    && note.contains("cannot be read")
                {
                    return Ok(Seen::Done(()));
                }
                let _ = writeln!(seen, "{about:?} {reason}: {note}");
            }
            Ok(Seen::NotYet(seen))
        })
        .await
        .expect("an Event");
    }
    cluster
        .kubectl([
            "delete",
            "tenantconnection/odd",
            "buildrequest/odd",
            "-n",
            "default",
            "--timeout=60s",
        ])
        .await
        .expect("an object that nobody can read can still be deleted");
    let text = operator.metrics_text().await.expect("metrics");
    assert!(
        text.contains(r#"tenantry_reconciles_total{kind="BuildRequest",result="invalid"}"#),
        "{text}"
    );
}

/// A BuildRequest that our types can read and whose rules it breaks: an older version of the CRD let it in, say.
fn breaks_a_rule(name: &str) -> Value {
    json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest",
        "metadata": {"name": name, "namespace": "default", "finalizers": [FINALIZER]},
        "spec": {
            "connectionRef": {"name": "good"}, "project": "shop", "pipeline": "hello", "branch": "refs/heads/main",
            "correlationParameter": "RUN", "parameters": [{"name": "RUN", "value": "7"}], "deletionPolicy": "Delete",
        },
    })
}

/// Waits until the API server refuses any change of `name`, or takes one again.
async fn until_frozen(cluster: &TestCluster, name: &str, frozen: bool) {
    let (object, patch) = (
        format!("buildrequest/{name}"),
        r#"{"metadata":{"labels":{"a":"b"}}}"#,
    );
    wait_for("the policy to be heeded", PATIENCE, async || {
        let change = [
            "patch",
            &object,
            "-n",
            "default",
            "--type=merge",
            "--dry-run=server",
            "-p",
            patch,
        ];
        let answer = cluster.kubectl(change).await;
        Ok(Seen::when(answer.is_err() == frozen, || format!("{answer:?}")))
    })
    .await
    .expect("a policy");
}

#[tokio::test]
async fn what_breaks_a_rule_of_today_is_reported_on_and_can_be_deleted() {
    let cluster = TestCluster::start(ClusterOptions::default())
        .await
        .expect("a cluster");
    cluster.apply_crds(&crd_folder()).await.expect("the CRDs");
    loosen(&cluster).await;
    for name in ["old", "frozen"] {
        cluster
            .kubectl_with_input(["create", "-f", "-"], &breaks_a_rule(name).to_string())
            .await
            .expect("stored");
    }
    tighten(&cluster).await;

    let operator = operator(&cluster).start().await.expect("ready");
    let api: Api<BuildRequest> = Api::namespaced(cluster.client().await.expect("a client"), "default");
    for name in ["old", "frozen"] {
        let seen = wait_condition(&api, name, "Stalled", "True")
            .await
            .expect("a status");
        let conditions = seen.status.expect("a status").conditions;
        let stalled = conditions::find(&conditions, conditions::ConditionType::Stalled).expect("Stalled");
        assert_eq!(
            stalled.reason, "ConnectionNotFound",
            "{name}: the API server takes its status"
        );
    }
    let delete = async |name: &str, more: &str| {
        let object = format!("buildrequest/{name}");
        cluster
            .kubectl(["delete", &object, "-n", "default", more])
            .await
            .expect("a deletion")
    };
    delete("old", "--timeout=60s").await;

    // Where a policy of the cluster refuses every change, nothing can let it go; people are told.
    let policy = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "freeze"},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["tenantry.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                    "resources": ["buildrequests"],
                }]},
                "validations": [{"expression": "false", "message": "nothing changes on a Friday"}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "freeze"}, "spec": {"policyName": "freeze", "validationActions": ["Deny"]},
        },
    ]});
    cluster
        .kubectl_with_input(["create", "-f", "-"], &policy.to_string())
        .await
        .expect("a policy");
    until_frozen(&cluster, "frozen", true).await;
    delete("frozen", "--wait=false").await;
    let events: Api<Event> = Api::namespaced(cluster.client().await.expect("a client"), "default");
    wait_for("the reason to be told", PATIENCE, async || {
        let all = events.list(&ListParams::default()).await?.items;
        let notes: Vec<_> = all.into_iter().filter_map(|e| e.note).collect();
        let told = notes
            .iter()
            .any(|note| note.contains("cannot be deleted") && note.contains("on a Friday"));
        Ok(Seen::when(told, || format!("{notes:#?}")))
    })
    .await
    .expect("an Event");
    cluster
        .kubectl(["delete", "validatingadmissionpolicybinding", "freeze"])
        .await
        .expect("lifted");
    wait_for("the object to go", PATIENCE, async || {
        let left = api.get_opt("frozen").await?;
        Ok(Seen::when(left.is_none(), || format!("{left:?}")))
    })
    .await
    .expect("gone");
    drop(operator);
}

/// Lets any spec into our kinds.
async fn loosen(cluster: &TestCluster) {
    for (_, yaml) in crds::files().expect("CRDs") {
        let mut crd: Value = serde_yaml_ng::from_str(&yaml).expect("YAML");
        for version in crd["spec"]["versions"].as_array_mut().expect("versions") {
            version["schema"]["openAPIV3Schema"] =
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        }
        cluster
            .kubectl_with_input(
                ["apply", "--server-side", "--force-conflicts", "-f", "-"],
                &crd.to_string(),
            )
            .await
            .expect("loosened");
    }
    until_let_in(cluster, true).await;
}

/// The rules of today again.
async fn tighten(cluster: &TestCluster) {
    let folder = crd_folder().display().to_string();
    cluster
        .kubectl(["apply", "--server-side", "--force-conflicts", "-f", &folder])
        .await
        .expect("strict again");
    until_let_in(cluster, false).await;
}

/// The API server takes a new schema up a moment after it was stored.
async fn until_let_in(cluster: &TestCluster, wanted: bool) {
    wait_for("the schema to be taken up", PATIENCE, async || {
        let odd = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest",
            "metadata": {"name": "probe", "namespace": "default"}, "spec": {"project": ["x"]},
        });
        let answer = cluster
            .kubectl_with_input(["create", "--dry-run=server", "-f", "-"], &odd.to_string())
            .await;
        Ok(Seen::when(answer.is_ok() == wanted, || format!("{answer:?}")))
    })
    .await
    .expect("another schema");
}
