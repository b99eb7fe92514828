//! The remote, as far as the life of runs goes: run objects, their controller, Jenkins (contract §6).
//!
//! It keeps what nobody can see from outside: which run token a run object was made for, and so which builds each token
//! cost.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{build::Build, ops::Mischief};
use crate::gateway::{JenkinsResult, JenkinsRun, JenkinsState, Parameter, Run, RunId, RunPhase};

/// So many seconds after the start of a build Jenkins' event makes a run object, if it has none (finding A2).
const EVENT: i64 = 5;
/// The controller looks at a build so often.
const POLL: i64 = 3;

/// The remote.
#[derive(Clone, Debug)]
pub struct Remote {
    now: Timestamp,
    pub runs: Vec<Run>,
    pub builds: Vec<Build>,
    /// The token that each run object was made for, by uid.
    tokens: BTreeMap<String, String>,
    /// Other tokens that it stands for: of a build that Jenkins made of several equal ones.
    also: BTreeMap<String, Vec<String>>,
    /// How many run objects the operator has made for each token.
    pub starts: BTreeMap<String, usize>,
    /// The controller does nothing.
    pub controller_down: bool,
    /// The controller cannot reach Jenkins, and nobody else can.
    pub jenkins_down: bool,
    /// No log can be read.
    pub logs_down: bool,
    made: u64,
    /// Tokens whose run object somebody else deleted.
    pub disowned: Vec<String>,
    /// Tokens whose run object the controller took for a duplicate.
    pub dropped: Vec<String>,
    /// Run objects of others that the operator removed.
    pub harmed: Vec<String>,
    /// Run objects that an event of Jenkins made, by uid.
    events: BTreeSet<String>,
    /// Creates that were sent and are carried out later.
    late: Vec<(Timestamp, Create)>,
    /// So long the next create is under way.
    pub delay: Option<SignedDuration>,
}

