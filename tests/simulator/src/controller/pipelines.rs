//! Pipelines and projects between the object store and Jenkins: jobs, branches, metadata annotations.

use serde_json::{Value, json};

use crate::clock::{self, Millis};
use crate::jenkins::declare;
use crate::jenkins::render;
use crate::jenkins::{Jenkins, JenkinsPipeline, Job, JobId};
use crate::query::branch_job;
use crate::rbac::Role;
use crate::state::{CREATOR, Cluster, WORKSPACE_LABEL};
use crate::store::{NAMESPACES, PIPELINES, PROJECTS, Writer, label, name, namespace};
use crate::world::{Branch, Parameter, PipelineKind};

const MANAGER: &str = "ds-controller";
const FINALIZER: &str = "pipeline.finalizers.kubesphere.io";
const PREFIX: &str = "pipeline.devops.kubesphere.io";
/// JSON array of branches, read by the v1alpha3 branch routes.
pub(crate) const BRANCHES: &str = "pipeline.devops.kubesphere.io/jenkins-branches";

/// A Pipeline without any annotation kills the controller, and again after each restart (finding F-A1).
pub(super) fn crashed(cluster: &Cluster) -> bool {
    cluster
        .store
        .list(&PIPELINES, None)
        .any(|p| p.pointer("/metadata/annotations").is_none())
}

/// Makes the Jenkins job of a Pipeline, or adapts it to a changed spec. Builds stay.
pub(crate) fn make_job(cluster: &mut Cluster, project: &str, pipeline: &str) {
    let Some(object) = cluster.store.get(&PIPELINES, project, pipeline).cloned() else {
        return;
    };
    let script = cluster
        .scripts
        .get(&(project.to_owned(), pipeline.to_owned()))
        .cloned()
        .unwrap_or_default();
    let multi = object["spec"]["type"] == "multi-branch-pipeline";
    let jenkins = &mut cluster.jenkins;
    let entry = jenkins
        .pipelines
        .entry((project.to_owned(), pipeline.to_owned()))
        .or_insert_with(|| JenkinsPipeline {
            kind: if multi {
                PipelineKind::MultiBranch
            } else {
                PipelineKind::Regular
            },
            branches: Vec::new(),
        });
    if multi {
        let branches = entry.branches.clone();
        set_branches(cluster, project, pipeline, branches);
        return;
    }
    let spec = &object["spec"]["pipeline"];
    let parameters = spec["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| Parameter {
            name: p["name"].as_str().unwrap_or_default().to_owned(),
            kind: p["type"].as_str().unwrap_or("string").to_owned(),
            default: p["default_value"].as_str().map(str::to_owned),
            description: p["description"].as_str().unwrap_or_default().to_owned(),
        })
        .collect();
    let id = JobId {
        project: project.to_owned(),
        pipeline: pipeline.to_owned(),
        branch: None,
    };
    let job = jenkins
        .jobs
        .entry(id)
        .or_insert_with(|| Job::new(script.clone(), Vec::new()));
    job.script = script;
    job.parameters = parameters;
    job.disable_concurrent = spec["disable_concurrent"] == true;
    job.keep_builds = spec
        .pointer("/discarder/num_to_keep")
        .and_then(Value::as_str)
        .and_then(|n| n.parse().ok());
}

/// Makes Jenkins have exactly these branch jobs.
pub(crate) fn set_branches(cluster: &mut Cluster, project: &str, pipeline: &str, branches: Vec<Branch>) {
    let script = cluster
        .scripts
        .get(&(project.to_owned(), pipeline.to_owned()))
        .cloned()
        .unwrap_or_default();
    let jenkins = &mut cluster.jenkins;
    let Some(entry) = jenkins
        .pipelines
        .get_mut(&(project.to_owned(), pipeline.to_owned()))
    else {
        return;
    };
    let wanted: Vec<String> = branches.iter().map(|b| branch_job(&b.name)).collect();
    jenkins.jobs.retain(|id, _| {
        id.project != project
            || id.pipeline != pipeline
            || id.branch.as_ref().is_some_and(|b| wanted.contains(b))
    });
    for (branch, encoded) in branches.iter().zip(wanted) {
        let id = JobId {
            project: project.to_owned(),
            pipeline: pipeline.to_owned(),
            branch: Some(encoded),
        };
        let job = jenkins
            .jobs
            .entry(id)
            .or_insert_with(|| Job::new(script.clone(), Vec::new()));
        job.script = script.clone();
        job.parameters.clone_from(&branch.parameters);
    }
    entry.branches = branches;
    cluster.controller.pipelines_due = Some(0);
}

