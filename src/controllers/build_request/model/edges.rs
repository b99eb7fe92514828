//! The edges of a reconcile in the made-up world. What the operator's own eyes and hands decide by (which run is a
//! candidate, when Jenkins is asked, who claims what) is called here, not copied.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::{
    super::{
        connection_of,
        cycle::Edges,
        decide::{
            Act, Decision, Note, Situation, Step,
            after::ActOutcome,
            begin::{Preflight, Turn},
            collect::{Collected, FetchState},
            find::Found,
            follow::{Asked, Followed},
            ours::{self, TOKEN_ANNOTATION},
        },
        inputs, observe,
        turns::{Place, Turns, Wish},
    },
    breaks::Break,
    build, checks,
    faults::{Aim, Connection, Fault},
    remote::{Create, Remote},
    world::World,
};
use crate::{
    api::{
        build_request::{BuildRequest, BuildRequestStatus, CurrentRun, LogStatus, RunState, TriggerRung},
        conditions::Reason,
    },
    controllers::Tunables,
    gateway::{Parameter, Pipeline, PipelineKind, ProjectName, Run},
    runtime::ObjectKey,
    trouble::Trouble,
};

/// In whose name runs are started.
pub const USER: &str = "robo";
const ENDPOINT: &str = "https://ks.example.com";
const PROJECT: &str = "shopx7k2p";
const POLL: Duration = Duration::from_secs(5);

/// Hands and eyes in the made-up world.
pub struct Hands<'a> {
    pub world: &'a World,
}

/// Why a call to the remote failed.
pub enum Failed {
    /// It may have been carried out.
    Unclear(Trouble),
    /// It certainly was not.
    NotSent(Trouble),
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unclear(trouble) | Failed::NotSent(trouble) => trouble,
        }
    }
}

pub fn passing(what: &str) -> Trouble {
    Trouble::passing(Reason::RemoteUnavailable, what)
}

/// Whether `next` writes down that a run is being sent.
fn begins(before: &BuildRequest, next: &BuildRequest) -> bool {
    let sending = |o: &BuildRequest| {
        let run = o.status.as_ref()?.run.as_ref()?;
        (run.state == RunState::Sending).then(|| run.token.clone())
    };
    sending(next).is_some() && sending(before) != sending(next)
}

/// The parameters that are sent, without the correlation parameter.
pub fn given(object: &BuildRequest) -> Vec<Parameter> {
    let value = |p: &crate::api::build_request::Parameter| p.value.clone().unwrap_or_default();
    let all = object.spec.parameters.iter();
    all.map(|p| Parameter {
        name: p.name.clone(),
        value: value(p),
    })
    .collect()
}

