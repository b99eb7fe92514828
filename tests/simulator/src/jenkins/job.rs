//! A job: what it declares, its queue and its builds.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::build::Build;
use super::plan::Plan;
use crate::clock::{Millis, Scale};
use crate::world::{BuildScript, Parameter};

/// A buildable job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) script: BuildScript,
    pub(crate) disable_concurrent: bool,
    pub(crate) keep_builds: Option<usize>,
    pub(crate) builds: BTreeMap<u64, Build>,
    pub(crate) next_number: u64,
    pub(crate) disabled: bool,
}

/// Why Jenkins refused a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TriggerError {
    pub(crate) code: u16,
    pub(crate) message: String,
}

impl TriggerError {
    fn bad(message: String) -> Self {
        Self { code: 400, message }
    }
}

impl Job {
    pub(crate) fn new(script: BuildScript, parameters: Vec<Parameter>) -> Self {
        Self {
            parameters,
            script,
            disable_concurrent: false,
            keep_builds: None,
            builds: BTreeMap::new(),
            next_number: 1,
            disabled: false,
        }
    }

    /// Checks the parameters of a trigger as Blue Ocean does and fills in the defaults (contract §6.5).
    pub(crate) fn complete(
        &self,
        sent: Option<&[(String, String)]>,
    ) -> Result<Vec<(String, String)>, TriggerError> {
        if self.disabled {
            return Err(TriggerError {
                code: 500,
                message: "Queue item request was not accepted".into(),
            });
        }
        if self.parameters.is_empty() {
            // A job that declares nothing ignores what it is sent.
            return Ok(Vec::new());
        }
        let sent =
            sent.ok_or_else(|| TriggerError::bad("This is parameterized job, requires parameters".into()))?;
        let mut all = Vec::new();
        for (name, value) in sent {
            let declared = self
                .parameters
                .iter()
                .find(|p| p.name == *name)
                .ok_or_else(|| TriggerError::bad(format!("No such parameter definition: {name}")))?;
            if declared
                .choices()
                .is_some_and(|choices| !choices.contains(&value.as_str()))
            {
                return Err(TriggerError::bad(format!(
                    "Invalid value for parameter {name}: {value}"
                )));
            }
            all.push((name.clone(), value.clone()));
        }
        for parameter in &self.parameters {
            if all.iter().any(|(n, _)| *n == parameter.name) {
                continue;
            }
            let default = parameter
                .default_value()
                .ok_or_else(|| TriggerError::bad(format!("Missing parameter: {}", parameter.name)))?;
            all.push((parameter.name.clone(), default.to_owned()));
        }
        Ok(all)
    }

    /// Puts a build into the queue, or folds it into an equal one that waits already. Says which, and whether it is
    /// a new one.
    pub(crate) fn enqueue(
        &mut self,
        parameters: Vec<(String, String)>,
        cause: &str,
        queue_id: u64,
        now: Millis,
        scale: Scale,
    ) -> (u64, bool) {
        let same = |build: &Build| {
            let mut a = build.parameters.clone();
            let mut b = parameters.clone();
            a.sort();
            b.sort();
            a == b
        };
        if let Some(waiting) = self.queued().find(|b| same(b)) {
            return (waiting.number, false);
        }
        let number = self.next_number;
        self.next_number += 1;
        let plan = Plan::new(&self.script, &parameters, scale);
        self.builds.insert(
            number,
            Build {
                number,
                queue_id,
                cause: cause.to_owned(),
                parameters,
                plan,
                queued_at: now,
                started_at: None,
                forced_end: None,
                answered_at: None,
                log: Arc::new(OnceLock::new()),
            },
        );
        (number, true)
    }

    pub(crate) fn queued(&self) -> impl Iterator<Item = &Build> {
        self.builds.values().filter(|b| b.started_at.is_none())
    }

    /// The number a client is told for a queued build when all of them are told the same one.
    pub(crate) fn expected_number(&self) -> Option<u64> {
        self.queued().map(|b| b.number).next()
    }

    fn running(&self, now: Millis) -> impl Iterator<Item = &Build> {
        self.builds
            .values()
            .filter(move |b| b.started_at.is_some() && b.end(now).is_none())
    }

    /// Starts what is due and discards what is too old; returns the started builds.
    pub(super) fn advance(&mut self, now: Millis) -> Vec<(u64, Millis)> {
        let mut started = Vec::new();
        let waiting: Vec<u64> = self.queued().map(|b| b.number).collect();
        for number in waiting {
            if self.disable_concurrent && self.running(now).next().is_some() {
                break;
            }
            let free = if self.disable_concurrent {
                self.builds.values().filter_map(|b| b.end(now)).max()
            } else {
                None
            };
            let Some(build) = self.builds.get_mut(&number) else {
                continue;
            };
            let due = (build.queued_at + build.plan.queue).max(free.unwrap_or(Millis::MIN));
            if due <= now {
                build.started_at = Some(due);
                started.push((number, due));
            }
        }
        if let Some(keep) = self.keep_builds {
            let over: Vec<u64> = self
                .builds
                .values()
                .filter(|b| b.end(now).is_some())
                .map(|b| b.number)
                .collect();
            for number in &over[..over.len().saturating_sub(keep)] {
                self.builds.remove(number);
            }
        }
        started
    }

    pub(super) fn next_due(&self, now: Millis) -> Option<Millis> {
        let waiting = self.queued().map(|b| b.queued_at + b.plan.queue).min()?;
        if !self.disable_concurrent || self.running(now).next().is_none() {
            return Some(waiting);
        }
        // A build that waits for a human has no foreseeable end.
        let end = self.running(now).map(Build::natural_end).max().flatten()?;
        Some(end.max(waiting))
    }

    /// Stops a build. `None`: there is no such build. `Some(true)`: it was queued and is gone.
    pub(crate) fn stop(&mut self, number: u64, now: Millis, queued_vanish: bool) -> Option<bool> {
        let build = self.builds.get_mut(&number)?;
        if build.started_at.is_none() {
            if queued_vanish {
                self.builds.remove(&number);
                return Some(true);
            }
            build.started_at = Some(build.queued_at);
            build.forced_end = Some((build.queued_at, "ABORTED".into()));
            return Some(false);
        }
        if build.end(now).is_none() {
            build.forced_end = Some((now, "ABORTED".into()));
        }
        Some(false)
    }
}
