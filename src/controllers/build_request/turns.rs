//! Whose turn it is: starts are serialised per gateway, cluster, project, pipeline and branch, and active runs are bounded
//! per connection.
//!
//! Two runs that are triggered while the first is still in Jenkins' queue get the same expected build number, and the
//! remote deletes the second (contract §6.2 step 6; finding A3). A build number alone does not end that danger, leaving
//! the queue does: so a turn lasts from the intent until the run is known to have left the queue, is over, or was given up.
//!
//! Among those who wait the higher `spec.priority` goes first, then the older object ([`Rank`]). Who waits for a place and
//! for room at the same time holds up nobody who waits for one of them only.
//!
//! In memory, made anew from the statuses after a restart. One owner (the reconciler), short locks, no I/O.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use std::time::Duration;

use jiff::Timestamp;

pub use super::line::{InLine, Rank, Wish};
use super::{
    decide::begin::Turn,
    line::{Lines, Waiter},
};
use crate::{
    api::{
        build_request::{BuildRequest, BuildRequestStatus, CurrentRun, RunState},
        conditions::{ConditionType, Reason, find},
    },
    runtime::ObjectKey,
};

/// Where only one run may be started at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The gateway, by its endpoint: what it calls its projects is its own word, and holds up nobody elsewhere. None for
    /// a run from before that was written down.
    pub endpoint: Option<String>,
    /// The cluster; None is the host.
    pub cluster: Option<String>,
    /// Full name of the project.
    pub project: String,
    /// The pipeline.
    pub pipeline: String,
    /// The branch as Jenkins writes it.
    pub branch: Option<String>,
}

impl Place {
    /// Where `run` is started.
    pub fn of(run: &CurrentRun) -> Self {
        Self {
            endpoint: run.endpoint.clone(),
            cluster: run.cluster.clone(),
            project: run.project.clone(),
            pipeline: run.pipeline.clone(),
            branch: run.encoded_branch.clone(),
        }
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    holders: HashMap<Place, ObjectKey>,
    /// Active runs per TenantConnection.
    active: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// How many may be active, where that is bounded; as last said.
    limits: HashMap<ObjectKey, u32>,
    lines: Lines,
    /// Who may go on since somebody went to another line, and was not told yet.
    woken: Vec<ObjectKey>,
}

/// The run of `object` that others have to wait for; None where there is none, or where it was given up.
pub fn contender(object: &BuildRequest, now: Timestamp) -> Option<&CurrentRun> {
    let status = object.status.as_ref()?;
    let run = status.run.as_ref()?;
    let deadline = object.spec.timeouts.trigger.get();
    (!is_given_up(status, run, deadline, now)).then_some(run)
}

/// Whether nothing more is done about a run without a build number until a person acts. One that may not be removed, or
/// not be told from others, is waited for until it should have started, and no longer: nobody waits for ever. Where our
/// chosen name was taken, there is no run of ours.
fn is_given_up(status: &BuildRequestStatus, run: &CurrentRun, deadline: Duration, now: Timestamp) -> bool {
    let Some(stalled) = find(&status.conditions, ConditionType::Stalled).filter(|c| c.status == "True")
    else {
        return false;
    };
    let sent = run.sent_at.as_ref().map_or(run.intended_at.0, |at| at.0);
    let waited = Duration::try_from(now.duration_since(sent)).unwrap_or_default();
    run.id.is_none() && (waited >= deadline || stalled.reason == Reason::RunNameTaken.as_str())
}

/// Whether a run in this state may be swallowed by another start, or swallow it.
fn holds(run: &CurrentRun) -> bool {
    match run.state {
        RunState::Sending | RunState::Submitted => true,
        RunState::Started => !run.dequeued,
        RunState::Intended | RunState::Ended => false,
    }
}

fn is_active(run: &CurrentRun) -> bool {
    matches!(
        run.state,
        RunState::Sending | RunState::Submitted | RunState::Started
    )
}

impl Turns {
    /// Asks for the turn of `wish`. Who does not get it stands in line until it asks again, quits, or is forgotten.
    pub fn ask(&self, wish: &Wish, place: &Place, connection: &ObjectKey, limit: Option<u32>) -> Turn {
        let mut inner = self.lock();
        inner.limit(connection, limit);
        let me = &wish.rank.key;
        if !inner.lines.stands(wish, place, connection) {
            let woken = inner.quit(me);
            inner.woken.extend(woken);
            inner.lines.join(wish, place, connection);
        }
        if let Some(turn) = inner.waits_for(me) {
            return turn;
        }
        inner.lines.leave(me);
        inner.holders.insert(place.clone(), me.clone());
        inner
            .active
            .entry(connection.clone())
            .or_default()
            .insert(me.clone());
        Turn::Ours
    }

    /// What `wish` still waits for, where it stands in line and its turn has not come: known without a word with the gateway.
    /// `limit` is that of its connection now.
    pub fn still(&self, wish: &Wish, connection: &ObjectKey, limit: Option<u32>) -> Option<Turn> {
        let mut inner = self.lock();
        inner.limit(connection, limit);
        inner.lines.has(wish).then(|| inner.waits_for(&wish.rank.key))?
    }