impl Hands<'_> {
    /// The gateway to ask, or what stands in the way.
    fn connected(&self) -> Result<(), Trouble> {
        match self.world.lock().connection {
            Connection::Good => Ok(()),
            Connection::WrongPassword => Err(Trouble::user(Reason::CredentialsInvalid, "wrong password")),
            Connection::Down => Err(passing("the gateway does not answer")),
        }
    }

    /// Asks the remote, with what may go wrong with that.
    pub async fn ask<T>(
        &self,
        carry_out: impl FnOnce(&mut Remote) -> Result<T, Trouble>,
    ) -> Result<T, Failed> {
        self.call(Aim::Any, carry_out).await
    }

    /// Changes something on the remote.
    pub async fn change<T>(
        &self,
        carry_out: impl FnOnce(&mut Remote) -> Result<T, Trouble>,
    ) -> Result<T, Failed> {
        self.call(Aim::Change, carry_out).await
    }

    async fn call<T>(
        &self,
        what: Aim,
        carry_out: impl FnOnce(&mut Remote) -> Result<T, Trouble>,
    ) -> Result<T, Failed> {
        self.world.point(false).await;
        self.connected().map_err(Failed::NotSent)?;
        let done = {
            let mut inner = self.world.lock();
            inner.calls += 1;
            match inner.next_fault(what) {
                Some(Fault::RequestLost) => Err(Failed::Unclear(passing("reset"))),
                Some(Fault::Unavailable) => Err(Failed::NotSent(passing("503"))),
                Some(Fault::AnswerLost) => {
                    let _ = carry_out(&mut inner.remote);
                    Err(Failed::Unclear(passing("reset")))
                }
                Some(Fault::Late(seconds)) => {
                    inner.remote.delay = Some(SignedDuration::from_secs(seconds.into()));
                    let _ = carry_out(&mut inner.remote);
                    inner.remote.delay = None;
                    Err(Failed::Unclear(passing("no answer")))
                }
                None => carry_out(&mut inner.remote).map_err(Failed::NotSent),
            }
        };
        self.world.point(true).await;
        done
    }

    async fn jenkins(&self, run: &CurrentRun) -> Result<Asked, Trouble> {
        let Some(id) = run.id.clone() else {
            return Ok(Asked::No);
        };
        let asked = self
            .ask(|remote| {
                if remote.jenkins_down {
                    return Err(passing("Jenkins is down"));
                }
                Ok(remote.jenkins(&run.pipeline, &id))
            })
            .await;
        if asked.is_err() && self.world.breaks(Break::UnreachableIsTakenForGone) {
            return Ok(Asked::Gone);
        }
        let seen = asked?;
        if seen.is_none() && self.world.breaks(Break::VanishedIsTakenForDone) {
            return Ok(Asked::Build(Box::new(build::vanished_well(&id, self.now()))));
        }
        Ok(seen.map_or(Asked::Gone, |build| Asked::Build(Box::new(build))))
    }

    async fn candidates(
        &self,
        object: &BuildRequest,
        run: &CurrentRun,
        creator: Option<&str>,
    ) -> Result<Vec<Run>, Trouble> {
        let parameters = given(object);
        let asked = ours::Asked {
            correlation: object.spec.correlation_parameter.as_deref(),
            creator,
            parameters: &parameters,
        };
        let runs = self.ask(|remote| Ok(remote.runs.clone())).await?;
        let mut candidates = ours::candidates(runs, run, &asked);
        let all: Vec<_> = self.world.lock().objects.values().cloned().collect();
        let claims = ours::Claims::beside(run, all, &ObjectKey::of(object));
        candidates.retain(|seen| !claims.hold(seen, &asked));
        Ok(candidates)
    }

    async fn start(
        &self,
        object: &BuildRequest,
        run: &CurrentRun,
        ready: &Preflight,
        name: Option<String>,
    ) -> ActOutcome {
        let chosen = name.is_some();
        self.world.lock().check_start(object, run);
        let annotations = BTreeMap::from([(TOKEN_ANNOTATION.to_owned(), run.token.clone())]);
        let annotations = if chosen { annotations } else { BTreeMap::new() };
        if chosen && !self.world.lock().setup.may_create {
            self.world.lock().knows_refusal = true;
            return ActOutcome::RungRefused;
        }
        let create = Create {
            name,
            pipeline: run.pipeline.clone(),
            parameters: ready.parameters.clone(),
            creator: Some(USER.into()),
            token: Some(run.token.clone()),
            annotations,
        };
        match self.change(|remote| Ok(remote.make(create))).await {
            Ok(Some(made)) => ActOutcome::Sent(Box::new(made)),
            Ok(None) => {
                let name = run.name.clone().unwrap_or_default();
                match self.ask(|remote| Ok(remote.run(&name))).await {
                    Ok(Some(existing)) if self.world.breaks(Break::ConflictIsTakenForOurs) => {
                        ActOutcome::Sent(Box::new(existing))
                    }
                    Ok(Some(existing)) => ActOutcome::exists(existing, run),
                    Ok(None) => ActOutcome::Unclear(passing("404")),
                    Err(failed) => ActOutcome::Unclear(failed.into()),
                }
            }
            Err(Failed::Unclear(trouble)) if self.world.breaks(Break::NoSearchAfterAnUnclearEnd) => {
                ActOutcome::NotSent(trouble)
            }
            Err(Failed::Unclear(trouble)) => ActOutcome::Unclear(trouble),
            Err(Failed::NotSent(trouble)) => ActOutcome::NotSent(trouble),
        }
    }

    async fn pull_log(&self, run: &CurrentRun, last: bool) -> ActOutcome {
        if self.world.lock().remote.logs_down {
            return ActOutcome::Failed(passing("the log cannot be read"));
        }
        match self.jenkins(run).await {
            Ok(Asked::Build(_)) => ActOutcome::Log {
                log: LogStatus {
                    config_maps: vec!["log".into()],
                    bytes: 100,
                    complete: last,
                    ..LogStatus::default()
                },
                tail: None,
            },
            Ok(Asked::Gone) => ActOutcome::Failed(passing("Jenkins has no such build")),
            Ok(Asked::No) => ActOutcome::Nothing,
            Err(trouble) => ActOutcome::Failed(trouble),
        }
    }
}

