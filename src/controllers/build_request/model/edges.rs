//! The edges of a reconcile in the made-up world. What the operator's own eyes and hands decide by (which run is a
//! candidate, when Jenkins is asked, who claims what) is called here, not copied.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    super::{
        connection_of,
        cycle::Edges,
        decide::{
            Act, Decision, Note, Situation, Step,
            after::ActOutcome,
            begin::Preflight,
            collect::{Collected, FetchState},
            find::Found,
            follow::{Asked, Followed},
            ours::{self, TOKEN_ANNOTATION, is_ours},
        },
        inputs, observe,
        turns::{Place, Turns},
    },
    remote::Remote,
    world::{Connection, Fault, World},
};
use crate::{
    api::{
        build_request::{BuildRequest, BuildRequestStatus, CurrentRun, LogStatus, TriggerRung},
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

fn passing(what: &str) -> Trouble {
    Trouble::passing(Reason::RemoteUnavailable, what)
}

/// The parameters that are sent, without the correlation parameter.
fn given(object: &BuildRequest) -> Vec<Parameter> {
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

    /// One call to the remote, with what may go wrong with it. A write is carried out at once or not at all.
    pub async fn call<T>(
        &self,
        carry_out: impl FnOnce(&mut Remote) -> Result<T, Trouble>,
    ) -> Result<T, Failed> {
        self.world.point(false).await;
        self.connected().map_err(Failed::NotSent)?;
        let done = {
            let mut inner = self.world.lock();
            inner.calls += 1;
            match inner.faults.pop_front() {
                Some(Fault::RequestLost) => Err(Failed::Unclear(passing("reset"))),
                Some(Fault::Unavailable) => Err(Failed::NotSent(passing("503"))),
                Some(Fault::AnswerLost) => {
                    let _ = carry_out(&mut inner.remote);
                    Err(Failed::Unclear(passing("reset")))
                }
                None => carry_out(&mut inner.remote).map_err(Failed::NotSent),
            }
        };
        self.world.point(true).await;
        done
    }

    /// Deletes the run object; that it is gone already is fine.
    pub async fn delete_run(&self, run: &CurrentRun) -> Result<(), Trouble> {
        let Some(name) = run.name.clone() else {
            return Ok(());
        };
        let may = self.world.lock().setup.may_create;
        self.call(|remote| {
            if !may {
                return Err(Trouble::user(Reason::AccessDenied, "may not delete"));
            }
            remote.delete(&name, run.uid.as_deref());
            Ok(())
        })
        .await
        .map_err(Trouble::from)
    }

    async fn jenkins(&self, run: &CurrentRun) -> Result<Asked, Trouble> {
        let Some(id) = run.id.clone() else {
            return Ok(Asked::No);
        };
        let seen = self
            .call(|remote| {
                if remote.jenkins_down {
                    return Err(passing("Jenkins is down"));
                }
                Ok(remote.jenkins(&run.pipeline, &id))
            })
            .await?;
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
        let runs = self.call(|remote| Ok(remote.runs.clone())).await?;
        let mut candidates = ours::candidates(runs, run, &asked);
        let all: Vec<_> = self.world.lock().objects.values().cloned().collect();
        let claims = ours::claims(all, &run.project, &ObjectKey::of(object));
        candidates.retain(|seen| !claims.contains_key(&seen.name));
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
        let annotations = BTreeMap::from([(TOKEN_ANNOTATION.to_owned(), run.token.clone())]);
        let annotations = if chosen { annotations } else { BTreeMap::new() };
        if chosen && !self.world.lock().setup.may_create {
            self.world.lock().knows_refusal = true;
            return ActOutcome::RungRefused;
        }
        let sent = self
            .call(|remote| {
                Ok(remote.make(
                    name,
                    &run.pipeline,
                    ready.parameters.clone(),
                    Some(USER),
                    Some(&run.token),
                    annotations,
                ))
            })
            .await;
        let _ = object;
        match sent {
            Ok(Some(made)) => ActOutcome::Sent(Box::new(made)),
            Ok(None) => {
                let name = run.name.clone().unwrap_or_default();
                match self.call(|remote| Ok(remote.run(&name))).await {
                    Ok(Some(existing)) if is_ours(&existing, run) => ActOutcome::Sent(Box::new(existing)),
                    Ok(Some(_)) => ActOutcome::NameTaken("taken".into()),
                    Ok(None) => ActOutcome::Unclear(passing("404")),
                    Err(failed) => ActOutcome::Unclear(failed.into()),
                }
            }
            Err(Failed::Unclear(trouble)) => ActOutcome::Unclear(trouble),
            Err(Failed::NotSent(trouble)) => ActOutcome::NotSent(trouble),
        }
    }

    async fn pull_log(&self, run: &CurrentRun, last: bool) -> ActOutcome {
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
        self.world.turns()
    }

    fn ring(&self, keys: Vec<ObjectKey>) {
        self.world.ring(keys);
    }

    async fn poll(&self, _: &Arc<BuildRequest>, _: &Step) -> Duration {
        POLL
    }

    async fn begin(&self, object: &Arc<BuildRequest>, attempt: u32) -> Result<Preflight, Trouble> {
        self.call(|_| Ok(())).await?;
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
        let key = ObjectKey::of(object.as_ref());
        let turn = self.world.turns().ask(&key, &place, &connection_of(object), None);
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
            found.by_name = self.call(|remote| Ok(remote.run(&name))).await?;
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
        let seen = self
            .call(|remote| Ok(remote.run(&name)))
            .await?
            .filter(|seen| run.uid.as_deref().is_none_or(|uid| uid == seen.uid));
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
        if followed.run.is_none() && observe::looks_for_twins(situation, run) {
            followed.twins = self.candidates(object, run, None).await?;
        }
        Ok(followed)
    }

    async fn collect(
        &self,
        _: &Arc<BuildRequest>,
        situation: &Situation<'_>,
        run: &CurrentRun,
    ) -> Result<Collected, Trouble> {
        let mut collected = Collected {
            fetch: FetchState::Outdated,
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
            (Act::Stop, _) => {
                let id = run.id.clone().unwrap_or_default();
                match self.call(|remote| Ok(remote.stop(&run.pipeline, &id))).await {
                    Ok(true) => ActOutcome::Nothing,
                    Ok(false) => ActOutcome::Failed(passing("404")),
                    Err(failed) => ActOutcome::Failed(failed.into()),
                }
            }
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
        let written = self.world.lock().replace(next);
        self.world.point(true).await;
        written.map(Arc::new).ok_or(())
    }

    async fn announce(&self, _: &Arc<BuildRequest>, _: &[Note]) {}
}
