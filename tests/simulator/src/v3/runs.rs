//! PipelineRuns: trigger, lists with their rules, one run with its virtual annotations (contract §4.3 to §4.5).

use serde_json::{Value, json};

use super::{MANAGER, envelope, list as lists, untyped};
use crate::call::{Call, page};
use crate::controller::{CREATOR_KEY, KEEP_RECORD, PIPELINE_LABEL, STAGES_KEY, STATUS_KEY, new_run};
use crate::query::Query;
use crate::reply::{Reply, tri};
use crate::state::Cluster;
use crate::store::{CONFIG_MAPS, PIPELINES, RUNS, Writer, annotation, label, name, namespace};

fn no_pipeline(name: &str) -> Reply {
    Reply::text_error(
        404,
        &format!("Pipeline.devops.kubesphere.io \"{name}\" not found"),
    )
}

/// 404 for a run.
pub(super) fn no_run(name: &str) -> Reply {
    Reply::text_error(
        404,
        &format!("PipelineRun.devops.kubesphere.io \"{name}\" not found"),
    )
}

/// A run as Go structs serialise it.
fn through_go(mut run: Value) -> Value {
    if run.get("status").is_none() {
        run["status"] = json!({});
    }
    if run["spec"]["parameters"].as_array().is_some_and(Vec::is_empty)
        && let Some(spec) = run["spec"].as_object_mut()
    {
        spec.remove("parameters");
    }
    run
}

/// What is stored about a run's build: `status` or `stage`; "" if nothing is.
fn stored(cluster: &Cluster, run: &Value, key: &str) -> String {
    let kept = if key == "status" { STATUS_KEY } else { STAGES_KEY };
    if let Some(kept) = annotation(run, kept) {
        return kept.to_owned();
    }
    cluster
        .store
        .get(&CONFIG_MAPS, namespace(run), name(run))
        .and_then(|c| c["data"][key].as_str())
        .unwrap_or_default()
        .to_owned()
}

