//! What must hold, by the numbers of design §3, checked at each write, after each reconcile, whenever time passes, and at
//! the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::{
    super::{
        decide::{Step, next_step},
        inputs, outcome, turns,
    },
    build::Build,
    ops::Setup,
    remote::Remote,
};
use crate::{
    api::{
        build_request::{
            BuildPhase, BuildRequest, CurrentRun, DeletionPolicy, Outcome, RunState, TriggerRung,
        },
        conditions::{ConditionType, Reason, find, is_true},
    },
    controllers::Tunables,
    gateway::{JenkinsResult, JenkinsState, Run},
};

/// The limits that the API promises.
const HISTORY: usize = 10;
const STAGES: usize = 64;
const BYTES: usize = 100 * 1024;

/// What appears at the last moment need not be seen.
const GLANCE: SignedDuration = SignedDuration::from_secs(5);

/// Rules that are broken on purpose (see [`super::breaks`]).
pub const ONE_BUILD: &str = "§3.2 one build per token";
pub const ONE_START: &str = "§3.2 a token is sent once";
pub const INTENT_FIRST: &str = "§3.2 the intent is written down before its effect";
pub const OURS: &str = "§3.2 a run that is adopted is ours";
pub const SERIALISED: &str = "§3 starts are serialised";
pub const STOPPED_FIRST: &str = "§3.6 what is deleted with its build is stopped before it goes";
pub const TRUE_OUTCOME: &str = "§3.7 an outcome is what Jenkins says";
pub const FOUND: &str = "§3.2 what can be found is not lost";
pub const NOT_SUSPENDED: &str = "§3.1 nothing starts while suspended";
pub const HARMLESS: &str = "§3 no run of others is removed";
pub const LOG_TRIED: &str = "§3.4 no log is given up untried";

/// The findings, and what they are found by.
#[derive(Default)]
pub struct Checks {
    /// Rule and case.
    pub violations: Vec<(String, String)>,
    /// Which inputs each object was ever asked for, by uid.
    wanted: BTreeMap<String, BTreeSet<(String, Option<String>)>>,
    /// Which tokens were sent, by uid.
    tokens: BTreeMap<String, BTreeSet<String>>,
    /// Tokens of which it was written down that their run had arrived.
    arrived: BTreeSet<String>,
    /// Tokens whose run was removed before that.
    unseen: BTreeSet<String>,
}

impl Checks {
    /// A rule is broken.
    pub fn violate(&mut self, rule: &str, case: &str) {
        if !self.violations.iter().any(|(r, _)| r == rule) {
            self.violations.push((rule.to_owned(), case.to_owned()));
        }
    }

    fn check(&mut self, rule: &str, holds: bool, case: impl FnOnce() -> String) {
        if !holds {
            let case = case();
            self.violate(rule, &case);
        }
    }

    /// A user asks for this.
    pub fn wanted(&mut self, object: &BuildRequest) {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let wanted = inputs::wanted(object);
        self.wanted
            .entry(uid)
            .or_default()
            .insert((wanted.digest, wanted.rerun));
    }

