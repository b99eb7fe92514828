//! What a BuildRequest asks for, as far as it makes a build: the inputs digest, the run token and the run's name.
//!
//! Pure. A parameter that comes from a Secret or ConfigMap counts by its reference, not by its value: a rotated Secret
//! must not build again by itself (nor after an operator restart), and no digest of a secret value is shown.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::api::{
    RERUN_REQUESTED_AT,
    build_request::{BuildRequest, BuildRequestSpec, Parameter, RunState, ValueFrom},
};

/// What is asked for: one run is made for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Digest of the inputs.
    pub digest: String,
    /// Value of the rerun annotation.
    pub rerun: Option<String>,
}

#[derive(Serialize)]
struct Inputs<'a> {
    connection: &'a str,
    cluster: Option<&'a str>,
    project: &'a str,
    pipeline: &'a str,
    branch: Option<&'a str>,
    parameters: Vec<(&'a str, Option<&'a str>, Option<&'a ValueFrom>)>,
}

/// What `object` asks for.
pub fn wanted(object: &BuildRequest) -> Wanted {
    let annotations = object.metadata.annotations.as_ref();
    Wanted {
        digest: digest(&object.spec),
        rerun: annotations.and_then(|a| a.get(RERUN_REQUESTED_AT)).cloned(),
    }
}

/// Digest of all that makes a build another one. Every field of the spec is decided on here.
pub fn digest(spec: &BuildRequestSpec) -> String {
    let BuildRequestSpec {
        connection_ref,
        project,
        cluster,
        pipeline,
        branch,
        parameters,
        // How a run is found again, how long it may take and what happens after it make no other build.
        correlation_parameter: _,
        priority: _,
        timeouts: _,
        retry: _,
        accept_unstable: _,
        cancel: _,
        suspend: _,
        // Neither does where its bytes go.
        logs: _,
        artifacts: _,
        ttl_after_finished: _,
        deletion_policy: _,
    } = spec;
    let mut parameters: Vec<_> = parameters
        .iter()
        .map(
            |Parameter {
                 name,
                 value,
                 value_from,
             }| (name.as_str(), value.as_deref(), value_from.as_ref()),
        )
        .collect();
    parameters.sort_by_key(|(name, ..)| *name);
    let inputs = Inputs {
        connection: &connection_ref.name,
        cluster: cluster.as_deref(),
        project,
        pipeline,
        branch: branch.as_deref(),
        parameters,
    };
    let json = serde_json::to_vec(&inputs).unwrap_or_default();
    hex(&Sha256::digest(json), 16)
}

/// What makes one intended run another (design §1), but for the run before it.
pub fn token(uid: &str, wanted: &Wanted, attempt: u32) -> String {
    let mut hash = Sha256::new();
    for part in [
        uid,
        &wanted.digest,
        wanted.rerun.as_deref().unwrap_or(""),
        &attempt.to_string(),
    ] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize(), 10)
}

/// The token of the run that `object` asks for now. Whoever goes back to inputs of before wants another build of them, so
/// the run before counts too; it is the same however often an intent is begun.
pub fn next_token(object: &BuildRequest, attempt: u32) -> String {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let token = token(uid, &wanted(object), attempt);
    let status = object.status.as_ref();
    let latest = status
        .and_then(|s| s.run.as_ref())
        .filter(|run| run.state == RunState::Ended);
    let before = latest
        .map(|run| &run.token)
        .or_else(|| status.and_then(|s| Some(&s.history.first()?.token)));
    match before {
        Some(before) => hex(&Sha256::digest(format!("{token} after {before}")), 10),
        None => token,
    }
}

/// The name that the run gets where we may choose it: legal, at most 63 characters, the same for the same token.
pub fn run_name(pipeline: &str, token: &str) -> String {
    let mut head: String = pipeline.chars().take(40).collect();
    while head.ends_with(['-', '.']) {
        head.pop();
    }
    format!("{head}-{token}")
}

fn hex(bytes: &[u8], take: usize) -> String {
    use std::fmt::Write as _;
    bytes.iter().take(take).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> BuildRequestSpec {
        serde_json::from_value(value).expect("a legal spec")
    }

    fn base() -> serde_json::Value {
        json!({
            "connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "build", "branch": "main",
            "parameters": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        })
    }

    #[test]
    fn only_what_makes_a_build_changes_the_digest() {
        let first = digest(&spec(base()));
        let edits: &[(&str, serde_json::Value, bool)] = &[
            ("/connectionRef/name", json!("other"), true),
            ("/project", json!("shop2"), true),
            ("/cluster", json!("member-1"), true),
            ("/pipeline", json!("deploy"), true),
            ("/branch", json!("feature/x"), true),
            ("/parameters/0/value", json!("2"), true),
            ("/parameters/1/valueFrom/secretKeyRef/key", json!("other"), true),
            ("/correlationParameter", json!("CORR"), false),
            ("/timeouts", json!({"run": "1h"}), false),
            ("/retry", json!({"limit": 3}), false),
            ("/acceptUnstable", json!(true), false),
            ("/cancel", json!(true), false),
            ("/suspend", json!(true), false),
            ("/logs", json!({"maxBytes": 5000}), false),
            ("/artifacts", json!({"include": ["*.tar"]}), false),
            ("/ttlAfterFinished", json!("1h"), false),
            ("/deletionPolicy", json!("Delete"), false),
        ];
        for (path, value, changes) in edits {
            let mut edited = base();
            match edited.pointer_mut(path) {
                Some(place) => *place = value.clone(),
                None => {
                    edited
                        .as_object_mut()
                        .unwrap()
                        .insert(path[1..].into(), value.clone());
                }
            }
            assert_eq!(digest(&spec(edited)) != first, *changes, "{path}");
        }
    }

    #[test]
    fn the_order_of_parameters_is_no_input() {
        let mut turned = base();
        turned["parameters"].as_array_mut().unwrap().reverse();
        assert_eq!(digest(&spec(base())), digest(&spec(turned)));
    }

    proptest! {
        #[test]
        fn run_names_are_legal_and_tell_tokens_apart(
            pipeline in "[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", uid in "[a-f0-9-]{36}", a in 1u32..9, b in 1u32..9,
        ) {
            let wanted = Wanted { digest: "d".into(), rerun: None };
            let (one, two) = (token(&uid, &wanted, a), token(&uid, &wanted, b));
            prop_assert_eq!(one == two, a == b);
            let name = run_name(&pipeline, &one);
            prop_assert!(name.len() <= 63);
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            prop_assert!(name.chars().all(legal));
            prop_assert!(name.starts_with(|c: char| c.is_ascii_alphanumeric()));
            prop_assert!(!name.contains("..") || pipeline.contains(".."));
        }

        #[test]
        fn parts_of_a_token_do_not_run_together(uid in "[a-z]{1,5}", rerun in "[a-z]{1,5}") {
            let with = token(&uid, &Wanted { digest: String::new(), rerun: Some(rerun.clone()) }, 1);
            let joined = token(&format!("{uid}{rerun}"), &Wanted { digest: String::new(), rerun: None }, 1);
            prop_assert_ne!(with, joined);
        }
    }
}