/// A create of a run object on its way.
#[derive(Clone, Debug)]
pub struct Create {
    pub name: Option<String>,
    pub pipeline: String,
    pub parameters: Vec<Parameter>,
    /// In whose name; None for an event of Jenkins.
    pub creator: Option<String>,
    /// What nobody can see: the token that it is made for; None for a stranger's.
    pub token: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

impl Remote {
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            runs: vec![],
            builds: vec![],
            tokens: BTreeMap::new(),
            also: BTreeMap::new(),
            starts: BTreeMap::new(),
            controller_down: false,
            jenkins_down: false,
            logs_down: false,
            made: 0,
            disowned: vec![],
            dropped: vec![],
            harmed: vec![],
            events: BTreeSet::new(),
            late: vec![],
            delay: None,
        }
    }

    /// Lets time go on to `now`.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = now;
        let late = std::mem::take(&mut self.late);
        for (at, create) in late {
            if at <= now {
                self.make(create);
            } else {
                self.late.push((at, create));
            }
        }
        for build in &mut self.builds {
            build.move_on(now);
        }
        self.events();
        if !self.controller_down {
            self.trigger();
            self.poll();
        }
    }

    /// Makes a run object, now or later. None: one of that name exists, or it is not made yet.
    pub fn make(&mut self, create: Create) -> Option<Run> {
        if let Some(delay) = self.delay.take() {
            self.late.push((self.now + delay, create));
            return None;
        }
        let Create {
            name,
            pipeline,
            parameters,
            creator,
            token,
            annotations,
        } = create;
        if name
            .as_ref()
            .is_some_and(|name| self.runs.iter().any(|r| r.name == *name))
        {
            return None;
        }
        self.made += 1;
        let uid = format!("uid-{}", self.made);
        let name = name.unwrap_or_else(|| format!("{pipeline}-x{}", self.made));
        if let Some(token) = token {
            if creator.is_some() {
                *self.starts.entry(token.clone()).or_default() += 1;
            }
            self.tokens.insert(uid.clone(), token);
        }
        let run = Run {
            name,
            uid,
            resource_version: "1".into(),
            created: Some(self.now),
            deleting: false,
            pipeline,
            branch: None,
            run_id: None,
            creator,
            parameters,
            phase: RunPhase::None,
            started: None,
            completed: None,
            updated: None,
            state: None,
            jenkins: None,
            orphan: false,
            annotations,
            labels: BTreeMap::new(),
        };
        self.runs.push(run.clone());
        Some(run)
    }

    /// Step 5 and 6 of the controller: gives new runs to Jenkins, and deletes those whose number is taken.
    fn trigger(&mut self) {
        if self.jenkins_down {
            return;
        }
        let waiting: Vec<_> = self
            .runs
            .iter()
            .filter(|r| r.run_id.is_none())
            .map(|r| r.uid.clone())
            .collect();
        for uid in waiting {
            let Some(index) = self.runs.iter().position(|r| r.uid == uid) else {
                continue;
            };
            let run = self.runs[index].clone();
            let queued =
                |b: &&Build| b.pipeline == run.pipeline && b.state == JenkinsState::Queued && !b.gone;
            let first = self.builds.iter().find(queued).map(|b| b.number);
            let is_equal = |b: &&mut Build| queued(&&**b) && b.parameters == run.parameters;
            let equal = self.builds.iter_mut().find(is_equal);
            let token = self.tokens.get(&uid).cloned();
            let swallowed = equal.is_some();
            if let Some(equal) = equal {
                equal.also.extend(token.clone());
            }
            // Jenkins answers every trigger while one is queued with the number of that one.
            let told = first.unwrap_or_else(|| self.next_number(&run.pipeline));
            if !swallowed {
                let number = self.next_number(&run.pipeline);
                let build = Build::queued(&run.pipeline, number, run.parameters.clone(), token, self.now);
                self.builds.push(build);
            }
            let id = RunId::new(told.to_string()).ok();
            let taken = self
                .runs
                .iter()
                .any(|r| r.pipeline == run.pipeline && r.run_id == id);
            if taken {
                self.dropped.extend(self.tokens.get(&uid).cloned());
                self.runs.remove(index);
                if let (false, Some(build)) = (swallowed, self.builds.last_mut()) {
                    build.disowned = true;
                }
            } else {
                let run = &mut self.runs[index];
                run.run_id = id;
                run.started = Some(self.now);
                run.updated = Some(self.now);
            }
        }
    }

    fn next_number(&self, pipeline: &str) -> u64 {
        self.builds
            .iter()
            .filter(|b| b.pipeline == pipeline)
            .map(|b| b.number)
            .max()
            .unwrap_or(0)
            + 1
    }

    /// Step 8: what Jenkins says of a build goes into its run object. A build that is gone freezes it.
    fn poll(&mut self) {
        if self.jenkins_down {
            return;
        }
        for run in &mut self.runs {
            let age = run.updated.map(|at| self.now.duration_since(at).as_secs());
            if run.completed.is_some()
                || run.run_id.is_none()
                || age.is_some_and(|age| age < POLL) && run.state.is_some()
            {
                continue;
            }
            let of_it = |b: &&Build| {
                b.pipeline == run.pipeline
                    && run
                        .run_id
                        .as_ref()
                        .is_some_and(|id| id.to_string() == b.number.to_string())
            };
            let Some(build) = self.builds.iter().find(of_it).filter(|b| !b.gone) else {
                continue;
            };
            run.updated = Some(self.now);
            run.state = Some(build.state.clone());
            run.jenkins = Some(build.seen());
            run.started = build.started;
            run.phase = match (&build.state, build.result) {
                (JenkinsState::Queued | JenkinsState::Running, _) => RunPhase::Running,
                (JenkinsState::Paused, _) => RunPhase::Pending,
                (_, JenkinsResult::Success) => RunPhase::Succeeded,
                (_, JenkinsResult::NotBuilt | JenkinsResult::Unknown) => RunPhase::Unknown,
                _ => RunPhase::Failed,
            };
            if build.state == JenkinsState::Finished {
                run.completed = Some(self.now);
            }
        }
    }

    /// A build starts, and Jenkins tells: where no run object has its number a while later, one is made, without a
    /// creator (contract §4.8).
    fn events(&mut self) {
        let now = self.now;
        let told = |b: &&mut Build| {
            !b.told
                && b.started
                    .is_some_and(|at| now.duration_since(at).as_secs() >= EVENT)
        };
        let mut started: Vec<Build> = Vec::new();
        for build in self.builds.iter_mut().filter(told) {
            build.told = true;
            started.push(build.clone());
        }
        started.retain(|b| {
            let id = b.number.to_string();
            let has =
                |r: &Run| r.pipeline == b.pipeline && r.run_id.as_ref().is_some_and(|i| i.to_string() == id);
            !self.runs.iter().any(has)
        });
        for build in started {
            let made = self.make(Create {
                name: None,
                pipeline: build.pipeline,
                parameters: build.parameters,
                creator: None,
                token: build.token,
                annotations: BTreeMap::new(),
            });
            if let Some(made) = made {
                self.events.insert(made.uid.clone());
                self.also.insert(made.uid.clone(), build.also);
                let run = self.runs.iter_mut().find(|r| r.uid == made.uid);
                if let Some(run) = run {
                    run.run_id = RunId::new(build.number.to_string()).ok();
                }
            }
        }
    }

    /// Whether nothing would change here by itself.
    pub fn is_idle(&self) -> bool {
        let stands = |b: &Build| {
            b.gone || b.frozen || matches!(b.state, JenkinsState::Finished | JenkinsState::Paused)
        };
        let of = |r: &Run| {
            let id = r.run_id.as_ref()?.to_string();
            self.builds
                .iter()
                .find(|b| b.pipeline == r.pipeline && b.number.to_string() == id)
        };
        // A run waits for the controller, or for a build that will not move.
        let waits =
            |r: &Run| of(r).is_some_and(|b| stands(b) && (b.gone || b.state != JenkinsState::Finished));
        let stuck = self.controller_down || self.jenkins_down;
        let quiet = |b: &Build| b.told || b.started.is_none();
        self.late.is_empty()
            && self.builds.iter().all(quiet)
            && self.builds.iter().all(stands)
            && self
                .runs
                .iter()
                .all(|r| stuck || r.completed.is_some() || waits(r))
    }

    /// A run object by name.
    pub fn run(&self, name: &str) -> Option<Run> {
        self.runs.iter().find(|r| r.name == name).cloned()
    }

    /// Deletes a run object; one that has a build takes it along, where Jenkins can be reached.
    pub fn delete(&mut self, name: &str, uid: Option<&str>) -> bool {
        let Some(index) = self
            .runs
            .iter()
            .position(|r| r.name == name && uid.is_none_or(|uid| uid == r.uid))
        else {
            return false;
        };
        let run = self.runs.remove(index);
        if !self.is_of_somebody(&run.uid) {
            self.harmed.push(run.name);
        }
        let Some(id) = run.run_id else { return true };
        if self.jenkins_down {
            // Its build goes on, and nobody can tell: a limit of the remote.
            self.disowned.extend(self.tokens.get(&run.uid).cloned());
        } else if let Some(build) = self.build_mut(&run.pipeline, &id.to_string()) {
            build.gone = true;
        }
        true
    }

    fn build_mut(&mut self, pipeline: &str, id: &str) -> Option<&mut Build> {
        self.builds
            .iter_mut()
            .find(|b| b.pipeline == pipeline && b.number.to_string() == id)
    }

    /// A build, as Jenkins tells it; None where it has none of that number.
    pub fn jenkins(&self, pipeline: &str, id: &str) -> Option<JenkinsRun> {
        let found = self
            .builds
            .iter()
            .find(|b| b.pipeline == pipeline && b.number.to_string() == id && !b.gone);
        found.map(Build::seen)
    }

    /// Stops a build. One in the queue vanishes (contract §6.2). False: there is none.
    pub fn stop(&mut self, pipeline: &str, id: &str) -> bool {
        let now = self.now;
        let Some(build) = self.build_mut(pipeline, id).filter(|b| !b.gone) else {
            return false;
        };
        if build.state == JenkinsState::Queued {
            build.gone = true;
        } else {
            build.end(JenkinsResult::Aborted, now);
        }
        true
    }

    /// Something happens there, to the `which`th of what it can happen to.
    pub fn happen(&mut self, what: Mischief, which: usize) {
        let now = self.now;
        match what {
            Mischief::DropRun | Mischief::Replace => {
                if self.runs.is_empty() {
                    return;
                }
                let index = which % self.runs.len();
                let run = self.runs.remove(index);
                self.disowned.extend(self.tokens.get(&run.uid).cloned());
                if let Some(id) = &run.run_id
                    && let Some(build) = self.build_mut(&run.pipeline, &id.to_string())
                {
                    build.disowned = true;
                }
                if what == Mischief::Replace {
                    self.stranger(Some(run.name), &run.pipeline, vec![]);
                }
            }
            Mischief::Collect => self.runs.retain(|r| r.completed.is_none()),
            _ => {
                let mut alive: Vec<_> = self.builds.iter_mut().filter(|b| !b.gone).collect();
                if alive.is_empty() {
                    return;
                }
                let index = which % alive.len();
                let build = &mut *alive[index];
                match what {
                    Mischief::Finish(result) => build.end(result, now),
                    Mischief::Freeze => build.frozen = !build.frozen,
                    Mischief::Vanish => build.gone = true,
                    Mischief::Pause if build.state == JenkinsState::Running => {
                        build.state = JenkinsState::Paused;
                    }
                    Mischief::Pause if build.state == JenkinsState::Paused => {
                        build.state = JenkinsState::Running;
                    }
                    Mischief::Pause | Mischief::DropRun | Mischief::Replace | Mischief::Collect => {}
                }
            }
        }
    }

    /// All obstacles away: what is left goes to its end.
    pub fn heal(&mut self) {
        (self.controller_down, self.jenkins_down, self.logs_down) = (false, false, false);
        for build in &mut self.builds {
            build.frozen = false;
            if build.state == JenkinsState::Paused {
                build.state = JenkinsState::Running;
            }
        }
    }

    /// A stranger makes a run object, of this name or of any.
    pub fn stranger(&mut self, name: Option<String>, pipeline: &str, parameters: Vec<Parameter>) {
        let _ = self.make(Create {
            name,
            pipeline: pipeline.to_owned(),
            parameters,
            creator: Some("eve".into()),
            token: None,
            annotations: BTreeMap::new(),
        });
    }

    /// Whether the run object of this uid was made for this token, or stands for it.
    pub fn is_of(&self, uid: &str, token: &str) -> bool {
        let also = self
            .also
            .get(uid)
            .is_some_and(|also| also.iter().any(|t| t == token));
        also || self.tokens.get(uid).is_some_and(|t| t == token)
    }

    /// Whether the run object of this uid was made for any token, or stands for one.
    pub fn is_of_somebody(&self, uid: &str) -> bool {
        self.tokens.contains_key(uid) || self.also.get(uid).is_some_and(|also| !also.is_empty())
    }

    /// Whether an event of Jenkins made the run object of this uid.
    pub fn is_by_event(&self, uid: &str) -> bool {
        self.events.contains(uid)
    }

    /// The run objects of this token that are there.
    pub fn runs_of<'a>(&'a self, token: &'a str) -> impl Iterator<Item = &'a Run> {
        let is_its = move |r: &&Run| self.tokens.get(&r.uid).is_some_and(|t| t == token);
        self.runs.iter().filter(is_its)
    }

    /// Whether another start could swallow the run of this token, or be swallowed by it: it was not given to Jenkins yet,
    /// or waits in its queue.
    pub fn is_pending(&self, token: &str) -> bool {
        let queued = |b: &Build| b.token.as_deref() == Some(token) && b.state == JenkinsState::Queued;
        self.runs_of(token).any(|r| r.run_id.is_none()) || self.builds.iter().any(|b| !b.gone && queued(b))
    }

    /// Whether something is still done for this token, or may be.
    pub fn is_active(&self, token: &str) -> bool {
        let its = |b: &Build| b.token.as_deref() == Some(token) && b.is_alive();
        self.is_pending(token) || self.builds.iter().any(its)
    }

    /// How many builds were made for each token.
    pub fn builds_by_token(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for token in self.builds.iter().filter_map(|b| b.token.clone()) {
            *count.entry(token).or_default() += 1;
        }
        count
    }
}
