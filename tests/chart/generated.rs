//! What is made from the chart and checked in is what the chart makes now. Where it is not, one command renews it:
//! `TENANTRY_RENEW=1 cargo test --test chart`.

use std::{env, fs};

use serde_json::{Value, json};

use crate::helm::{Helm, chart, objects, read, rendered, repository, set};

const README: &str = "charts/tenantry/README.md";

/// Each generated file, by its path in the repository, with what should be in it.
fn generated() -> [(&'static str, String); 4] {
    let no_crds = "crds.install=false";
    [
        (
            "config/default/operator.yaml",
            kustomizable("tenantry-system", &[no_crds], &[]),
        ),
        (
            "config/namespaced/operator.yaml",
            kustomizable("tenantry", &[no_crds, r#"watchNamespaces=["tenantry"]"#], &[]),
        ),
        (
            "config/monitoring/monitoring.yaml",
            kustomizable(
                "tenantry-system",
                &[
                    "metrics.serviceMonitor.enabled=true",
                    "metrics.prometheusRule.enabled=true",
                    "metrics.dashboard.enabled=true",
                ],
                &["servicemonitor", "prometheusrule", "dashboard"],
            ),
        ),
        (README, readme()),
    ]
}

/// What the chart renders, without the marks of Helm: kustomize knows no release and no chart.
fn kustomizable(namespace: &str, values: &[&str], only: &[&str]) -> String {
    let mut args = vec!["template".to_owned(), "tenantry".to_owned(), chart()];
    args.push(format!("--namespace={namespace}"));
    args.extend(set(values));
    args.extend(
        only.iter()
            .map(|name| format!("--show-only=templates/{name}.yaml")),
    );
    let marks = ["# Source: ", "helm.sh/", "app.kubernetes.io/managed-by:"];
    let rendered = Helm::offline().ok(&args);
    let lines = rendered
        .lines()
        .filter(|line| !marks.iter().any(|mark| line.trim_start().starts_with(mark)));
    let head = "# Generated from charts/tenantry: TENANTRY_RENEW=1 cargo test --test chart".to_owned();
    let lines: Vec<_> = std::iter::once(head.as_str())
        .chain(lines.map(str::trim_end))
        .collect();
    lines.join("\n") + "\n"
}

/// The README with the table of values as it should be.
fn readme() -> String {
    const BEGIN: &str = "<!-- values: begin -->\n";
    const END: &str = "<!-- values: end -->";
    let text = read(README);
    let (head, rest) = text.split_once(BEGIN).expect("the place where the table begins");
    let (_, tail) = rest.split_once(END).expect("the place where it ends");
    let cell = |text: &str| text.replace('|', r"\|");
    let rows: String = rows()
        .iter()
        .map(|row| {
            format!(
                "| `{}` | {} | `{}` |\n",
                row.key,
                cell(&row.meaning),
                cell(&row.default.to_string())
            )
        })
        .collect();
    format!("{head}{BEGIN}\n| value | what it is | default |\n|---|---|---|\n{rows}\n{END}{tail}")
}

/// A documented value.
struct Row {
    key: String,
    meaning: String,
    default: Value,
}

/// The keys of values.yaml that have a comment right above them.
fn rows() -> Vec<Row> {
    let text = read("charts/tenantry/values.yaml");
    let values = objects(&text).remove(0);
    let mut rows = Vec::new();
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let bare = line.trim_start();
        if let Some(words) = bare.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        if let Some((key, _)) = bare.split_once(':') {
            let indent = line.len() - bare.len();
            path.retain(|(depth, _)| *depth < indent);
            path.push((indent, key));
            if !comment.is_empty() {
                let keys: Vec<_> = path.iter().map(|(_, key)| *key).collect();
                let default = keys.iter().fold(&values, |value, key| &value[*key]).clone();
                rows.push(Row {
                    key: keys.join("."),
                    meaning: comment.join(" "),
                    default,
                });
            }
        }
        comment.clear();
    }
    rows
}

#[test]
fn generated_files_are_up_to_date() {
    let renew = env::var_os("TENANTRY_RENEW").is_some_and(|v| v == "1");
    let mut stale = Vec::new();
    for (path, content) in generated() {
        let file = repository(path);
        if renew {
            fs::write(&file, content).unwrap_or_else(|e| panic!("{path}: {e}"));
        } else if fs::read_to_string(&file).ok().as_deref() != Some(content.as_str()) {
            stale.push(path);
        }
    }
    assert!(
        stale.is_empty(),
        "stale: {}; renew them: TENANTRY_RENEW=1 cargo test --test chart",
        stale.join(", ")
    );
}

#[test]
fn every_value_is_documented() {
    fn leaves(at: &str, value: &Value, documented: &[String], missing: &mut Vec<String>) {
        if documented.iter().any(|key| key == at) {
            return;
        }
        match value.as_object().filter(|o| !o.is_empty()) {
            Some(object) => {
                for (key, value) in object {
                    let at = [at, key]
                        .iter()
                        .filter(|p| !p.is_empty())
                        .copied()
                        .collect::<Vec<_>>();
                    leaves(&at.join("."), value, documented, missing);
                }
            }
            None => missing.push(at.to_owned()),
        }
    }
    let documented: Vec<_> = rows().into_iter().map(|row| row.key).collect();
    let mut missing = Vec::new();
    let values = objects(&read("charts/tenantry/values.yaml")).remove(0);
    leaves("", &values, &documented, &mut missing);
    assert!(missing.is_empty(), "no comment above: {missing:?}");
}

#[test]
fn the_chart_has_the_version_of_the_crate() {
    let chart = objects(&read("charts/tenantry/Chart.yaml")).remove(0);
    for key in ["version", "appVersion"] {
        assert_eq!(
            chart[key],
            env!("CARGO_PKG_VERSION"),
            "{key} of charts/tenantry/Chart.yaml"
        );
    }
}

#[test]
fn the_crds_of_the_chart_are_those_of_the_repository() {
    let mut expected = Vec::new();
    for entry in fs::read_dir(repository("crds")).expect("crds/ is there") {
        let name = entry.expect("an entry").file_name();
        expected.extend(objects(&read(&format!("crds/{}", name.display()))));
    }
    assert_eq!(expected.len(), 3);
    for (values, keep) in [
        (&[][..], json!({"helm.sh/resource-policy": "keep"})),
        (&["crds.keep=false"], Value::Null),
    ] {
        let all = rendered(values);
        let crds = all.iter().filter(|o| o["kind"] == "CustomResourceDefinition");
        assert_eq!(crds.clone().count(), expected.len());
        for crd in crds {
            let mut crd = crd.clone();
            let meta = crd["metadata"].as_object_mut().expect("metadata");
            assert_eq!(meta.remove("annotations").unwrap_or_default(), keep);
            let labels = meta.remove("labels").expect("labels");
            assert_eq!(labels["app.kubernetes.io/part-of"], "tenantry");
            assert!(expected.contains(&crd), "{} differs", crd["metadata"]["name"]);
        }
    }
}
