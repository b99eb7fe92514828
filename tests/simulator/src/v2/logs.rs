//! Logs: the run log without its headers, the step log with them (contract §5.4, finding F-G).

use super::{At, TEXT, find, jenkins_error, meet};
use crate::call::Call;
use crate::jenkins::render;
use crate::jenkins::{State, VERSION, serve, stored, stored_of_stage};
use crate::reply::{Reply, tri};
use crate::world::LogScript;

/// Without `start`, Blue Ocean gives the last so many KiB.
const TAIL_KIB: usize = 150;

/// The part of a stored log that is asked for.
fn part<'a>(call: &Call<'_>, text: &'a [u8]) -> &'a [u8] {
    let tail = call.query.number("thresholdInKB").unwrap_or(TAIL_KIB) * 1024;
    let start = call
        .query
        .number("start")
        .unwrap_or_else(|| text.len().saturating_sub(tail));
    text.get(start..).unwrap_or_default()
}

fn text(bytes: Vec<u8>) -> Reply {
    // An empty body has no content type: nothing was written, nothing was sniffed.
    if bytes.is_empty() {
        Reply::empty()
    } else {
        Reply::new(200, TEXT, bytes).chunk_long()
    }
}

fn url(call: &Call<'_>, base: &str) -> String {
    format!("{base}/log/?{}", call.query.joined())
}

/// A log that breaks off on the way is a 200 with nothing in it (finding F-H).
fn broken(call: &mut Call<'_>) -> bool {
    call.cluster().jenkins.outages.take_truncation("log")
}

pub(super) fn run(call: &mut Call<'_>, at: &At) -> Reply {
    if broken(call) {
        return Reply::empty();
    }
    let url = url(call, &at.run_url());
    let wait = tri!(meet(call, "log", "GET", &url));
    let (id, build, view) = tri!(find(call, at));
    if view.state == State::Queued {
        return jenkins_error(404, "Log not found");
    }
    let whole = stored(&id, &build, &view);
    text(serve(part(call, &whole), true)).after(wait)
}

pub(super) fn step(call: &mut Call<'_>, at: &At) -> Reply {
    if broken(call) {
        return Reply::empty();
    }
    let (node, step) = (
        at.rest.get(1).cloned().unwrap_or_default(),
        at.rest.get(2).cloned().unwrap_or_default(),
    );
    let url = url(call, &format!("{}/nodes/{node}/steps/{step}", at.run_url()));
    let wait = tri!(meet(call, "log", "GET", &url));
    let (id, build, view) = tri!(find(call, at));
    let stages = render::stages(&build, &view);
    let found = stages.iter().position(|s| {
        s.id.to_string() == node && s.steps.iter().any(|x| x.id.to_string() == step && !x.is_input)
    });
    let Some(index) = found else {
        return jenkins_error(404, "Log not found");
    };
    let whole = stored_of_stage(&id, &build, &view, index);
    let served = serve(part(call, &whole), true);
    let delivered = served.len().to_string();
    let mut reply = text(served)
        .header("x-content-type-options", "nosniff")
        .header("x-jenkins", VERSION)
        .header("x-text-size", &whole.len().to_string())
        .header("x-text-delivered", &delivered);
    let whole_log = matches!(build.plan.log, LogScript::Numbered);
    if !view.finished() && (whole_log || stages[index].state != Some("FINISHED")) {
        reply = reply.header("x-more-data", "true");
    }
    reply.after(wait)
}
