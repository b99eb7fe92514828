//! Runs in Blue Ocean's words: trigger, list with its paging bug, stop, replay, nodes, steps, artifacts.

use serde_json::{Value, json};

use super::inputs::may_answer;
use super::{At, find, jenkins_error, meet, no_pipeline, no_run, troubled};
use crate::call::Call;
use crate::controller::enqueue;
use crate::jenkins::declare;
use crate::jenkins::render::{self, Shape};
use crate::jenkins::{Build, JobId, Trouble, View};
use crate::reply::{Reply, tri};
use crate::world::PipelineKind;

fn object(id: &JobId, build: &Build, view: &View, shape: Shape) -> Value {
    render::run(id, build, view, shape, build.number)
}

/// Parameters of a trigger body; `None` when there is no body at all.
fn parameters(body: &[u8]) -> Option<Vec<(String, String)>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let list = body["parameters"].as_array()?;
    Some(
        list.iter()
            .map(|p| (text(&p["name"]), text(&p["value"])))
            .collect(),
    )
}

/// Triggers past the PipelineRun; one appears later through the Jenkins event.
pub(super) fn create(call: &mut Call<'_>, at: &At) -> Reply {
    let sent = parameters(call.body);
    start(
        call,
        at,
        "trigger",
        &format!("{}/runs/", at.url()),
        sent.as_deref(),
        ("v1alpha2", "Started by user admin"),
    )
}

fn start(
    call: &mut Call<'_>,
    at: &At,
    name: &str,
    url: &str,
    sent: Option<&[(String, String)]>,
    cause: (&str, &str),
) -> Reply {
    let context = call.state.context.clone();
    let now = call.now;
    let cluster = call.cluster();
    let trouble = cluster.jenkins.outages.meet(name, cluster.jenkins.scale);
    let lost = matches!(trouble, Some(Trouble::Reset { carried_out: true }));
    let late = match &trouble {
        Some(Trouble::Late(ms)) => *ms,
        _ => 0,
    };
    if let Some(trouble) = trouble.as_ref().filter(|_| !lost && late == 0) {
        return troubled(trouble, "POST", url);
    }
    let pipeline = cluster
        .jenkins
        .pipelines
        .get(&(at.project.clone(), at.pipeline.clone()));
    let Some(pipeline) = pipeline else {
        return no_pipeline(at);
    };
    if pipeline.kind == PipelineKind::MultiBranch && at.branch.is_none() {
        return jenkins_error(400, "a multibranch project cannot be built");
    }
    let Some(id) = cluster
        .jenkins
        .find(&at.project, &at.pipeline, at.branch.as_deref())
    else {
        return no_pipeline(at);
    };
    let all = match cluster.jenkins.jobs[&id].complete(sent) {
        Ok(all) => all,
        Err(error) => return jenkins_error(error.code, &error.message),
    };
    let number = enqueue(cluster, &context, &id, all, cause, now);
    if let Some(trouble) = trouble.filter(|_| lost) {
        return troubled(&trouble, "POST", url);
    }
    let build = cluster.jenkins.jobs[&id].builds[&number].clone();
    let view = build.view(now);
    Reply::devops_json(&object(&id, &build, &view, Shape::Triggered)).after(late)
}

pub(super) fn get(call: &mut Call<'_>, at: &At) -> Reply {
    let wait = tri!(meet(call, "run", "GET", &format!("{}/", at.run_url())));
    let (id, build, view) = tri!(find(call, at));
    Reply::devops_json(&object(&id, &build, &view, Shape::Read)).after(wait)
}

/// The real paging (contract §5.3): without a limit nothing, at or past the last item everything.
fn page<T>(mut items: Vec<T>, start: usize, limit: usize) -> Vec<T> {
    let total = items.len();
    if start + 1 >= total {
        return items;
    }
    items.truncate((start + limit).min(total));
    items.split_off(start.min(items.len()))
}

pub(super) fn list(call: &mut Call<'_>, at: &At) -> Reply {
    let wait = tri!(meet(
        call,
        "run",
        "GET",
        &format!("{}/runs/?start=0&limit=10000", at.url())
    ));
    let now = call.now;
    let (start, limit) = (
        call.query.number("start").unwrap_or_default(),
        call.query.number("limit").unwrap_or_default(),
    );
    let only = call
        .query
        .get("branch")
        .map(str::to_owned)
        .filter(|b| !b.is_empty());
    let jenkins = &call.cluster().jenkins;
    if !jenkins
        .pipelines
        .contains_key(&(at.project.clone(), at.pipeline.clone()))
    {
        return no_pipeline(at);
    }
    let mut runs: Vec<(JobId, Build)> = jenkins
        .jobs
        .iter()
        .filter(|(id, _)| id.project == at.project && id.pipeline == at.pipeline)
        .filter(|(id, _)| only.is_none() || id.branch == only)
        .flat_map(|(id, job)| job.builds.values().map(|b| (id.clone(), b.clone())))
        .collect();
    runs.sort_by_key(|(_, b)| std::cmp::Reverse((b.queued_at, b.number)));
    let total = runs.len();
    let items: Vec<Value> = page(runs, start, limit)
        .iter()
        .map(|(id, build)| object(id, build, &build.view(now), Shape::Read))
        .collect();
    Reply::devops_json(&json!({"items": items, "totalItems": total})).after(wait)
}

