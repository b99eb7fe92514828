//! The artifact download: whole file in memory, 15 s for all of it, a file name that is decoded once too often
//! (contract §4.5, finding F-I).

use super::runs::no_run;
use crate::call::Call;
use crate::controller::{PIPELINE_LABEL, RUN_ID};
use crate::jenkins::{Trouble, artifact_bytes};
use crate::query::{decode, go_unescape};
use crate::reply::{Reply, tri};
use crate::store::{RUNS, annotation, label};

fn failed(code: u16) -> Reply {
    Reply::text_error(
        500,
        &format!("failed to get artifact. the HTTP status code is {code}"),
    )
}

pub(super) fn download(call: &mut Call<'_>, project: &str, run: &str) -> Reply {
    let context = call.state.context.clone();
    let now = call.now;
    let file = tri!(
        go_unescape(&call.query.text("filename").replace('+', " "))
            .map_err(|message| Reply::text_error(500, &message))
    );
    let cluster = call.cluster();
    let Some(object) = cluster.store.get(&RUNS, project, run).cloned() else {
        return no_run(run);
    };
    let Some(number) = annotation(&object, RUN_ID) else {
        return Reply::text_error(500, "unable to get PipelineRun nodes due to not found run ID");
    };
    let pipeline = label(&object, PIPELINE_LABEL).unwrap_or_default();
    let branch = object["spec"]["scm"]["refName"].as_str();
    let job = cluster.jenkins.find(project, pipeline, branch);
    let base = job.as_ref().map(crate::jenkins::JobId::path).unwrap_or_default();
    let url = format!("{base}/{number}/artifact/{file}");
    let timeout = context.scale.ms(context.timings.jenkins_timeout);
    let timed_out = || {
        let text = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
        Reply::text_error(500, text).after(timeout)
    };
    let mut wait = 0;
    match cluster.jenkins.outages.meet("artifact", cluster.jenkins.scale) {
        None => {}
        Some(Trouble::Status { code, .. }) => return failed(code),
        Some(Trouble::Truncated(_)) => {
            let text = "read tcp 127.0.0.1:41308->127.0.0.1:18081: read: connection reset by peer";
            return Reply::text_error(500, text);
        }
        Some(Trouble::Late(ms)) if ms >= timeout => return timed_out(),
        Some(Trouble::Late(ms)) => wait = ms,
        Some(trouble) => return Reply::text_error(500, &trouble.go_error("GET", &url)),
    }
    // The name is pasted into a Jenkins URL, which Jenkins decodes once more.
    let path = decode(&file);
    let number: u64 = number.parse().unwrap_or_default();
    let found = job
        .and_then(|id| cluster.jenkins.jobs.get(&id)?.builds.get(&number))
        .filter(|build| build.view(now).finished())
        .and_then(|build| {
            let artifact = build.plan.artifacts.iter().find(|a| a.path == path)?;
            Some((artifact.clone(), build.plan.artifact_bps))
        });
    let Some((artifact, speed)) = found else {
        return failed(404);
    };
    if let Some(ms) = (artifact.size * 1_000).checked_div(speed) {
        wait += context.scale.ms(i64::try_from(ms).unwrap_or(i64::MAX));
        if wait >= timeout {
            return timed_out();
        }
    }
    let bytes = artifact_bytes(&artifact, number, 0, artifact.size);
    Reply::new(200, "application/octet-stream", bytes)
        .header("content-disposition", &format!("attachment; filename={file}"))
        .chunk_long()
        .after(wait)
}
