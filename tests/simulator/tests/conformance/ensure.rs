//! Makes what a recording presupposes and nothing before it made: pipelines, runs under their recorded names, builds under
//! their numbers.

use http::Method;
use serde_json::{Value, json};
use tenantry_simulator::Control;
use tenantry_test_support::recorded::Exchange;

use crate::{argo, replay::Stage, scenes};

const RUN_ID: &str = "devops.kubesphere.io/jenkins-pipelinerun-id";
const CREATOR: &str = "devops.kubesphere.io/creator";

/// Brings the simulator into the state that an answer shows; what it does not show is looked up in the group.
pub async fn state_for(stage: &Stage, exchange: &Exchange, group: &[Exchange]) {
    let Some(response) = &exchange.response else {
        return;
    };
    let control = stage.control(&exchange.path);
    let prefix = prefix(&exchange.path);
    if argo::is_about(&exchange.path) {
        argo::state_for(stage, &control, exchange).await;
        return;
    }
    if response.status != 404
        && let Some((namespace, name)) = run_named_in(&exchange.path)
        && control.object("pipelineruns", namespace, name).is_none()
    {
        let known = group.iter().find_map(|e| object_named(e, name));
        let object = known.cloned().or_else(|| guessed(namespace, name));
        if let Some(object) = object {
            make_run(stage, &control, &prefix, &object, namespace).await;
        }
    }
    let json = response.json.as_ref();
    match exchange.method {
        Method::POST => {
            name_the_next(&control, json);
            // A run that is triggered gets the number that it shows later on.
            let run = json.filter(|j| j.pointer("/spec/pipelineRef").is_some());
            if let Some(run) = run
                && let Some(name) = text(run, "/metadata/name")
                && let Some((build, number)) = group.iter().find_map(|e| started(e, name))
            {
                ensure_builds(&control, &build, number - 1, &[]);
            }
            // The answer to a v1alpha2 trigger or replay tells the number it got.
            let number = json
                .and_then(|j| text(j, "/id"))
                .and_then(|id| id.parse::<u64>().ok());
            if let (Some(number), Some(build)) = (number, Build::of(&exchange.path))
                && build.number.is_none()
            {
                ensure_builds(&control, &build, number - 1, &[]);
            }
        }
        _ if response.status < 300 => {
            for object in objects(json).into_iter().rev() {
                ensure_object(stage, &control, &prefix, object).await;
            }
        }
        _ => {}
    }
    let inner = json.and_then(|j| j.get("code")).and_then(Value::as_u64);
    if let Some(build) = Build::of(&exchange.path)
        && let Some(number) = build.number
        && !matches!(response.status, 401 | 403 | 404)
        && inner != Some(404)
    {
        // The run that has this number, where one is known: it starts the build.
        let run = group.iter().find_map(|e| run_of(e, &build, number));
        if let Some(run) = run
            && let Some(name) = text(run, "/metadata/name")
            && control.object("pipelineruns", &build.project, name).is_none()
        {
            make_run(stage, &control, &prefix, run, &build.project).await;
            wait(|| has_build(&control, &build, number)).await;
        }
        // A run that is on its way to Jenkins gets the next number.
        let on_its_way = || {
            let runs = control.runs(&build.project);
            runs.iter().any(|r| {
                text(r, "/spec/pipelineRef/name") == Some(build.pipeline.as_str())
                    && r.pointer("/metadata/annotations")
                        .is_none_or(|a| a.get(RUN_ID).is_none())
            })
        };
        wait_a_little(|| has_build(&control, &build, number) || !on_its_way()).await;
        let given = given_to(&build, number, group);
        let given: Vec<(&str, &str)> = given.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        ensure_builds(&control, &build, number, &given);
    }
    if exchange.method == Method::DELETE && exchange.path.contains("/kapis/") && response.status == 200 {
        wait_for_the_end(&control, &exchange.path).await;
    }
}

/// The run that a path names.
fn run_named_in(path: &str) -> Option<(&str, &str)> {
    let (_, rest) = path.split('?').next()?.split_once("/namespaces/")?;
    let (namespace, rest) = rest.split_once('/')?;
    let name = rest.strip_prefix("pipelineruns/")?.split('/').next()?;
    Some((namespace, name))
}

