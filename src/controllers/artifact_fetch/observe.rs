//! OBSERVE: the source and the destination here, and, where coordinates name it, the run on the remote. Reads only.

use std::time::Duration;

use kube::{Api, ResourceExt};

use super::{
    decide::{Seen, SourceSeen, StoredSeen, needs_jobs},
    target::{Target, of_build_request},
};
use crate::{
    api::{
        ArtifactFetch, BuildRequest,
        artifact_fetch::{RunCoordinates, Source},
        conditions::Reason,
    },
    controllers::{
        Connected, Context,
        cluster::get_opt,
        fetch_jobs::Jobs,
        projects,
        projects::{find_branch, find_pipeline},
    },
    gateway::{
        BuildOutcome, Class, EncodedBranch, ErrorKind, GitBranch, JenkinsState, PipelineKind, ProjectName,
        ProjectScope, Purpose, Run, RunId, RunProgress, RunRef,
    },
    runtime::ObjectKey,
    sinks::ConfigMaps,
    trouble::Trouble,
};

/// How many runs one page of a list has.
const PAGE: u32 = 100;
/// How many pages are looked through for one run; the remote itself keeps few more (contract §6.3).
const MAX_PAGES: u32 = 10;
/// A run that is still active is not looked at more often than this.
const LEAST_POLL: Duration = Duration::from_secs(2);

/// The ConfigMap that the files of `object` go into.
pub fn destination(object: &ArtifactFetch) -> String {
    let map = object.spec.files.destination.config_map.as_ref();
    map.and_then(|map| map.name.clone())
        .unwrap_or_else(|| object.name_any())
}

/// What can be seen without the remote.
pub async fn here(ctx: &Context, object: &ArtifactFetch) -> Result<Seen, Trouble> {
    let stored = if object.spec.files.destination.volume.is_some() {
        StoredSeen::Volume
    } else {
        config_map(ctx, object).await?
    };
    // Who makes no Jobs needs no right to look at them.
    let looks = object.spec.files.destination.volume.is_some() || ctx.fetcher.image.is_some();
    let jobs = if looks && needs_jobs(object) {
        let namespace = object.namespace().unwrap_or_default();
        let jobs = Jobs::new(ctx, &namespace);
        jobs.of(object.metadata.uid.as_deref().unwrap_or_default())
            .await?
    } else {
        Vec::new()
    };
    let source = source(ctx, object).await?;
    Ok(Seen { source, stored, jobs })
}

async fn config_map(ctx: &Context, object: &ArtifactFetch) -> Result<StoredSeen, Trouble> {
    let maps = ConfigMaps::of(ctx.client.clone(), object)?;
    Ok(match maps.look(&destination(object)).await {
        Ok(None) => StoredSeen::Nothing,
        Ok(Some(mine)) => StoredSeen::Ours(Box::new(mine)),
        Err(trouble) if trouble.reason == Reason::DestinationConflict => StoredSeen::Foreign(trouble),
        Err(trouble) => return Err(trouble),
    })
}

async fn source(ctx: &Context, object: &ArtifactFetch) -> Result<SourceSeen, Trouble> {
    let Source {
        build_request_ref,
        run: _,
    } = &object.spec.source;
    let Some(reference) = build_request_ref else {
        return Ok(SourceSeen::Unasked);
    };
    let api: Api<BuildRequest> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let name = &reference.name;
    let Some(request) = get_opt(&api, name, &format!("BuildRequest {name:?}")).await? else {
        return Ok(SourceSeen::Missing { name: name.clone() });
    };
    Ok(match of_build_request(name, &request) {
        Ok(target) => SourceSeen::Ended(Box::new(target)),
        Err(waits_for) => SourceSeen::Waiting(waits_for),
    })
}

/// What the remote says of a run that coordinates name.
#[derive(Clone, Debug, PartialEq)]
pub enum Named {
    /// It ended.
    Ended(Box<Target>),
    /// It has not ended yet.
    Active {
        /// What it is doing.
        message: String,
        /// How soon to look again.
        look_in: Duration,
    },
}