/// Go's default formatting of a decoded JSON value.
fn go_format(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(b) => b.to_string(),
        Value::String(s) => s.clone(),
        Value::Number(n) => go_float(n.as_f64().unwrap_or_default()),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(go_format).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_format(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// `%v` of a float64: shortest, with an exponent from 1e21 on and below 1e-4.
fn go_float(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    number.to_string()
}

/// Triggers: makes the PipelineRun and nothing else; the controller does the rest.
pub(super) fn create(call: &mut Call<'_>, project: &str, pipeline: &str) -> Reply {
    let body = tri!(call.json());
    let Some(object) = call.cluster().store.get(&PIPELINES, project, pipeline).cloned() else {
        return no_pipeline(pipeline);
    };
    let branch = call.query.text("branch");
    let branch = branch.strip_prefix("refs/heads/").unwrap_or(branch).to_owned();
    let multi = object["spec"]["type"] == "multi-branch-pipeline";
    if multi && branch.is_empty() {
        return Reply::text_error(400, "missing branch name for running a multi-branch Pipeline");
    }
    let parameters: Vec<Value> = body["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|p| p["name"].as_str().is_some_and(|n| !n.is_empty()))
        .map(|p| json!({"name": p["name"], "value": go_format(&p["value"])}))
        .collect();
    let mut run = new_run(&object, project, pipeline);
    run["metadata"]["annotations"] = json!({CREATOR_KEY: call.user});
    if !parameters.is_empty() {
        run["spec"]["parameters"] = Value::from(parameters);
    }
    if multi {
        run["spec"]["scm"] = json!({"refType": "", "refName": branch});
    }
    match call.cluster().store.create(&RUNS, run, MANAGER, false) {
        Ok(run) => Reply::devops_json(&untyped(through_go(run))),
        Err(error) => error.text(),
    }
}

pub(super) fn list(call: &mut Call<'_>, project: &str, pipeline: &str) -> Reply {
    let query = call.query.clone();
    let cluster = call.cluster();
    if cluster.store.get(&PIPELINES, project, pipeline).is_none() {
        return no_pipeline(pipeline);
    }
    let branch = query.get("branch").filter(|b| !b.is_empty());
    let runs: Vec<Value> = cluster
        .store
        .list(&RUNS, Some(project))
        .filter(|r| label(r, PIPELINE_LABEL) == Some(pipeline))
        .filter(|r| branch.is_none_or(|b| r["spec"]["scm"]["refName"] == b))
        .filter(|r| lists::passes(r, &query))
        .cloned()
        .map(through_go)
        .collect();
    let backward = !matches!(
        query.get("backward"),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False")
    );
    let items = if backward {
        backward_list(cluster, runs, &query)
    } else {
        match forward_list(cluster, runs, &query) {
            Some(items) => items,
            None => return Reply::panic(),
        }
    };
    let total = items.len();
    envelope(page(items, &query), total, false)
}

/// Any filter key, known or not, hides runs that Jenkins has said nothing about yet (contract §8.10).
fn backward_list(cluster: &Cluster, mut runs: Vec<Value>, query: &Query) -> Vec<Value> {
    if lists::has_filter(query) {
        runs.retain(|run| !stored(cluster, run, "status").is_empty());
    }
    lists::sort(&mut runs, query);
    runs
}

/// Fills in the status annotation. A run without annotations is a write into a nil map (contract §8.11).
fn forward_list(cluster: &Cluster, mut runs: Vec<Value>, query: &Query) -> Option<Vec<Value>> {
    for run in &mut runs {
        let status = stored(cluster, run, "status");
        run["metadata"].get_mut("annotations")?[STATUS_KEY] = Value::from(status);
    }
    let began = |run: &Value| {
        let start = run
            .pointer("/status/startTime")
            .unwrap_or(&run["metadata"]["creationTimestamp"]);
        start.as_str().unwrap_or_default().to_owned()
    };
    runs.sort_by(|a, b| began(b).cmp(&began(a)).then_with(|| name(a).cmp(name(b))));
    if query.flag("ascending") {
        runs.reverse();
    }
    Some(runs)
}

/// The run, unless ks-devops' cache has not heard of it yet (finding F-L2).
fn find(call: &mut Call<'_>, project: &str, run: &str) -> Result<Value, Reply> {
    let (now, context) = (call.now, call.state.context.clone());
    let object = call
        .cluster()
        .store
        .get(&RUNS, project, run)
        .cloned()
        .ok_or_else(|| no_run(run))?;
    let stale = context.scale.ms(context.timings.stale_get);
    if stale > 0
        && call
            .cluster()
            .store
            .age_of_run(project, run, now)
            .is_some_and(|age| age < stale)
    {
        return Err(no_run(run));
    }
    Ok(object)
}

pub(super) fn get(call: &mut Call<'_>, project: &str, run: &str) -> Reply {
    let mut object = through_go(tri!(find(call, project, run)));
    let cluster = call.cluster();
    let (status, stages) = (
        stored(cluster, &object, "status"),
        stored(cluster, &object, "stage"),
    );
    let Some(annotations) = object["metadata"].get_mut("annotations") else {
        return Reply::panic();
    };
    annotations[STATUS_KEY] = Value::from(status);
    annotations[STAGES_KEY] = Value::from(stages);
    Reply::devops_json(&object)
}

/// The stages; a 500 as long as there are none (contract §8.9).
pub(super) fn node_details(call: &mut Call<'_>, project: &str, run: &str) -> Reply {
    let object = tri!(find(call, project, run));
    let text = stored(call.cluster(), &object, "stage");
    let Ok(mut stages) = serde_json::from_str::<Value>(&text) else {
        return Reply::text_error(500, "unexpected end of JSON input");
    };
    let nodes = stages.as_array_mut().into_iter().flatten();
    for step in nodes
        .filter_map(|n| n.get_mut("steps"))
        .filter_map(Value::as_array_mut)
        .flatten()
    {
        step["approvable"] = Value::from(true);
    }
    Reply::devops_json(&stages)
}

/// Only runs with a final phase can be deleted here (contract §8.22).
pub(super) fn delete(call: &mut Call<'_>, project: &str, run: &str) -> Reply {
    let keep = call.query.flag("keepJenkinsRecord");
    let now = call.now;
    let cluster = call.cluster();
    let Some(object) = cluster.store.get(&RUNS, project, run) else {
        return no_run(run);
    };
    let phase = object
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !matches!(phase, "Succeeded" | "Failed" | "Cancelled") {
        let text =
            format!("cannot delete a running PipelineRun, please stop it first, current status is {phase}");
        return Reply::text_error(400, &text);
    }
    if keep {
        cluster.edit(&RUNS, project, run, Writer::main(MANAGER), |o| {
            o["metadata"]["annotations"][KEEP_RECORD] = Value::from("true");
        });
    }
    match cluster.store.delete(&RUNS, project, run, now) {
        Ok(_) => Reply::empty(),
        Err(error) => error.text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_strings_the_go_way() {
        for (value, text) in [
            (json!(3), "3"),
            (json!(true), "true"),
            (Value::Null, "<nil>"),
            (json!({"x": 1}), "map[x:1]"),
            (json!(1e21), "1e+21"),
            (json!(1.5), "1.5"),
            (json!([1, "a"]), "[1 a]"),
        ] {
            assert_eq!(go_format(&value), text);
        }
    }
}
