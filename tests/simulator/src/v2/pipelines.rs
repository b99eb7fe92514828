//! Pipelines in Blue Ocean's words, search, and small things.

use serde_json::{Value, json};

use super::{At, meet, no_pipeline};
use crate::call::{Call, page};
use crate::jenkins::JobId;
use crate::jenkins::declare;
use crate::reply::{Reply, tri};
use crate::store::PIPELINES;
use crate::world::PipelineKind;

fn object(call: &mut Call<'_>, project: &str, pipeline: &str) -> Option<Value> {
    let jenkins = &call.cluster().jenkins;
    let known = jenkins
        .pipelines
        .get(&(project.to_owned(), pipeline.to_owned()))?;
    let multi = known.kind == PipelineKind::MultiBranch;
    let full = format!("{project}/{pipeline}");
    let class = if multi {
        "MultiBranchPipelineImpl"
    } else {
        "PipelineImpl"
    };
    let mut o = json!({
        "_class": format!("io.jenkins.blueocean.rest.impl.pipeline.{class}"),
        "_links": {"self": {}, "scm": {}, "branches": {}, "actions": {}, "runs": {}, "trends": {}, "queue": {}},
        "disabled": false, "displayName": pipeline, "fullDisplayName": full, "fullName": full, "name": pipeline,
        "organization": "jenkins", "estimatedDurationInMillis": 2000, "weatherScore": 100, "scmSource": {},
        "permissions": {"create": true, "configure": true, "read": true, "start": true, "stop": true},
    });
    let id = JobId {
        project: project.to_owned(),
        pipeline: pipeline.to_owned(),
        branch: None,
    };
    if let Some(job) = jenkins.jobs.get(&id) {
        o["parameters"] = Value::from(declare::parameter_definitions(job));
    }
    Some(o)
}

pub(super) fn get(call: &mut Call<'_>, at: &At) -> Reply {
    if call.query.flag("check") {
        let exists = call
            .cluster()
            .store
            .get(&PIPELINES, &at.project, &at.pipeline)
            .is_some();
        return Reply::json(200, &json!({"exist": exists}));
    }
    let wait = tri!(meet(call, "pipeline", "GET", &format!("{}/", at.url())));
    match object(call, &at.project, &at.pipeline) {
        Some(o) => Reply::devops_json(&o).after(wait),
        None => no_pipeline(at),
    }
}

/// Panics when it gets a start and no page (finding F-F).
pub(super) fn search(call: &mut Call<'_>) -> Reply {
    if call.query.get("start").is_some() && call.query.get("page").is_none() {
        return Reply::panic();
    }
    let wanted = call
        .query
        .text("q")
        .split(';')
        .find_map(|p| p.strip_prefix("pipeline:"))
        .map(str::to_owned);
    let wanted = wanted.unwrap_or_default();
    let (project, keyword) = wanted.split_once('/').unwrap_or((&wanted, ""));
    let keyword = keyword.trim_matches('*').to_owned();
    let objects: Vec<Value> = call
        .cluster()
        .store
        .list(&PIPELINES, Some(project))
        .filter(|p| {
            p["metadata"]["name"]
                .as_str()
                .is_some_and(|n| n.contains(&keyword))
        })
        .cloned()
        .collect();
    let total = objects.len();
    // A Jenkins that is down is not told; items then carry only what the Pipeline says.
    let jenkins = meet(call, "pipeline", "GET", "").is_ok();
    let items: Vec<Value> = page(objects, &call.query)
        .into_iter()
        .map(|p| {
            let name = p["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let mut o = None;
            if jenkins {
                o = object(call, project, &name);
            }
            let mut o = o.unwrap_or_else(|| json!({"name": name}));
            o["annotations"] = p["metadata"]["annotations"].clone();
            o
        })
        .collect();
    Reply::devops_json(&json!({"items": items, "total_count": total}))
}

pub(super) fn crumb() -> Reply {
    Reply::json(
        200,
        &json!({
            "_class": "hudson.security.csrf.DefaultCrumbIssuer", "crumb": "0123456789abcdef",
            "crumbRequestField": "Jenkins-Crumb",
        }),
    )
}

pub(super) fn credential_usage(credential: &str) -> Reply {
    Reply::json(
        200,
        &json!({"id": credential, "type": "", "fingerprint": {}, "domain": "_"}),
    )
}
