//! Which objects of our kinds this process looks after, by their labels: several operators can share a large cluster.

use std::{collections::BTreeMap, str::FromStr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Expression, Selector, SelectorExt as _};

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The objects of our kinds that this process looks after: all, or those that a label selector selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard(Selector);

impl Shard {
    /// As a query of the API server; `None` selects everything.
    pub fn query(&self) -> Option<String> {
        (!self.0.selects_all()).then(|| self.0.to_string())
    }

    /// Whether an object with these labels is in it.
    pub fn has(&self, labels: Option<&Labels>) -> bool {
        match labels {
            Some(labels) => self.0.matches(labels),
            None => self.0.matches(&Labels::new()),
        }
    }

    /// The labels that decide on the shard, of these: what an object of ours passes on to one that it makes, so that both
    /// are in the same shard. All others stay behind: some tools prune whatever wears theirs.
    pub fn inherited(&self, labels: Option<&Labels>) -> Labels {
        let all = labels.into_iter().flatten();
        all.filter(|(key, _)| self.decides(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    fn decides(&self, label: &str) -> bool {
        self.0.clone().into_iter().any(|expression| {
            let (Expression::In(key, _)
            | Expression::NotIn(key, _)
            | Expression::Equal(key, _)
            | Expression::NotEqual(key, _)
            | Expression::Exists(key)
            | Expression::DoesNotExist(key)) = expression;
            key == label
        })
    }
}

/// `key=value,key=value`, or a LabelSelector as in any Kubernetes object, in JSON or YAML:
/// `{"matchExpressions": [{"key": "shard", "operator": "NotIn", "values": ["a", "b"]}]}`.
impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.starts_with('{') {
            // LabelSelector itself takes whatever it does not know.
            let known = |value: &serde_json::Value| {
                value
                    .as_object()
                    .is_some_and(|all| all.keys().all(|k| k == "matchLabels" || k == "matchExpressions"))
            };
            let value: serde_json::Value =
                serde_yaml_ng::from_str(text).map_err(|e| format!("it is no LabelSelector: {e}"))?;
            if !known(&value) {
                return Err("a LabelSelector has matchLabels and matchExpressions, and nothing else".into());
            }
            let selector: LabelSelector =
                serde_json::from_value(value).map_err(|e| format!("it is no LabelSelector: {e}"))?;
            return Selector::try_from(selector)
                .map(Self)
                .map_err(|e| format!("it is no LabelSelector: {e}"));
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let pairs = parts.map(|part| match part.split_once('=') {
            Some((key, value)) if !key.is_empty() && !key.ends_with('!') && !value.starts_with('=') => {
                Ok(Expression::Equal(key.trim().into(), value.trim().into()))
            }
            _ => Err(format!(
                "{part:?} is not key=value; for more, write a LabelSelector like \
                 {{\"matchExpressions\": [{{\"key\": \"shard\", \"operator\": \"Exists\"}}]}}"
            )),
        });
        pairs.collect::<Result<Selector, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn a_selector_selects_what_kubernetes_would() {
        let rest = r#"{"matchExpressions": [{"key": "shard", "operator": "NotIn", "values": ["a", "b"]}]}"#;
        let table = [
            ("", None, &[("shard", "a")][..], true),
            ("", None, &[], true),
            ("shard=a", Some("shard=a"), &[("shard", "a"), ("x", "y")], true),
            ("shard=a", Some("shard=a"), &[("shard", "b")], false),
            ("shard=a", Some("shard=a"), &[], false),
            (
                " shard=a , team=x ",
                Some("shard=a,team=x"),
                &[("shard", "a")],
                false,
            ),
            (
                r#"{"matchLabels": {"shard": "a"}}"#,
                Some("shard=a"),
                &[("shard", "a")],
                true,
            ),
            (
                "{matchLabels: {shard: a}}",
                Some("shard=a"),
                &[("shard", "a")],
                true,
            ),
            (rest, Some("shard notin (a,b)"), &[], true),
            (rest, Some("shard notin (a,b)"), &[("shard", "c")], true),
            (rest, Some("shard notin (a,b)"), &[("shard", "b")], false),
            ("{}", None, &[], true),
        ];
        for (text, query, object, inside) in table {
            let shard: Shard = text.parse().unwrap();
            assert_eq!(shard.query().as_deref(), query, "{text}");
            assert_eq!(shard.has(Some(&labels(object))), inside, "{text}: {object:?}");
            if object.is_empty() {
                assert_eq!(shard.has(None), inside, "{text}: no labels");
            }
        }
        for (bad, why) in [
            ("shard", "key=value"),
            ("shard!=a", "key=value"),
            ("shard==a", "key=value"),
            ("=a", "key=value"),
            ("{matchLabel: {shard: a}}", "nothing else"),
            (
                r#"{"matchExpressions": [{"key": "shard", "operator": "Near"}]}"#,
                "LabelSelector",
            ),
            ("{", "LabelSelector"),
        ] {
            let refused = bad.parse::<Shard>().unwrap_err();
            assert!(refused.contains(why), "{bad}: {refused}");
        }
    }

    #[test]
    fn what_is_made_wears_the_labels_that_decide_and_no_others() {
        let rest = r#"{"matchLabels": {"team": "x"}, "matchExpressions": [{"key": "shard", "operator": "NotIn", "values": ["a"]}]}"#;
        let shard: Shard = rest.parse().unwrap();
        let parent = labels(&[
            ("team", "x"),
            ("shard", "c"),
            ("app.kubernetes.io/instance", "argo"),
        ]);
        let child = shard.inherited(Some(&parent));
        assert_eq!(child, labels(&[("team", "x"), ("shard", "c")]));
        assert!(shard.has(Some(&child)));
        assert_eq!(shard.inherited(None), Labels::new());
        assert_eq!(Shard::default().inherited(Some(&parent)), Labels::new());
    }
}