fn object_named<'a>(exchange: &'a Exchange, name: &str) -> Option<&'a Value> {
    let response = exchange.response.as_ref().filter(|r| r.status < 300)?;
    objects(response.json.as_ref())
        .into_iter()
        .find(|o| text(o, "/metadata/name") == Some(name) && o.pointer("/spec/pipelineRef").is_some())
}

/// The run of a build, if this answer shows it before anything was deleted.
fn run_of<'a>(exchange: &'a Exchange, build: &Build, number: u64) -> Option<&'a Value> {
    let response = exchange.response.as_ref().filter(|r| r.status < 300)?;
    let number = number.to_string();
    objects(response.json.as_ref()).into_iter().find(|o| {
        let id = o
            .pointer("/metadata/annotations")
            .and_then(|a| a.get(RUN_ID)?.as_str());
        id == Some(number.as_str())
            && text(o, "/spec/pipelineRef/name") == Some(build.pipeline.as_str())
            && text(o, "/metadata/namespace") == Some(build.project.as_str())
            && text(o, "/spec/scm/refName") == build.branch.as_deref()
    })
}

/// The build of a run, if this answer shows it started.
fn started(exchange: &Exchange, name: &str) -> Option<(Build, u64)> {
    let object = object_named(exchange, name)?;
    let id = object.pointer("/metadata/annotations")?.get(RUN_ID)?.as_str()?;
    let number = id.parse().ok().filter(|n| *n > 0)?;
    let build = Build {
        project: text(object, "/metadata/namespace")?.to_owned(),
        pipeline: text(object, "/spec/pipelineRef/name")?.to_owned(),
        branch: text(object, "/spec/scm/refName").map(str::to_owned),
        number: Some(number),
    };
    Some((build, number))
}

fn has_build(control: &Control, build: &Build, number: u64) -> bool {
    let builds = control
        .builds(&build.project, &build.pipeline)
        .unwrap_or_default();
    builds
        .iter()
        .any(|b| b.number == number && b.branch == build.branch)
}

/// A run that no recording shows: its name tells the pipeline.
fn guessed(namespace: &str, name: &str) -> Option<Value> {
    let (pipeline, suffix) = name.rsplit_once('-')?;
    let mut annotations = json!({CREATOR: "alice"});
    if let Some(number) = scenes::number_of(name) {
        annotations[RUN_ID] = Value::from(number);
    }
    (suffix.len() == 5).then(|| {
        json!({
            "metadata": {"name": name, "generateName": format!("{pipeline}-"), "annotations": annotations},
            "spec": {"pipelineRef": {"kind": "Pipeline", "name": pipeline, "namespace": namespace}},
        })
    })
}

/// What a build was started with: its log says so in its third line.
fn given_to(build: &Build, number: u64, group: &[Exchange]) -> Vec<(String, String)> {
    let job = match &build.branch {
        Some(branch) => format!("{}/{branch}", build.pipeline),
        None => build.pipeline.clone(),
    };
    let line = format!("build {}/{job} #{number} parameters ", build.project);
    let told = group.iter().find_map(|e| {
        let body = String::from_utf8_lossy(&e.response.as_ref()?.body).into_owned();
        let from = body.find(&line)? + line.len();
        let text = body[from..].lines().next()?.to_owned();
        serde_json::from_str::<std::collections::BTreeMap<String, String>>(&text).ok()
    });
    let told: Vec<_> = told
        .into_iter()
        .flatten()
        .filter(|(_, v)| !v.is_empty())
        .collect();
    if told.is_empty() {
        scenes::parameters_of(&build.project, &build.pipeline, number)
    } else {
        told
    }
}

/// kapis deletes only what is over.
async fn wait_for_the_end(control: &Control, path: &str) {
    let Some((namespace, name)) = run_named_in(path) else {
        return;
    };
    wait(|| {
        let object = control.object("pipelineruns", namespace, name);
        object.is_none_or(|o| o.pointer("/status/completionTime").is_some())
    })
    .await;
}

/// Waits until something is so, or a while.
pub async fn wait(so: impl Fn() -> bool) {
    wait_for_at_most(10, so).await;
}

/// The same where it may well never be so.
pub async fn wait_a_little(so: impl Fn() -> bool) {
    wait_for_at_most(3, so).await;
}