    /// The operator, whose process has been `alive` for so long, wrote `after` over `before`, which may have a newer spec
    /// than the operator has seen.
    pub fn written(
        &mut self,
        (before, after): (&BuildRequest, &BuildRequest),
        remote: &Remote,
        alive: SignedDuration,
    ) {
        let run = |o: &BuildRequest| o.status.as_ref().and_then(|s| s.run.clone());
        let (old, new) = (run(before), run(after));
        self.note_unseen(remote);
        if let Some(new) = &new {
            self.sent(before, old.as_ref(), new);
            if new.uid.is_some() {
                self.arrived.insert(new.token.clone());
            }
        }
        if let Some(old) = old.filter(|old| old.state == RunState::Ended) {
            let history = after
                .status
                .as_ref()
                .map(|s| s.history.as_slice())
                .unwrap_or_default();
            let same = new.as_ref().filter(|new| new.token == old.token);
            let kept = match same {
                Some(new) => {
                    new.state == RunState::Ended
                        && (new.outcome, &new.id, &new.ended_at) == (old.outcome, &old.id, &old.ended_at)
                }
                None => {
                    new.is_none()
                        || history
                            .iter()
                            .any(|past| past.token == old.token && past.outcome == old.outcome)
                }
            };
            self.check("§3.3 an ending is never taken back", kept, || {
                format!("{old:?} became {new:?}")
            });
            let other = new.as_ref().is_some_and(|new| new.token != old.token);
            let retry = new.as_ref().is_some_and(|new| new.attempt == old.attempt + 1);
            let wanted = inputs::wanted(before);
            let asked = old.inputs_digest == wanted.digest && old.rerun == wanted.rerun;
            self.check(
                "§3.1 what is done is not begun again unasked",
                !other || !asked || retry,
                || format!("{old:?} then {new:?}"),
            );
        }
        if log_is_given_up(after) && !log_is_given_up(before) {
            let build = after
                .status
                .as_ref()
                .and_then(|s| build_of(remote, s.run.as_ref()?));
            let tried = alive >= collect_deadline();
            self.check(LOG_TRIED, tried || build.is_none_or(|b| b.gone), || {
                format!("{build:?} after {alive:?}: {:?}", after.status)
            });
        }
        self.kstatus(after);
    }

    /// Where a run is removed before anybody saw it, by a person or by the controller as a duplicate, nobody can know that
    /// it had arrived: the stated limit of the remote.
    fn note_unseen(&mut self, remote: &Remote) {
        let removed = remote.disowned.iter().chain(&remote.dropped);
        self.unseen
            .extend(removed.filter(|t| !self.arrived.contains(*t)).cloned());
    }

    /// A run is about to be sent.
    fn sent(&mut self, stored: &BuildRequest, old: Option<&CurrentRun>, new: &CurrentRun) {
        let begins = new.state == RunState::Sending
            && old.is_none_or(|old| old.state != RunState::Sending || old.token != new.token);
        if !begins {
            return;
        }
        let uid = stored.metadata.uid.clone().unwrap_or_default();
        let case = || format!("{} {new:?}", stored.name_any());
        self.check(NOT_SUSPENDED, !stored.spec.suspend, case);
        self.check("§3.1 nothing starts when cancelled", !stored.spec.cancel, case);
        self.check(
            "§3.6 nothing starts after deletion",
            stored.metadata.deletion_timestamp.is_none(),
            case,
        );
        let known = self
            .wanted
            .get(&uid)
            .is_some_and(|w| w.contains(&(new.inputs_digest.clone(), new.rerun.clone())));
        self.check("§3.1 only what was asked for is started", known, case);
        let limit = stored.spec.retry.limit.max(2) + 1;
        self.check("§3.5 every retry has a limit", new.attempt <= limit, case);
        self.tokens.entry(uid).or_default().insert(new.token.clone());
        let current = stored.status.as_ref().and_then(|s| s.run.as_ref());
        let active = current.is_some_and(|r| matches!(r.state, RunState::Submitted | RunState::Started));
        self.check("§3.1 one run of an object at a time", !active, case);
    }

