//! ACT: carry out the one thing that was decided. What came of it is told, not judged.

use std::collections::BTreeMap;

use kube::{Api, ResourceExt, api::DeleteParams};

use super::{
    artifacts,
    decide::{Act, Decision, after::ActOutcome, begin::Preflight, ours::TOKEN_ANNOTATION},
    logs::{LogReaders, Route, volume},
    observe::{Observer, reference},
};
use crate::{
    api::{
        build_request::{BuildRequest, CurrentRun},
        conditions::Reason,
    },
    controllers::cluster,
    crash_points::{Write, around},
    gateway::{CreateOutcome, ErrorKind, GatewayError, NewRun, ProjectScope},
    trouble::Trouble,
};

/// Label of our runs on the remote, so that people see where they come from.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Annotation of our runs: namespace and name of the BuildRequest.
const BUILD_REQUEST: &str = "tenantry.dev/build-request";

/// The hands of a reconcile of one object.
pub struct Actor<'a> {
    /// Its eyes.
    pub observer: &'a Observer<'a>,
    /// The logs that are being read.
    pub logs: &'a LogReaders,
}

impl Actor<'_> {
    /// Carries out what `decision` asks for. `ready` is there where a run is to be started.
    pub async fn carry_out(&self, decision: &Decision, ready: Option<&Preflight>) -> ActOutcome {
        let Some(run) = &decision.status.run else {
            return match decision.act {
                Act::DeleteSelf => self.delete_self().await,
                _ => ActOutcome::Nothing,
            };
        };
        let log_volume = &self.observer.object.spec.logs.destination.volume;
        match (&decision.act, log_volume) {
            // A volume gets the log when it is whole.
            (Act::PullLog, Some(_)) => return ActOutcome::Nothing,
            (Act::ArchiveLog, Some(volume)) => {
                return volume::archive(self.observer.ctx, self.observer.object, run, volume).await;
            }
            (Act::ArchiveLog, None) if decision.status.log.as_ref().is_some_and(|log| log.job.is_some()) => {
                // It was to go onto a volume: nobody waits for that Job any more, which may never end.
                if let Err(trouble) = volume::abandon(self.observer.ctx, self.observer.object, run).await {
                    return ActOutcome::Failed(trouble);
                }
            }
            _ => {}
        }
        match decision.act {
            Act::Nothing => ActOutcome::Nothing,
            Act::DeleteSelf => self.delete_self().await,
            Act::EnsureArtifacts => match artifacts::ensure(self.observer.ctx, self.observer.object).await {
                Ok(Some(reference)) => ActOutcome::Fetching(reference),
                Ok(None) => ActOutcome::Nothing,
                Err(trouble) => ActOutcome::Failed(trouble),
            },
            Act::Create | Act::Post | Act::Stop | Act::DeleteRun | Act::PullLog | Act::ArchiveLog => {
                match self.project(run).await {
                    Ok(project) => self.on_remote(decision.act.clone(), &project, run, ready).await,
                    Err(trouble) if matches!(decision.act, Act::Create | Act::Post) => {
                        ActOutcome::NotSent(trouble)
                    }
                    Err(trouble) => ActOutcome::Failed(trouble),
                }
            }
        }
    }

    async fn project(&self, run: &CurrentRun) -> Result<ProjectScope, Trouble> {
        Observer::project(&self.observer.connected().await?, run)
    }

    async fn on_remote(
        &self,
        act: Act,
        project: &ProjectScope,
        run: &CurrentRun,
        ready: Option<&Preflight>,
    ) -> ActOutcome {
        match (act, ready) {
            (Act::Create, Some(ready)) => self.create(project, run, ready).await,
            (Act::Post, Some(ready)) => {
                let branch = ready.branch.as_ref().map(|(_, encoded)| encoded);
                let posted = project.post_run(&run.pipeline, branch, &ready.parameters);
                match around(Write::Post, posted).await {
                    Ok(sent) => ActOutcome::Sent(Box::new(sent)),
                    Err(error) => refused(error),
                }
            }
            (Act::Stop, _) => match stop(project, run).await {
                Ok(()) => ActOutcome::Nothing,
                Err(error) => ActOutcome::Failed(error.into()),
            },
            (Act::DeleteRun, _) => match &run.name {
                Some(name) => match around(Write::Delete, project.delete_run(name, run.uid.as_deref())).await
                {
                    Ok(()) => ActOutcome::Removed,
                    Err(error) if error.kind() == ErrorKind::NotFound => ActOutcome::Removed,
                    Err(error) => ActOutcome::Failed(error.into()),
                },
                None => ActOutcome::Removed,
            },
            (Act::PullLog, _) => self.pull_log(project, run, false).await,
            (Act::ArchiveLog, _) => self.pull_log(project, run, true).await,
            _ => ActOutcome::Nothing,
        }
    }

    async fn create(&self, project: &ProjectScope, run: &CurrentRun, ready: &Preflight) -> ActOutcome {
        let Some(name) = &run.name else {
            return ActOutcome::Nothing;
        };
        let object = self.observer.object;
        let new = NewRun {
            name: name.clone(),
            pipeline: &ready.pipeline,
            branch: ready.branch.as_ref().map(|(_, encoded)| encoded.clone()),
            parameters: ready.parameters.clone(),
            creator: ready.user.clone(),
            annotations: BTreeMap::from([
                (TOKEN_ANNOTATION.to_owned(), run.token.clone()),
                (BUILD_REQUEST.to_owned(), title_of(object)),
            ]),
            labels: BTreeMap::from([(MANAGED_BY.to_owned(), "tenantry".to_owned())]),
        };
        match around(Write::Create, project.create_run(&new)).await {
            Ok(CreateOutcome::Created(sent)) => ActOutcome::Sent(sent),
            Ok(CreateOutcome::AlreadyExists) => match project.run(name).await {
                Ok(existing) => ActOutcome::exists(existing, run),
                // It exists, says the API; that kapis does not know it yet is its cache (finding L2).
                Err(error) => ActOutcome::Unclear(error.into()),
            },
            Err(error) if error.kind() == ErrorKind::Forbidden => ActOutcome::RungRefused,
            Err(error) => refused(error),
        }
    }

    async fn pull_log(&self, project: &ProjectScope, run: &CurrentRun, last: bool) -> ActOutcome {
        let ctx = self.observer.ctx;
        let object = self.observer.object;
        let route = Route {
            client: &ctx.client,
            project,
            object,
            run,
            secrets: self.observer.secrets,
        };
        match self.logs.pull(&route, last, ctx.tunables.log_interval).await {
            Ok(Some(pulled)) => ActOutcome::Log {
                log: pulled.log,
                tail: Some(pulled.tail).filter(|t| !t.is_empty()),
            },
            Ok(None) => ActOutcome::Nothing,
            Err(trouble) => ActOutcome::Failed(trouble),
        }
    }

    async fn delete_self(&self) -> ActOutcome {
        let object = self.observer.object;
        let api: Api<BuildRequest> = Api::namespaced(
            self.observer.ctx.client.clone(),
            &object.namespace().unwrap_or_default(),
        );
        let this_one = DeleteParams::background().preconditions(kube::api::Preconditions {
            uid: object.metadata.uid.clone(),
            resource_version: None,
        });
        let what = "delete this BuildRequest after its spec.ttlAfterFinished".to_owned();
        match cluster::write(
            what,
            around(Write::Expiry, api.delete(&object.name_any(), &this_one)),
        )
        .await
        {
            Ok(_) => ActOutcome::Nothing,
            Err(error) if error.is_gone() || error.is_conflict() => ActOutcome::Nothing,
            Err(error) => ActOutcome::Failed(Trouble::passing(
                Reason::RemoteUnavailable,
                format!("could not {error}"),
            )),
        }
    }
}

/// Stops a build. What came of it is seen at the next look, where Jenkins itself is asked: one that waited in the queue
/// leaves nothing behind there (contract §6.2).
pub async fn stop(project: &ProjectScope, run: &CurrentRun) -> Result<(), GatewayError> {
    match reference(run) {
        Some(reference) => around(Write::Stop, project.stop(&reference)).await.map(|_| ()),
        None => Ok(()),
    }
}

/// What an error of a start means: whether it may have been carried out decides what may follow.
fn refused(error: GatewayError) -> ActOutcome {
    let ambiguous = error.ambiguous();
    let trouble = Trouble::from(error);
    if ambiguous {
        ActOutcome::Unclear(trouble)
    } else {
        ActOutcome::NotSent(trouble)
    }
}

/// Namespace and name.
fn title_of(object: &BuildRequest) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
