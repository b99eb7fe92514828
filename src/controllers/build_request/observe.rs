//! OBSERVE: what is true, here and on the remote, as far as the next step needs it. Reads only.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::OnceCell;

use super::{
    artifacts,
    begun::Begun,
    decide::{
        Situation,
        begin::Preflight,
        collect::Collected,
        find::Found,
        follow::{Asked, Followed},
        ours,
    },
    inputs, local,
    masking::{self, SecretValues},
    parameters,
    turns::{Place, Turns, Wish},
};
use crate::{
    api::{
        build_request::{BuildPhase, BuildRequest, CurrentRun, TriggerRung},
        conditions::Reason,
    },
    controllers::{Connected, Context, projects},
    gateway::{
        Class, EncodedBranch, ErrorClass, ErrorKind, GatewayError, JenkinsState, Parameter, PipelineKind,
        ProjectName, ProjectScope, Purpose, Run, RunProgress, RunRow, Stage, declared_parameters,
    },
    observer::{
        Observers,
        board::{self, Sight},
    },
    runtime::{ObjectKey, Shard, WatchScope},
    trouble::Trouble,
};

/// How many runs a search looks at.
const SEARCHED: u32 = 100;

/// The eyes of a reconcile of one object.
pub struct Observer<'a> {
    /// What every reconcile may use.
    pub ctx: &'a Context,
    /// Whose turn it is.
    pub turns: &'a Turns,
    /// What must not show.
    pub secrets: &'a SecretValues,
    /// Where other BuildRequests are looked for.
    pub scope: &'a WatchScope,
    /// The object.
    pub object: &'a Arc<BuildRequest>,
    /// Since when this process has been at what has a deadline.
    pub begun: &'a Begun,
    /// Who watches the runs of all.
    pub observers: &'a Observers,
    /// The gateway to ask, or what stands in the way: looked up once in a step.
    pub connection: &'a OnceCell<Result<Connected, Trouble>>,
}