/// Syncs every Pipeline with Jenkins and refreshes what Jenkins says about it. A Jenkins that is down changes nothing.
pub(crate) fn sync_all(cluster: &mut Cluster, now: Millis) {
    if cluster
        .jenkins
        .outages
        .meet("sync", cluster.jenkins.scale)
        .is_some()
    {
        return;
    }
    let all: Vec<Value> = cluster
        .store
        .list(&PIPELINES, None)
        .filter(|p| p.pointer("/metadata/deletionTimestamp").is_none())
        .cloned()
        .collect();
    for object in all {
        let (project, pipeline) = (namespace(&object).to_owned(), name(&object).to_owned());
        let hash = spec_hash(&object["spec"]);
        let stored_hash = object["metadata"]["annotations"][format!("{PREFIX}/spechash")].as_str();
        if stored_hash != Some(&hash) {
            make_job(cluster, &project, &pipeline);
        }
        let annotations = annotations(&cluster.jenkins, &object, &hash, now);
        cluster.edit(&PIPELINES, &project, &pipeline, Writer::main(MANAGER), |o| {
            for (key, value) in annotations {
                o["metadata"]["annotations"][key] = Value::from(value);
            }
            let finalizers = &mut o["metadata"]["finalizers"];
            if !finalizers
                .as_array()
                .is_some_and(|f| f.iter().any(|x| x == FINALIZER))
            {
                *finalizers = json!([FINALIZER]);
            }
        });
    }
}

/// Removes the Jenkins jobs of Pipelines that are being deleted; waits while Jenkins is down (contract §4.2).
pub(super) fn finalize(cluster: &mut Cluster) {
    let gone: Vec<(String, String)> = cluster
        .store
        .list(&PIPELINES, None)
        .filter(|p| p.pointer("/metadata/deletionTimestamp").is_some())
        .map(|p| (namespace(p).to_owned(), name(p).to_owned()))
        .collect();
    for (project, pipeline) in gone {
        if cluster
            .jenkins
            .outages
            .meet("delete", cluster.jenkins.scale)
            .is_some()
        {
            continue;
        }
        cluster.jenkins.remove_pipeline(&project, &pipeline);
        cluster.edit(&PIPELINES, &project, &pipeline, Writer::main(MANAGER), |o| {
            o["metadata"]["finalizers"] = json!([]);
        });
    }
}

/// Gives new projects their namespace.
pub(super) fn sync_projects(cluster: &mut Cluster) {
    let new: Vec<Value> = cluster
        .store
        .list(&PROJECTS, None)
        .filter(|p| p.pointer("/status/adminNamespace").is_none())
        .cloned()
        .collect();
    for project in new {
        let name = name(&project).to_owned();
        let workspace = label(&project, WORKSPACE_LABEL).map(str::to_owned);
        cluster.add_namespace(&project, &name, workspace.as_deref());
        if let Some(creator) = project["metadata"]["annotations"][CREATOR].as_str() {
            cluster
                .members
                .entry(name.clone())
                .or_default()
                .insert(creator.to_owned(), Role::tenant());
        }
        cluster.edit(&PROJECTS, "", &name, Writer::main(MANAGER), |o| {
            o["status"] = json!({"adminNamespace": name});
            o["metadata"]["annotations"]["devopsproject.devops.kubesphere.io/syncstatus"] =
                Value::from("successful");
            o["metadata"]["finalizers"] = json!(["devopsproject.finalizers.kubesphere.io"]);
        });
    }
    let deleted: Vec<String> = cluster
        .store
        .list(&PROJECTS, None)
        .filter(|p| p.pointer("/metadata/deletionTimestamp").is_some())
        .map(|p| name(p).to_owned())
        .collect();
    for name in deleted {
        let _ = cluster.store.delete(&NAMESPACES, "", &name, clock::now());
        cluster.edit(&PROJECTS, "", &name, Writer::main(MANAGER), |o| {
            o["metadata"]["finalizers"] = json!([]);
        });
    }
}

