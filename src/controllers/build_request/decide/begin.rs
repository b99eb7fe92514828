//! A run is wanted and nothing was sent yet.

use super::{Act, Decision, Situation, Standing, Wake, hindered};
use crate::{
    api::{
        build_request::{
            BuildPhase, BuildRequestStatus, CurrentRun, PastRun, QueuePosition, RunState, TriggerRung,
        },
        conditions::Reason,
    },
    controllers::build_request::{inputs, turns::InLine},
    gateway::{EncodedBranch, GitBranch, Parameter, Pipeline, ProjectName},
    sinks::log::MIN_MASKED,
    trouble::Trouble,
};

/// All that must be known before a run is sent.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// The gateway, by its endpoint.
    pub endpoint: String,
    /// The cluster; None is the host.
    pub cluster: Option<String>,
    /// The project, by its full name.
    pub project: ProjectName,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The branch, both ways, of a multi-branch pipeline.
    pub branch: Option<(GitBranch, EncodedBranch)>,
    /// The parameters with their values, checked.
    pub parameters: Vec<Parameter>,
    /// The pipeline declares no parameters yet, so that its first run may ignore ours (contract §8.30).
    pub undeclared: bool,
    /// The names of the parameters whose values came from Secrets.
    pub secret_parameters: Vec<String>,
    /// Those whose values are too short to be kept out of the log.
    pub unmaskable: Vec<String>,
    /// The rung to take.
    pub rung: TriggerRung,
    /// The user in whose name the run is started.
    pub user: String,
    /// Whether it is our turn.
    pub turn: Turn,
}

/// Whether it is our turn to start a run: starts are serialised per gateway, cluster, project, pipeline and branch
/// (design §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is.
    Ours,
    /// So many wait before us, and this one is being started.
    After {
        /// Where we stand among those who wait for the same pipeline and branch.
        line: InLine,
        /// `namespace/name` of the one being started.
        holder: String,
    },
    /// The connection has as many active runs as it may have.
    Full {
        /// `spec.limits.concurrentRuns`.
        limit: u32,
        /// Where we stand among those who wait for the connection.
        line: InLine,
    },
}

/// How many past runs are kept.
const HISTORY: usize = 10;

/// Decides on a run that is wanted.
pub fn decide(situation: &Situation<'_>, attempt: u32, seen: &Result<Preflight, Trouble>) -> Decision {
    let ready = match seen {
        Ok(ready) => ready,
        Err(trouble) => {
            let mut decision = hindered(situation, trouble);
            if let Standing::Stuck { phase, .. } | Standing::Busy { phase, .. } = &mut decision.standing {
                *phase = BuildPhase::Pending;
            }
            return decision;
        }
    };
    wait(situation, &ready.turn).unwrap_or_else(|| send(situation, attempt, ready))
}

/// Stands in line; None where it is our turn. What it says changes with what is shown of the place in the line and not more
/// often, so that many who wait cost few writes.
pub fn wait(situation: &Situation<'_>, turn: &Turn) -> Option<Decision> {
    let (line, why) = match turn {
        Turn::Ours => return None,
        Turn::After { line, holder } if line.is_exact() => (
            line,
            format!(
                "{holder} is being started on the same pipeline and branch, and the remote would drop a second start"
            ),
        ),
        Turn::After { line, .. } => (
            line,
            "builds of the same pipeline and branch are started one after the other".to_owned(),
        ),
        Turn::Full { limit, line } => (
            line,
            format!(
                "the connection has {limit} active runs, as many as its spec.limits.concurrentRuns allows"
            ),
        ),
    };
    let shown = line.shown();
    let about = if line.is_exact() { "" } else { "about " };
    let QueuePosition { position, of } = shown;
    let mut status = situation.status();
    status.queue = Some(shown);
    Some(Decision::wait(
        status,
        Standing::Busy {
            phase: BuildPhase::Queued,
            reason: Reason::Queued,
            message: format!("{about}position {position} of {of} in the queue: {why}"),
        },
        Wake::After(line.look_in()),
    ))
}

/// Writes the intent down, then sends.
fn send(situation: &Situation<'_>, attempt: u32, ready: &Preflight) -> Decision {
    let mut status = situation.status();
    let run = intended(situation, attempt, ready, &status);
    let message = format!("starting {}", super::title(&run));
    if let Some(past) = status.run.take() {
        remember(&mut status, past, &run.token);
    }
    status.run = Some(run);
    status.stages.clear();
    status.input = None;
    status.failure = None;
    status.log = None;
    status.next_attempt_at = None;
    let act = match ready.rung {
        TriggerRung::ChosenName => Act::Create,
        TriggerRung::Post => Act::Post,
    };
    let mut decision = Decision::wait(
        status,
        Standing::Busy {
            phase: BuildPhase::Pending,
            reason: Reason::Starting,
            message,
        },
        Wake::Now,
    )
    .act(act);
    if ready.undeclared && !ready.parameters.is_empty() {
        decision = decision.note(
            true,
            Reason::ParametersMayBeIgnored,
            format!(
                "pipeline {:?} declares no parameters yet: its first run may ignore the ones given. Declare them in the \
                 pipeline, or rerun this BuildRequest once Jenkins has read them from the Jenkinsfile",
                ready.pipeline.name
            ),
        );
    }
    if !ready.unmaskable.is_empty() {
        decision = decision.note(
            true,
            Reason::SecretTooShort,
            format!(
                "parameter {}: the value in the Secret is shorter than {MIN_MASKED} characters, so that it is not masked in \
                 the log where the pipeline prints it",
                ready.unmaskable.join(", ")
            ),
        );
    }
    decision
}