impl Observer<'_> {
    fn key(&self) -> ObjectKey {
        ObjectKey::of(self.object.as_ref())
    }

    fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }

    /// The object's connection, as a key.
    pub fn connection(&self) -> ObjectKey {
        ObjectKey::new(self.namespace(), &self.object.spec.connection_ref.name)
    }

    /// The gateway to ask.
    pub async fn connected(&self) -> Result<Connected, Trouble> {
        let name = &self.object.spec.connection_ref.name;
        let (namespace, connections) = (self.namespace(), &self.ctx.connections);
        let look = async || {
            if self.object.metadata.deletion_timestamp.is_some() {
                return connections.get_for_cleanup(&namespace, name).await;
            }
            connections.get(&namespace, name).await
        };
        let purpose = Purpose::new(self.key(), Class::Following);
        let connected = self.connection.get_or_init(look).await.clone();
        connected.map(|connected| connected.on_behalf_of(purpose))
    }

    /// A person waits for the first look; who stands in line is in no hurry to look again.
    fn look_before_start(&self) -> Purpose {
        let phase = self.object.status.as_ref().and_then(|status| status.phase);
        let class = match phase {
            Some(BuildPhase::Queued) => Class::Following,
            _ => Class::Interactive,
        };
        Purpose::new(self.key(), class)
    }

    /// The project that a run lives in.
    pub fn project(connected: &Connected, run: &CurrentRun) -> Result<ProjectScope, Trouble> {
        let name = ProjectName::new(run.project.as_str())
            .map_err(|e| Trouble::user(Reason::InvalidSpec, format!("status.run.project: {e}")))?;
        Ok(connected.gateway.scope(run.cluster.as_deref()).project(&name))
    }

    /// All that must be known before a run is sent.
    pub async fn begin(&self, attempt: u32) -> Result<Preflight, Trouble> {
        let spec = &self.object.spec;
        let connected = self.connected().await?.on_behalf_of(self.look_before_start());
        let cluster = spec.cluster.clone().or_else(|| connected.spec.cluster.clone());
        let scope = connected.gateway.scope(cluster.as_deref());
        let project = projects::resolve(&scope, &connected.spec.workspace, &spec.project).await?;
        let project_scope = scope.project(&project);
        let pipeline = projects::find_pipeline(&project_scope, &spec.pipeline).await?;
        let branches = match (&pipeline.kind, &spec.branch) {
            (PipelineKind::MultiBranch, None) => {
                return Err(Trouble::user(
                    Reason::BranchRequired,
                    format!(
                        "pipeline {:?} is a multi-branch one: set spec.branch",
                        pipeline.name
                    ),
                ));
            }
            (PipelineKind::Regular | PipelineKind::Other(_), Some(branch)) => {
                return Err(Trouble::user(
                    Reason::BranchNotSupported,
                    format!(
                        "pipeline {:?} has no branches: remove spec.branch {branch:?}",
                        pipeline.name
                    ),
                ));
            }
            (PipelineKind::MultiBranch, Some(_)) => project_scope.branches(&pipeline.name).await?,
            (PipelineKind::Regular | PipelineKind::Other(_), None) => Vec::new(),
        };
        let branch = match &spec.branch {
            Some(name) => Some(projects::find_branch(&branches, &pipeline, name)?),
            None => None,
        };
        let mut values = local::parameters(&self.ctx.client, self.object).await?;
        if let Some(name) = &spec.correlation_parameter {
            let token = inputs::next_token(self.object, attempt);
            values.push(Parameter {
                name: name.clone(),
                value: token,
            });
        }
        let declared = declared_parameters(&pipeline, branch);
        if let Some(declared) = declared {
            parameters::check(&pipeline.name, declared, &values)?;
        }
        let undeclared = declared.is_none();
        let secret_parameters = masking::secret_names(spec);
        let unmaskable = masking::unmaskable(&secret_parameters, &values);
        let branch = branch.map(|b| (b.git.clone(), b.encoded.clone()));
        let rung = rung(&project_scope, Timestamp::now());
        let endpoint = connected.gateway.endpoint();
        let place = Place {
            endpoint: Some(endpoint.clone()),
            cluster: cluster.clone(),
            project: project.to_string(),
            pipeline: pipeline.name.clone(),
            branch: branch.as_ref().map(|(_, encoded)| encoded.to_string()),
        };
        let user = connected.gateway.user_name().await?;
        let limit = connected.spec.limits.concurrent_runs;
        let turn = self
            .turns
            .ask(&Wish::of(self.object), &place, &self.connection(), limit);
        Ok(Preflight {
            endpoint,
            cluster,
            project,
            pipeline,
            branch,
            parameters: values,
            undeclared,
            unmaskable,
            secret_parameters,
            rung,
            user,
            turn,
        })
    }

    /// Whether a run that was being sent arrived.
    pub async fn find(&self, run: &CurrentRun) -> Result<Found, Trouble> {
        let connected = self.connected().await?;
        let project = Self::project(&connected, run)?;
        let mut found = Found::default();
        if let Some(name) = run.name.as_deref().filter(|_| ours::has_chosen_name(run)) {
            found.by_name = existing(project.run(name).await)?;
        }
        if found.by_name.is_none() {
            let creator = match run.trigger {
                // Under its own name it is not there: only an event of Jenkins can have made another of it.
                TriggerRung::ChosenName => None,
                TriggerRung::Post => Some(connected.gateway.user_name().await?),
            };
            found.candidates = self.candidates(&project, run, creator.as_deref()).await?;
        }
        Ok(found)
    }

    /// How a run on its way stands.
    pub async fn follow(&self, situation: &Situation<'_>, run: &CurrentRun) -> Result<Followed, Trouble> {
        let key = self.key();
        // A connection that is not to be used is not used to watch either.
        let unwatched = |_: &Trouble| self.observers.leave(&key);
        let connected = self.connected().await.inspect_err(unwatched)?;
        let project = Self::project(&connected, run).inspect_err(unwatched)?;
        let Some(name) = &run.name else {
            return Ok(Followed::default());
        };
        let what = board::Followed {
            run: name.clone(),
            pipeline: run.pipeline.clone(),
        };
        self.observers
            .follow(&project, &key, &what, connected.spec.poll_interval.get());
        let seen = existing(project.run(name).await)?.filter(|seen| ours::is_same(seen, run));
        let mut followed = Followed {
            run: seen,
            ..Followed::default()
        };
        if let Some(seen) = &followed.run {
            followed.quiet = self.observers.quiet(&key, &sight(seen, situation.now));
        }
        if asks_jenkins(situation, run, followed.run.as_ref()) {
            followed.jenkins = match ask_jenkins(&project, run).await {
                // That it is over is known; how it ended is asked again, up to a deadline.
                Err(_) if followed.run.as_ref().is_some_and(is_over) => Asked::No,
                asked => asked?,
            };
        }
        match &followed.run {
            Some(seen) if has_stages(seen) => {
                followed.stages = project.stages(name).await.unwrap_or_default();
            }
            Some(seen) if seen.run_id.is_none() && waited(situation, run) >= self.hint_after() => {
                followed.trigger_failure = project.trigger_failure(name, &seen.uid).await.unwrap_or_default();
            }
            None if looks_for_twins(situation, run) => {
                followed.twins = self.candidates(&project, run, None).await?;
            }
            _ => {}
        }
        if let Some(seen) = &followed.run {
            if let Ok(masks) = self.secrets.of_seen(self.object, run, seen) {
                masking::conceal(&masks, &mut followed);
            } else {
                // Following goes on; what cannot be masked is not shown.
                (followed.stages, followed.trigger_failure) = (None, None);
            }
        }
        Ok(followed)
    }

    /// How long a run may be without a build number before the remote's Events are asked why: before it is given up.
    fn hint_after(&self) -> Duration {
        HINT_AFTER.min(self.object.spec.timeouts.trigger.get())
    }

    /// What is left to bring home of a run that is over.
    pub async fn collect(&self, situation: &Situation<'_>, run: &CurrentRun) -> Result<Collected, Trouble> {
        let mut collected = Collected {
            begun: Some(self.begun.bringing_home(&self.key(), run, situation.now)),
            ..Collected::default()
        };
        let status = self.object.status.as_ref();
        if log_is_late(situation, run) {
            let project = Self::project(&self.connected().await?, run)?;
            collected.build_gone = matches!(ask_jenkins(&project, run).await?, Asked::Gone);
        }
        let fresh = status.is_some_and(|s| {
            s.phase == Some(BuildPhase::Collecting)
                && s.log.as_ref().is_none_or(|l| !l.complete && l.job.is_none())
        });
        if fresh && let (Some(name), Some(_)) = (&run.name, &run.id) {
            // The stages are nice to have: the end of the run does not hang on them.
            if let Ok(connected) = self.connected().await {
                let project = Self::project(&connected, run)?;
                collected.stages = self.stages(&project, run, name).await;
            }
        }
        if self.object.spec.artifacts.is_some() {
            (collected.fetch, collected.fetch_ref) = artifacts::look(self.ctx, self.object, run).await?;
        }
        Ok(collected)
    }

    /// The stages of a run as far as they may show; None where they cannot be had.
    async fn stages(&self, project: &ProjectScope, run: &CurrentRun, name: &str) -> Option<Vec<Stage>> {
        let mut stages = project.stages(name).await.ok()??;
        let masks = self
            .secrets
            .of(&self.ctx.client, project, self.object, run)
            .await
            .ok()?;
        masking::conceal_stages(&masks, &mut stages);
        Some(stages)
    }

    /// Unclaimed runs that could be the one that was sent.
    async fn candidates(
        &self,
        project: &ProjectScope,
        run: &CurrentRun,
        creator: Option<&str>,
    ) -> Result<Vec<Run>, Trouble> {
        let given = local::parameters(&self.ctx.client, self.object).await?;
        let asked = ours::Asked {
            correlation: self.object.spec.correlation_parameter.as_deref(),
            creator,
            parameters: &given,
        };
        let runs = list(project, &run.pipeline).await?;
        let mut candidates = ours::candidates(runs, run, &asked);
        if candidates.is_empty() {
            return Ok(candidates);
        }
        // Of every shard: a run that another operator's BuildRequest claims is not ours.
        let everybody = Shard::default();
        let all = local::all_build_requests(&self.ctx.client, self.scope, &everybody).await?;
        let claims = ours::Claims::beside(run, all, &self.key());
        candidates.retain(|seen| !claims.hold(seen, &asked));
        Ok(candidates)
    }
}

