//! What is done on the remote when a BuildRequest is deleted. It needs less than a reconcile: only the run that is
//! written down. It does its best within a deadline, then lets go and says so (design §3.6).

use std::{borrow::Cow, future::Future, time::Duration};

use jiff::Timestamp;

use super::{
    act,
    decide::{adopt, find::Found, ours::is_ours},
    observe::Observer,
};
use crate::{
    api::{
        build_request::{BuildRequest, CurrentRun, DeletionPolicy, RunState},
        conditions::Reason,
    },
    controllers::Tunables,
    crash_points::{Write, around},
    gateway::{ErrorClass, GatewayError, Run},
    trouble::Trouble,
};

/// What is to be done before the object may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Nothing.
    Nothing,
    /// Find out whether the run that was being sent arrived, then clean that up.
    Find,
    /// Stop the build, and with `delete` remove the run when it is over.
    Stop {
        /// Remove the run, too.
        delete: bool,
    },
    /// Remove the run, which is over or has no build number.
    Delete,
    /// It took too long: let go.
    GiveUp,
}

/// What is to be done before `object` may go. This process has been at it since `begun`: while no process was there, the
/// deadline did not pass.
pub fn decide(object: &BuildRequest, begun: Timestamp, now: Timestamp, tunables: &Tunables) -> Cleanup {
    let run = object.status.as_ref().and_then(|s| s.run.as_ref());
    let Some(run) = run.filter(|run| run.state != RunState::Intended) else {
        return Cleanup::Nothing;
    };
    let deleted = object.metadata.deletion_timestamp.as_ref().map_or(now, |at| at.0);
    let waited = Duration::try_from(now.duration_since(deleted.max(begun))).unwrap_or_default();
    let over = run.state == RunState::Ended;
    match object.spec.deletion_policy {
        DeletionPolicy::Retain => Cleanup::Nothing,
        DeletionPolicy::Abort if over => Cleanup::Nothing,
        // It was given up before it was seen: what bears its name may be somebody else's.
        DeletionPolicy::Delete if over && run.uid.is_none() => Cleanup::Nothing,
        DeletionPolicy::Abort | DeletionPolicy::Delete if waited >= tunables.cleanup_deadline => {
            Cleanup::GiveUp
        }
        // What bears its name need not be it, and where it was posted it has no name yet.
        DeletionPolicy::Abort | DeletionPolicy::Delete if run.state == RunState::Sending => Cleanup::Find,
        DeletionPolicy::Abort | DeletionPolicy::Delete if !over && run.id.is_some() => Cleanup::Stop {
            delete: object.spec.deletion_policy == DeletionPolicy::Delete,
        },
        // Without a build number there is nothing to stop: removing the run keeps it from starting.
        DeletionPolicy::Abort | DeletionPolicy::Delete => Cleanup::Delete,
    }
}

/// Whether an object needs our finalizer.
pub fn needs_finalizer(object: &BuildRequest) -> bool {
    match object.spec.deletion_policy {
        DeletionPolicy::Retain => false,
        DeletionPolicy::Abort | DeletionPolicy::Delete => true,
    }
}

/// Where a clean-up meets the world.
pub trait Hands: Sync {
    /// What is being deleted.
    fn object(&self) -> &BuildRequest;

    /// The time.
    fn now(&self) -> Timestamp;

    /// How long to wait for what.
    fn tunables(&self) -> &Tunables;

    /// Whether a run that was being sent arrived.
    fn find(&self, run: &CurrentRun) -> impl Future<Output = Result<Found, Trouble>> + Send;

    /// Stops its build; that this is gone already is fine.
    fn stop(&self, run: &CurrentRun) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Removes it; that it is gone already is fine.
    fn remove(&self, run: &CurrentRun) -> impl Future<Output = Result<(), Trouble>> + Send;
}

impl Hands for Observer<'_> {
    fn object(&self) -> &BuildRequest {
        self.object
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn tunables(&self) -> &Tunables {
        &self.ctx.tunables
    }

    async fn find(&self, run: &CurrentRun) -> Result<Found, Trouble> {
        Observer::find(self, run).await
    }

    async fn stop(&self, run: &CurrentRun) -> Result<(), Trouble> {
        let project = Observer::project(&self.connected().await?, run)?;
        gone_is_fine(act::stop(&project, run).await)
    }

    async fn remove(&self, run: &CurrentRun) -> Result<(), Trouble> {
        let project = Observer::project(&self.connected().await?, run)?;
        let name = run.name.as_deref().unwrap_or_default();
        gone_is_fine(around(Write::Delete, project.delete_run(name, run.uid.as_deref())).await)
    }
}

fn gone_is_fine(came: Result<(), GatewayError>) -> Result<(), Trouble> {
    match came {
        Err(error) if error.class() != ErrorClass::Gone => Err(error.into()),
        _ => Ok(()),
    }
}