    /// The conditions of every status that is written (design §5).
    fn kstatus(&mut self, object: &BuildRequest) {
        use ConditionType::{Ready, Reconciling, Stalled, Succeeded};
        let Some(status) = &object.status else { return };
        let text = || format!("{} {:?} {:?}", object.name_any(), status.phase, status.conditions);
        let is = |kind| is_true(&status.conditions, kind);
        let has = |kind| find(&status.conditions, kind).is_some();
        self.check("§5 Ready is always there", has(Ready), text);
        self.check(
            "§5 Reconciling and Stalled only while true",
            has(Reconciling) == is(Reconciling) && has(Stalled) == is(Stalled),
            text,
        );
        self.check(
            "§5 never Reconciling and Stalled at once",
            !(is(Reconciling) && is(Stalled)),
            text,
        );
        self.check(
            "§5 Ready goes with neither",
            !is(Ready) || !(is(Reconciling) || is(Stalled)),
            text,
        );
        self.check(
            "§5 Succeeded says True only with Ready",
            !is(Succeeded) || is(Ready) || is(Stalled),
            text,
        );
        let seen = status
            .conditions
            .iter()
            .all(|c| c.observed_generation == status.observed_generation);
        self.check("§5 all conditions speak of one generation", seen, text);
        self.check(
            "§4 lists are bounded",
            status.history.len() <= HISTORY && status.stages.len() <= STAGES && status.conditions.len() <= 8,
            text,
        );
        let size = serde_json::to_vec(object).map_or(0, |json| json.len());
        self.check("§4 an object stays below 100 KiB", size < BYTES, text);
    }

    /// A run is being sent: its intent is written down, and no other start is on its way at the same place.
    pub fn start(
        &mut self,
        (object, run): (&BuildRequest, &CurrentRun),
        objects: &BTreeMap<String, BuildRequest>,
        remote: &Remote,
        now: Timestamp,
    ) {
        let stored = objects
            .get(&object.name_any())
            .filter(|o| o.uid() == object.uid());
        let intent = stored.and_then(|o| o.status.as_ref()?.run.as_ref());
        let written = intent.is_some_and(|i| i.token == run.token && i.state == RunState::Sending);
        self.check(INTENT_FIRST, stored.is_none() || written, || {
            format!("{run:?} but {intent:?}")
        });
        for other in objects.values() {
            let active = turns::contender(other, now)
                .filter(|r| !matches!(r.state, RunState::Ended | RunState::Intended))
                .filter(|r| r.pipeline == run.pipeline && r.token != run.token);
            let Some(active) = active else { continue };
            let alone = !remote.is_pending(&active.token) || remote.disowned.contains(&active.token);
            self.check(SERIALISED, alone, || format!("{run:?} beside {active:?}"));
        }
    }

    /// An object that is deleted is let go, after this process has `tried` to clean up for so long.
    pub fn let_go(&mut self, object: &BuildRequest, tried: SignedDuration, remote: &Remote) {
        let policy = object.spec.deletion_policy;
        let Some(run) = object.status.as_ref().and_then(|s| s.run.as_ref()) else {
            return;
        };
        let tried = Duration::try_from(tried).unwrap_or_default();
        let given_up = tried >= Tunables::default().cleanup_deadline;
        let strayed = remote.disowned.contains(&run.token) || remote.dropped.contains(&run.token);
        // Posted without a correlation parameter it is known by its parameters, and these were edited before it was seen: a
        // stated limit.
        let unknown = run.trigger == TriggerRung::Post
            && run.uid.is_none()
            && object.spec.correlation_parameter.is_none()
            && run.inputs_digest != inputs::wanted(object).digest;
        let never = run.state == RunState::Intended || strayed || unknown;
        if policy == DeletionPolicy::Retain || given_up || never {
            return;
        }
        let text = || format!("{policy:?} after {tried:?}: {run:?}");
        let over = run.state == RunState::Ended;
        self.check(STOPPED_FIRST, over || !remote.is_active(&run.token), text);
        let left =
            policy == DeletionPolicy::Delete && remote.runs_of(&run.token).any(|r| r.creator.is_some());
        self.check("§3.6 deletionPolicy Delete leaves no run", !left, text);
    }

    /// A reconcile is over; `waits` says whether the operator looks again by itself.
    pub fn after_reconcile(&mut self, object: &BuildRequest, waits: bool) {
        let settled = is_settled(object) || object.metadata.deletion_timestamp.is_some();
        self.check("§3.5 every wait has an end", settled || waits, || {
            format!("{} waits for nothing: {:?}", object.name_any(), object.status)
        });
    }