/// Asks the remote for the run that `coordinates` name.
pub async fn on_remote(
    ctx: &Context,
    object: &ArtifactFetch,
    coordinates: &RunCoordinates,
) -> Result<Named, Trouble> {
    // A new field has to be decided on here.
    let RunCoordinates {
        connection_ref,
        project,
        cluster,
        pipeline,
        branch,
        name,
        id,
        latest_success: _,
    } = coordinates;
    let namespace = object.namespace().unwrap_or_default();
    let connected = ctx.connections.get(&namespace, &connection_ref.name).await?;
    let purpose = Purpose::new(ObjectKey::of(object), Class::Following);
    let connected = connected.on_behalf_of(purpose);
    let cluster = cluster.clone().or_else(|| connected.spec.cluster.clone());
    let scope = connected.gateway.scope(cluster.as_deref());
    let project = projects::resolve(&scope, &connected.spec.workspace, project).await?;
    let search = Search {
        connected: &connected,
        connection: &connection_ref.name,
        cluster,
        scope: scope.project(&project),
        project,
        pipeline,
        branch: branch.as_deref(),
    };
    match (name, id) {
        (Some(name), _) => search.by_name(name).await,
        (None, Some(id)) => search.by_id(id).await,
        (None, None) => search.latest_success().await,
    }
}

/// A search for one run.
struct Search<'a> {
    connected: &'a Connected,
    connection: &'a str,
    cluster: Option<String>,
    scope: ProjectScope,
    project: ProjectName,
    pipeline: &'a str,
    branch: Option<&'a str>,
}

