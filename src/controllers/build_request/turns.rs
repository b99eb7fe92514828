//! Whose turn it is: starts are serialised per gateway, cluster, project, pipeline and branch, and active runs are bounded
//! per connection.
//!
//! Two runs that are triggered while the first is still in Jenkins' queue get the same expected build number, and the
//! remote deletes the second (contract §6.2 step 6; finding A3). A build number alone does not end that danger, leaving
//! the queue does: so a turn lasts from the intent until the run is known to have left the queue, is over, or was given up.
//!
//! In memory, made anew from the statuses after a restart. One owner (the reconciler), short locks, no I/O.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use std::time::Duration;

use jiff::Timestamp;

use super::decide::begin::Turn;
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
    waiting: HashMap<Place, VecDeque<ObjectKey>>,
    /// Active runs per TenantConnection.
    active: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    waiting_for_room: HashMap<ObjectKey, VecDeque<ObjectKey>>,
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
    /// Asks for the turn of `me`. Who does not get it stands in line until it asks again, for this place or for another,
    /// quits, or is forgotten.
    pub fn ask(&self, me: &ObjectKey, place: &Place, connection: &ObjectKey, limit: Option<u32>) -> Turn {
        let mut inner = self.lock();
        let woken = inner.quit(me, Some(place));
        inner.woken.extend(woken);
        if let Some(limit) = limit {
            let active = inner
                .active
                .get(connection)
                .map_or(0, |set| set.iter().filter(|o| *o != me).count());
            if active >= limit as usize {
                let line = inner.waiting_for_room.entry(connection.clone()).or_default();
                if !line.contains(me) {
                    line.push_back(me.clone());
                }
                return Turn::Full { limit };
            }
        }
        let holder = inner.holders.get(place).filter(|holder| *holder != me).cloned();
        let line = inner.waiting.entry(place.clone()).or_default();
        let position = line.iter().position(|o| o == me).unwrap_or_else(|| {
            line.push_back(me.clone());
            line.len() - 1
        });
        if holder.is_none() && position == 0 {
            line.pop_front();
            if line.is_empty() {
                inner.waiting.remove(place);
            }
            inner.holders.insert(place.clone(), me.clone());
            inner
                .active
                .entry(connection.clone())
                .or_default()
                .insert(me.clone());
            return Turn::Ours;
        }
        let holder = holder
            .or_else(|| line.front().cloned())
            .map(|o| o.to_string())
            .unwrap_or_default();
        Turn::After {
            position: position + 1,
            holder,
        }
    }

    /// Takes note of how the run of `me` stands, as it is written down. Returns who may go on now.
    pub fn note(&self, me: &ObjectKey, connection: &ObjectKey, run: Option<&CurrentRun>) -> Vec<ObjectKey> {
        let mut inner = self.lock();
        let held = run.filter(|run| holds(run)).map(Place::of);
        let active = run.is_some_and(is_active);
        let mut next = std::mem::take(&mut inner.woken);
        next.extend(inner.release(me, held.as_ref()));
        if let Some(place) = held {
            inner.holders.entry(place).or_insert_with(|| me.clone());
        }
        if active {
            inner
                .active
                .entry(connection.clone())
                .or_default()
                .insert(me.clone());
        } else {
            next.extend(inner.leave(me));
        }
        next
    }

    /// `me` does not want to start anything now: it leaves the lines, and keeps what it holds. Returns who may go on now.
    pub fn quit(&self, me: &ObjectKey) -> Vec<ObjectKey> {
        self.lock().quit(me, None)
    }

    /// `me` is gone, or wants nothing any more. Returns who may go on now.
    pub fn forget(&self, me: &ObjectKey) -> Vec<ObjectKey> {
        let mut inner = self.lock();
        let mut next = inner.release(me, None);
        next.extend(inner.leave(me));
        next.extend(inner.quit(me, None));
        next
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Gives back all turns of `me` but the one at `keep`.
    fn release(&mut self, me: &ObjectKey, keep: Option<&Place>) -> Vec<ObjectKey> {
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
            .iter()
            .filter_map(|place| self.waiting.get(place)?.front().cloned())
            .collect()
    }

    /// Takes `me` out of the active ones.
    fn leave(&mut self, me: &ObjectKey) -> Vec<ObjectKey> {
        let mut next = Vec::new();
        for (connection, set) in &mut self.active {
            if set.remove(me)
                && let Some(first) = self
                    .waiting_for_room
                    .get_mut(connection)
                    .and_then(VecDeque::pop_front)
            {
                next.push(first);
            }
        }
        self.active.retain(|_, set| !set.is_empty());
        self.waiting_for_room.retain(|_, line| !line.is_empty());
        next
    }

    /// Takes `me` out of all lines but that of `keep`. Who stands first then, where nobody holds the turn, may go on.
    fn quit(&mut self, me: &ObjectKey, keep: Option<&Place>) -> Vec<ObjectKey> {
        let mut next = Vec::new();
        for (place, line) in self.waiting.iter_mut().filter(|(place, _)| Some(*place) != keep) {
            let was_first = line.front() == Some(me);
            line.retain(|o| o != me);
            if was_first && !self.holders.contains_key(place) {
                next.extend(line.front().cloned());
            }
        }
        self.waiting.retain(|_, line| !line.is_empty());
        if keep.is_none() {
            for line in self.waiting_for_room.values_mut() {
                line.retain(|o| o != me);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::build_request::decide::testing::object_in;
    use proptest::prelude::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("team", name)
    }

    fn run(state: RunState, dequeued: bool) -> CurrentRun {
        let mut run = object_in(state).status.unwrap().run.unwrap();
        run.dequeued = dequeued;
        run
    }

    fn place() -> Place {
        Place::of(&run(RunState::Sending, false))
    }

    #[test]
    fn the_next_may_start_when_the_one_before_has_left_the_queue_of_jenkins() {
        let turns = Turns::default();
        let ks = key("ks");
        assert_eq!(turns.ask(&key("a"), &place(), &ks, None), Turn::Ours);
        assert_eq!(
            turns.ask(&key("b"), &place(), &ks, None),
            Turn::After {
                position: 1,
                holder: "team/a".into()
            }
        );
        assert_eq!(
            turns.ask(&key("c"), &place(), &ks, None),
            Turn::After {
                position: 2,
                holder: "team/a".into()
            }
        );
        for state in [RunState::Sending, RunState::Submitted, RunState::Started] {
            assert_eq!(
                turns.note(&key("a"), &ks, Some(&run(state, false))),
                [],
                "{state:?}"
            );
            assert!(
                matches!(turns.ask(&key("b"), &place(), &ks, None), Turn::After { .. }),
                "{state:?}"
            );
        }
        assert_eq!(
            turns.note(&key("a"), &ks, Some(&run(RunState::Started, true))),
            [key("b")]
        );
        assert!(
            matches!(turns.ask(&key("c"), &place(), &ks, None), Turn::After { .. }),
            "b is first"
        );
        assert_eq!(turns.ask(&key("b"), &place(), &ks, None), Turn::Ours);
        assert_eq!(turns.forget(&key("b")), [key("c")]);
        assert_eq!(turns.ask(&key("c"), &place(), &ks, None), Turn::Ours);
    }

    #[test]
    fn other_places_do_not_wait() {
        let turns = Turns::default();
        let other = Place {
            branch: Some("dev".into()),
            ..place()
        };
        assert_eq!(turns.ask(&key("a"), &place(), &key("ks"), None), Turn::Ours);
        assert_eq!(turns.ask(&key("b"), &other, &key("ks"), None), Turn::Ours);
    }

    /// A gateway may call its projects as it likes.
    #[test]
    fn a_project_of_the_same_name_behind_another_gateway_or_in_another_cluster_is_another_place() {
        let elsewhere = [
            Place {
                endpoint: Some("https://ks.example.org".into()),
                ..place()
            },
            Place {
                endpoint: None,
                ..place()
            },
            Place {
                cluster: Some("member-1".into()),
                ..place()
            },
        ];
        for (n, other) in elsewhere.iter().enumerate() {
            let turns = Turns::default();
            let (ks, theirs) = (key("ks"), key("theirs"));
            // Also after a restart, when all that is known is in the statuses.
            let mut run = run(RunState::Submitted, false);
            (run.endpoint, run.cluster) = (other.endpoint.clone(), other.cluster.clone());
            turns.note(&key("stranger"), &theirs, Some(&run));
            assert_eq!(turns.ask(&key("a"), &place(), &ks, None), Turn::Ours, "{n}");
            turns.note(&key("a"), &ks, None);
            // And whoever comes to where the stranger is, waits.
            let waits = turns.ask(&key("b"), other, &ks, None);
            assert!(matches!(waits, Turn::After { .. }), "{n}: {waits:?}");
        }
    }

    #[test]
    fn one_who_waited_and_left_does_not_block_the_line() {
        let turns = Turns::default();
        let ks = key("ks");
        for name in ["a", "b", "c"] {
            turns.ask(&key(name), &place(), &ks, None);
        }
        turns.note(&key("a"), &ks, None);
        assert_eq!(turns.forget(&key("b")), [key("c")]);
        assert_eq!(turns.ask(&key("c"), &place(), &ks, None), Turn::Ours);
    }

    #[test]
    fn one_who_waits_elsewhere_by_now_or_for_nothing_does_not_block_the_line() {
        let turns = Turns::default();
        let ks = key("ks");
        let other = Place {
            pipeline: "deploy".into(),
            ..place()
        };
        for name in ["a", "b", "c"] {
            turns.ask(&key(name), &place(), &ks, None);
        }
        turns.note(&key("a"), &ks, None);
        assert_eq!(turns.ask(&key("b"), &other, &ks, None), Turn::Ours);
        assert_eq!(turns.note(&key("b"), &ks, None), [key("c")]);
        assert_eq!(turns.ask(&key("c"), &place(), &ks, None), Turn::Ours);

        turns.ask(&key("a"), &place(), &ks, None);
        turns.ask(&key("b"), &place(), &ks, None);
        turns.note(&key("c"), &ks, None);
        assert_eq!(turns.quit(&key("a")), [key("b")]);
        assert_eq!(turns.ask(&key("b"), &place(), &ks, None), Turn::Ours);
    }

    #[test]
    fn active_runs_are_bounded_per_connection() {
        let turns = Turns::default();
        let (ks, other) = (key("ks"), key("other"));
        let at = |branch: &str| Place {
            branch: Some(branch.into()),
            ..place()
        };
        assert_eq!(turns.ask(&key("a"), &at("1"), &ks, Some(1)), Turn::Ours);
        turns.note(&key("a"), &ks, Some(&run(RunState::Started, true)));
        assert_eq!(
            turns.ask(&key("b"), &at("2"), &ks, Some(1)),
            Turn::Full { limit: 1 }
        );
        assert_eq!(turns.ask(&key("c"), &at("3"), &other, Some(1)), Turn::Ours);
        assert_eq!(
            turns.note(&key("a"), &ks, Some(&run(RunState::Ended, true))),
            [key("b")]
        );
        assert_eq!(turns.ask(&key("b"), &at("2"), &ks, Some(1)), Turn::Ours);
    }

    #[test]
    fn a_restart_finds_the_turns_in_the_statuses() {
        let turns = Turns::default();
        turns.note(&key("a"), &key("ks"), Some(&run(RunState::Submitted, false)));
        assert!(matches!(
            turns.ask(&key("b"), &place(), &key("ks"), None),
            Turn::After { .. }
        ));
    }

    proptest! {
        /// Whatever happens in whatever order: never two at one place, and whoever waits gets its turn in the end.
        #[test]
        fn never_two_at_once_and_nobody_is_forgotten(moves in proptest::collection::vec((0..4usize, 0..3u8), 1..60)) {
            let turns = Turns::default();
            let ks = key("ks");
            let names: Vec<_> = ["a", "b", "c", "d"].iter().map(|n| key(n)).collect();
            let mut holding: Vec<bool> = vec![false; 4];
            for (who, what) in moves {
                match what {
                    0 => {
                        if !holding[who] && turns.ask(&names[who], &place(), &ks, None) == Turn::Ours {
                            holding[who] = true;
                            turns.note(&names[who], &ks, Some(&run(RunState::Sending, false)));
                        }
                    }
                    1 => if holding[who] {
                        turns.note(&names[who], &ks, Some(&run(RunState::Started, true)));
                        holding[who] = false;
                    },
                    _ => {
                        turns.forget(&names[who]);
                        holding[who] = false;
                    }
                }
                prop_assert!(holding.iter().filter(|h| **h).count() <= 1);
            }
            for name in &names {
                turns.forget(name);
            }
            prop_assert_eq!(turns.ask(&names[0], &place(), &ks, None), Turn::Ours);
        }
    }
}
