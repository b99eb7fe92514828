//! A status is written while somebody else writes to the same object.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::*;
use crate::api::{
    BuildRequest,
    build_request::{BuildPhase, BuildRequestStatus},
};

/// What somebody else does to an object; with the number of our write.
type Meanwhile = fn(&mut Value, usize);

/// One BuildRequest in an API server, and what somebody else does to it just before each of our writes.
#[derive(Clone)]
struct Stored {
    object: Arc<Mutex<Value>>,
    meanwhile: Meanwhile,
    puts: Arc<Mutex<usize>>,
}

impl Stored {
    fn new(meanwhile: Meanwhile) -> Self {
        let object = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest",
            "metadata": {"name": "b", "namespace": "team", "uid": "1", "generation": 1, "resourceVersion": "1"},
            "spec": {"connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "build"},
            "status": {"phase": "Pending", "conditions": [condition("Ready", "ours"), condition("example.org/Checked", "0")]},
        });
        Self {
            object: Arc::new(Mutex::new(object)),
            meanwhile,
            puts: Arc::default(),
        }
    }

    fn value(&self) -> Value {
        self.object.lock().unwrap().clone()
    }

    fn answer(&self, method: &Method, sent: &Value) -> (u16, Value) {
        let mut object = self.object.lock().unwrap();
        if *method == Method::PUT {
            let mut puts = self.puts.lock().unwrap();
            *puts += 1;
            let before = object.clone();
            (self.meanwhile)(&mut object, *puts);
            if *object != before {
                object["metadata"]["resourceVersion"] = json!(format!("{puts}x"));
            }
            if sent["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                let refused = json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "modified"});
                return (409, refused);
            }
            object["status"] = sent["status"].clone();
        }
        (200, object.clone())
    }

    fn client(&self) -> Client {
        let stored = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let stored = stored.clone();
            async move {
                let (parts, body) = request.into_parts();
                let sent = body.collect_bytes().await.expect("a body");
                let sent = serde_json::from_slice(&sent).unwrap_or_default();
                let (code, answer) = stored.answer(&parts.method, &sent);
                let answer = Body::from(serde_json::to_vec(&answer).expect("JSON"));
                Ok::<_, Infallible>(Response::builder().status(code).body(answer).expect("an answer"))
            }
        });
        Client::new(service, "team")
    }

    /// Writes `Running` as one who has read it before anybody else came.
    async fn write(&self) -> Result<BuildRequest, ReconcileError> {
        let read: BuildRequest = serde_json::from_value(self.value()).expect("a BuildRequest");
        let conditions = read.status.clone().unwrap_or_default().conditions;
        replace(&self.client(), &read, Write::Status, |next| {
            next.status = Some(BuildRequestStatus {
                phase: Some(BuildPhase::Running),
                conditions: conditions.clone(),
                ..BuildRequestStatus::default()
            });
        })
        .await
    }
}

fn condition(kind: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": "True", "reason": "Looked", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn say(object: &mut Value, number: usize) {
    object["metadata"]["labels"] = json!({"storm": number.to_string()});
    object["metadata"]["annotations"] = json!({"example.org/storm": number.to_string()});
    object["status"]["conditions"][1]["message"] = json!(number.to_string());
}

#[tokio::test]
async fn what_others_say_meanwhile_stays_and_does_not_stop_us() {
    let stored = Stored::new(|object, put| {
        if put <= 5 {
            say(object, put);
        }
    });
    let written = stored.write().await.expect("written");
    assert_eq!(
        written.status.unwrap_or_default().phase,
        Some(BuildPhase::Running)
    );
    let stored = stored.value();
    assert_eq!(stored["metadata"]["labels"]["storm"], "5");
    let conditions = stored["status"]["conditions"].as_array().expect("conditions");
    let messages: Vec<_> = conditions.iter().map(|c| &c["message"]).collect();
    assert_eq!(messages, ["ours", "5"]);
}

#[tokio::test]
async fn whoever_has_not_seen_what_matters_is_refused() {
    let rows: [(&str, Meanwhile); 7] = [
        ("the spec", |object, _| {
            object["metadata"]["generation"] = json!(2);
        }),
        ("an annotation of ours", |object, _| {
            object["metadata"]["annotations"] = json!({"tenantry.dev/rerun-requested-at": "1"});
        }),
        ("the deletion", |object, _| {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }),
        ("another object of that name", |object, _| {
            object["metadata"]["uid"] = json!("2");
        }),
        ("our own status", |object, _| {
            object["status"]["run"] = json!({"attempt": 1, "state": "Sending", "token": "t", "inputsDigest": "d", "trigger": "ChosenName",
                "pipeline": "build", "project": "shop", "intendedAt": "2026-01-01T00:00:00Z"});
        }),
        ("a condition of ours", |object, _| {
            object["status"]["conditions"][0]["message"] = json!("other");
        }),
        ("others without end", say),
    ];
    for (what, meanwhile) in rows {
        let stored = Stored::new(meanwhile);
        let refused = stored.write().await.map(|object| object.status);
        assert!(
            matches!(&refused, Err(error) if error.is_conflict()),
            "{what}: {refused:?}"
        );
        assert_ne!(stored.value()["status"]["phase"], "Running", "{what}");
    }
}