    /// Whenever time has passed.
    pub fn look(&mut self, setup: Setup, objects: &BTreeMap<String, BuildRequest>, remote: &Remote) {
        self.note_unseen(remote);
        for (token, builds) in remote.builds_by_token() {
            let once = builds <= 1 || self.unseen.contains(&token);
            self.check(ONE_BUILD, once, || format!("{builds} builds of token {token}"));
        }
        for (token, starts) in &remote.starts {
            let once = *starts <= 1 || self.unseen.contains(token);
            self.check(ONE_START, once, || format!("{starts} starts of token {token}"));
        }
        self.check(HARMLESS, remote.harmed.is_empty(), || {
            format!("{:?}", remote.harmed)
        });
        for object in objects.values() {
            let Some(run) = object.status.as_ref().and_then(|s| s.run.as_ref()) else {
                continue;
            };
            let Some(run_uid) = run.uid.as_deref() else {
                continue;
            };
            let removed = remote.dropped.contains(&run.token) || remote.disowned.contains(&run.token);
            let known = setup.correlated || (setup.may_create && !removed);
            // Where the controller or a person removed our run, nothing but its parameters tells which of the runs that Jenkins' events
            // make is ours: the stated limit of the remote.
            let stands_in = removed && !setup.correlated && remote.is_by_event(run_uid);
            let ours = if stands_in {
                true
            } else if known {
                remote.is_of(run_uid, &run.token) || remote.disowned.contains(&run.token)
            } else {
                // Equal runs under our login can only be told apart by whose they still are.
                let claimed = |other: &BuildRequest| {
                    let theirs = other.uid().and_then(|uid| self.tokens.get(&uid));
                    theirs.is_some_and(|tokens| tokens.iter().any(|t| remote.is_of(run_uid, t)))
                };
                let others = objects.values().filter(|o| o.uid() != object.uid());
                remote.is_of_somebody(run_uid) && !others.into_iter().any(claimed)
            };
            self.check(OURS, ours, || format!("{run:?}"));
        }
    }

    /// At the end, when nothing stands in the way any more and a long time has passed.
    pub fn at_the_end(&mut self, setup: Setup, objects: &BTreeMap<String, BuildRequest>, remote: &Remote) {
        for object in objects.values() {
            let text = || format!("{}: {:?}", object.name_any(), object.status);
            self.check(
                "§3.6 deletion does not hang",
                object.metadata.deletion_timestamp.is_none(),
                text,
            );
            self.check("§3.5 everything settles", is_settled(object), text);
            let Some(status) = &object.status else { continue };
            let Some(run) = status.run.as_ref().filter(|run| run.state == RunState::Ended) else {
                continue;
            };
            let build = build_of(remote, run);
            if let (Some(build), true) = (build, setup.correlated || setup.may_create) {
                self.check(OURS, build.is_of(&run.token) || build.disowned, || {
                    format!("{run:?} is followed as {build:?}")
                });
            }
            self.check(TRUE_OUTCOME, is_true_outcome(run, build), || {
                format!("{run:?} but {build:?}")
            });
            let asked = run.rerun == inputs::wanted(object).rerun
                && run.inputs_digest == inputs::wanted(object).digest;
            // One that was there before it was given up.
            let in_time = |r: &&Run| r.created < run.ended_at.as_ref().map(|at| at.0 - GLANCE);
            let there = remote.runs_of(&run.token).find(in_time);
            let lost = run.outcome == Some(Outcome::Lost) && run.id.is_none() && asked;
            self.check(
                FOUND,
                !lost || there.is_none() || remote.disowned.contains(&run.token),
                || format!("{run:?} but {there:?}"),
            );
            let here = build.is_some_and(|b| !b.gone);
            let log = status.log.as_ref().is_some_and(|log| log.complete);
            let told = log || log_is_given_up(object);
            self.check(
                "§3.4 no log is lost silently",
                told || !here || !is_settled(object),
                text,
            );
            self.phase(object, run);
        }
    }