pub(super) fn stop(call: &mut Call<'_>, at: &At) -> Reply {
    let wait = tri!(meet(call, "stop", "PUT", &format!("{}/stop/?", at.run_url())));
    let (id, before, view) = tri!(find(call, at));
    let context = call.state.context.clone();
    let now = call.now;
    let cluster = call.cluster();
    let vanish = context.quirks.queued_stop_vanishes;
    let stopped = cluster
        .jenkins
        .jobs
        .get_mut(&id)
        .and_then(|j| j.stop(before.number, now, vanish));
    context
        .ledger
        .action(now, "stop", format!("{} #{}", id.full_name(), before.number));
    match stopped {
        None => no_run(at),
        Some(true) => {
            let mut gone = object(&id, &before, &view, Shape::Stopped);
            gone["state"] = Value::from("FINISHED");
            gone["result"] = Value::from("ABORTED");
            Reply::devops_json(&gone).after(wait)
        }
        Some(false) if context.quirks.stop_answers_running => {
            Reply::devops_json(&object(&id, &before, &view, Shape::Stopped)).after(wait)
        }
        Some(false) => {
            let build = cluster.jenkins.jobs[&id].builds[&before.number].clone();
            let view = build.view(now);
            Reply::devops_json(&object(&id, &build, &view, Shape::Stopped)).after(wait)
        }
    }
}

/// A new build with the parameters of an old one.
pub(super) fn replay(call: &mut Call<'_>, at: &At) -> Reply {
    let url = format!("{}/replay/", at.run_url());
    let Some(trouble) = peek_down(call) else {
        let (_, build, _) = tri!(find(call, at));
        let cause = format!("Replayed #{}", build.number);
        let who = format!("replay #{}", build.number);
        return start(call, at, "replay", &url, Some(&build.parameters), (&who, &cause));
    };
    troubled(&trouble, "POST", &url)
}

/// A Jenkins that is down cannot even say that a run does not exist.
fn peek_down(call: &mut Call<'_>) -> Option<Trouble> {
    call.cluster()
        .jenkins
        .outages
        .is_down()
        .then_some(Trouble::Refused)
}

pub(super) fn nodes(call: &mut Call<'_>, at: &At) -> Reply {
    let wait = tri!(meet(
        call,
        "nodes",
        "GET",
        &format!("{}/nodes/?limit=10000", at.run_url())
    ));
    let (_, build, view) = tri!(find(call, at));
    let mut list = render::nodes(&render::stages(&build, &view));
    list.truncate(call.query.number("limit").unwrap_or(10_000));
    Reply::devops_json(&Value::from(list)).after(wait)
}

pub(super) fn steps(call: &mut Call<'_>, at: &At) -> Reply {
    let node = at.rest.get(1).cloned().unwrap_or_default();
    let wait = tri!(meet(
        call,
        "steps",
        "GET",
        &format!("{}/nodes/{node}/steps/", at.run_url())
    ));
    let (id, build, view) = tri!(find(call, at));
    let stages = render::stages(&build, &view);
    let Some(stage) = stages.iter().find(|s| s.id.to_string() == node) else {
        return jenkins_error(
            404,
            &format!("Stage {node} not found in pipeline {}.", at.pipeline),
        );
    };
    let list = render::steps_v2(&id, &build, stage.id, &stage.steps, |_| false);
    Reply::devops_json(&Value::from(list)).after(wait)
}

/// Nodes with their steps. If the steps of one node cannot be read, the request never returns (contract §8.20).
pub(super) fn nodes_detail(call: &mut Call<'_>, at: &At) -> Reply {
    let wait = tri!(meet(
        call,
        "nodes",
        "GET",
        &format!("{}/nodes/?limit=10000", at.run_url())
    ));
    if meet(call, "steps", "GET", "").is_err() {
        return Reply::empty().after(i64::MAX);
    }
    let (id, build, view) = tri!(find(call, at));
    let stages = render::stages(&build, &view);
    let permitted = may_answer(call, at, &build);
    let list: Vec<Value> = render::nodes(&stages)
        .into_iter()
        .zip(&stages)
        .map(|(mut node, stage)| {
            let steps = render::steps_v2(&id, &build, stage.id, &stage.steps, |s| s.waiting && permitted);
            if !steps.is_empty() {
                node["steps"] = Value::from(steps);
            }
            node
        })
        .collect();
    Reply::devops_json(&Value::from(list)).after(wait)
}

/// Archived files: none before the end, and at most 100 without a limit (finding F-I).
pub(super) fn artifacts(call: &mut Call<'_>, at: &At) -> Reply {
    let query = call.query.clone();
    let wait = tri!(meet(
        call,
        "artifacts",
        "GET",
        &format!("{}/artifacts/?{}", at.run_url(), query.joined())
    ));
    let (id, build, view) = tri!(find(call, at));
    if !view.finished() {
        return Reply::json(200, &json!([])).after(wait);
    }
    let list: Vec<Value> = query
        .window(build.plan.artifacts.iter())
        .map(|a| declare::artifact(&id, build.number, &a.path, a.size))
        .collect();
    Reply::devops_json(&Value::from(list)).after(wait)
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn the_paging_bug() {
        let items = || vec![4, 3, 2, 1];
        assert_eq!(page(items(), 0, 2), [4, 3]);
        assert_eq!(page(items(), 2, 2), [2, 1]);
        assert_eq!(
            page(items(), 0, 0),
            [] as [i32; 0],
            "no limit: nothing, with the right total"
        );
        assert_eq!(
            page(items(), 3, 1),
            [4, 3, 2, 1],
            "the last page of one: everything"
        );
        assert_eq!(page(items(), 1_000, 2), [4, 3, 2, 1], "past the end: everything");
        assert_eq!(page(vec![1], 0, 0), [1], "one item survives a missing limit");
    }
}
