//! Branches, read from the Pipeline's annotation: they stay readable while Jenkins is down (contract §4.6).

use serde_json::Value;

use super::envelope;
use crate::call::{Call, page};
use crate::controller::pipelines::BRANCHES;
use crate::reply::{Reply, tri};
use crate::store::{PIPELINES, annotation};

fn branches(call: &mut Call<'_>, project: &str, pipeline: &str) -> Result<Vec<Value>, Reply> {
    let Some(object) = call.cluster().store.get(&PIPELINES, project, pipeline) else {
        return Err(Reply::text_error(
            404,
            &format!("Pipeline.devops.kubesphere.io \"{pipeline}\" not found"),
        ));
    };
    if object["spec"]["type"] != "multi-branch-pipeline" {
        return Err(Reply::text_error(400, "invalid multi-branch Pipeline provided"));
    }
    let text = annotation(object, BRANCHES).unwrap_or("[]");
    Ok(serde_json::from_str(text).unwrap_or_default())
}

pub(super) fn list(call: &mut Call<'_>, project: &str, pipeline: &str) -> Reply {
    let all = tri!(branches(call, project, pipeline));
    let wanted: Vec<Value> = all
        .into_iter()
        .filter(|b| match call.query.text("filter") {
            "origin" => b.get("pullRequest").is_none(),
            "pull-requests" => b.get("pullRequest").is_some(),
            _ => true,
        })
        .collect();
    let total = wanted.len();
    envelope(page(wanted, &call.query), total, false)
}

/// Compared with the encoded name: the path needs `feature%252Fx`.
pub(super) fn get(call: &mut Call<'_>, project: &str, pipeline: &str, branch: &str) -> Reply {
    let all = tri!(branches(call, project, pipeline));
    match all.into_iter().find(|b| b["name"] == branch) {
        Some(branch) => Reply::devops_json(&branch),
        None => Reply::text_error(404, &format!("Branch {branch} was not found")),
    }
}