impl Edges for Hands<'_> {
    type Error = ();

    fn now(&self) -> Timestamp {
        self.world.lock().now
    }

    fn tunables(&self) -> &Tunables {
        &self.world.tunables
    }

    fn turns(&self) -> Arc<Turns> {
        if self.world.breaks(Break::NoTurns) {
            return Arc::default();
        }
        self.world.memory().turns
    }

    fn ring(&self, keys: Vec<ObjectKey>) {
        self.world.ring(keys);
    }

    async fn poll(&self, _: &Arc<BuildRequest>, _: &Step) -> Duration {
        POLL
    }

    async fn still(&self, object: &Arc<BuildRequest>) -> Option<Turn> {
        self.turns()
            .still(&Wish::of(object), &connection_of(object), None)
    }

    async fn begin(&self, object: &Arc<BuildRequest>, attempt: u32) -> Result<Preflight, Trouble> {
        self.ask(|_| Ok(())).await?;
        let mut parameters = given(object);
        if let Some(name) = &object.spec.correlation_parameter {
            parameters.push(Parameter {
                name: name.clone(),
                value: inputs::next_token(object, attempt),
            });
        }
        let place = Place {
            endpoint: Some(ENDPOINT.into()),
            cluster: None,
            project: PROJECT.into(),
            pipeline: object.spec.pipeline.clone(),
            branch: None,
        };
        let rung = if self.world.lock().knows_refusal {
            TriggerRung::Post
        } else {
            TriggerRung::ChosenName
        };
        let turn = self
            .turns()
            .ask(&Wish::of(object), &place, &connection_of(object), None);
        Ok(Preflight {
            endpoint: ENDPOINT.into(),
            cluster: None,
            project: ProjectName::new(PROJECT).expect("a name"),
            pipeline: Pipeline {
                name: object.spec.pipeline.clone(),
                uid: "u".into(),
                kind: PipelineKind::Regular,
                spec: serde_json::json!({}),
                synced: true,
                creator: None,
                serial: false,
                parameters: None,
                deleting: false,
            },
            branch: None,
            parameters,
            undeclared: false,
            secret_parameters: vec![],
            unmaskable: vec![],
            rung,
            user: USER.into(),
            turn,
        })
    }

    async fn find(&self, object: &Arc<BuildRequest>, run: &CurrentRun) -> Result<Found, Trouble> {
        self.connected()?;
        let mut found = Found::default();
        if let Some(name) = run.name.clone().filter(|_| ours::has_chosen_name(run)) {
            found.by_name = self.ask(|remote| Ok(remote.run(&name))).await?;
        }
        if let Some(named) = &mut found.by_name
            && self.world.breaks(Break::AdoptedByNameAlone)
        {
            named
                .annotations
                .insert(TOKEN_ANNOTATION.to_owned(), run.token.clone());
        }
        if found.by_name.is_none() {
            let creator = match run.trigger {
                TriggerRung::ChosenName => None,
                TriggerRung::Post => Some(USER),
            };
            found.candidates = self.candidates(object, run, creator).await?;
        }
        Ok(found)
    }

    async fn follow(
        &self,
        object: &Arc<BuildRequest>,
        situation: &Situation<'_>,
        run: &CurrentRun,
    ) -> Result<Followed, Trouble> {
        self.connected()?;
        let Some(name) = run.name.clone() else {
            return Ok(Followed::default());
        };
        let mut seen = self.ask(|remote| Ok(remote.run(&name))).await?;
        if let (Some(seen), Some(uid), true) =
            (&mut seen, &run.uid, self.world.breaks(Break::FollowedByNameAlone))
        {
            seen.uid.clone_from(uid);
        }
        let seen = seen.filter(|seen| ours::is_same(seen, run));
        let mut followed = Followed {
            run: seen,
            ..Followed::default()
        };
        if observe::asks_jenkins(situation, run, followed.run.as_ref()) {
            followed.jenkins = match self.jenkins(run).await {
                Err(_) if followed.run.as_ref().is_some_and(observe::is_over) => Asked::No,
                asked => asked?,
            };
        }
        let looks =
            observe::looks_for_twins(situation, run) && !self.world.breaks(Break::NobodyLooksForTwins);
        if followed.run.is_none() && looks {
            followed.twins = self.candidates(object, run, None).await?;
        }
        Ok(followed)
    }

    async fn collect(
        &self,
        object: &Arc<BuildRequest>,
        situation: &Situation<'_>,
        run: &CurrentRun,
    ) -> Result<Collected, Trouble> {
        let key = ObjectKey::of(object.as_ref());
        let begun = self.world.memory().begun.bringing_home(&key, run, situation.now);
        let mut collected = Collected {
            fetch: FetchState::Outdated,
            begun: Some(begun).filter(|_| !self.world.breaks(Break::LogsExpireWhileNobodyIsThere)),
            ..Collected::default()
        };
        if observe::log_is_late(situation, run) {
            self.connected()?;
            collected.build_gone = matches!(self.jenkins(run).await?, Asked::Gone);
        }
        Ok(collected)
    }

    async fn act(
        &self,
        object: &Arc<BuildRequest>,
        decision: &Decision,
        ready: Option<&Preflight>,
    ) -> ActOutcome {
        let Some(run) = &decision.status.run else {
            return ActOutcome::Nothing;
        };
        if let Err(trouble) = self.connected()
            && !matches!(
                decision.act,
                Act::Nothing | Act::DeleteSelf | Act::EnsureArtifacts
            )
        {
            return match decision.act {
                Act::Create | Act::Post => ActOutcome::NotSent(trouble),
                _ => ActOutcome::Failed(trouble),
            };
        }
        match (&decision.act, ready) {
            (Act::Create, Some(ready)) => self.start(object, run, ready, run.name.clone()).await,
            (Act::Post, Some(ready)) => self.start(object, run, ready, None).await,
            (Act::Stop, _) => match self.stop(run).await {
                Ok(true) => ActOutcome::Nothing,
                Ok(false) => ActOutcome::Failed(passing("404")),
                Err(failed) => ActOutcome::Failed(failed.into()),
            },
            (Act::DeleteRun, _) => match self.delete_run(run).await {
                Ok(()) => ActOutcome::Removed,
                Err(trouble) => ActOutcome::Failed(trouble),
            },
            (Act::PullLog, _) => self.pull_log(run, false).await,
            (Act::ArchiveLog, _) => self.pull_log(run, true).await,
            (Act::DeleteSelf, _) => {
                self.world.lock().delete(&object.name_any());
                ActOutcome::Nothing
            }
            _ => ActOutcome::Nothing,
        }
    }

    async fn write(
        &self,
        object: &Arc<BuildRequest>,
        status: BuildRequestStatus,
    ) -> Result<Arc<BuildRequest>, ()> {
        self.world.point(false).await;
        let mut next = object.as_ref().clone();
        next.status = Some(status);
        if self.world.breaks(Break::IntentIsNotWritten) && begins(object, &next) {
            return Ok(Arc::new(next));
        }
        if self.world.breaks(Break::WrittenWhateverTheVersion)
            && let Some(stored) = self.world.lock().objects.get(&object.name_any())
        {
            next.metadata = stored.metadata.clone();
            next.spec = stored.spec.clone();
        }
        let written = self.world.lock().replace(next);
        self.world.point(true).await;
        let written = written.ok_or(())?;
        if checks::is_at_rest(&written, self.now()) {
            self.world.memory().begun.forget(&ObjectKey::of(&written));
        }
        Ok(Arc::new(written))
    }

    async fn announce(&self, _: &Arc<BuildRequest>, _: &[Note]) {}
}
