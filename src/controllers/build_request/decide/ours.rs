//! Which run on the remote is ours: by its chosen name and token, or by what was sent.

use std::collections::BTreeSet;

use crate::{
    api::build_request::{BuildRequest, CurrentRun, TriggerRung},
    gateway::{EncodedBranch, Run},
    runtime::ObjectKey,
};

/// The annotation that our runs bear on the remote: the run token.
pub const TOKEN_ANNOTATION: &str = "tenantry.dev/run-token";

/// Whether looking by name makes sense: the run had a name of our choice.
pub fn has_chosen_name(run: &CurrentRun) -> bool {
    run.trigger == TriggerRung::ChosenName && run.name.is_some()
}

/// Whether a run that bears our chosen name is ours: the name is derived from the token, but anybody could have used
/// it, so the annotation must agree. The controller on the remote may lose annotations (contract §6.2), the uid stays.
pub fn is_ours(named: &Run, run: &CurrentRun) -> bool {
    let by_uid = run.uid.as_deref() == Some(named.uid.as_str());
    let by_token = named.annotations.get(TOKEN_ANNOTATION) == Some(&run.token);
    by_uid || by_token
}

/// What to tell people where a run of our chosen name is not ours.
pub fn name_is_taken(named: &Run, run: &CurrentRun) -> String {
    format!(
        "a PipelineRun {:?} exists in project {} and is not ours: delete it there, or ask for a rerun",
        named.name, run.project
    )
}

/// Whether what bears the name of `run` now is still that run, and not another one that somebody made under its name.
pub fn is_same(seen: &Run, run: &CurrentRun) -> bool {
    run.uid.as_deref().is_none_or(|uid| uid == seen.uid)
}

/// Whether `candidate` could be the run that was sent by POST, or the twin that Jenkins' event made of it.
///
/// With a correlation parameter its value tells. Without one: started by us after we sent it, on the same branch, with
/// the same parameters.
pub fn could_be(candidate: &Run, run: &CurrentRun, asked: &Asked<'_>) -> bool {
    if candidate.deleting || candidate.pipeline != run.pipeline {
        return false;
    }
    if candidate.branch.as_ref().map(EncodedBranch::as_str) != run.encoded_branch.as_deref() {
        return false;
    }
    if let Some(name) = asked.correlation {
        return candidate.parameter(name) == Some(run.token.as_str());
    }
    let sent = run.sent_at.as_ref().map_or(run.intended_at.0, |at| at.0);
    let early = sent - jiff::SignedDuration::from_secs(CLOCK_SKEW_SECONDS);
    let in_time = candidate.created.is_some_and(|created| created >= early);
    let by_us = match asked.creator {
        Some(user) => candidate.creator.as_deref() == Some(user),
        None => candidate.creator.is_none(),
    };
    let same = asked
        .parameters
        .iter()
        .all(|p| candidate.parameter(&p.name) == Some(p.value.as_str()));
    // A run made by Jenkins' event has all defaults filled in; one that was posted has just what was sent.
    let nothing_more = asked.creator.is_none() || candidate.parameters.len() == asked.parameters.len();
    in_time && by_us && same && nothing_more
}

/// Those of `runs` that could be the one that was sent.
pub fn candidates(runs: Vec<Run>, run: &CurrentRun, asked: &Asked<'_>) -> Vec<Run> {
    let mut candidates: Vec<_> = runs
        .into_iter()
        .filter(|seen| could_be(seen, run, asked))
        .collect();
    // One that Jenkins' event made of the same build bears our correlation value too (finding A2).
    if candidates.len() > 1 && candidates.iter().filter(|c| c.creator.is_some()).count() == 1 {
        candidates.retain(|c| c.creator.is_some());
    }
    candidates
}

/// What is not ours, since it belongs to another BuildRequest or to a run before.
#[derive(Debug, Default)]
pub struct Claims {
    /// Names of runs.
    names: BTreeSet<String>,
    /// Numbers of builds of the same inputs.
    builds: BTreeSet<String>,
}

impl Claims {
    /// What BuildRequests other than `me` claim beside `run`, and what earlier runs of any did.
    pub fn beside(run: &CurrentRun, all: impl IntoIterator<Item = BuildRequest>, me: &ObjectKey) -> Self {
        let mut claims = Self::default();
        for object in all {
            let key = ObjectKey::of(&object);
            let Some(status) = object.status else { continue };
            let others = status.run.filter(|r| r.project == run.project && key != *me);
            claims.names.extend(others.and_then(|other| other.name));
            for past in status.history {
                // The same inputs in the same namespace are the same pipeline and branch; a number that never started
                // was not used up.
                let equal = past.inputs_digest.as_ref() == Some(&run.inputs_digest);
                if equal && key.namespace == me.namespace && past.start_time.is_some() {
                    claims.builds.extend(past.id);
                }
                claims.names.extend(past.name);
            }
        }
        claims
    }

    /// Whether `seen` is one of them: by its name, or, where nobody made it but Jenkins' event, by its build, which it then is
    /// the twin of. A correlation value tells better.
    pub fn hold(&self, seen: &Run, asked: &Asked<'_>) -> bool {
        let twin_of = |build| seen.creator.is_none() && self.builds.contains(build);
        let build = seen.run_id.as_ref().map(ToString::to_string);
        self.names.contains(&seen.name) || asked.correlation.is_none() && build.as_ref().is_some_and(twin_of)
    }
}

