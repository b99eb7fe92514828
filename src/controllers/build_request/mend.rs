//! The log of a build that is long over was deleted or edited by hand: it is brought home again, as files are by their
//! ArtifactFetch. What was settled stays settled; only `LogsArchived` tells where the log cannot be had any more.
//!
//! While a build runs and is brought home nothing of this is needed: whatever is stored next is stored whole.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    BuildRequests,
    decide::{Step, follow::Asked, next_step, title},
    live::Live,
    logs::{Pulled, Route},
    observe::{Observer, ask_jenkins},
    report,
};
use crate::{
    api::{
        build_request::{BuildRequest, BuildRequestStatus, CurrentRun},
        conditions::{self, ConditionType, Fact, Reason, bounded, find},
    },
    controllers::status,
    crash_points::Write,
    runtime::{ObjectKey, ReconcileError},
    sinks::{
        config_map::{ConfigMaps, Content, Mine},
        log::LOG_KEY,
    },
    trouble::Trouble,
};

/// What came of it.
enum Mended {
    /// It is whole again, or was all the time.
    Whole(Option<Pulled>),
    /// These are damaged, and cannot be mended any more.
    Lost(Vec<String>),
    /// These are damaged, and something stands in the way for now.
    NotYet(Vec<String>, Trouble),
}

impl BuildRequests {
    /// Mends the stored log of `object`, where it is at rest and may need it. Returns the object as it is stored then, and
    /// whether to try again.
    pub(super) async fn mend_log(
        &self,
        object: Arc<BuildRequest>,
    ) -> Result<(Arc<BuildRequest>, bool), ReconcileError> {
        let key = ObjectKey::of(object.as_ref());
        let known = object.status.as_ref().filter(|status| {
            let told = find(&status.conditions, ConditionType::LogsArchived);
            // That it was damaged was told in a former life, or before something came in the way.
            let doubtful = told.is_some_and(|c| c.status == "False") || self.disturbances().contains(&key);
            doubtful
                && status
                    .log
                    .as_ref()
                    .is_some_and(|log| log.complete && log.volume.is_none())
        });
        let at_rest = matches!(next_step(&object, Timestamp::now()), Step::Rest { expires_in } if expires_in.is_none_or(|left| !left.is_zero()));
        let (Some(before), true) = (known, at_rest) else {
            if at_rest {
                self.disturbances().remove(&key);
            }
            return Ok((object, false));
        };
        let Some(run) = &before.run else {
            return Ok((object, false));
        };
        let mended = self.try_to_mend(&object, before, run).await;
        let again = matches!(mended, Mended::NotYet(_, ref trouble) if !trouble.is_stalled());
        if !again {
            self.disturbances().remove(&key);
        }
        let (after, warning, message) = tell(
            before,
            &mended,
            object.metadata.generation,
            &Time(Timestamp::now()),
        );
        let written = if after == *before {
            object
        } else {
            let next = status::replace(&self.ctx.client, object.as_ref(), Write::Status, |next| {
                next.status = Some(after.clone());
            });
            Arc::new(next.await?)
        };
        if let Some(message) = message {
            let reason = if warning {
                Reason::LogUnavailable
            } else {
                Reason::LogStored
            };
            if warning {
                self.ctx
                    .announcer
                    .warning(written.as_ref(), reason, message)
                    .await;
            } else {
                self.ctx.announcer.normal(written.as_ref(), reason, message).await;
            }
        }
        Ok((written, again))
    }

    async fn try_to_mend(
        &self,
        object: &Arc<BuildRequest>,
        status: &BuildRequestStatus,
        run: &CurrentRun,
    ) -> Mended {
        let names = status
            .log
            .as_ref()
            .map(|log| log.config_maps.clone())
            .unwrap_or_default();
        let found = match ConfigMaps::of(self.ctx.client.clone(), object.as_ref()) {
            Ok(maps) => maps.list(Content::Log).await,
            Err(trouble) => Err(trouble),
        };
        let damaged = match found {
            Ok(found) => damaged(&names, &found),
            Err(trouble) => return Mended::NotYet(names, trouble),
        };
        if damaged.is_empty() {
            return Mended::Whole(None);
        }
        let live = Live::new(self);
        let observer = live.observer(object);
        let project = match observer.connected().await {
            Ok(connected) => Observer::project(&connected, run),
            Err(trouble) => Err(trouble),
        };
        let project = match project {
            Ok(project) => project,
            Err(trouble) => return Mended::NotYet(damaged, trouble),
        };
        let route = Route {
            client: &self.ctx.client,
            project: &project,
            object,
            run,
            secrets: &self.secrets,
        };
        match self.logs.pull(&route, true, self.ctx.tunables.log_interval).await {
            Ok(Some(pulled)) => Mended::Whole(Some(pulled)),
            Ok(None) => Mended::Lost(damaged),
            Err(trouble) => match ask_jenkins(&project, run).await {
                Ok(Asked::Gone) => Mended::Lost(damaged),
                _ => Mended::NotYet(damaged, trouble),
            },
        }
    }
}

/// Those of the ConfigMaps `names` that are gone, or do not hold any more what we stored.
fn damaged(names: &[String], found: &[Mine]) -> Vec<String> {
    let is_whole = |name: &str| {
        let mine = found.iter().find(|mine| mine.name() == name);
        mine.is_some_and(|mine| mine.untouched_keys() == [LOG_KEY])
    };
    names.iter().filter(|name| !is_whole(name)).cloned().collect()
}

/// The status afterwards, and what people hear: whether it is a warning, and the words.
fn tell(
    before: &BuildRequestStatus,
    mended: &Mended,
    generation: Option<i64>,
    now: &Time,
) -> (BuildRequestStatus, bool, Option<String>) {
    let mut status = before.clone();
    let run = before.run.as_ref().map(title).unwrap_or_default();
    let (fact, warning, message) = match mended {
        Mended::Whole(pulled) => {
            if let Some(pulled) = pulled {
                status.log = Some(pulled.log.clone());
            }
            let said = pulled.is_some().then(|| {
                format!(
                    "the log of build {run} was deleted or changed by somebody else, and was stored again"
                )
            });
            (report::logs(&status, true), false, said)
        }
        Mended::Lost(names) => {
            if let Some(log) = &mut status.log {
                log.complete = false;
                log.config_maps.retain(|name| !names.contains(name));
            }
            let words = format!(
                "ConfigMap {} with the log of build {run} was deleted or changed by somebody else, and Jenkins does not have \
                 it any more",
                names.join(", ")
            );
            (
                Some(Fact::no(
                    ConditionType::LogsArchived,
                    Reason::LogUnavailable,
                    &words,
                )),
                true,
                Some(words),
            )
        }
        Mended::NotYet(names, trouble) => {
            let words = format!(
                "ConfigMap {} with the log of build {run} was deleted or changed by somebody else, and could not be stored \
                 again yet: {trouble}",
                names.join(", ")
            );
            let words = bounded(&words, 1000);
            (
                Some(Fact::no(
                    ConditionType::LogsArchived,
                    Reason::LogUnavailable,
                    &words,
                )),
                true,
                Some(words),
            )
        }
    };
    if let Some(fact) = fact {
        conditions::set(&mut status.conditions, &fact, generation, now);
    }
    (status, warning, message)
}
