//! A build of Jenkins.

use jiff::Timestamp;

use crate::gateway::{JenkinsResult, JenkinsRun, JenkinsState, Parameter, RunId};

/// Seconds that a build waits in Jenkins' queue, and that it runs, where nobody interferes.
const QUEUE: i64 = 10;
const DURATION: i64 = 60;

/// A build of Jenkins.
#[derive(Clone, Debug)]
pub struct Build {
    pub pipeline: String,
    pub number: u64,
    pub parameters: Vec<Parameter>,
    pub state: JenkinsState,
    pub result: JenkinsResult,
    /// Its run object was removed by somebody else, or by the controller, as a duplicate. Nothing tells a controller then
    /// that its number is taken, so that another run may be given it: a limit of the remote.
    pub disowned: bool,
    /// Its event was sent.
    pub told: bool,
    /// Jenkins has forgotten it.
    pub gone: bool,
    /// It does not go on by itself.
    pub frozen: bool,
    /// The token that it was made for; None for a stranger's.
    pub token: Option<String>,
    /// Tokens of runs that Jenkins took for equal to this one in its queue: it is their build, too.
    pub also: Vec<String>,
    pub since: Timestamp,
    pub started: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl Build {
    /// One that was just put into the queue.
    pub fn queued(
        pipeline: &str,
        number: u64,
        parameters: Vec<Parameter>,
        token: Option<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            number,
            parameters,
            state: JenkinsState::Queued,
            result: JenkinsResult::Unknown,
            disowned: false,
            told: false,
            gone: false,
            frozen: false,
            token,
            also: vec![],
            since: now,
            started: None,
            ended: None,
        }
    }

    /// Whether it was made for this token.
    pub fn is_of(&self, token: &str) -> bool {
        self.token.as_deref() == Some(token) || self.also.iter().any(|t| t == token)
    }

    /// Whether it may still do something.
    pub fn is_alive(&self) -> bool {
        !self.gone && self.state != JenkinsState::Finished
    }

    /// As Jenkins tells it.
    pub fn seen(&self) -> JenkinsRun {
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

    /// Goes on by itself.
    pub fn move_on(&mut self, now: Timestamp) {
        let age = |since: Timestamp| now.duration_since(since).as_secs();
        if self.frozen || self.gone {
            return;
        }
        // Every other one finds an executor at once.
        let queue = if self.number.is_multiple_of(2) { 0 } else { QUEUE };
        if self.state == JenkinsState::Queued && age(self.since) >= queue {
            self.state = JenkinsState::Running;
            self.started = Some(now);
            self.since = now;
        } else if self.state == JenkinsState::Running && age(self.since) >= DURATION {
            self.end(JenkinsResult::Success, now);
        }
    }

    /// Ends so, if it has not ended yet.
    pub fn end(&mut self, result: JenkinsResult, now: Timestamp) {
        if self.state != JenkinsState::Finished {
            self.state = JenkinsState::Finished;
            self.result = result;
            self.started.get_or_insert(now);
            self.ended = Some(now);
        }
    }
}

/// What somebody would have to make up about a build that is gone, to take it for done.
pub fn vanished_well(id: &str, now: Timestamp) -> JenkinsRun {
    let mut build = Build::queued("", 0, vec![], None, now);
    build.end(JenkinsResult::Success, now);
    JenkinsRun {
        id: RunId::new(id).ok(),
        ..build.seen()
    }
}