/// Carries it out. True where the object may go now.
pub async fn carry_out(
    hands: &impl Hands,
    cleanup: Cleanup,
    begun: Timestamp,
    run: &CurrentRun,
) -> Result<bool, Trouble> {
    let (cleanup, run) = match cleanup {
        Cleanup::Nothing | Cleanup::GiveUp => return Ok(true),
        Cleanup::Find => match arrived(hands, run).await? {
            Arrived::Yes(found) => {
                let mut object = hands.object().clone();
                if let Some(status) = &mut object.status {
                    status.run = Some(found.as_ref().clone());
                }
                let then = decide(&object, begun, hands.now(), hands.tunables());
                (then, Cow::Owned(*found))
            }
            Arrived::NotYet => return Ok(false),
            Arrived::No => return Ok(true),
        },
        known => (known, Cow::Borrowed(run)),
    };
    match cleanup {
        Cleanup::Nothing => return Ok(true),
        // The deadline has passed meanwhile: the next look says so.
        Cleanup::GiveUp | Cleanup::Find => return Ok(false),
        Cleanup::Stop { delete } => {
            hands.stop(run.as_ref()).await?;
            if !delete {
                return Ok(true);
            }
        }
        Cleanup::Delete => {}
    }
    hands.remove(run.as_ref()).await?;
    Ok(true)
}

/// Whether a run that was being sent is there.
enum Arrived {
    /// It is, and this is how it stands.
    Yes(Box<CurrentRun>),
    /// It would not have to show yet.
    NotYet,
    /// It is not.
    No,
}

async fn arrived(hands: &impl Hands, run: &CurrentRun) -> Result<Arrived, Trouble> {
    let found = hands.find(run).await?;
    if let Some(named) = &found.by_name {
        // One that is not ours is left alone.
        let ours = is_ours(named, run);
        return Ok(if ours {
            Arrived::Yes(found_as(run, named))
        } else {
            Arrived::No
        });
    }
    match found.candidates.as_slice() {
        [one] => Ok(Arrived::Yes(found_as(run, one))),
        [] => {
            let sent = run.sent_at.as_ref().map_or(run.intended_at.0, |at| at.0);
            let waited = Duration::try_from(hands.now().duration_since(sent)).unwrap_or_default();
            let shows = waited >= hands.tunables().search_window;
            Ok(if shows { Arrived::No } else { Arrived::NotYet })
        }
        several => {
            let names: Vec<_> = several.iter().map(|run| run.name.as_str()).collect();
            Err(Trouble::user(
                Reason::AmbiguousRun,
                format!("several runs could be the one to clean up: {}", names.join(", ")),
            ))
        }
    }
}

fn found_as(run: &CurrentRun, remote: &Run) -> Box<CurrentRun> {
    let mut run = Box::new(run.clone());
    adopt(&mut run, remote);
    if let Some(id) = &remote.run_id {
        run.id = Some(id.to_string());
        run.state = RunState::Started;
    }
    if remote.completed.is_some() {
        run.state = RunState::Ended;
    }
    run
}

/// The reason of the Event where it was given up.
pub const GIVEN_UP: Reason = Reason::CleanupAbandoned;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::build_request::decide::testing::{ago, object, object_in, t0};

    #[test]
    fn every_policy_in_every_state() {
        use Cleanup as C;
        use DeletionPolicy as P;
        use RunState as S;
        let rows = [
            (
                P::Retain,
                [C::Nothing, C::Nothing, C::Nothing, C::Nothing, C::Nothing],
            ),
            (
                P::Abort,
                [
                    C::Nothing,
                    C::Find,
                    C::Delete,
                    C::Stop { delete: false },
                    C::Nothing,
                ],
            ),
            (
                P::Delete,
                [
                    C::Nothing,
                    C::Find,
                    C::Delete,
                    C::Stop { delete: true },
                    C::Delete,
                ],
            ),
        ];
        let states = [S::Intended, S::Sending, S::Submitted, S::Started, S::Ended];
        for (policy, expected) in rows {
            for (state, expected) in states.into_iter().zip(expected) {
                let mut o = object_in(state);
                let run = o.status.as_mut().unwrap().run.as_mut().unwrap();
                if state == S::Submitted {
                    run.id = None;
                }
                run.uid = (!matches!(state, S::Intended | S::Sending)).then(|| "u".into());
                o.spec.deletion_policy = policy;
                o.metadata.deletion_timestamp = Some(ago(1));
                assert_eq!(
                    decide(&o, ago(1).0, t0(), &Tunables::default()),
                    expected,
                    "{policy:?} {state:?}"
                );
            }
        }
        let mut unseen = object_in(S::Ended);
        unseen.spec.deletion_policy = P::Delete;
        unseen.status.as_mut().unwrap().run.as_mut().unwrap().uid = None;
        assert_eq!(decide(&unseen, t0(), t0(), &Tunables::default()), C::Nothing);
        let mut never = object();
        never.spec.deletion_policy = P::Delete;
        assert_eq!(decide(&never, t0(), t0(), &Tunables::default()), C::Nothing);
    }

    #[test]
    fn deletion_never_hangs() {
        for policy in [DeletionPolicy::Abort, DeletionPolicy::Delete] {
            let mut o = object_in(RunState::Started);
            o.spec.deletion_policy = policy;
            o.metadata.deletion_timestamp = Some(ago(10_000));
            let tried = |since| decide(&o, since, t0(), &Tunables::default());
            assert_eq!(tried(ago(10_000).0), Cleanup::GiveUp);
            // A process that has just begun has not tried yet.
            assert_ne!(tried(ago(1).0), Cleanup::GiveUp);
        }
    }
}
