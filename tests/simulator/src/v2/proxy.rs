//! The raw Jenkins proxy: true streaming and true headers, admin rights on every folder, and an empty 200 when
//! nobody is there (contract §5.6).

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header;
use serde_json::{Value, json};

use crate::call::Call;
use crate::clock;
use crate::gateway::flushed;
use crate::jenkins::{Artifact, Build, JobId, Trouble, VERSION, View, artifact_bytes, serve, stored};
use crate::query::Query;
use crate::reply::{Chunk, Reply, ReplyBody};

/// Jetty's 404 page.
pub(super) const NOT_FOUND: &str = "<html><head><title>Error 404 Not Found</title></head><body><h2>HTTP ERROR 404 Not Found</h2></body></html>";
/// Size of the pieces an artifact is sent in; also where a stalled one stalls.
const CHUNK: u64 = 64 * 1024;

/// Marks an answer as Jenkins' own.
fn jenkins(reply: Reply) -> Reply {
    reply
        .header("x-jenkins", VERSION)
        .header("server", "Jetty(12.0.0)")
}

fn not_found() -> Reply {
    jenkins(Reply::new(404, "text/html;charset=iso-8859-1", NOT_FOUND))
        .header("x-content-type-options", "nosniff")
}

fn plain(content_type: &str, body: impl Into<Bytes>) -> Reply {
    jenkins(Reply::new(200, content_type, body)).header("x-content-type-options", "nosniff")
}

pub(super) fn handle(call: &mut Call<'_>, path: &str) -> Reply {
    let cluster = call.cluster();
    let mut wait = 0;
    let mut cut = None;
    // An artifact counts as `artifact`, a log as `log`, everything else as `proxy`.
    let kind = if path.contains("/artifact/") {
        "artifact"
    } else if path.contains("/logText/") || path.ends_with("/consoleText") {
        "log"
    } else {
        "proxy"
    };
    match cluster.jenkins.outages.meet(kind, cluster.jenkins.scale) {
        None => {}
        Some(Trouble::Refused | Trouble::Reset { .. }) => return Reply::empty(),
        Some(Trouble::Status { code, body }) => {
            let mut reply = plain("text/html", body);
            reply.status = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::BAD_GATEWAY);
            return reply;
        }
        Some(Trouble::Truncated(bytes)) => cut = Some(bytes),
        Some(Trouble::Late(ms)) => wait = ms,
    }
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let Some((id, rest)) = job(call, &segments) else {
        return not_found();
    };
    match rest {
        ["config.xml"] => plain("application/xml", config_xml(call, &id)),
        ["api", "json"] => {
            let body = job_json(call, &id).to_string();
            plain("application/json;charset=utf-8", body).after(wait)
        }
        [number, rest @ ..] => run(call, &id, number, rest, wait, cut),
        [] => not_found(),
    }
}

