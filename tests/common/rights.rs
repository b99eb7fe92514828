//! What a user of the API server did, by its audit log, against what its roles allow; and a run of the operator that needs
//! each of its rights at least once.

use std::{collections::BTreeSet, fs, path::Path};

use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    events::v1::Event,
    rbac::v1::PolicyRule,
};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use tenantry::api::{BuildRequest, TenantConnection};
use tenantry_test_support::{PATIENCE, Seen, wait_condition, wait_for};

use super::{CONNECTION, PASSWORD, Stage, USER, parameters};

/// A thing that may be done: API group, resource with subresource, verb.
pub type Right = (String, String, String);

/// What rules allow, one by one.
pub fn rights(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let all = rules.iter().flat_map(|rule| {
        let groups = rule.api_groups.iter().flatten();
        groups.flat_map(move |group| {
            let resources = rule.resources.iter().flatten();
            resources.flat_map(move |resource| {
                let verbs = rule.verbs.iter();
                verbs.map(move |verb| (group.clone(), resource.clone(), verb.clone()))
            })
        })
    });
    all.collect()
}

/// What a user did, from the audit log.
pub struct Deeds {
    /// The rights that it took.
    pub used: BTreeSet<Right>,
    /// The requests that were refused.
    pub refused: Vec<String>,
    /// URIs of lists and watches.
    pub lists: Vec<String>,
}

/// What `user` did, as far as the log tells from byte `from` on.
pub fn deeds(log: &Path, from: usize, user: &str) -> Deeds {
    let mut deeds = Deeds {
        used: BTreeSet::new(),
        refused: Vec::new(),
        lists: Vec::new(),
    };
    let text = fs::read(log).expect("the audit log");
    let text = String::from_utf8_lossy(&text[from..]);
    // A last line that is being written does not parse.
    for event in text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        if event["user"]["username"] != user {
            continue;
        }
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
        let uri = word(&event["requestURI"]);
        let verb = word(&event["verb"]);
        if code == 403 || event["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            deeds.refused.push(format!("{verb} {uri}"));
        }
        let object = &event["objectRef"];
        // Discovery has none.
        let Some(resource) = object["resource"].as_str() else {
            continue;
        };
        if ["list", "watch"].contains(&verb.as_str()) {
            deeds.lists.push(uri);
        }
        let resource = match object["subresource"].as_str() {
            Some(part) => format!("{resource}/{part}"),
            None => resource.to_owned(),
        };
        let group = word(&object["apiGroup"]);
        // Server-side apply of what is not there yet needs the right to create as well.
        if verb == "patch" && code == 201 {
            deeds
                .used
                .insert((group.clone(), resource.clone(), "create".into()));
        }
        // A watch that begins with a list. Where an API server cannot do that, they are two requests, each with its right.
        if verb == "watch" {
            let list = (group.clone(), resource.clone(), "list".into());
            deeds.used.insert(list);
        }
        deeds.used.insert((group, resource, verb));
    }
    deeds
}

impl Deeds {
    /// Nothing was refused, each of the `granted` rights was used, and no other.
    #[track_caller]
    pub fn are_just(&self, granted: &BTreeSet<Right>) {
        assert!(granted.len() > 30, "{granted:?}");
        assert_eq!(self.refused, Vec::<String>::new(), "refused");
        let missing: Vec<_> = granted.difference(&self.used).collect();
        assert!(missing.is_empty(), "granted and never used: {missing:?}");
        let more: Vec<_> = self.used.difference(granted).collect();
        assert!(more.is_empty(), "used by other rights than the chart's: {more:?}");
    }
}

/// Whatever needs a right happens at least once, but what is for volumes.
pub async fn everything_once(stage: &Stage) {
    // A finalizer, a log, an ArtifactFetch and its ConfigMap.
    let given = parameters(&[("DURATION", "1"), ("ARTIFACTS", "a.txt:5")]);
    stage
        .build(
            "b",
            json!({"deletionPolicy": "Abort", "parameters": given, "artifacts": {"include": ["*"]}}),
        )
        .await;
    stage.until_ready("b").await;
    // Another destination: the ArtifactFetch is updated, and the ConfigMap of before removed.
    stage
        .patch(
            "b",
            json!({"spec": {"artifacts": {"destination": {"configMap": {"name": "elsewhere"}}}}}),
        )
        .await;
    let maps = stage.api::<ConfigMap>();
    wait_for("the files to move", PATIENCE, async || {
        let (old, new) = (
            maps.get_opt("b-artifacts").await?,
            maps.get_opt("elsewhere").await?,
        );
        Ok(Seen::when(old.is_none() && new.is_some(), || {
            format!("old there: {}, new there: {}", old.is_some(), new.is_some())
        }))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    // Removed by the operator when its time is over.
    stage
        .build(
            "short",
            json!({"ttlAfterFinished": "1s", "parameters": parameters(&[("DURATION", "1")])}),
        )
        .await;
    wait_for("the end of spec.ttlAfterFinished", PATIENCE, async || {
        let left = stage.api::<BuildRequest>().get_opt("short").await?;
        Ok(Seen::when(left.is_none(), || "it is there".to_owned()))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    // The same Event twice: the first one is counted up.
    let (connections, secrets) = (stage.api::<TenantConnection>(), stage.api::<Secret>());
    for _ in 0..2 {
        secrets
            .delete("login", &DeleteParams::default())
            .await
            .expect("deleted");
        wait_condition(&connections, CONNECTION, "Stalled", "True")
            .await
            .unwrap_or_else(|e| panic!("{e:#}"));
        stage
            .secret("login", &[("username", USER), ("password", PASSWORD)])
            .await;
        wait_condition(&connections, CONNECTION, "Ready", "True")
            .await
            .unwrap_or_else(|e| panic!("{e:#}"));
    }
    let events = stage.api::<Event>();
    wait_for("an Event to be counted up", PATIENCE, async || {
        let all = events.list(&ListParams::default()).await?.items;
        let counted = all
            .iter()
            .any(|e| e.series.as_ref().is_some_and(|s| s.count >= 2));
        Ok(Seen::when(counted, || {
            format!(
                "{:?}",
                all.iter().map(|e| (&e.reason, &e.note)).collect::<Vec<_>>()
            )
        }))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
}