fn intended(
    situation: &Situation<'_>,
    attempt: u32,
    ready: &Preflight,
    status: &BuildRequestStatus,
) -> CurrentRun {
    let object = situation.object;
    let wanted = inputs::wanted(object);
    let token = inputs::next_token(object, attempt);
    // A repeat of the same intent keeps the time at which it was first written down.
    let intended_at = status
        .run
        .as_ref()
        .filter(|run| run.token == token)
        .map_or_else(|| situation.time(), |run| run.intended_at.clone());
    CurrentRun {
        name: (ready.rung == TriggerRung::ChosenName).then(|| inputs::run_name(&ready.pipeline.name, &token)),
        token,
        attempt,
        inputs_digest: wanted.digest,
        rerun: wanted.rerun,
        state: RunState::Sending,
        trigger: ready.rung,
        endpoint: Some(ready.endpoint.clone()),
        cluster: ready.cluster.clone(),
        project: ready.project.to_string(),
        pipeline: ready.pipeline.name.clone(),
        branch: ready.branch.as_ref().map(|(git, _)| git.to_string()),
        encoded_branch: ready.branch.as_ref().map(|(_, encoded)| encoded.to_string()),
        uid: None,
        id: None,
        phase: None,
        result: None,
        dequeued: false,
        commit: None,
        outcome: None,
        intended_at,
        sent_at: Some(situation.time()),
        missing_since: None,
        stop: None,
        start_time: None,
        completion_time: None,
        duration: None,
        ended_at: None,
        secret_parameters: ready.secret_parameters.clone(),
    }
}