async fn wait_for_at_most(seconds: u64, so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while !so() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A query value or form field, encoded.
pub fn encode(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| {
            if keep(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// The cluster a path is for, in either form of the prefix.
pub fn cluster_in(path: &str) -> Option<&str> {
    let rest = path
        .strip_prefix("/kapis")
        .unwrap_or(path)
        .strip_prefix("/clusters/")?;
    rest.split('/').next()
}

fn prefix(path: &str) -> String {
    cluster_in(path).map_or_else(String::new, |cluster| format!("/clusters/{cluster}"))
}

/// The run an answer shows, and whether it was triggered.
pub fn run_shown(exchange: &Exchange) -> Option<(&str, bool)> {
    let object = exchange.response.as_ref()?.json.as_ref()?;
    object.pointer("/spec/pipelineRef")?;
    let triggered = object
        .pointer("/metadata/annotations")
        .is_some_and(|a| a.get(RUN_ID).is_some());
    Some((text(object, "/metadata/name")?, triggered))
}

/// The objects of an answer: itself, its items, or a watch's.
pub fn objects(json: Option<&Value>) -> Vec<&Value> {
    match json {
        Some(Value::Object(map)) => match map.get("items").and_then(Value::as_array) {
            Some(items) => items.iter().collect(),
            None => json.into_iter().collect(),
        },
        _ => Vec::new(),
    }
}

pub fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str().filter(|t| !t.is_empty())
}

/// The next generated name will be the recorded one.
fn name_the_next(control: &Control, answer: Option<&Value>) {
    let Some(object) = answer else { return };
    if let (Some(name), Some(stem)) = (
        text(object, "/metadata/name"),
        text(object, "/metadata/generateName"),
    ) && let Some(suffix) = name.strip_prefix(stem)
    {
        control.next_suffixes(&[suffix]).expect("a cluster");
    }
}

/// Lists are in the order of these times, to the second: what was made before a recording keeps its recorded one.
pub fn date(control: &Control, object: &Value) {
    if let (Some(namespace), Some(name), Some(time)) = (
        text(object, "/metadata/namespace"),
        text(object, "/metadata/name"),
        text(object, "/metadata/creationTimestamp"),
    ) {
        let _ = control.set_creation_time("pipelineruns", namespace, name, time);
    }
}

async fn ensure_object(stage: &Stage, control: &Control, prefix: &str, object: &Value) {
    let Some(name) = text(object, "/metadata/name") else {
        return;
    };
    let Some(namespace) = text(object, "/metadata/namespace") else {
        return;
    };
    let spec = object.get("spec").cloned().unwrap_or_default();
    if spec.get("pipelineRef").is_some() {
        if control.object("pipelineruns", namespace, name).is_none() {
            make_run(stage, control, prefix, object, namespace).await;
        }
    } else if spec.get("pipeline").is_some() && control.object("pipelines", namespace, name).is_none() {
        let body = json!({
            "metadata": {"name": name, "annotations": {"kubesphere.io/creator": "alice"}},
            "spec": spec,
        });
        let path = format!("{prefix}/kapis/devops.kubesphere.io/v1alpha3/namespaces/{namespace}/pipelines");
        post(stage, "alice", &path, &body).await;
    }
}

async fn make_run(stage: &Stage, control: &Control, prefix: &str, object: &Value, namespace: &str) {
    let Some(pipeline) = text(object, "/spec/pipelineRef/name") else {
        return;
    };
    let branch = text(object, "/spec/scm/refName");
    let annotation = |key: &str| object.pointer("/metadata/annotations")?.get(key)?.as_str();
    let number = annotation(RUN_ID).and_then(|id| id.parse::<u64>().ok());
    let build = Build {
        project: namespace.to_owned(),
        pipeline: pipeline.to_owned(),
        branch: branch.map(str::to_owned),
        number,
    };
    // What ran before it, so that it gets its number.
    if let Some(number) = number {
        ensure_builds(control, &build, number - 1, &[]);
    }
    make_named_run(stage, control, prefix, object, &build).await;
    date(control, object);
}

/// The same once everything is prepared.
async fn make_named_run(stage: &Stage, control: &Control, prefix: &str, object: &Value, build: &Build) {
    let annotation = |key: &str| object.pointer("/metadata/annotations")?.get(key)?.as_str();
    let (namespace, pipeline, branch) = (&build.project, &build.pipeline, build.branch.as_deref());
    let (number, name) = (build.number, &object["metadata"]["name"]);
    let creator = annotation(CREATOR);
    if let (None, Some(number)) = (creator, number) {
        let given = parameters(object);
        let given: Vec<(&str, &str)> = given.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        ensure_builds(control, build, number, &given);
        name_the_next(control, Some(object));
        let _ = control.make_run(namespace, pipeline, branch, number);
        return;
    }
    let user = creator.unwrap_or("alice");
    // Its number was given out already: the run is adopted, not triggered (finding F-E).
    let adopted = number.filter(|n| has_build(control, build, *n));
    if text(object, "/metadata/generateName").is_some() && adopted.is_none() {
        name_the_next(control, Some(object));
        let query = branch
            .map(|b| format!("?branch={}", encode(b)))
            .unwrap_or_default();
        let base = format!("{prefix}/kapis/devops.kubesphere.io/v1alpha3/namespaces/{namespace}");
        let path = format!("{base}/pipelines/{pipeline}/pipelineruns{query}");
        let list: Vec<Value> = parameters(object)
            .iter()
            .map(|(n, v)| json!({"name": n, "value": v}))
            .collect();
        post(stage, user, &path, &json!({"parameters": list})).await;
    } else {
        let mut copy = json!({
            "apiVersion": "devops.kubesphere.io/v1alpha3",
            "kind": "PipelineRun",
            "metadata": {"name": name, "namespace": namespace},
            "spec": object["spec"],
        });
        for key in ["generateName", "labels", "ownerReferences"] {
            if let Some(value) = object["metadata"].get(key) {
                copy["metadata"][key] = value.clone();
            }
        }
        if let Some(creator) = creator {
            copy["metadata"]["annotations"] = json!({CREATOR: creator});
        }
        if let Some(number) = adopted {
            copy["metadata"]["annotations"][RUN_ID] = Value::from(number.to_string());
        }
        let path = format!("{prefix}/apis/devops.kubesphere.io/v1alpha3/namespaces/{namespace}/pipelineruns");
        post(stage, user, &path, &copy).await;
    }
}

fn parameters(object: &Value) -> Vec<(String, String)> {
    let list = object.pointer("/spec/parameters").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|p| {
            Some((
                p.get("name")?.as_str()?.to_owned(),
                p.get("value")?.as_str()?.to_owned(),
            ))
        })
        .collect()
}

pub async fn post(stage: &Stage, user: &str, path: &str, body: &Value) {
    stage
        .send_as(user, Method::POST, path, "application/json", body)
        .await;
}

/// A job, and a build of it where the path names one.
pub struct Build {
    pub project: String,
    pub pipeline: String,
    pub branch: Option<String>,
    pub number: Option<u64>,
}

impl Build {
    /// The job of a v1alpha2 path.
    pub fn of(path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or_default();
        let (_, rest) = path.split_once("/v1alpha2/namespaces/")?;
        let parts: Vec<&str> = rest.trim_matches('/').split('/').collect();
        let (pipeline, branch, number) = match parts.as_slice() {
            [_, "pipelines", pipeline, "branches", branch, "runs", rest @ ..] => {
                (pipeline, Some(*branch), rest.first())
            }
            [_, "pipelines", pipeline, "runs", rest @ ..] => (pipeline, None, rest.first()),
            [_, "jenkins", "job", _, "job", pipeline, "job", branch, rest @ ..] => {
                (pipeline, Some(*branch), rest.first())
            }
            [_, "jenkins", "job", _, "job", pipeline, rest @ ..] => (pipeline, None, rest.first()),
            _ => return None,
        };
        Some(Self {
            project: parts[0].to_owned(),
            pipeline: (*pipeline).to_owned(),
            branch: branch.map(job_name),
            number: number.and_then(|n| n.parse().ok()),
        })
    }
}

/// A branch job's name from a path, however often it was encoded.
fn job_name(segment: &str) -> String {
    let mut name = segment.to_owned();
    while name.contains("%25") {
        name = name.replace("%25", "%");
    }
    name
}

/// Starts builds until this number was given out. All but the last are over at once.
pub fn ensure_builds(control: &Control, build: &Build, number: u64, given: &[(&str, &str)]) {
    let Build {
        project,
        pipeline,
        branch,
        ..
    } = build;
    let branch = branch.as_deref();
    // Numbers of builds that were deleted since are not given out again.
    while let Ok(next) = control.next_build_number(project, pipeline, branch)
        && next <= number
        && number <= 200
    {
        let started = if next < number {
            // One of the past, over since.
            control.past_build(project, pipeline, branch, &[], 2.0, "SUCCESS")
        } else {
            control.start_build(project, pipeline, branch, given)
        };
        if started.is_err() {
            return;
        }
    }
}
