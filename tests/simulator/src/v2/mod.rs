//! ks-devops' v1alpha2 API: every call becomes one request to Jenkins, and every failure of that becomes a 500
//! (contract §5).

mod branches;
mod inputs;
mod logs;
mod pipelines;
mod proxy;
mod runs;

use serde_json::Value;

use crate::call::Call;
use crate::jenkins::{Build, JobId, Trouble, View};
use crate::reply::Reply;
use crate::route::V2;

/// What log routes produce: neither `application/json` nor `text/plain` accepts it (finding F-G).
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Where a run is asked for.
#[derive(Debug, Clone)]
struct At {
    project: String,
    pipeline: String,
    branch: Option<String>,
    /// What follows: run, node, step.
    rest: Vec<String>,
}

impl At {
    fn new(taken: &[String], with_branch: bool) -> Self {
        let at = |i: usize| taken.get(i).cloned().unwrap_or_default();
        Self {
            project: at(0),
            pipeline: at(1),
            branch: with_branch.then(|| at(2)),
            rest: taken
                .get(if with_branch { 3 } else { 2 }..)
                .unwrap_or_default()
                .to_vec(),
        }
    }

    fn run(&self) -> &str {
        self.rest.first().map_or("", String::as_str)
    }

    /// Blue Ocean's path of the job, as ks-devops pastes it together.
    fn url(&self) -> String {
        let base = format!(
            "/blue/rest/organizations/jenkins/pipelines/{}/pipelines/{}",
            self.project, self.pipeline
        );
        match &self.branch {
            Some(branch) => format!("{base}/branches/{branch}"),
            None => base,
        }
    }

    fn run_url(&self) -> String {
        format!("{}/runs/{}", self.url(), self.run())
    }
}

pub(crate) fn handle(call: &mut Call<'_>, route: V2, taken: &[String]) -> Reply {
    let produced = match route {
        V2::Log | V2::BranchLog | V2::StepLog | V2::BranchStepLog | V2::ConsoleLog => TEXT,
        V2::Scan => "text/html; charset=utf-8",
        V2::ProxyGet | V2::ProxyPost => "*/*",
        _ => JSON,
    };
    if produced != "*/*" && !call.accepts(produced) {
        return call.not_acceptable(produced);
    }
    let at = |with_branch| At::new(taken, with_branch);
    match route {
        V2::Search => pipelines::search(call),
        V2::Crumb => pipelines::crumb(),
        V2::CredentialUsage => pipelines::credential_usage(&taken[1]),
        V2::PipelineGet => pipelines::get(call, &at(false)),
        V2::RunList => runs::list(call, &at(false)),
        V2::RunCreate => runs::create(call, &at(false)),
        V2::BranchRunCreate => runs::create(call, &at(true)),
        V2::RunGet => runs::get(call, &at(false)),
        V2::BranchRunGet => runs::get(call, &at(true)),
        V2::Stop => runs::stop(call, &at(false)),
        V2::BranchStop => runs::stop(call, &at(true)),
        V2::Replay => runs::replay(call, &at(false)),
        V2::BranchReplay => runs::replay(call, &at(true)),
        V2::Artifacts => runs::artifacts(call, &at(false)),
        V2::BranchArtifacts => runs::artifacts(call, &at(true)),
        V2::Log => logs::run(call, &at(false)),
        V2::BranchLog => logs::run(call, &at(true)),
        V2::StepLog => logs::step(call, &at(false)),
        V2::BranchStepLog => logs::step(call, &at(true)),
        V2::Nodes => runs::nodes(call, &at(false)),
        V2::BranchNodes => runs::nodes(call, &at(true)),
        V2::NodesDetail => runs::nodes_detail(call, &at(false)),
        V2::BranchNodesDetail => runs::nodes_detail(call, &at(true)),
        V2::Steps => runs::steps(call, &at(false)),
        V2::BranchSteps => runs::steps(call, &at(true)),
        V2::Submit => inputs::submit(call, &at(false)),
        V2::BranchSubmit => inputs::submit(call, &at(true)),
        V2::BranchList => branches::list(call, &at(false)),
        V2::BranchGet => branches::get(call, &at(true)),
        V2::Scan => branches::scan(call, &at(false)),
        V2::ConsoleLog => branches::console_log(call, &at(false)),
        V2::ProxyGet | V2::ProxyPost => proxy::handle(call, &taken[1]),
    }
}