impl Search<'_> {
    async fn by_name(&self, name: &str) -> Result<Named, Trouble> {
        let run = match self.scope.run(name).await {
            Ok(run) => run,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.gone(&format!("{name:?}"))),
            Err(error) => return Err(error.into()),
        };
        if run.pipeline != self.pipeline {
            return Err(Trouble::user(
                Reason::RunNotFound,
                format!(
                    "run {name:?} of project {} is one of pipeline {:?}, not {:?}: correct spec.source.run",
                    self.project, run.pipeline, self.pipeline
                ),
            ));
        }
        let on = run.branch.as_ref().map(EncodedBranch::to_git);
        if let Some(wanted) = self.branch.map(GitBranch::new)
            && on.as_ref() != Some(&wanted)
        {
            let on = on.map_or_else(
                || "no branch".into(),
                |branch| format!("branch {:?}", branch.as_str()),
            );
            return Err(Trouble::user(
                Reason::RunNotFound,
                format!(
                    "run {name:?} is one of {on}, not of {:?}: correct spec.source.run",
                    wanted.as_str()
                ),
            ));
        }
        match run.progress() {
            RunProgress::Finished(_) => self.ended(&run).map(|target| Named::Ended(Box::new(target))),
            active => Ok(self.active(&format!("{name:?}"), &format!("{active:?}"))),
        }
    }

    async fn by_id(&self, id: &str) -> Result<Named, Trouble> {
        let id = RunId::new(id)
            .map_err(|error| Trouble::user(Reason::InvalidSpec, format!("spec.source.run.id: {error}")))?;
        let branch = self.encoded_branch().await?;
        let run = RunRef {
            pipeline: self.pipeline.into(),
            branch,
            id,
        };
        let build = match self.scope.jenkins_run(&run).await {
            Ok(build) => build,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(self.gone(&format!("#{}", run.id)));
            }
            Err(error) => return Err(error.into()),
        };
        if build.outcome().is_none() {
            let state: String = match build.state {
                JenkinsState::Finished => "finishing".into(),
                state => state.into(),
            };
            return Ok(self.active(&format!("#{}", run.id), &state));
        }
        // Jenkins may keep a build longer than the run object; without that only one rung is left to fetch by.
        let object = self.find(|seen| seen.reference().as_ref() == Some(&run)).await?;
        Ok(Named::Ended(Box::new(self.target(
            run,
            object.map(|object| object.name),
            String::new(),
        ))))
    }

    async fn latest_success(&self) -> Result<Named, Trouble> {
        let branch = self.encoded_branch().await?;
        let succeeded = |seen: &Run| {
            seen.branch == branch
                && seen.run_id.is_some()
                && matches!(
                    seen.progress(),
                    RunProgress::Finished(Some(BuildOutcome::Success))
                )
        };
        match self.find(succeeded).await? {
            Some(run) => self.ended(&run).map(|target| Named::Ended(Box::new(target))),
            None => Err(Trouble::user(
                Reason::RunNotFound,
                format!(
                    "pipeline {:?} of project {} has no run that succeeded: run it, or name another run",
                    self.title(),
                    self.project
                ),
            )),
        }
    }

    /// The branch job, where the pipeline has branches; or what is wrong with what the spec says of it.
    async fn encoded_branch(&self) -> Result<Option<EncodedBranch>, Trouble> {
        let pipeline = find_pipeline(&self.scope, self.pipeline).await?;
        match (&pipeline.kind, self.branch) {
            (PipelineKind::MultiBranch, None) => Err(Trouble::user(
                Reason::BranchRequired,
                format!(
                    "pipeline {:?} is a multi-branch one: set spec.source.run.branch",
                    self.pipeline
                ),
            )),
            (PipelineKind::MultiBranch, Some(branch)) => {
                let branches = self.scope.branches(self.pipeline).await?;
                find_branch(&branches, &pipeline, branch).map(|branch| Some(branch.encoded.clone()))
            }
            (PipelineKind::Regular | PipelineKind::Other(_), Some(branch)) => Err(Trouble::user(
                Reason::BranchNotSupported,
                format!(
                    "pipeline {:?} has no branches: remove spec.source.run.branch {branch:?}",
                    self.pipeline
                ),
            )),
            (PipelineKind::Regular | PipelineKind::Other(_), None) => Ok(None),
        }
    }

    /// Of the newest runs that fit, the one with the highest number.
    async fn find(&self, fits: impl Fn(&Run) -> bool) -> Result<Option<Run>, Trouble> {
        for page in 1..=MAX_PAGES {
            let listed = self.scope.runs(self.pipeline, page, PAGE).await?;
            let last = listed.items.len() < PAGE as usize || u64::from(page * PAGE) >= listed.total;
            let newest = listed.items.into_iter().filter(&fits).max_by_key(number);
            if newest.is_some() || last {
                return Ok(newest);
            }
        }
        Ok(None)
    }

    fn ended(&self, run: &Run) -> Result<Target, Trouble> {
        let reference = run.reference().ok_or_else(|| {
            Trouble::user(
                Reason::RunNotFound,
                format!(
                    "run {:?} of project {} never became a build: it has no files",
                    run.name, self.project
                ),
            )
        })?;
        Ok(self.target(reference, Some(run.name.clone()), run.uid.clone()))
    }

    fn target(&self, run: RunRef, run_name: Option<String>, incarnation: String) -> Target {
        let branch = run.branch.as_ref().map(|branch| format!("/{}", branch.to_git()));
        let revision = format!(
            "{}/{}{}#{}",
            self.project,
            run.pipeline,
            branch.unwrap_or_default(),
            run.id
        );
        Target {
            connection: self.connection.into(),
            cluster: self.cluster.clone(),
            project: self.project.clone(),
            run,
            run_name,
            revision,
            incarnation,
        }
    }

    fn active(&self, which: &str, state: &str) -> Named {
        Named::Active {
            message: format!(
                "run {which} of {}/{} has not ended yet: {state}",
                self.project,
                self.title()
            ),
            look_in: self.connected.spec.poll_interval.get().max(LEAST_POLL),
        }
    }

    fn gone(&self, which: &str) -> Trouble {
        Trouble::user(
            Reason::RunNotFound,
            format!(
                "project {} has no run {which} of pipeline {:?}: correct spec.source.run; or, if the remote has removed it \
                 (it keeps the latest runs only), name another run",
                self.project,
                self.title()
            ),
        )
    }

    /// The pipeline, and the branch where there is one.
    fn title(&self) -> String {
        let branch = self.branch.map(|branch| format!("/{branch}"));
        format!("{}{}", self.pipeline, branch.unwrap_or_default())
    }
}

/// A run's number, for comparing.
fn number(run: &Run) -> u64 {
    let id = run.run_id.as_ref().map(RunId::as_str);
    id.and_then(|id| id.parse().ok()).unwrap_or_default()
}
