//! The control API of the standalone binary: JSON over `/_sim/…`. It mirrors [`Control`]; the README lists it.

use std::sync::Arc;

use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Control, ControlError};
use crate::config::{AuthConfig, Quirks, Timings};
use crate::faults::Fault;
use crate::jenkins::JenkinsOutage;
use crate::query::{Query, decode};
use crate::random_faults::RandomFaults;
use crate::rbac::Role;
use crate::reply::Reply;
use crate::server::Shared;
use crate::state::ClusterHealth;
use crate::world::{BuildScript, Parameter, PipelineWorld, Project, User, UserState, Workspace};

/// What a control answers: a value, or what was wrong.
pub(super) type Answer = Result<Value, ControlError>;

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlError> {
    let text = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(text).map_err(|e| ControlError(format!("the body does not fit: {e}")))
}

pub(super) fn done<T>(result: Result<T, ControlError>) -> Answer {
    result.map(|_| json!({"done": true}))
}

/// Answers a request to the control API.
pub(crate) fn answer(shared: &Arc<Shared>, parts: &Parts, body: &[u8]) -> Reply {
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let cluster = query.get("cluster").unwrap_or("host");
    let control = Control::new(shared.clone()).on(cluster);
    let path = decode(parts.uri.path());
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).skip(1).collect();
    let result = route(shared, &control, parts.method.as_str(), &segments, &query, body);
    match result {
        Some(Ok(value)) => Reply::json(200, &value),
        Some(Err(error)) => Reply::json(400, &json!({"error": error.0})),
        None => Reply::json(
            404,
            &json!({"error": format!("no control {} {path}", parts.method)}),
        ),
    }
}