/// A Jenkins error as ks-devops passes it on: always 500, Jenkins' own body.
fn jenkins_error(code: u16, message: &str) -> Reply {
    let message = Value::from(message);
    Reply::new(
        500,
        TEXT,
        format!("{{\"message\": {message}, \"code\": {code}, \"errors\": []}}"),
    )
}

fn no_pipeline(at: &At) -> Reply {
    jenkins_error(404, &format!("Pipeline {}/{} not found", at.project, at.pipeline))
}

fn no_run(at: &At) -> Reply {
    let pipeline = at.branch.as_deref().unwrap_or(&at.pipeline);
    jenkins_error(404, &format!("Run {} in pipeline {pipeline} not found", at.run()))
}

/// What a route does when its Jenkins call goes wrong, seen through ks-devops.
fn troubled(trouble: &Trouble, method: &str, url: &str) -> Reply {
    match trouble {
        Trouble::Status { body, .. } => {
            let html = body.trim_start().starts_with('<');
            Reply::new(
                500,
                if html { "text/html; charset=utf-8" } else { TEXT },
                body.clone(),
            )
        }
        Trouble::Truncated(_) => Reply::new(500, TEXT, "unexpected end of JSON input"),
        // A POST asks for a crumb first; that is what fails when nobody is there.
        Trouble::Refused if method == "POST" => Reply::new(
            500,
            TEXT,
            trouble.go_error("GET", "/crumbIssuer/api/json/api/json"),
        ),
        _ => Reply::new(500, TEXT, trouble.go_error(method, url)),
    }
}

/// Lets the call meet whatever is wrong with Jenkins. `Ok(wait)`: it goes on, after so long.
fn meet(call: &mut Call<'_>, name: &str, method: &str, url: &str) -> Result<i64, Reply> {
    let context = call.state.context.clone();
    let cluster = call.cluster();
    match cluster.jenkins.outages.meet(name, cluster.jenkins.scale) {
        None => Ok(0),
        Some(Trouble::Late(ms)) => {
            // The client behind v1alpha2 waits twice as long as the other one (contract §5.1).
            let timeout = context.scale.ms(2 * context.timings.jenkins_timeout);
            if ms < timeout {
                Ok(ms)
            } else {
                Err(troubled(&Trouble::Late(ms), method, url).after(timeout))
            }
        }
        Some(trouble) => Err(troubled(&trouble, method, url)),
    }
}

/// A build and the job it belongs to.
fn find(call: &mut Call<'_>, at: &At) -> Result<(JobId, Build, View), Reply> {
    let now = call.now;
    let same_id = call.state.context.quirks.same_expected_id;
    let jenkins = &call.cluster().jenkins;
    let known = jenkins
        .pipelines
        .contains_key(&(at.project.clone(), at.pipeline.clone()));
    if !known {
        return Err(no_pipeline(at));
    }
    let id = jenkins
        .find(&at.project, &at.pipeline, at.branch.as_deref())
        .ok_or_else(|| no_run(at))?;
    let job = &jenkins.jobs[&id];
    let build = at
        .run()
        .parse::<u64>()
        .ok()
        .and_then(|n| job.builds.get(&n))
        .ok_or_else(|| no_run(at))?;
    if same_id && build.started_at.is_none() && job.expected_number() != Some(build.number) {
        return Err(no_run(at));
    }
    Ok((id, build.clone(), build.view(now)))
}