/// Puts a run that is over into the bounded history.
fn remember(status: &mut BuildRequestStatus, past: CurrentRun, next_token: &str) {
    if past.state != RunState::Ended || past.token == next_token {
        return;
    }
    status.history.insert(
        0,
        PastRun {
            token: past.token,
            attempt: past.attempt,
            inputs_digest: Some(past.inputs_digest),
            name: past.name,
            id: past.id,
            outcome: past.outcome,
            start_time: past.start_time,
            completion_time: past.completion_time,
        },
    );
    status.history.truncate(HISTORY);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{RERUN_REQUESTED_AT, build_request::Outcome},
        controllers::build_request::decide::testing::{object, settled, situation},
        gateway::PipelineKind,
    };

    fn preflight(rung: TriggerRung, turn: Turn) -> Preflight {
        Preflight {
            endpoint: "https://ks.example.com".into(),
            cluster: None,
            project: ProjectName::new("shopx7k2p").unwrap(),
            pipeline: Pipeline {
                name: "build".into(),
                uid: "u".into(),
                kind: PipelineKind::MultiBranch,
                spec: serde_json::json!({}),
                synced: true,
                creator: None,
                serial: false,
                parameters: None,
                deleting: false,
            },
            branch: Some((GitBranch::new("main"), EncodedBranch::from_remote("main"))),
            parameters: vec![Parameter {
                name: "VERSION".into(),
                value: "1".into(),
            }],
            undeclared: false,
            secret_parameters: vec![],
            unmaskable: vec![],
            rung,
            user: "robo".into(),
            turn,
        }
    }

    #[test]
    fn the_intent_is_written_before_it_is_sent_on_both_rungs() {
        for (rung, act, named) in [
            (TriggerRung::ChosenName, Act::Create, true),
            (TriggerRung::Post, Act::Post, false),
        ] {
            let decision = decide(&situation(&object()), 1, &Ok(preflight(rung, Turn::Ours)));
            let run = decision.status.run.expect("an intent");
            assert_eq!(decision.act, act);
            assert_eq!(run.state, RunState::Sending);
            assert_eq!(run.name.is_some(), named);
            assert!(run.sent_at.is_some());
        }
    }

    #[test]
    fn the_intent_says_where_the_turn_was_asked_for() {
        use crate::controllers::build_request::turns::Place;
        for cluster in [None, Some("member-1".to_owned())] {
            let ready = Preflight {
                cluster: cluster.clone(),
                ..preflight(TriggerRung::Post, Turn::Ours)
            };
            let run = decide(&situation(&object()), 1, &Ok(ready.clone()))
                .status
                .run
                .expect("an intent");
            assert_eq!(
                Place::of(&run),
                Place {
                    endpoint: Some(ready.endpoint),
                    cluster,
                    project: "shopx7k2p".into(),
                    pipeline: "build".into(),
                    branch: Some("main".into()),
                }
            );
        }
    }

    #[test]
    fn nothing_is_sent_out_of_turn() {
        for turn in [
            Turn::After {
                line: InLine::new(2, 3),
                holder: "team/a".into(),
            },
            Turn::Full {
                limit: 3,
                line: InLine::new(2, 3),
            },
        ] {
            let decision = decide(
                &situation(&object()),
                1,
                &Ok(preflight(TriggerRung::ChosenName, turn.clone())),
            );
            assert_eq!(decision.act, Act::Nothing, "{turn:?}");
            assert_eq!(decision.status.run, None, "{turn:?}");
            let queue = QueuePosition { position: 2, of: 3 };
            assert_eq!(decision.status.queue, Some(queue), "{turn:?}");
            assert!(
                matches!(
                    decision.standing,
                    Standing::Busy {
                        phase: BuildPhase::Queued,
                        ..
                    }
                ),
                "{turn:?}"
            );
        }
    }

    #[test]
    fn trouble_sends_nothing_and_keeps_the_last_run() {
        let object = settled(Outcome::Failed);
        for (trouble, stuck) in [
            (Trouble::user(Reason::ProjectAmbiguous, "two"), true),
            (Trouble::passing(Reason::RemoteUnavailable, "down"), false),
        ] {
            let decision = decide(&situation(&object), 1, &Err(trouble));
            assert_eq!(decision.act, Act::Nothing);
            assert_eq!(decision.status.run, object.status.as_ref().unwrap().run);
            assert_eq!(matches!(decision.standing, Standing::Stuck { .. }), stuck);
        }
    }

    #[test]
    fn a_rerun_has_another_token_and_the_last_run_goes_into_the_history() {
        let mut object = settled(Outcome::Failed);
        object.metadata.annotations = Some([(RERUN_REQUESTED_AT.into(), "now".into())].into());
        let last = object.status.clone().unwrap().run.unwrap();
        let decision = decide(
            &situation(&object),
            1,
            &Ok(preflight(TriggerRung::ChosenName, Turn::Ours)),
        );
        assert_ne!(decision.status.run.unwrap().token, last.token);
        assert_eq!(decision.status.history[0].token, last.token);
        assert_eq!(decision.status.history[0].outcome, Some(Outcome::Failed));
    }

    #[test]
    fn the_history_is_bounded() {
        let mut object = settled(Outcome::Failed);
        for n in 0..30 {
            object.metadata.annotations = Some([(RERUN_REQUESTED_AT.into(), n.to_string())].into());
            let decision = decide(
                &situation(&object),
                1,
                &Ok(preflight(TriggerRung::Post, Turn::Ours)),
            );
            object.status = Some(decision.status);
            object.status.as_mut().unwrap().run.as_mut().unwrap().state = RunState::Ended;
        }
        assert_eq!(object.status.unwrap().history.len(), HISTORY);
    }

    #[test]
    fn secret_parameters_are_written_down_by_name_and_short_ones_warned_of() {
        let mut ready = preflight(TriggerRung::Post, Turn::Ours);
        ready.secret_parameters = vec!["TOKEN".into(), "PIN".into()];
        let decision = decide(&situation(&object()), 1, &Ok(ready.clone()));
        assert_eq!(decision.status.run.unwrap().secret_parameters, ["TOKEN", "PIN"]);
        assert!(decision.notes.is_empty());
        ready.unmaskable = vec!["PIN".into()];
        let decision = decide(&situation(&object()), 1, &Ok(ready));
        assert_eq!(decision.notes[0].reason, Reason::SecretTooShort);
        assert!(decision.notes[0].warning && decision.notes[0].message.contains("parameter PIN:"));
    }

    #[test]
    fn undeclared_parameters_are_warned_of_only_where_some_are_given() {
        let mut ready = preflight(TriggerRung::ChosenName, Turn::Ours);
        ready.undeclared = true;
        let decision = decide(&situation(&object()), 1, &Ok(ready.clone()));
        assert_eq!(decision.notes[0].reason, Reason::ParametersMayBeIgnored);
        ready.parameters.clear();
        assert!(decide(&situation(&object()), 1, &Ok(ready)).notes.is_empty());
    }

    #[test]
    fn the_same_intent_gives_the_same_token_and_name() {
        let object = object();
        let one = decide(
            &situation(&object),
            1,
            &Ok(preflight(TriggerRung::ChosenName, Turn::Ours)),
        );
        let two = decide(
            &situation(&object),
            1,
            &Ok(preflight(TriggerRung::ChosenName, Turn::Ours)),
        );
        let three = decide(
            &situation(&object),
            2,
            &Ok(preflight(TriggerRung::ChosenName, Turn::Ours)),
        );
        assert_eq!(one.status.run, two.status.run);
        assert_ne!(one.status.run.unwrap().name, three.status.run.unwrap().name);
    }
}