fn route(
    shared: &Arc<Shared>,
    control: &Control,
    method: &str,
    segments: &[&str],
    query: &Query,
    body: &[u8],
) -> Option<Answer> {
    let answer = match (method, segments) {
        ("GET", ["ledger"]) => {
            serde_json::to_value(shared.ledger.snapshot()).map_err(|e| ControlError(e.to_string()))
        }
        ("GET", ["ledger", "count"]) => {
            Ok(json!({"count": shared.ledger.count(query.get("class").unwrap_or("*"))}))
        }
        ("DELETE", ["ledger"]) => {
            shared.ledger.clear();
            Ok(json!({"done": true}))
        }
        ("GET", ["faults"]) => {
            let list: Vec<Value> = control
                .faults()
                .into_iter()
                .map(|(id, fault)| json!({"id": id, "fault": fault}))
                .collect();
            Ok(Value::from(list))
        }
        ("POST", ["faults"]) => parse::<Fault>(body).map(|fault| json!({"id": control.fault(fault)})),
        ("GET", ["faults", "random"]) => Ok(json!(control.random_faults_served())),
        ("PUT", ["faults", "random"]) => parse::<RandomFaults>(body).map(|faults| {
            control.random_faults(Some(faults));
            json!({"done": true})
        }),
        ("DELETE", ["faults", "random"]) => {
            control.random_faults(None);
            Ok(json!({"done": true}))
        }
        ("DELETE", ["faults"]) => {
            control.clear_faults();
            Ok(json!({"done": true}))
        }
        ("DELETE", ["faults", id]) => {
            Ok(json!({"done": id.parse().is_ok_and(|id| control.remove_fault(id))}))
        }
        (
            _,
            [
                "jenkins" | "controller" | "devops-apiserver" | "extension" | "cluster",
                ..,
            ],
        ) => parts_of_the_system(control, method, segments, body)?,
        (_, ["argo", ..]) => super::argo::route(control, method, segments, body)?,
        (_, ["builds", ..]) => builds(control, method, segments, body)?,
        (_, ["runs", ..]) => runs(control, method, segments, body)?,
        _ => world(control, method, segments, body)?,
    };
    Some(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Events {
    delivered: bool,
    #[serde(default)]
    twins: bool,
}

fn parts_of_the_system(control: &Control, method: &str, segments: &[&str], body: &[u8]) -> Option<Answer> {
    let up = |word: &str| match word {
        "up" => Some(true),
        "down" => Some(false),
        _ => None,
    };
    Some(match (method, segments) {
        ("POST", ["jenkins", "outages"]) => {
            parse::<JenkinsOutage>(body).and_then(|outage| done(control.jenkins_outage(outage)))
        }
        ("POST", ["jenkins", "down"]) => {
            done(control.jenkins_outage(JenkinsOutage::new(crate::jenkins::JenkinsFault::Down)))
        }
        ("POST", ["jenkins", "up"]) => done(control.jenkins_up()),
        ("PUT", ["jenkins", "events"]) => {
            parse::<Events>(body).and_then(|e| done(control.jenkins_events(e.delivered, e.twins)))
        }
        ("POST", ["controller", word]) => done(control.controller(up(word)?)),
        ("POST", ["devops-apiserver", word]) => done(control.devops_apiserver(up(word)?)),
        ("POST", ["extension", word]) => done(control.extension(up(word)?)),
        ("PUT", ["cluster", "health"]) => {
            parse::<ClusterHealth>(body).and_then(|health| done(control.cluster_health(health)))
        }
        ("POST", ["cluster", "compact"]) => done(control.compact()),
        ("POST", ["cluster", "suffixes"]) => parse::<Vec<String>>(body).and_then(|list| {
            done(control.next_suffixes(&list.iter().map(String::as_str).collect::<Vec<_>>()))
        }),
        _ => return None,
    })
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BuildBody {
    branch: Option<String>,
    result: Option<String>,
    proceed: Option<bool>,
    parameters: std::collections::BTreeMap<String, String>,
}

/// `builds/{project}/{pipeline}[/{number}[/{action}]]`
fn builds(control: &Control, method: &str, segments: &[&str], body: &[u8]) -> Option<Answer> {
    let wanted: BuildBody = match parse(body) {
        Ok(wanted) => wanted,
        Err(error) => return Some(Err(error)),
    };
    let branch = wanted.branch.as_deref();
    Some(match (method, segments) {
        ("GET", ["builds", project, pipeline]) => control.builds(project, pipeline).map(|list| json!(list)),
        ("POST", ["builds", project, pipeline]) => {
            let parameters: Vec<(&str, &str)> = wanted
                .parameters
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            control
                .start_build(project, pipeline, branch, &parameters)
                .map(|n| json!({"number": n}))
        }
        ("POST", ["builds", project, pipeline, number, action]) => {
            let number: u64 = number.parse().ok()?;
            match *action {
                "finish" => {
                    let result = wanted.result.as_deref().unwrap_or("SUCCESS");
                    done(control.finish_build(project, pipeline, branch, number, result))
                }
                "abort" => done(control.finish_build(project, pipeline, branch, number, "ABORTED")),
                "vanish" => done(control.vanish_build(project, pipeline, branch, number)),
                "next" => done(control.set_next_build_number(project, pipeline, branch, number)),
                "input" => {
                    let proceed = wanted.proceed.unwrap_or(true);
                    done(control.answer_input(project, pipeline, branch, number, proceed))
                }
                "run" => control
                    .make_run(project, pipeline, branch, number)
                    .map(|n| json!({"name": n})),
                _ => return None,
            }
        }
        _ => return None,
    })
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gc {
    keep: usize,
}

/// `runs/{project}[/{run}[/data]]`, `runs/{project}/{pipeline}/gc`
fn runs(control: &Control, method: &str, segments: &[&str], body: &[u8]) -> Option<Answer> {
    Some(match (method, segments) {
        ("GET", ["runs", project]) => Ok(Value::from(control.runs(project))),
        ("DELETE", ["runs", project, run]) => done(control.drop_run(project, run)),
        ("DELETE", ["runs", project, run, "data"]) => done(control.drop_run_data(project, run)),
        ("POST", ["runs", project, pipeline, "gc"]) => parse::<Gc>(body)
            .and_then(|gc| control.gc_runs(project, pipeline, gc.keep))
            .map(|names| json!({"deleted": names})),
        _ => return None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    project: Option<String>,
    namespace: Option<String>,
}

fn world(control: &Control, method: &str, segments: &[&str], body: &[u8]) -> Option<Answer> {
    let ok = || Ok(json!({"done": true}));
    Some(match (method, segments) {
        ("POST", ["tokens", "flush"]) => {
            control.flush_tokens();
            ok()
        }
        ("PUT", ["auth"]) => parse::<AuthConfig>(body).and_then(|auth| {
            control.set_auth(auth);
            ok()
        }),
        ("PUT", ["timings"]) => parse::<Timings>(body).and_then(|timings| {
            control.set_timings(timings);
            ok()
        }),
        ("PUT", ["quirks"]) => parse::<Quirks>(body).and_then(|quirks| {
            control.set_quirks(quirks);
            ok()
        }),
        ("POST", ["users"]) => parse::<User>(body).and_then(|user| {
            control.add_user(user);
            ok()
        }),
        ("PUT", ["users", user, "state"]) => {
            parse::<UserState>(body).and_then(|state| done(control.set_user_state(user, state)))
        }
        ("PUT", ["users", user, "password"]) => {
            parse::<String>(body).and_then(|password| done(control.set_password(user, &password)))
        }
        ("POST", ["serviceaccounts", namespace, name]) => {
            Ok(json!({"token": control.add_service_account(namespace, name)}))
        }
        ("POST", ["workspaces"]) => parse::<Workspace>(body).and_then(|workspace| {
            control.add_workspace(workspace);
            ok()
        }),
        ("POST", ["projects"]) => {
            parse::<Project>(body).map(|project| json!({"name": control.add_project(&project)}))
        }
        ("GET", ["projects", short_name]) => Ok(json!(control.project_names(short_name))),
        ("PUT", ["projects", project, "roles", user]) => {
            parse::<Option<Role>>(body).and_then(|role| done(control.set_role(project, user, role)))
        }
        ("PUT", ["projects", project, "labels"]) => parse::<Labels>(body).and_then(|l| {
            done(control.set_workspace_labels(project, l.project.as_deref(), l.namespace.as_deref()))
        }),
        ("POST", ["projects", project, "pipelines"]) => {
            parse::<PipelineWorld>(body).and_then(|p| done(control.add_pipeline(project, &p)))
        }
        ("DELETE", ["projects", project, "pipelines", pipeline]) => {
            done(control.remove_pipeline(project, pipeline))
        }
        ("PUT", ["projects", project, "pipelines", pipeline, "script"]) => {
            parse::<BuildScript>(body).and_then(|s| done(control.set_script(project, pipeline, s)))
        }
        ("PUT", ["projects", project, "pipelines", pipeline, "branches"]) => parse::<Vec<String>>(body)
            .and_then(|list| {
                let list: Vec<&str> = list.iter().map(String::as_str).collect();
                done(control.set_branches(project, pipeline, &list))
            }),
        ("PUT", ["projects", project, "pipelines", pipeline, "parameters"]) => parse::<Vec<Parameter>>(body)
            .and_then(|list| done(control.set_job_parameters(project, pipeline, None, list))),
        ("PUT", ["projects", project, "pipelines", pipeline, "disabled"]) => {
            parse::<bool>(body).and_then(|d| done(control.disable_job(project, pipeline, d)))
        }
        _ => return None,
    })
}
