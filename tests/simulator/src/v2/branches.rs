//! Branches from Jenkins itself, scans and the indexing log.

use serde_json::{Value, json};

use super::{At, TEXT, meet, no_pipeline};
use crate::call::Call;
use crate::clock;
use crate::jenkins::JobId;
use crate::jenkins::declare;
use crate::jenkins::render::{self, Shape};
use crate::query::branch_job;
use crate::reply::{Reply, tri};
use crate::world::{Branch, PipelineKind};

fn known(call: &mut Call<'_>, at: &At) -> Result<Vec<Branch>, Reply> {
    let jenkins = &call.cluster().jenkins;
    match jenkins.pipelines.get(&(at.project.clone(), at.pipeline.clone())) {
        Some(pipeline) => Ok(pipeline.branches.clone()),
        None => Err(no_pipeline(at)),
    }
}

fn object(call: &mut Call<'_>, at: &At, branch: &Branch, primary: bool) -> Value {
    let now = call.now;
    let name = branch_job(&branch.name);
    let id = JobId {
        project: at.project.clone(),
        pipeline: at.pipeline.clone(),
        branch: Some(name.clone()),
    };
    let full = id.full_name();
    let mut o = json!({
        "_class": "io.jenkins.blueocean.rest.impl.pipeline.BranchImpl",
        "_links": {"self": {}, "scm": {}, "actions": {}, "runs": {}, "trends": {}, "queue": {}},
        "displayName": branch.name, "estimatedDurationInMillis": 2000, "fullDisplayName": full, "fullName": full,
        "name": name, "organization": "jenkins", "weatherScore": 100, "branch": {"isPrimary": primary},
        "permissions": {"create": true, "configure": true, "read": true, "start": true, "stop": true},
    });
    let Some(job) = call.cluster().jenkins.jobs.get(&id) else {
        return o;
    };
    let parameters = declare::parameter_definitions(job);
    if !parameters.is_empty() {
        o["parameters"] = Value::from(parameters);
    }
    if let Some(last) = job.builds.values().next_back() {
        o["latestRun"] = render::run(&id, last, &last.view(now), Shape::Latest, last.number);
    }
    o
}

pub(super) fn list(call: &mut Call<'_>, at: &At) -> Reply {
    let query = call.query.clone();
    let wait = tri!(meet(
        call,
        "branches",
        "GET",
        &format!("{}/branches/?{}", at.url(), query.joined())
    ));
    let branches = tri!(known(call, at));
    let items: Vec<Value> = query
        .window(branches.iter().enumerate())
        .map(|(i, branch)| object(call, at, branch, i == 0))
        .collect();
    Reply::devops_json(&Value::from(items)).after(wait)
}

pub(super) fn get(call: &mut Call<'_>, at: &At) -> Reply {
    let wait = tri!(meet(call, "branches", "GET", &format!("{}/", at.url())));
    let branches = tri!(known(call, at));
    let wanted = call
        .cluster()
        .jenkins
        .find(&at.project, &at.pipeline, at.branch.as_deref());
    let position = wanted.and_then(|id| {
        branches
            .iter()
            .position(|b| Some(branch_job(&b.name)) == id.branch)
    });
    match position {
        Some(i) => Reply::devops_json(&object(call, at, &branches[i], i == 0)).after(wait),
        None => no_pipeline(at),
    }
}

/// Starts branch indexing; the answer is the page Jenkins redirects to.
pub(super) fn scan(call: &mut Call<'_>, at: &At) -> Reply {
    let wait = tri!(meet(
        call,
        "scan",
        "POST",
        &format!("/job/{}/job/{}/build", at.project, at.pipeline)
    ));
    tri!(known(call, at));
    Reply::new(200, "text/html; charset=utf-8", "<html>indexing</html>").after(wait)
}

pub(super) fn console_log(call: &mut Call<'_>, at: &At) -> Reply {
    let url = format!("/job/{}/job/{}/indexing/consoleText", at.project, at.pipeline);
    let wait = tri!(meet(call, "consolelog", "GET", &url));
    let now = clock::jenkins(call.now);
    let pipeline = call
        .cluster()
        .jenkins
        .pipelines
        .get(&(at.project.clone(), at.pipeline.clone()))
        .cloned();
    let Some(pipeline) = pipeline.filter(|p| p.kind == PipelineKind::MultiBranch) else {
        return Reply::new(500, "text/html; charset=utf-8", super::proxy::NOT_FOUND);
    };
    let checked: Vec<String> = pipeline
        .branches
        .iter()
        .map(|b| {
            format!(
                "Checking branch {}\n      'Jenkinsfile' found\n    Met criteria\n",
                b.name
            )
        })
        .collect();
    let text = format!(
        "Started by user admin\n[{now}] Starting branch indexing...\n > git ls-remote\n{}[{now}] Finished branch \
         indexing. Indexing took 0.4 sec\nFinished: SUCCESS\n",
        checked.concat()
    );
    Reply::new(200, TEXT, text).chunk_long().after(wait)
}
