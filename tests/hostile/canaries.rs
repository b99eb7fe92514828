//! Values that must show nowhere, and the search for them in all that the operator wrote.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
    discovery::{Discovery, verbs},
};

use crate::common::Stage;

/// All that was planted, in every form in which a program may print it.
pub struct Canaries(Vec<String>);

impl Canaries {
    /// These secrets, and every token that a gateway gave.
    pub fn of(secrets: &[&str]) -> Self {
        // What every token begins with.
        let mut all = vec!["eyJhbGci".to_owned()];
        for secret in secrets {
            assert!(secret.len() >= 8, "{secret:?} would be found in any text");
            all.extend(tenantry::disguise::forms(secret));
            all.push(STANDARD.encode(secret));
            // As a parser shows bytes.
            all.push(
                format!("{:?}", secret.as_bytes())
                    .trim_matches(['[', ']'])
                    .to_owned(),
            );
        }
        Self(all)
    }

    /// None of them is in this text.
    pub fn assert_clean(&self, what: &str, text: &str) {
        for canary in &self.0 {
            if let Some(at) = text.find(canary.as_str()) {
                let before: Vec<_> = text[..at].chars().rev().take(300).collect();
                let before: String = before.into_iter().rev().collect();
                panic!("{canary} in {what}: after {before}");
            }
        }
    }

    /// None of them is in the operator's log, which must be at the finest level, in its metrics, nor in any object of the
    /// API server. Of `kinds` there must be one at least.
    pub async fn assert_unseen(&self, stage: &Stage, kinds: &[&str]) {
        let operator = stage.operator.as_ref().expect("an operator");
        let logs = operator.logs().expect("logs");
        assert!(
            logs.contains("TRACE") && logs.contains("reqwest"),
            "nothing was logged, so nothing was proven"
        );
        self.assert_clean("the log", &logs);
        self.assert_clean("the metrics", &operator.metrics_text().await.expect("metrics"));
        let objects = all_objects(stage).await;
        for kind in kinds {
            assert!(
                objects.iter().any(|(seen, _)| seen == kind),
                "no {kind} was looked at"
            );
        }
        assert!(
            objects.iter().any(|(_, text)| text.contains("managedFields")),
            "managedFields were not looked at"
        );
        for (kind, text) in objects {
            self.assert_clean(&format!("a {kind}"), &text);
        }
    }
}

/// Kind and JSON of every object of the API server, with `managedFields`, Secrets aside: those are where the suite put its
/// canaries.
async fn all_objects(stage: &Stage) -> Vec<(String, String)> {
    let discovery = Discovery::new(stage.client.clone())
        .run()
        .await
        .expect("the kinds");
    let mut all = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) || resource.kind == "Secret" {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(stage.client.clone(), &resource);
            // Some kinds of the API server itself cannot be listed.
            let Ok(objects) = api.list(&ListParams::default()).await else {
                continue;
            };
            all.extend(objects.items.into_iter().map(|object| {
                let text = serde_json::to_string(&object).expect("JSON");
                (resource.kind.clone(), text)
            }));
        }
    }
    all
}