/// After so long without a build number the remote's Events are asked why.
const HINT_AFTER: Duration = Duration::from_secs(8);

/// A run as the observer is told of it.
fn sight(seen: &Run, now: Timestamp) -> Sight {
    let began = seen.started.or(seen.created).unwrap_or(now);
    let estimate = seen.jenkins.as_ref().and_then(|build| build.estimated_ms);
    Sight {
        row: RunRow::from(seen),
        running_for: Duration::try_from(now.duration_since(began)).unwrap_or_default(),
        estimate: estimate.map(Duration::from_millis),
    }
}

fn waited(situation: &Situation<'_>, run: &CurrentRun) -> Duration {
    run.sent_at
        .as_ref()
        .map(|at| situation.since(at))
        .unwrap_or_default()
}

fn missing_for(situation: &Situation<'_>, run: &CurrentRun) -> Duration {
    run.missing_since
        .as_ref()
        .map(|at| situation.since(at))
        .unwrap_or_default()
}

/// Whether a run that is gone may live on under another name, and is to be looked for.
pub(super) fn looks_for_twins(situation: &Situation<'_>, run: &CurrentRun) -> bool {
    run.id.is_none() && missing_for(situation, run) >= situation.tunables.missing_grace
}

/// Whether a run says that it is over.
pub(super) fn is_over(seen: &Run) -> bool {
    matches!(seen.progress(), RunProgress::Finished(_))
}

