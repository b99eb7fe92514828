//! Who follows which run, what its row says, and whom a row wakes. Pure: rows in, keys out.
//!
//! One line per follower; rows of runs that nobody follows are not kept.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    gateway::{RunId, RunPhase, RunRow},
    runtime::ObjectKey,
};

/// What a follower follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The run's object name.
    pub run: String,
    /// Its pipeline.
    pub pipeline: String,
}

/// A run as it was seen live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Its row.
    pub row: RunRow,
    /// For how long it has been running.
    pub running_for: Duration,
    /// How long Jenkins thinks that it takes.
    pub estimate: Option<Duration>,
}

/// A run as its row says, or as its follower saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// There was no word of it yet.
    Unheard,
    /// It is not there.
    Gone,
    /// This.
    Is(Option<RunId>, RunPhase),
}

impl State {
    fn of(row: &RunRow) -> Self {
        Self::Is(row.run_id.clone(), row.phase)
    }
}

#[derive(Debug)]
struct Line {
    run: Arc<str>,
    pipeline: String,
    /// What the last row said.
    told: State,
    /// What the follower saw when it looked last.
    seen: State,
    began: Instant,
    estimate: Option<Duration>,
    /// Looks in a row that showed something older than the row.
    behind: u32,
    /// Whether the follower relies on being woken.
    asleep: bool,
}

/// What a follower knows against what the rows say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footing {
    /// No row has told of its run yet.
    Unheard,
    /// So many looks in a row showed something else than the row: caches are behind (finding L2).
    Behind(u32),
    /// The same: a change will be a change of the row.
    InStep,
}

/// How far along a follower's run is, for the pace of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// For how long it has been running.
    pub age: Duration,
    /// How long Jenkins thinks that it takes.
    pub estimate: Option<Duration>,
}

/// The followers of one project's runs.
#[derive(Debug, Default)]
pub struct Board {
    lines: HashMap<ObjectKey, Line>,
    /// Who follows a run. Always one, but nothing here depends on that.
    followers: HashMap<Arc<str>, Vec<ObjectKey>>,
}

impl Board {
    /// `key` follows this run from now on, and no other. Whether that is new.
    pub fn follow(&mut self, key: &ObjectKey, followed: &Followed, now: Instant) -> bool {
        if self.lines.get(key).is_some_and(|line| *line.run == *followed.run) {
            return false;
        }
        self.leave(key);
        let run: Arc<str> = followed.run.as_str().into();
        let line = Line {
            run: Arc::clone(&run),
            pipeline: followed.pipeline.clone(),
            told: State::Unheard,
            seen: State::Unheard,
            began: now,
            estimate: None,
            behind: 0,
            asleep: false,
        };
        self.lines.insert(key.clone(), line);
        self.followers.entry(run).or_default().push(key.clone());
        true
    }

    /// `key` follows nothing any more.
    pub fn leave(&mut self, key: &ObjectKey) {
        let Some(line) = self.lines.remove(key) else {
            return;
        };
        if let Some(keys) = self.followers.get_mut(&line.run) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.followers.remove(&line.run);
            }
        }
    }

    /// How many follow.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nobody follows.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Everybody who follows.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lines.keys().cloned().collect()
    }

    /// How many follow a run of each pipeline.
    pub fn pipelines(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in self.lines.values() {
            *counts.entry(line.pipeline.clone()).or_default() += 1;
        }
        counts
    }

    /// How far along each run is.
    pub fn ages(&self, now: Instant) -> impl Iterator<Item = Age> {
        self.lines.values().map(move |line| Age {
            age: now.saturating_duration_since(line.began),
            estimate: line.estimate,
        })
    }

    /// What `key` saw when it looked live, against what the rows say. It is awake again.
    pub fn saw(&mut self, key: &ObjectKey, sight: &Sight, now: Instant) -> Footing {
        let line = self.lines.get_mut(key);
        let Some(line) = line.filter(|line| *line.run == *sight.row.name) else {
            return Footing::Unheard;
        };
        line.seen = State::of(&sight.row);
        line.began = now.checked_sub(sight.running_for).unwrap_or(now);
        line.estimate = sight.estimate;
        line.asleep = false;
        if line.told == State::Unheard {
            Footing::Unheard
        } else if line.told == line.seen {
            line.behind = 0;
            Footing::InStep
        } else {
            line.behind += 1;
            Footing::Behind(line.behind)
        }
    }

    /// `key` relies on being woken until it looks again.
    pub fn sleeps(&mut self, key: &ObjectKey) {
        if let Some(line) = self.lines.get_mut(key) {
            line.asleep = true;
        }
    }

    /// All who rely on being woken, and do not any more: those whose pipeline has at most so many followers.
    pub fn rouse(&mut self, company: usize) -> Vec<ObjectKey> {
        let pipelines = self.pipelines();
        let mut wake = Vec::new();
        for (key, line) in self.lines.iter_mut().filter(|(_, line)| line.asleep) {
            if pipelines
                .get(&line.pipeline)
                .is_none_or(|followers| *followers <= company)
            {
                line.asleep = false;
                wake.push(key.clone());
            }
        }
        wake
    }

    /// How many follow a run of the pipeline whose run `key` follows.
    pub fn company(&self, key: &ObjectKey) -> usize {
        let Some(line) = self.lines.get(key) else {
            return 0;
        };
        let same = |other: &&Line| other.pipeline == line.pipeline;
        self.lines.values().filter(same).count()
    }

    /// A row is new or changed: who is to look.
    pub fn changed(&mut self, row: &RunRow) -> Vec<ObjectKey> {
        self.tell(&row.name, &State::of(row))
    }

    /// A run is gone: who is to look.
    pub fn gone(&mut self, run: &str) -> Vec<ObjectKey> {
        self.tell(run, &State::Gone)
    }

    /// All rows of the project: who is to look. What is not among them is gone.
    pub fn all(&mut self, rows: &[RunRow]) -> Vec<ObjectKey> {
        self.list(rows, |_| true, true)
    }

    /// The newest rows of one pipeline, all of them where `complete`: who is to look.
    pub fn newest(&mut self, pipeline: &str, rows: &[RunRow], complete: bool) -> Vec<ObjectKey> {
        self.list(rows, |line| line.pipeline == pipeline, complete)
    }

    fn list(&mut self, rows: &[RunRow], about: impl Fn(&Line) -> bool, complete: bool) -> Vec<ObjectKey> {
        let by_name: HashMap<&str, &RunRow> = rows
            .iter()
            .filter(|row| self.followers.contains_key(row.name.as_str()))
            .map(|row| (row.name.as_str(), row))
            .collect();
        let mut wake = Vec::new();
        for (key, line) in self.lines.iter_mut().filter(|(_, line)| about(line)) {
            let state = match by_name.get(&*line.run) {
                Some(row) => State::of(row),
                None if complete => State::Gone,
                None => State::Unheard,
            };
            if line.hear(&state) {
                wake.push(key.clone());
            }
        }
        wake
    }

    fn tell(&mut self, run: &str, state: &State) -> Vec<ObjectKey> {
        let keys = self.followers.get(run).into_iter().flatten();
        let mut wake = Vec::new();
        for key in keys {
            if self.lines.get_mut(key).is_some_and(|line| line.hear(state)) {
                wake.push(key.clone());
            }
        }
        wake
    }
}

impl Line {
    /// Whether this is news to the follower.
    fn hear(&mut self, state: &State) -> bool {
        let news = self.told != *state && self.seen != *state && *state != State::Unheard;
        if self.told != *state {
            self.told = state.clone();
            self.behind = 0;
        }
        news
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