fn spec_hash(spec: &Value) -> String {
    let hash = spec
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{:010x}", hash & 0xff_ffff_ffff)
}

fn annotations(jenkins: &Jenkins, object: &Value, hash: &str, now: Millis) -> Vec<(String, String)> {
    let (project, pipeline) = (namespace(object), name(object));
    let multi = object["spec"]["type"] == "multi-branch-pipeline";
    let mut metadata = json!({"weatherScore": 100, "estimatedDurationInMillis": 2000, "name": pipeline});
    let mut list = Vec::new();
    if multi {
        let branches = branches(jenkins, project, pipeline, now);
        let names: Vec<&Value> = branches.iter().map(|b| &b["name"]).collect();
        metadata["totalNumberOfBranches"] = Value::from(names.len());
        metadata["numberOfSuccessfulBranches"] = Value::from(names.len());
        metadata["branchNames"] = json!(names);
        metadata["scmSource"] = json!({"id": "git"});
        metadata["scriptPath"] = Value::from("Jenkinsfile");
        list.push((BRANCHES.to_owned(), Value::from(branches).to_string()));
    } else {
        let id = JobId {
            project: project.into(),
            pipeline: pipeline.into(),
            branch: None,
        };
        let parameters = jenkins
            .jobs
            .get(&id)
            .map(declare::stored_parameters)
            .unwrap_or_default();
        if !parameters.is_empty() {
            metadata["parameters"] = Value::from(parameters);
        }
        list.push((format!("{PREFIX}/jenkinsfile"), jenkinsfile_json()));
        list.push((format!("{PREFIX}/jenkinsfile.edit.mode"), String::new()));
        list.push((format!("{PREFIX}/jenkinsfile.validate"), "success".into()));
    }
    list.push((format!("{PREFIX}/jenkins-metadata"), metadata.to_string()));
    list.push((format!("{PREFIX}/spechash"), hash.to_owned()));
    list.push((format!("{PREFIX}/syncstatus"), "successful".into()));
    list
}

fn jenkinsfile_json() -> String {
    json!({"pipeline": {"agent": {"type": "any"}, "stages": [{"name": "Build", "branches": [{
        "name": "default", "steps": [{"name": "echo", "arguments": {"isLiteral": true, "value": "hi"}}],
    }]}]}})
    .to_string()
}

/// Branches as the metadata controller stores them.
fn branches(jenkins: &Jenkins, project: &str, pipeline: &str, now: Millis) -> Vec<Value> {
    let Some(entry) = jenkins.pipelines.get(&(project.to_owned(), pipeline.to_owned())) else {
        return Vec::new();
    };
    entry
        .branches
        .iter()
        .enumerate()
        .map(|(i, branch)| {
            let encoded = branch_job(&branch.name);
            let mut o = json!({"name": encoded, "rawName": branch.name, "weatherScore": 100, "branch": {}});
            if i == 0 {
                o["branch"]["isPrimary"] = Value::from(true);
            }
            if branch.pull_request {
                o["pullRequest"] = json!({"id": encoded, "title": branch.name});
            }
            let id = JobId {
                project: project.into(),
                pipeline: pipeline.into(),
                branch: Some(encoded),
            };
            let Some(job) = jenkins.jobs.get(&id) else {
                return o;
            };
            let parameters = declare::stored_parameters(job);
            if !parameters.is_empty() {
                o["parameters"] = Value::from(parameters);
            }
            if let Some(run) = job.builds.values().next_back() {
                let view = run.view(now);
                let full =
                    render::stored_run(&render::run(&id, run, &view, render::Shape::Latest, run.number));
                let mut latest = json!({"causes": [{"shortDescription": run.cause}]});
                for key in [
                    "endTime",
                    "durationInMillis",
                    "startTime",
                    "id",
                    "pipeline",
                    "result",
                    "state",
                ] {
                    latest[key] = full[key].clone();
                }
                o["latestRun"] = latest;
            }
            o
        })
        .collect()
}