/// Whether the log should be home by now and is not: then its build may be gone, with its log (contract §6.3).
pub(super) fn log_is_late(situation: &Situation<'_>, run: &CurrentRun) -> bool {
    let status = situation.object.status.as_ref();
    let is_home = status
        .and_then(|s| s.log.as_ref())
        .is_some_and(|log| log.complete);
    let ended = run.ended_at.as_ref().map(|at| situation.since(at));
    // The pod of a Job finds that out by itself.
    let has_job = status
        .and_then(|s| s.log.as_ref())
        .is_some_and(|log| log.job.is_some());
    run.id.is_some()
        && !is_home
        && !has_job
        && ended.is_some_and(|ago| ago >= situation.tunables.search_window)
}

/// Whether Jenkins itself is to be asked: where the run object does not say how it ended, is gone, or has not moved for
/// so long that it may be stuck (contract §7, stale guard).
pub(super) fn asks_jenkins(situation: &Situation<'_>, run: &CurrentRun, seen: Option<&Run>) -> bool {
    if run.id.is_none() && seen.is_none_or(|seen| seen.run_id.is_none()) {
        return false;
    }
    match seen.map(|seen| (seen, seen.progress())) {
        None => missing_for(situation, run) >= situation.tunables.missing_grace,
        Some((_, RunProgress::Finished(how))) => how.is_none(),
        // A build that was stopped in the queue is gone there, and its run would stay as it was for ever (contract §6.2).
        Some(_) if run.stop.is_some() => true,
        Some((seen, _)) => {
            let moved = seen
                .updated
                .or(seen.started)
                .or(seen.created)
                .unwrap_or(situation.now);
            let still = Duration::try_from(situation.now.duration_since(moved)).unwrap_or_default();
            still >= situation.tunables.stale_after
        }
    }
}

pub(super) async fn ask_jenkins(project: &ProjectScope, run: &CurrentRun) -> Result<Asked, Trouble> {
    let Some(reference) = reference(run) else {
        return Ok(Asked::No);
    };
    match project.jenkins_run(&reference).await {
        Ok(build) => Ok(Asked::Build(Box::new(build))),
        Err(error) if error.class() == ErrorClass::Gone => Ok(Asked::Gone),
        Err(error) => Err(error.into()),
    }
}

/// Where Jenkins keeps the build of `run`; None before it has a number.
pub fn reference(run: &CurrentRun) -> Option<crate::gateway::RunRef> {
    Some(crate::gateway::RunRef {
        pipeline: run.pipeline.clone(),
        branch: run.encoded_branch.clone().map(EncodedBranch::from_remote),
        id: crate::gateway::RunId::new(run.id.clone()?).ok()?,
    })
}

fn has_stages(seen: &Run) -> bool {
    seen.run_id.is_some()
        && match seen.progress() {
            RunProgress::Running | RunProgress::Paused | RunProgress::Undecided => true,
            RunProgress::Submitted | RunProgress::Triggered | RunProgress::Queued => false,
            RunProgress::Finished(_) => seen.state == Some(JenkinsState::Finished),
        }
}

/// A 404 as None.
fn existing<T>(answer: Result<T, GatewayError>) -> Result<Option<T>, Trouble> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The rung to start a run on: the first, unless it was refused lately.
fn rung(project: &ProjectScope, now: Timestamp) -> TriggerRung {
    if project.capabilities().create_runs.worth_trying(now) {
        TriggerRung::ChosenName
    } else {
        TriggerRung::Post
    }
}

/// The runs of a pipeline, newest first as far as the rung sorts them.
async fn list(project: &ProjectScope, pipeline: &str) -> Result<Vec<Run>, Trouble> {
    if project.capabilities().watch_runs.worth_trying(Timestamp::now()) {
        let selector = format!("{}={pipeline}", crate::gateway::wire::run::PIPELINE);
        match project.apis_runs(Some(&selector)).await {
            Ok(runs) => return Ok(runs),
            Err(error) if error.class() == ErrorClass::Denied => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(project.runs(pipeline, 1, SEARCHED).await?.items)
}
