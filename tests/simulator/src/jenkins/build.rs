//! One build and how it looks at a given moment.

use std::sync::{Arc, OnceLock};

use super::plan::Plan;
use crate::clock::Millis;

/// A build, queued, running or over.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    pub(crate) number: u64,
    pub(crate) queue_id: u64,
    /// `Started by user admin`, `Replayed #7`, …
    pub(crate) cause: String,
    /// All parameters: those sent first, then the defaults of the others.
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) plan: Plan,
    pub(crate) queued_at: Millis,
    pub(crate) started_at: Option<Millis>,
    /// Ended before its time: when, and with what result.
    pub(crate) forced_end: Option<(Millis, String)>,
    /// When its input was answered.
    pub(crate) answered_at: Option<Millis>,
    /// Rendered log without the last lines; made once.
    pub(super) log: Arc<OnceLock<Vec<u8>>>,
}

/// Blue Ocean's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    Running,
    Paused,
    Finished,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Finished => "FINISHED",
        }
    }
}

/// A build at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) result: String,
    pub(crate) start: Option<Millis>,
    pub(crate) end: Option<Millis>,
    /// Time since the start, up to the end.
    pub(crate) duration: Millis,
    /// Time spent building, without the waiting for a human.
    pub(crate) active: Millis,
    pub(crate) now: Millis,
}

impl View {
    pub(crate) fn finished(&self) -> bool {
        self.state == State::Finished
    }
}

impl Build {
    /// When it ends by itself, as far as that is known.
    pub(crate) fn natural_end(&self) -> Option<Millis> {
        let start = self.started_at?;
        let end = start + self.plan.active_total();
        match self.plan.pause() {
            None => Some(end),
            Some(pause) => self
                .answered_at
                .map(|answered| end + (answered - (start + pause)).max(0)),
        }
    }

    /// When it ended, if it has.
    pub(crate) fn end(&self, now: Millis) -> Option<Millis> {
        let natural = self.natural_end().filter(|end| *end <= now);
        match (&self.forced_end, natural) {
            (Some((forced, _)), Some(natural)) if natural <= *forced => Some(natural),
            (Some((forced, _)), _) => Some(*forced),
            (None, natural) => natural,
        }
    }

    pub(crate) fn view(&self, now: Millis) -> View {
        let Some(start) = self.started_at else {
            return View {
                state: State::Queued,
                result: "UNKNOWN".into(),
                start: None,
                end: None,
                duration: 0,
                active: 0,
                now,
            };
        };
        let end = self.end(now);
        let until = end.unwrap_or(now);
        let duration = (until - start).max(0);
        let (active, waiting) = match self.plan.pause() {
            Some(pause) if until > start + pause => match self.answered_at.filter(|a| *a <= until) {
                Some(answered) => (pause + (until - answered).max(0), false),
                None => (pause, true),
            },
            _ => (duration, false),
        };
        let (state, result) = match end {
            None if waiting => (State::Paused, "UNKNOWN".to_owned()),
            None => (State::Running, "UNKNOWN".to_owned()),
            Some(end) => {
                let result = match &self.forced_end {
                    Some((at, result)) if *at == end => result.clone(),
                    _ => self.plan.result.clone(),
                };
                (State::Finished, result)
            }
        };
        View {
            state,
            result,
            start: Some(start),
            end,
            duration,
            active,
            now,
        }
    }
}
