//! Alerts and dashboard ask for metrics, labels and label values that the operator has.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tenantry::{
    api::build_request::{BuildPhase, Outcome},
    gateway::{CallOutcome, Class, ErrorKind, Grant, LoginOutcome, RouteClass},
    observer::ladder::Rung,
    runtime::{
        Kind, ObjectKey,
        metrics::{Metrics, ReconcileResult},
        observed::Told,
    },
};

use crate::helm::{only, read, rendered};

/// Metric → label → values seen.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a process shows in which everything has happened once.
fn known() -> Known {
    let metrics = Arc::new(Metrics::default());
    let key = ObjectKey::new("team", "object");
    for result in ReconcileResult::ALL {
        metrics.reconciled(Kind::BuildRequest, result, Duration::from_millis(5));
    }
    metrics.queue(Kind::BuildRequest, 1, 1, 1);
    metrics.watch_failed(Kind::Secret);
    metrics.event_dropped();
    metrics.build_ended(Outcome::Succeeded);
    metrics.build_retried();
    metrics.build_phase(&key, BuildPhase::Running);
    let observer = metrics.observer(&key);
    observer.call(RouteClass::RunGet, CallOutcome::Ok, Duration::from_millis(5));
    for kind in ErrorKind::ALL {
        observer.call(
            RouteClass::RunGet,
            CallOutcome::Error(kind),
            Duration::from_millis(5),
        );
    }
    observer.held_back(true);
    for class in Class::ALL {
        observer.waited(class, Duration::from_millis(5));
    }
    for outcome in [
        LoginOutcome::Ok,
        LoginOutcome::Refused,
        LoginOutcome::LockedOut,
        LoginOutcome::Failed,
    ] {
        observer.login(Grant::Password, outcome);
    }
    observer.token(Some(Timestamp::now()));
    for (number, rung) in (0..).zip(Rung::ALL) {
        let told = Told {
            rung: rung.label(),
            followers: 1,
            heard: tokio::time::Instant::now(),
        };
        metrics.observed.tell(number, told);
    }

    let mut known = Known::new();
    for line in metrics.render().lines().filter(|l| !l.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let entry = known.entry(name.to_owned()).or_default();
        for (label, _, value) in matchers(labels.trim_end_matches('}')) {
            entry.entry(label).or_default().insert(value);
        }
    }
    known
}

/// `a="x",b=~"y"` as label, operator, value.
fn matchers(text: &str) -> Vec<(String, String, String)> {
    let mut parts = text.split('"');
    let mut found = Vec::new();
    while let (Some(left), Some(value)) = (parts.next(), parts.next()) {
        let left = left.trim_start_matches(',').trim();
        let at = left
            .find(['=', '!'])
            .unwrap_or_else(|| panic!("no matcher: {text}"));
        found.push((left[..at].to_owned(), left[at..].to_owned(), value.to_owned()));
    }
    found
}

/// Why the operator can never answer `expression`; empty where it can.
fn wrong(expression: &str, known: &Known) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<&str> = BTreeSet::new();
    let starts: Vec<_> = expression.match_indices("tenantry_").map(|(at, _)| at).collect();
    if starts.is_empty() {
        wrong.push("asks for nothing of tenantry".to_owned());
    }
    for at in starts {
        let rest = &expression[at..];
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let Some(has) = known.get(name) else {
            wrong.push(format!("no metric {name}"));
            continue;
        };
        labels.extend(has.keys().map(String::as_str));
        let asked = rest
            .strip_prefix('{')
            .and_then(|r| r.split_once('}'))
            .map_or("", |(inside, _)| inside);
        for (label, operator, values) in matchers(asked) {
            let all: Vec<_> = if operator.contains('~') {
                values.split('|').collect()
            } else {
                vec![values.as_str()]
            };
            for value in all {
                if !has.get(&label).is_some_and(|seen| seen.contains(value)) {
                    wrong.push(format!("{name} never has {label}={value:?}"));
                }
            }
        }
    }
    for group in expression.split("by (").skip(1) {
        for label in group
            .split(')')
            .next()
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
        {
            if !labels.contains(label) {
                wrong.push(format!("no label {label}"));
            }
        }
    }
    for (open, close) in [('(', ')'), ('[', ']'), ('{', '}')] {
        if expression.matches(open).count() != expression.matches(close).count() {
            wrong.push(format!("unbalanced {open}{close}"));
        }
    }
    wrong
}

/// All values under the key `expr`, at whatever depth.
fn expressions<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| match value.as_str() {
            Some(text) if key == "expr" => found.push(text),
            _ => expressions(value, found),
        }),
        Value::Array(all) => all.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[track_caller]
fn assert_answerable(value: &Value, at_least: usize) {
    let known = known();
    let mut all = Vec::new();
    expressions(value, &mut all);
    assert!(all.len() >= at_least, "{} expressions", all.len());
    for expression in all {
        assert_eq!(wrong(expression, &known), Vec::<String>::new(), "{expression}");
    }
}

#[test]
fn alerts_ask_for_what_there_is() {
    let objects = rendered(&[
        "metrics.prometheusRule.enabled=true",
        r#"metrics.prometheusRule.labels={"release":"p"}"#,
    ]);
    let rule = only(&objects, "PrometheusRule");
    assert_eq!(rule["metadata"]["labels"]["release"], "p");
    assert_answerable(rule, 6);
    for alert in rule["spec"]["groups"][0]["rules"].as_array().expect("rules") {
        for text in ["summary", "description"] {
            assert!(alert["annotations"][text].is_string(), "{alert}");
        }
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let objects = rendered(&["metrics.dashboard.enabled=true", "fetcher.enabled=false"]);
    let map = only(&objects, "ConfigMap");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let text = map["data"]["tenantry.json"].as_str().expect("a file");
    assert_eq!(
        text,
        read("charts/tenantry/files/dashboard.json"),
        "unchanged by the way into the ConfigMap"
    );
    let dashboard: Value = serde_json::from_str(text).expect("JSON");
    assert_answerable(&dashboard, 17);
    // No panel lies on another.
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        for cell in (side("x")..side("x") + side("w"))
            .flat_map(|x| (side("y")..side("y") + side("h")).map(move |y| (x, y)))
        {
            assert!(
                cell.0 < 24 && taken.insert(cell),
                "{} overlaps at {cell:?}",
                panel["title"]
            );
        }
    }
}

#[test]
fn what_there_is_not_is_found() {
    let known = known();
    for (expression, why) in [
        ("sum(tenantry_buildz)", "no metric tenantry_buildz"),
        (
            r#"tenantry_reconciles_total{result=~"error|sad"}"#,
            r#"tenantry_reconciles_total never has result="sad""#,
        ),
        ("sum by (kind, pod) (tenantry_reconciles_running)", "no label pod"),
        ("up", "asks for nothing of tenantry"),
        ("sum(tenantry_builds", "unbalanced ()"),
    ] {
        assert_eq!(wrong(expression, &known), [why], "{expression}");
    }
}

#[test]
fn the_service_monitor_finds_the_service() {
    let objects = rendered(&["metrics.serviceMonitor.enabled=true"]);
    let (monitor, service) = (only(&objects, "ServiceMonitor"), only(&objects, "Service"));
    let wanted = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .expect("labels");
    for (key, value) in wanted {
        assert_eq!(&service["metadata"]["labels"][key], value, "{key}");
    }
    assert_eq!(
        monitor["spec"]["endpoints"][0]["port"],
        service["spec"]["ports"][0]["name"]
    );
}