/// `job/{folder}/job/{pipeline}[/job/{branch}]`, whatever the folder.
fn job<'a, 'b>(call: &mut Call<'_>, segments: &'a [&'b str]) -> Option<(JobId, &'a [&'b str])> {
    let find = |call: &mut Call<'_>, p: &str, n: &str, b: Option<&str>| call.cluster().jenkins.find(p, n, b);
    match segments {
        ["job", project, "job", pipeline, "job", branch, rest @ ..] => {
            find(call, project, pipeline, Some(branch)).map(|id| (id, rest))
        }
        ["job", project, "job", pipeline, rest @ ..] => {
            find(call, project, pipeline, None).map(|id| (id, rest))
        }
        _ => None,
    }
}

fn run(call: &mut Call<'_>, id: &JobId, number: &str, rest: &[&str], wait: i64, cut: Option<u64>) -> Reply {
    let now = call.now;
    let build = number
        .parse::<u64>()
        .ok()
        .and_then(|n| call.cluster().jenkins.jobs.get(id)?.builds.get(&n).cloned())
        .filter(|b| b.started_at.is_some());
    let Some(build) = build else { return not_found() };
    let view = build.view(now);
    match rest {
        ["api", "json"] => plain(
            "application/json;charset=utf-8",
            run_json(id, &build, &view).to_string(),
        ),
        ["consoleText"] => {
            let text = serve(&stored(id, &build, &view), false);
            finish(plain("text/plain;charset=utf-8", text), wait, cut)
        }
        ["logText", "progressiveText"] => finish(progressive(&call.query, id, &build, &view), wait, cut),
        ["artifact", path @ ..] => artifact(call, &build, &view, &path.join("/"), wait, cut),
        ["stop"] if call.method == "POST" => {
            if let Some(job) = call.cluster().jenkins.jobs.get_mut(id) {
                job.stop(build.number, now, false);
            }
            plain("text/html;charset=utf-8", "")
        }
        ["input", _, action] if call.method == "POST" => {
            // Nobody asks here whether the caller is a submitter (finding F-L6).
            call.cluster()
                .answer_input(id, build.number, *action == "abort", now);
            plain("text/html;charset=utf-8", "")
        }
        _ => not_found(),
    }
}

/// `X-Text-Size` counts stored bytes; a start beyond the end begins anew at 0.
fn progressive(query: &Query, id: &JobId, build: &Build, view: &View) -> Reply {
    let whole = stored(id, build, view);
    let start = query.number("start").unwrap_or_default();
    let start = if start > whole.len() { 0 } else { start };
    let mut reply = plain("text/plain;charset=utf-8", serve(&whole[start..], false))
        .header("x-text-size", &whole.len().to_string());
    if !view.finished() {
        reply = reply.header("x-more-data", "true");
    }
    reply
}

/// Delay and truncation of a body that is known.
fn finish(mut reply: Reply, wait: i64, cut: Option<u64>) -> Reply {
    if let (Some(cut), Some(bytes)) = (cut, reply.bytes().cloned()) {
        reply.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
        let kept = bytes.slice(..usize::try_from(cut).unwrap_or(usize::MAX).min(bytes.len()));
        reply.body = ReplyBody::Stream(broken([Ok(kept)]));
    }
    reply.after(wait)
}

/// A stream that breaks off at its end; the server then drops the connection.
fn broken<const N: usize>(chunks: [Chunk; N]) -> futures::stream::BoxStream<'static, Chunk> {
    let end = stream::once(async {
        flushed().await;
        Err(std::io::ErrorKind::ConnectionReset.into())
    });
    stream::iter(chunks).chain(end).boxed()
}

/// A byte range `bytes=a-b`; `None` if there is none or it cannot be satisfied.
fn range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    if from.is_empty() {
        let last: u64 = to.parse().ok()?;
        return Some((size.saturating_sub(last), size));
    }
    let from: u64 = from.parse().ok()?;
    let to = if to.is_empty() {
        size
    } else {
        to.parse::<u64>().ok()?.saturating_add(1).min(size)
    };
    (from < to).then_some((from, to))
}

fn artifact(
    call: &mut Call<'_>,
    build: &Build,
    view: &View,
    path: &str,
    wait: i64,
    cut: Option<u64>,
) -> Reply {
    let found = build
        .plan
        .artifacts
        .iter()
        .find(|a| a.path == path && view.finished());
    let Some(artifact) = found.cloned() else {
        return not_found();
    };
    let wanted = range(call.header("range"), artifact.size);
    let (from, to) = wanted.unwrap_or((0, artifact.size));
    let scale = call.state.context.scale;
    let pause = (CHUNK * 1_000)
        .checked_div(build.plan.artifact_bps)
        .map_or(0, |ms| scale.ms(i64::try_from(ms).unwrap_or(i64::MAX)));
    let status = if wanted.is_some() { 206 } else { 200 };
    let modified = clock::http(view.end.unwrap_or(view.now));
    let mut reply = jenkins(Reply::new(status, "application/octet-stream", ""))
        .header("accept-ranges", "bytes")
        .header("last-modified", &modified);
    if wanted.is_some() {
        let text = format!("bytes {from}-{}/{}", to.saturating_sub(1), artifact.size);
        reply = reply.header("content-range", &text);
    }
    reply.headers.insert(header::CONTENT_LENGTH, (to - from).into());
    if to == from {
        reply.headers.remove(header::CONTENT_LENGTH);
        return reply.after(wait);
    }
    let pieces = Pieces {
        artifact,
        number: build.number,
        at: from,
        to,
        left: cut,
        pause,
        stall: wait,
    };
    reply.body = ReplyBody::Stream(pieces.stream());
    reply
}

/// An artifact on its way out, made up as it goes.
struct Pieces {
    artifact: Artifact,
    number: u64,
    at: u64,
    to: u64,
    /// Bytes until the connection breaks.
    left: Option<u64>,
    /// Between two pieces.
    pause: i64,
    /// Before the second piece.
    stall: i64,
}

