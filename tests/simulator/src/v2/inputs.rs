//! Answering an input: a refusal is a 200, and so is an outage (finding F-L3).

use serde_json::{Value, json};

use super::{At, TEXT, find, jenkins_error, meet, troubled};
use crate::call::Call;
use crate::jenkins::{Build, render};
use crate::reply::Reply;
use crate::state::CREATOR;
use crate::store::{PIPELINES, annotation};

fn refused(message: &str) -> Reply {
    Reply::new(
        200,
        TEXT,
        json!({"allow": "false", "message": message}).to_string(),
    )
}

/// No submitter: everybody; else those named, and whoever created the pipeline.
pub(super) fn may_answer(call: &mut Call<'_>, at: &At, build: &Build) -> bool {
    let user = call.user.clone();
    let Some(input) = &build.plan.input else {
        return true;
    };
    if input.submitter.is_empty() || input.submitter.split(',').any(|s| s.trim() == user) {
        return true;
    }
    call.cluster()
        .store
        .get(&PIPELINES, &at.project, &at.pipeline)
        .is_some_and(|p| annotation(p, CREATOR) == Some(&user))
}

pub(super) fn submit(call: &mut Call<'_>, at: &At) -> Reply {
    const NO_STEP: &str = "cannot get the submitters of current step";
    const NOT_PERMITTED: &str = "you have no permission to approve this step";
    let url = format!("{}/nodes", at.run_url());
    if meet(call, "steps", "GET", &url).is_err() {
        return refused(NO_STEP);
    }
    let Ok((id, build, view)) = find(call, at) else {
        return refused(NO_STEP);
    };
    let (node, step) = (
        at.rest.get(1).cloned().unwrap_or_default(),
        at.rest.get(2).cloned().unwrap_or_default(),
    );
    let stages = render::stages(&build, &view);
    let found = stages
        .iter()
        .find(|s| s.id.to_string() == node)
        .and_then(|s| s.steps.iter().find(|x| x.id.to_string() == step));
    let Some(found) = found else {
        return refused(NOT_PERMITTED);
    };
    if !found.waiting {
        return refused(&format!("the step '{}' is not approvable", found.display));
    }
    if !may_answer(call, at, &build) {
        return refused(NOT_PERMITTED);
    }
    let scale = call.cluster().jenkins.scale;
    if let Some(trouble) = call.cluster().jenkins.outages.meet("input", scale) {
        return troubled(&trouble, "POST", &url);
    }
    let Some(input) = build.plan.input.clone() else {
        return refused(NOT_PERMITTED);
    };
    let Ok(body) = serde_json::from_slice::<Value>(call.body) else {
        let page = "<html><head><title>Error 500</title></head><body>net.sf.json.JSONException</body></html>";
        return Reply::new(500, "text/html; charset=utf-8", page);
    };
    let sent = body["id"].as_str().unwrap_or_default();
    if sent != input.id {
        let text = format!(
            "Error processing Input Submit request. This Run instance does not have an Input with an id of '{sent}'."
        );
        return jenkins_error(400, &text);
    }
    let abort = body["abort"] == true;
    if let Some(parameters) = body["parameters"].as_array().filter(|_| !abort) {
        // ks-devops drops the empty list on the way.
        if parameters.is_empty() {
            return jenkins_error(400, "parameters is required");
        }
        let declared = render::input_parameters(&input.parameters);
        for parameter in parameters {
            let name = parameter["name"].as_str().unwrap_or_default();
            if !declared.iter().any(|(n, _)| n == name) {
                return jenkins_error(400, &format!("No such parameter definition: {name}"));
            }
        }
    }
    let now = call.now;
    let ledger = call.state.context.ledger.clone();
    let what = if abort { "abort" } else { "proceed" };
    ledger.action(
        now,
        "input",
        format!("{what} {} #{} by {}", id.full_name(), build.number, call.user),
    );
    call.cluster().answer_input(&id, build.number, abort, now);
    Reply::empty()
}

impl crate::state::Cluster {
    /// Lets a waiting build go on, or ends it.
    pub(crate) fn answer_input(
        &mut self,
        id: &crate::jenkins::JobId,
        number: u64,
        abort: bool,
        now: crate::clock::Millis,
    ) -> bool {
        let Some(build) = self
            .jenkins
            .jobs
            .get_mut(id)
            .and_then(|j| j.builds.get_mut(&number))
        else {
            return false;
        };
        if abort {
            build.forced_end = Some((now, "ABORTED".into()));
        } else {
            build.answered_at = Some(now);
        }
        true
    }
}