    /// The table of design §5 for what is over.
    fn phase(&mut self, object: &BuildRequest, run: &CurrentRun) {
        let (Some(status), Some(outcome)) = (&object.status, run.outcome) else {
            return;
        };
        let is = |kind| is_true(&status.conditions, kind);
        let wanted = inputs::wanted(object);
        let asked = run.inputs_digest == wanted.digest && run.rerun == wanted.rerun;
        let done = matches!(
            status.phase,
            Some(BuildPhase::Succeeded | BuildPhase::Failed | BuildPhase::Cancelled)
        );
        if !asked || !done {
            return;
        }
        let good = outcome::is_success(outcome, &object.spec);
        let fits = is(ConditionType::Succeeded) == good
            && is(ConditionType::Ready) == good
            && is(ConditionType::Stalled) != good;
        self.check("§5 conditions say the outcome", fits, || {
            format!("{outcome:?}: {:?}", status.conditions)
        });
    }
}

fn build_of<'a>(remote: &'a Remote, run: &CurrentRun) -> Option<&'a Build> {
    let id = run.id.as_ref()?;
    remote
        .builds
        .iter()
        .find(|b| b.pipeline == run.pipeline && b.number.to_string() == *id)
}

/// Whether the status says that the log was not brought home in time.
fn log_is_given_up(object: &BuildRequest) -> bool {
    let conditions = object.status.as_ref().map(|s| s.conditions.as_slice());
    find(conditions.unwrap_or_default(), ConditionType::LogsArchived)
        .is_some_and(|c| c.reason == Reason::LogUnavailable.as_str())
}

fn collect_deadline() -> SignedDuration {
    SignedDuration::try_from(Tunables::default().collect_deadline).unwrap_or(SignedDuration::MAX)
}

/// Whether the outcome in a status is true. What we stopped may be told as stopped, what is gone as lost.
fn is_true_outcome(run: &CurrentRun, build: Option<&Build>) -> bool {
    let Some(outcome) = run.outcome else { return false };
    let stopped = run.stop.is_some();
    match (outcome, build) {
        (Outcome::Succeeded, Some(b)) => b.result == JenkinsResult::Success,
        (Outcome::Unstable, Some(b)) => b.result == JenkinsResult::Unstable,
        // Of a build that was collected before anybody looked only that it failed is known.
        (Outcome::Failed, Some(b)) => match b.result {
            JenkinsResult::Failure => true,
            JenkinsResult::Unstable | JenkinsResult::Aborted => b.gone,
            _ => false,
        },
        (Outcome::Aborted, Some(b)) => b.result == JenkinsResult::Aborted,
        (Outcome::Indeterminate, Some(b)) => {
            b.state == JenkinsState::Finished
                && matches!(b.result, JenkinsResult::NotBuilt | JenkinsResult::Unknown)
        }
        (Outcome::Lost, Some(b)) => b.gone,
        (Outcome::Lost | Outcome::TriggerFailed, None) => true,
        (Outcome::Cancelled | Outcome::TimedOut | Outcome::TriggerFailed, _) => stopped || run.id.is_none(),
        (Outcome::Skipped, _) | (_, None) => false,
    }
}

/// Whether an object has nothing left to do and says so: `Ready`, `Stalled`, or held back on purpose.
pub fn is_settled(object: &BuildRequest) -> bool {
    let Some(status) = &object.status else {
        return false;
    };
    let held = find(&status.conditions, ConditionType::Ready)
        .is_some_and(|c| c.reason == Reason::Suspended.as_str());
    let is = |kind| is_true(&status.conditions, kind);
    let speaks_of_it = status.observed_generation == object.metadata.generation;
    speaks_of_it
        && !is(ConditionType::Reconciling)
        && (is(ConditionType::Ready) || is(ConditionType::Stalled) || held)
}

/// Whether an object is done with, so that it costs nothing more.
pub fn is_at_rest(object: &BuildRequest, now: Timestamp) -> bool {
    object.metadata.deletion_timestamp.is_none() && matches!(next_step(object, now), Step::Rest { .. })
}
