//! The remote, as far as the life of runs goes: run objects, their controller, Jenkins (contract §6).
//!
//! It keeps what nobody can see from outside: which run token a run object was made for, and so which builds each token
//! cost.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::gateway::{JenkinsResult, JenkinsRun, JenkinsState, Parameter, Run, RunId, RunPhase};

/// Seconds that a build waits in Jenkins' queue, and that it runs, where nobody interferes.
const QUEUE: i64 = 10;
const DURATION: i64 = 60;
/// After so many seconds Jenkins' event makes a run object for a build that has none (finding A2).
const EVENT: i64 = 5;
/// The controller looks at a build so often.
const POLL: i64 = 3;

/// A build of Jenkins.
#[derive(Clone, Debug)]
pub struct Build {
    pub pipeline: String,
    pub number: u64,
    pub parameters: Vec<Parameter>,
    pub state: JenkinsState,
    pub result: JenkinsResult,
    /// Jenkins has forgotten it.
    pub gone: bool,
    /// It goes on by itself.
    frozen: bool,
    /// The token that it was made for; None for a stranger's.
    pub token: Option<String>,
    since: Timestamp,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl Build {
    fn seen(&self) -> JenkinsRun {
        JenkinsRun {
            id: RunId::new(self.number.to_string()).ok(),
            state: self.state.clone(),
            result: self.result,
            queued: None,
            started: self.started,
            ended: self.ended,
            duration_ms: None,
            estimated_ms: None,
            commit: None,
            causes: vec![],
            blocked: None,
            has_artifacts: false,
            summary: None,
        }
    }

    fn move_on(&mut self, now: Timestamp) {
        let age = |since: Timestamp| now.duration_since(since).as_secs();
        if self.frozen || self.gone {
            return;
        }
        if self.state == JenkinsState::Queued && age(self.since) >= QUEUE {
            self.state = JenkinsState::Running;
            self.started = Some(now);
            self.since = now;
        } else if self.state == JenkinsState::Running && age(self.since) >= DURATION {
            self.end(JenkinsResult::Success, now);
        }
    }

    fn end(&mut self, result: JenkinsResult, now: Timestamp) {
        if self.state != JenkinsState::Finished {
            self.state = JenkinsState::Finished;
            self.result = result;
            self.started.get_or_insert(now);
            self.ended = Some(now);
        }
    }
}

/// What a person or the world does to builds and run objects on the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// A build ends so.
    Finish(JenkinsResult),
    /// A build stops moving, or moves again.
    Freeze,
    /// A build waits for a person, or goes on.
    Pause,
    /// Jenkins forgets a build.
    Vanish,
    /// A run object is deleted by somebody else.
    DropRun,
    /// Run objects that are over are collected.
    Collect,
}

/// The remote.
#[derive(Clone, Debug)]
pub struct Remote {
    now: Timestamp,
    pub runs: Vec<Run>,
    pub builds: Vec<Build>,
    /// The token that each run object was made for, by uid.
    tokens: BTreeMap<String, String>,
    /// The controller does nothing.
    pub controller_down: bool,
    /// The controller cannot reach Jenkins, and nobody else can.
    pub jenkins_down: bool,
    made: u64,
    /// Tokens whose run object somebody else deleted. Nothing tells a controller that its number is taken then, so that
    /// the next run may be given it: a limit of the remote.
    pub disowned: Vec<String>,
    /// Run objects of ours that the controller took for duplicates.
    pub deduplicated: Vec<String>,
}

impl Remote {
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            runs: vec![],
            builds: vec![],
            tokens: BTreeMap::new(),
            controller_down: false,
            jenkins_down: false,
            made: 0,
            disowned: vec![],
            deduplicated: vec![],
        }
    }

    /// Lets time go on to `now`.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = now;
        for build in &mut self.builds {
            build.move_on(now);
        }
        self.events();
        if !self.controller_down {
            self.trigger();
            self.poll();
        }
    }

    /// Makes a run object for `token`. None: one of that name exists.
    pub fn make(
        &mut self,
        name: Option<String>,
        pipeline: &str,
        parameters: Vec<Parameter>,
        creator: Option<&str>,
        token: Option<&str>,
        annotations: BTreeMap<String, String>,
    ) -> Option<Run> {
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
            self.tokens.insert(uid.clone(), token.to_owned());
        }
        let run = Run {
            name,
            uid,
            resource_version: "1".into(),
            created: Some(self.now),
            deleting: false,
            pipeline: pipeline.into(),
            branch: None,
            run_id: None,
            creator: creator.map(Into::into),
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
            let equal = self
                .builds
                .iter()
                .filter(queued)
                .any(|b| b.parameters == run.parameters);
            // Jenkins answers every trigger while one is queued with the number of that one.
            let told = first.unwrap_or_else(|| self.next_number(&run.pipeline));
            if !equal {
                let number = self.next_number(&run.pipeline);
                let token = self.tokens.get(&uid).cloned();
                self.builds.push(Build {
                    pipeline: run.pipeline.clone(),
                    number,
                    parameters: run.parameters.clone(),
                    state: JenkinsState::Queued,
                    result: JenkinsResult::Unknown,
                    gone: false,
                    frozen: false,
                    token,
                    since: self.now,
                    started: None,
                    ended: None,
                });
            }
            let id = RunId::new(told.to_string()).ok();
            let taken = self
                .runs
                .iter()
                .any(|r| r.pipeline == run.pipeline && r.run_id == id);
            if taken {
                self.deduplicated.extend(self.tokens.get(&uid).cloned());
                self.runs.remove(index);
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

    /// Jenkins' event makes a run object for a build that has none: without a creator, defaults filled in.
    fn events(&mut self) {
        let missing: Vec<_> = self
            .builds
            .iter()
            .filter(|b| {
                !b.gone
                    && self.now.duration_since(b.since).as_secs() >= EVENT
                    && b.state == JenkinsState::Queued
            })
            .filter(|b| {
                !self.runs.iter().any(|r| {
                    r.pipeline == b.pipeline
                        && r.run_id
                            .as_ref()
                            .is_some_and(|id| id.to_string() == b.number.to_string())
                })
            })
            .cloned()
            .collect();
        for build in missing {
            if let Some(made) = self.make(
                None,
                &build.pipeline,
                build.parameters.clone(),
                None,
                build.token.as_deref(),
                BTreeMap::new(),
            ) {
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
        self.builds.iter().all(stands)
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
        if let Some(id) = run.run_id.filter(|_| !self.jenkins_down)
            && let Some(build) = self.build_mut(&run.pipeline, &id.to_string())
        {
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
            Mischief::DropRun => {
                if !self.runs.is_empty() {
                    let index = which % self.runs.len();
                    let run = self.runs.remove(index);
                    self.disowned.extend(self.tokens.get(&run.uid).cloned());
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
                    Mischief::Pause | Mischief::DropRun | Mischief::Collect => {}
                }
            }
        }
    }

    /// All obstacles away: what is left goes to its end.
    pub fn heal(&mut self) {
        (self.controller_down, self.jenkins_down) = (false, false);
        for build in &mut self.builds {
            build.frozen = false;
            if build.state == JenkinsState::Paused {
                build.state = JenkinsState::Running;
            }
        }
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