impl Pieces {
    fn stream(self) -> futures::stream::BoxStream<'static, Chunk> {
        stream::unfold(Some((self, true)), |state| async move {
            let (mut pieces, first) = state?;
            if pieces.at >= pieces.to {
                return None;
            }
            if pieces.left == Some(0) {
                flushed().await;
                return Some((Err(std::io::ErrorKind::ConnectionReset.into()), None));
            }
            let wait = if first {
                0
            } else {
                pieces.pause + std::mem::take(&mut pieces.stall)
            };
            if wait > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(wait.unsigned_abs())).await;
            }
            let mut size = CHUNK.min(pieces.to - pieces.at);
            if let Some(left) = &mut pieces.left {
                size = size.min(*left);
                *left -= size;
            }
            let bytes = artifact_bytes(&pieces.artifact, pieces.number, pieces.at, pieces.at + size);
            pieces.at += size;
            Some((Ok(Bytes::from(bytes)), Some((pieces, false))))
        })
        .boxed()
    }
}

fn run_json(id: &JobId, build: &Build, view: &View) -> Value {
    let parameters: Vec<Value> = build
        .parameters
        .iter()
        .map(|(n, v)| json!({"name": n, "value": v}))
        .collect();
    let artifacts: Vec<Value> = build
        .plan
        .artifacts
        .iter()
        .filter(|_| view.finished())
        .map(|a| {
            let name = a.path.rsplit('/').next().unwrap_or(&a.path);
            json!({"displayPath": name, "fileName": name, "relativePath": a.path})
        })
        .collect();
    json!({
        "_class": "org.jenkinsci.plugins.workflow.job.WorkflowRun",
        "actions": [{"_class": "hudson.model.ParametersAction", "parameters": parameters}],
        "artifacts": artifacts, "building": !view.finished(), "displayName": format!("#{}", build.number),
        "duration": if view.finished() { view.duration } else { 0 },
        "fullDisplayName": format!("{} #{}", id.full_name().replace('/', " » "), build.number),
        "id": build.number.to_string(), "number": build.number, "queueId": build.queue_id,
        "result": if view.finished() { Value::from(view.result.as_str()) } else { Value::Null },
        "timestamp": view.start, "url": format!("{}{}/{}/", crate::jenkins::URL, id.path(), build.number),
    })
}

fn job_json(call: &mut Call<'_>, id: &JobId) -> Value {
    let job = &call.cluster().jenkins.jobs[id];
    let builds: Vec<Value> = job
        .builds
        .keys()
        .rev()
        .map(|n| json!({"number": n, "url": ""}))
        .collect();
    json!({
        "_class": "org.jenkinsci.plugins.workflow.job.WorkflowJob", "name": id.leaf(), "displayName": id.leaf(),
        "fullName": id.full_name(), "url": format!("{}{}/", crate::jenkins::URL, id.path()), "buildable": true,
        "nextBuildNumber": job.next_number, "jobs": [], "property": [], "builds": builds,
    })
}

fn config_xml(call: &mut Call<'_>, id: &JobId) -> String {
    let job = &call.cluster().jenkins.jobs[id];
    let definitions: Vec<String> = job
        .parameters
        .iter()
        .map(|p| {
            format!(
                "        <hudson.model.StringParameterDefinition>\n          <name>{}</name>\n          \
                 <defaultValue>{}</defaultValue>\n        </hudson.model.StringParameterDefinition>\n",
                p.name,
                p.default_value().unwrap_or_default()
            )
        })
        .collect();
    format!(
        "<?xml version='1.1' encoding='UTF-8'?>\n<flow-definition plugin=\"workflow-job\">\n  <actions/>\n  \
         <properties>\n    <hudson.model.ParametersDefinitionProperty>\n      <parameterDefinitions>\n{}      \
         </parameterDefinitions>\n    </hudson.model.ParametersDefinitionProperty>\n  </properties>\n  \
         <disabled>{}</disabled>\n</flow-definition>\n",
        definitions.concat(),
        job.disabled
    )
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges() {
        assert_eq!(range("bytes=0-9", 100), Some((0, 10)));
        assert_eq!(range("bytes=90-", 100), Some((90, 100)));
        assert_eq!(range("bytes=-5", 100), Some((95, 100)));
        assert_eq!(range("bytes=100-", 100), None);
        assert_eq!(range("", 100), None);
    }
}