/// How far the remote's clock may be behind ours, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 30;

/// What was asked of the remote, to know it again.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The correlation parameter, if there is one.
    pub correlation: Option<&'a str>,
    /// Who asked; None when looking for a run that Jenkins' event made.
    pub creator: Option<&'a str>,
    /// With which parameters.
    pub parameters: &'a [crate::gateway::Parameter],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::build_request::{PastRun, RunState},
        controllers::build_request::decide::testing::{ago, object_in, remote},
        gateway::{Parameter, RunId},
    };

    #[test]
    fn what_could_be_the_run_that_was_sent() {
        let mut object = object_in(RunState::Sending);
        object.status.as_mut().unwrap().run.as_mut().unwrap().sent_at = Some(ago(10));
        let run = object.status.clone().unwrap().run.unwrap();
        let parameters = [Parameter {
            name: "VERSION".into(),
            value: "1".into(),
        }];
        let ours = Asked {
            correlation: None,
            creator: Some("robo"),
            parameters: &parameters,
        };
        let twin = Asked {
            correlation: None,
            creator: None,
            parameters: &parameters,
        };
        let base = || remote("r", None);
        let edit = |f: &dyn Fn(&mut Run)| {
            let mut r = base();
            f(&mut r);
            r
        };
        let rows: &[(&str, Run, Asked<'_>, bool)] = &[
            ("the same", base(), ours, true),
            (
                "by another user",
                edit(&|r| r.creator = Some("eve".into())),
                ours,
                false,
            ),
            (
                "by Jenkins' event, looked for as ours",
                edit(&|r| r.creator = None),
                ours,
                false,
            ),
            (
                "by Jenkins' event, looked for as such",
                edit(&|r| r.creator = None),
                twin,
                true,
            ),
            (
                "other value",
                edit(&|r| r.parameters[0].value = "2".into()),
                ours,
                false,
            ),
            (
                "more parameters than were sent",
                edit(&|r| {
                    r.parameters.push(Parameter {
                        name: "X".into(),
                        value: "d".into(),
                    });
                }),
                ours,
                false,
            ),
            (
                "an event's run with defaults filled in",
                edit(&|r| {
                    r.creator = None;
                    r.parameters.push(Parameter {
                        name: "X".into(),
                        value: "d".into(),
                    });
                }),
                twin,
                true,
            ),
            (
                "another branch",
                edit(&|r| r.branch = Some(EncodedBranch::from_remote("dev"))),
                ours,
                false,
            ),
            (
                "another pipeline",
                edit(&|r| r.pipeline = "deploy".into()),
                ours,
                false,
            ),
            (
                "long before it was sent",
                edit(&|r| r.created = Some(ago(100).0)),
                ours,
                false,
            ),
            (
                "with a slow clock",
                edit(&|r| r.created = Some(ago(25).0)),
                ours,
                true,
            ),
            ("on its way out", edit(&|r| r.deleting = true), ours, false),
        ];
        for (what, candidate, asked, expected) in rows {
            assert_eq!(could_be(candidate, &run, asked), *expected, "{what}");
        }
        let by_token = Asked {
            correlation: Some("CORR"),
            ..ours
        };
        assert!(
            !could_be(&base(), &run, &by_token),
            "without its value in the correlation parameter"
        );
        let mut with = base();
        with.creator = None;
        with.parameters = vec![Parameter {
            name: "CORR".into(),
            value: run.token.clone(),
        }];
        assert!(
            could_be(&with, &run, &by_token),
            "the correlation parameter alone tells"
        );
    }

    #[test]
    fn a_twin_of_the_build_of_an_earlier_run_is_not_ours() {
        let past = |digest: &str, started: bool| {
            let mut object = object_in(RunState::Sending);
            let run = object.status.as_ref().unwrap().run.clone().unwrap();
            let digest = if digest.is_empty() {
                &run.inputs_digest
            } else {
                digest
            };
            object.status.as_mut().unwrap().history = vec![PastRun {
                token: "before".into(),
                attempt: 1,
                inputs_digest: Some(digest.to_owned()),
                name: Some("n-before".into()),
                id: Some("7".into()),
                outcome: None,
                start_time: started.then(|| ago(60)),
                completion_time: None,
            }];
            (object, run)
        };
        let parameters = [];
        let asked = |correlation| Asked {
            correlation,
            creator: None,
            parameters: &parameters,
        };
        let seen = |creator: Option<&str>, build: &str| {
            let mut seen = remote("n-x2", None);
            seen.creator = creator.map(Into::into);
            seen.run_id = RunId::new(build).ok();
            seen
        };
        let rows = [
            ("its twin", ("", true), None, (None, "7"), true),
            ("another build", ("", true), None, (None, "8"), false),
            ("one that we posted", ("", true), None, (Some("robo"), "7"), false),
            ("of other inputs", ("other", true), None, (None, "7"), false),
            (
                "a number that was not used up",
                ("", false),
                None,
                (None, "7"),
                false,
            ),
            (
                "its correlation value tells",
                ("", true),
                Some("CORR"),
                (None, "7"),
                false,
            ),
        ];
        for (what, (digest, started), correlation, (creator, build), expected) in rows {
            let (object, run) = past(digest, started);
            let (seen, asked) = (seen(creator, build), asked(correlation));
            let me = ObjectKey::of(&object);
            let claims = Claims::beside(&run, [object], &me);
            assert_eq!(claims.hold(&seen, &asked), expected, "{what}");
        }
    }
}
