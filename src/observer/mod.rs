//! One observer per project: it keeps an eye on the runs of all builds there, so that none of them has to.
//!
//! What lives here: who follows which run ([`board`]), which rung that is done on ([`ladder`]), how often to look where
//! nothing tells by itself ([`pace`]), all pure; and the task that watches and lists (`task`). What it does: it wakes
//! the build whose run's row changed, and says how long a build may sleep until then. It decides nothing about builds, and
//! nobody believes a row: whoever is woken gets the run live. What must never come in: CRD types, statuses.
//!
//! An observer begins with the first follower of its project, by one connection, and ends with the last.

pub mod board;
pub mod ladder;
pub mod pace;
mod task;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use self::{
    board::{Board, Followed, Footing, Sight},
    ladder::Rung,
};
use crate::{
    gateway::{Class, ProjectName, ProjectScope, Purpose, RunPhase},
    runtime::{Bell, ObjectKey, metrics::Metrics, observed::Told},
};

/// How long an observer waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long a watch lives.
    pub watch_life: Duration,
    /// One that is silent for so much longer is dead.
    pub grace: Duration,
    /// How long a build may go without a look of its own, at the longest: what a lost event costs.
    pub quiet: Duration,
}

/// A project as one connection sees it.
type Place = Arc<(usize, Option<String>, ProjectName)>;

/// All observers of this process.
pub struct Observers {
    bell: Bell,
    metrics: Arc<Metrics>,
    times: Times,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    at: HashMap<Place, Observer>,
    /// Where each follower is.
    of: HashMap<ObjectKey, Place>,
    /// Tells observers apart in the metrics.
    last: u64,
}

/// One that runs. Dropping it ends it.
struct Observer {
    post: Arc<Post>,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What an observer and its followers share.
struct Post {
    number: u64,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Somebody began to follow.
    joined: Notify,
}

struct State {
    board: Board,
    rung: Rung,
    /// Whether the rung stands: what it is to tell, it tells.
    stands: bool,
    /// When the remote last said how things are.
    heard: Instant,
    /// How often the connection wants a run to be looked at.
    poll: Duration,
}

impl Observers {
    /// None yet. They ring `bell` for a build whose run changed.
    pub fn new(bell: Bell, metrics: Arc<Metrics>, times: Times) -> Self {
        Self {
            bell,
            metrics,
            times,
            all: Mutex::default(),
        }
    }

    /// `key` follows a run of `project` from now on, and no other. To be said before the run is looked at live: what
    /// changes after that look then finds its way.
    pub fn follow(&self, project: &ProjectScope, key: &ObjectKey, followed: &Followed, poll: Duration) {
        let place = Arc::new(project.identity());
        let mut all = self.lock();
        if all.of.get(key).is_some_and(|other| *other != place) {
            all.leave(key);
        }
        // One that ended has a defect: it must not keep its followers asleep.
        if all
            .at
            .get(&place)
            .is_none_or(|observer| observer.task.is_finished())
        {
            all.last += 1;
            let post = Arc::new(Post::new(all.last, self.metrics.clone(), poll));
            let purpose = Purpose::new(format_args!("the runs of {}", project.name()), Class::Following);
            let task = task::start(
                project.on_behalf_of(purpose),
                post.clone(),
                self.bell.clone(),
                self.times,
            );
            let ended = all.at.insert(place.clone(), Observer { post, task });
            if let Some(ended) = ended {
                for key in ended.post.lock().board.keys() {
                    all.of.remove(&key);
                    self.bell.ring(key);
                }
            }
        }
        let All { at, of, .. } = &mut *all;
        let Some(observer) = at.get(&place) else { return };
        of.insert(key.clone(), place);
        observer.post.follow(key, followed, poll);
    }

    /// How long `key` may let its run be, which it saw like this just now: until its bell rings, and no longer than this.
    /// None where it has to look by itself, as often as the connection says.
    pub fn quiet(&self, key: &ObjectKey, sight: &Sight) -> Option<Duration> {
        let all = self.lock();
        let observer = all.at.get(all.of.get(key)?)?;
        if observer.task.is_finished() {
            return None;
        }
        observer.post.quiet(key, sight, self.times.quiet)
    }

    /// `key` follows no run any more.
    pub fn leave(&self, key: &ObjectKey) {
        self.lock().leave(key);
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn leave(&mut self, key: &ObjectKey) {
        let Some(place) = self.of.remove(key) else {
            return;
        };
        if self
            .at
            .get(&place)
            .is_some_and(|observer| observer.post.leave(key) == 0)
        {
            self.at.remove(&place);
        }
    }
}

impl Post {
    fn new(number: u64, metrics: Arc<Metrics>, poll: Duration) -> Self {
        Self {
            number,
            metrics,
            state: Mutex::new(State {
                board: Board::default(),
                rung: Rung::Alone,
                stands: false,
                heard: Instant::now(),
                poll,
            }),
            joined: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, key: &ObjectKey, followed: &Followed, poll: Duration) {
        let mut state = self.lock();
        state.poll = poll;
        if state.board.follow(key, followed, Instant::now()) {
            self.tell(&state);
            self.joined.notify_one();
        }
    }

    /// How many are left.
    fn leave(&self, key: &ObjectKey) -> usize {
        let mut state = self.lock();
        state.board.leave(key);
        self.tell(&state);
        state.board.len()
    }

    fn quiet(&self, key: &ObjectKey, sight: &Sight, longest: Duration) -> Option<Duration> {
        let mut state = self.lock();
        let footing = state.board.saw(key, sight, Instant::now());
        // Of what is over, or of no known phase, no further change of the row can be expected.
        let goes_on = matches!(
            sight.row.phase,
            RunPhase::None | RunPhase::Pending | RunPhase::Running
        );
        let watched = state.stands
            && match state.rung {
                Rung::Watch | Rung::List => true,
                Rung::Pipelines => state.board.company(key) > 1,
                Rung::Alone => false,
            };
        let State { board, poll, .. } = &mut *state;
        match footing {
            _ if !watched || !goes_on => None,
            Footing::Unheard => None,
            Footing::Behind(looks) => Some(pace::pause(looks, fastrand::f64()).min(*poll)),
            Footing::InStep => {
                board.sleeps(key);
                Some(pace::quiet(board.len(), *poll, longest, fastrand::f64()))
            }
        }
    }

    fn tell(&self, state: &State) {
        self.metrics.observed.tell(
            self.number,
            Told {
                rung: state.rung.label(),
                followers: state.board.len(),
                heard: state.heard,
            },
        );
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.metrics.observed.gone(self.number);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