    /// Takes note of how the run of `me` stands, as it is written down. Returns who may go on now.
    pub fn note(&self, me: &ObjectKey, connection: &ObjectKey, run: Option<&CurrentRun>) -> Vec<ObjectKey> {
        let mut inner = self.lock();
        let held = run.filter(|run| holds(run)).map(Place::of);
        let active = run.is_some_and(is_active);
        let mut next = std::mem::take(&mut inner.woken);
        let freed = inner.release(me, held.as_ref());
        if let Some(place) = held {
            inner.holders.entry(place).or_insert_with(|| me.clone());
        }
        let mut left = Vec::new();
        if active {
            inner
                .active
                .entry(connection.clone())
                .or_default()
                .insert(me.clone());
        } else {
            left = inner.end(me);
        }
        next.extend(inner.may_go(&freed, &left));
        next
    }

    /// `me` does not want to start anything now: it leaves the lines, and keeps what it holds. Returns who may go on now.
    pub fn quit(&self, me: &ObjectKey) -> Vec<ObjectKey> {
        self.lock().quit(me)
    }

    /// `me` is gone, or wants nothing any more. Returns who may go on now.
    pub fn forget(&self, me: &ObjectKey) -> Vec<ObjectKey> {
        let mut inner = self.lock();
        let freed = inner.release(me, None);
        let left = inner.end(me);
        let mut next = inner.quit(me);
        next.extend(inner.may_go(&freed, &left));
        next
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn limit(&mut self, connection: &ObjectKey, limit: Option<u32>) {
        match limit {
            Some(limit) => self.limits.insert(connection.clone(), limit),
            None => self.limits.remove(connection),
        };
    }

    /// How many more runs of this connection may be active, beside that of `me`; None where that is not bounded.
    fn room(&self, connection: &ObjectKey, me: &ObjectKey) -> Option<usize> {
        let limit = *self.limits.get(connection)? as usize;
        let active = self.active.get(connection);
        let others = active.map_or(0, |set| set.iter().filter(|o| *o != me).count());
        Some(limit.saturating_sub(others))
    }

    fn has_room(&self, waiter: &Waiter) -> bool {
        self.room(&waiter.connection, &waiter.rank.key) != Some(0)
    }

    /// Whether nobody holds the place of `waiter`, and nobody who is before it there could take it.
    fn has_place(&self, waiter: &Waiter) -> bool {
        let me = &waiter.rank.key;
        self.holders.get(&waiter.place).is_none_or(|holder| holder == me)
            && self.lines.before_at(waiter).all(|other| !self.has_room(other))
    }

    /// What `me`, who stands in line, has to wait for.
    fn waits_for(&self, me: &ObjectKey) -> Option<Turn> {
        let waiter = self.lines.get(me)?;
        if let Some(room) = self.room(&waiter.connection, me) {
            // Who is before us and waits for something else as well does not keep us from going.
            let first = self
                .lines
                .before_through(waiter)
                .filter(|other| self.has_place(other));
            if first.take(room).count() >= room {
                return Some(Turn::Full {
                    limit: self.limits.get(&waiter.connection).copied().unwrap_or_default(),
                    line: self.lines.position_through(waiter),
                });
            }
        }
        if self.has_place(waiter) {
            return None;
        }
        let holder = self.holders.get(&waiter.place).filter(|holder| *holder != me);
        let before = || self.lines.before_at(waiter).next().map(|other| &other.rank.key);
        Some(Turn::After {
            line: self.lines.position_at(waiter),
            holder: holder
                .or_else(before)
                .map(ToString::to_string)
                .unwrap_or_default(),
        })
    }

    /// Who may go on, now that these places are free and these connections have room.
    fn may_go(&self, places: &[Place], connections: &[ObjectKey]) -> Vec<ObjectKey> {
        let mut next = Vec::new();
        for place in places {
            let first = self.lines.at(place).find(|waiter| self.has_room(waiter));
            next.extend(first.map(|waiter| waiter.rank.key.clone()));
        }
        for connection in connections {
            // Without a bound nobody waits for room.
            let active = self.active.get(connection).map_or(0, BTreeSet::len);
            let limit = self.limits.get(connection).map_or(0, |limit| *limit as usize);
            let room = limit.saturating_sub(active);
            let startable = self.lines.through(connection).filter(|w| self.has_place(w));
            next.extend(startable.take(room).map(|waiter| waiter.rank.key.clone()));
        }
        next.retain(|key| self.waits_for(key).is_none());
        next
    }

    /// Gives back all turns of `me` but the one at `keep`.
    fn release(&mut self, me: &ObjectKey, keep: Option<&Place>) -> Vec<Place> {
        let freed: Vec<Place> = self
            .holders
            .iter()
            .filter(|(p, holder)| *holder == me && Some(*p) != keep)
            .map(|(p, _)| p.clone())
            .collect();
        for place in &freed {
            self.holders.remove(place);
        }
        freed
    }

    /// Takes `me` out of the active ones. Returns the connections that have more room now.
    fn end(&mut self, me: &ObjectKey) -> Vec<ObjectKey> {
        let mut left = Vec::new();
        for (connection, set) in &mut self.active {
            if set.remove(me) {
                left.push(connection.clone());
            }
        }
        self.active.retain(|_, set| !set.is_empty());
        left
    }

    /// Takes `me` out of the lines. Whom it stood in the way of may go on.
    fn quit(&mut self, me: &ObjectKey) -> Vec<ObjectKey> {
        match self.lines.leave(me) {
            Some(left) => self.may_go(&[left.place], &[left.connection]),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
