use super::render::{self, Shape};
use super::*;
use crate::world::{BuildScript, Parameter};

fn job(script: BuildScript) -> Job {
    Job::new(
        script,
        vec![
            Parameter::string("VERSION", "1.0.0"),
            Parameter::string("QUEUE", ""),
        ],
    )
}

fn id() -> JobId {
    JobId {
        project: "demo".into(),
        pipeline: "hello".into(),
        branch: None,
    }
}

fn params(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()
}

fn start(job: &mut Job, sent: &[(&str, &str)], now: i64) -> (u64, bool) {
    let all = job.complete(Some(&params(sent))).unwrap();
    let result = job.enqueue(all, "Started by user admin", 1, now, Scale(1.0));
    job.advance(now);
    result
}

#[test]
fn equal_queued_builds_fold_into_one_and_others_do_not() {
    let mut job = job(BuildScript {
        queue: 3.0,
        ..BuildScript::default()
    });
    assert_eq!(start(&mut job, &[("VERSION", "dup")], 0), (1, true));
    assert_eq!(start(&mut job, &[("VERSION", "dup")], 10), (1, false));
    assert_eq!(start(&mut job, &[("VERSION", "other")], 20), (2, true));
    job.advance(3_100);
    assert_eq!(
        start(&mut job, &[("VERSION", "dup")], 3_100),
        (3, true),
        "a running build folds nothing"
    );
}

#[test]
fn one_at_a_time_means_one_at_a_time() {
    let mut job = job(BuildScript::default());
    job.disable_concurrent = true;
    start(&mut job, &[("VERSION", "1")], 0);
    start(&mut job, &[("VERSION", "2")], 0);
    let state = |job: &Job, n: u64, now| job.builds[&n].view(now).state;
    assert_eq!(
        (state(&job, 1, 1_000), state(&job, 2, 1_000)),
        (build::State::Running, build::State::Queued)
    );
    assert_eq!(job.next_due(1_000), Some(3_000));
    job.advance(3_000);
    assert_eq!(
        (state(&job, 1, 3_000), state(&job, 2, 3_000)),
        (build::State::Finished, build::State::Running)
    );
}

#[test]
fn parameters_are_checked_only_where_some_are_declared() {
    let mut job = job(BuildScript::default());
    job.parameters.push(Parameter::choice("TARGET", &["a", "b"]));
    let refusal =
        |sent: Option<&[(&str, &str)]>| job.complete(sent.map(params).as_deref()).unwrap_err().message;
    assert_eq!(
        refusal(Some(&[("NOPE", "1")])),
        "No such parameter definition: NOPE"
    );
    assert_eq!(
        refusal(Some(&[("TARGET", "c")])),
        "Invalid value for parameter TARGET: c"
    );
    assert_eq!(refusal(None), "This is parameterized job, requires parameters");
    let all = job.complete(Some(&params(&[("TARGET", "b")]))).unwrap();
    assert_eq!(
        all,
        params(&[("TARGET", "b"), ("VERSION", "1.0.0"), ("QUEUE", "")])
    );
    job.parameters.clear();
    assert_eq!(job.complete(Some(&params(&[("NOPE", "1")]))), Ok(Vec::new()));
}

#[test]
fn a_build_waits_at_its_input_and_goes_on_when_answered() {
    let script = BuildScript {
        duration: 6.0,
        input: Some(crate::world::InputScript {
            id: "Deploy".into(),
            ..Default::default()
        }),
        ..BuildScript::default()
    };
    let mut job = job(script);
    start(&mut job, &[], 0);
    let build = job.builds.get_mut(&1).unwrap();
    assert_eq!(build.view(2_000).state, build::State::Running);
    assert_eq!(build.view(50_000).state, build::State::Paused);
    let stages = render::stages(build, &build.view(50_000));
    assert_eq!(
        stages[1].steps.iter().map(|s| s.state).collect::<Vec<_>>(),
        ["FINISHED", "PAUSED"]
    );
    assert_eq!((stages[1].duration, stages[2].state), (50_000 - 1_200, None));
    build.answered_at = Some(50_000);
    assert_eq!(build.view(50_001).state, build::State::Running);
    let view = build.view(53_000);
    assert_eq!(
        (view.state, view.result.as_str(), view.end),
        (build::State::Finished, "SUCCESS", Some(53_000))
    );
}

#[test]
fn stages_tell_where_a_build_failed() {
    let mut job = job(BuildScript {
        result: "FAILURE".into(),
        ..BuildScript::default()
    });
    start(&mut job, &[], 0);
    let build = &job.builds[&1];
    let look = |now| -> Vec<(Option<&'static str>, String)> {
        render::stages(build, &build.view(now))
            .into_iter()
            .map(|s| (s.state, s.result))
            .collect()
    };
    let expect = |states: [(Option<&'static str>, &str); 3]| states.map(|(s, r)| (s, r.to_owned())).to_vec();
    assert_eq!(
        look(100),
        expect([(Some("RUNNING"), "UNKNOWN"), (None, "UNKNOWN"), (None, "UNKNOWN")])
    );
    assert_eq!(
        look(3_000),
        expect([
            (Some("FINISHED"), "SUCCESS"),
            (Some("FINISHED"), "FAILURE"),
            (Some("NOT_BUILT"), "NOT_BUILT")
        ])
    );
}

#[test]
fn the_stored_run_has_whole_seconds_and_nulls() {
    let mut job = job(BuildScript {
        queue: 5.0,
        ..BuildScript::default()
    });
    start(&mut job, &[], 1_500);
    let build = &job.builds[&1];
    let stored = render::stored_run(&render::run(&id(), build, &build.view(2_000), Shape::Read, 1));
    assert_eq!(stored["enQueueTime"], "1970-01-01T00:00:01Z");
    assert!(stored["startTime"].is_null() && stored.as_object().unwrap().contains_key("endTime"));
    assert_eq!(
        (&stored["type"], &stored["state"]),
        (&"QueuedItem".into(), &"QUEUED".into())
    );
}

#[test]
fn a_log_has_the_wanted_size_and_arrives_with_cr_lf_and_without_notes() {
    let mut job = job(BuildScript {
        log_bytes: 40_000,
        ..BuildScript::default()
    });
    start(&mut job, &[], 0);
    let build = &job.builds[&1];
    let stored = log::stored(&id(), build, &build.view(3_000));
    let lines = stored.split(|b| *b == b'\n').count() - 1;
    assert_eq!(stored.len(), 40_000);
    assert_eq!(serve(&stored, true).len(), 40_000 + lines);
    assert!(log::stored(&id(), build, &build.view(1_500)).len() < 20_001);

    job.script.console_notes = true;
    start(&mut job, &[("VERSION", "notes")], 10);
    let build = &job.builds[&2];
    let stored = log::stored(&id(), build, &build.view(4_000));
    let served = serve(&stored, false);
    assert_eq!(stored.len(), 40_000);
    assert!(served.len() < stored.len() && served.starts_with(b"Started by user admin\n"));
}

#[test]
fn artifact_bytes_are_the_same_from_any_offset() {
    let artifact = Artifact {
        path: "a/b".into(),
        size: 1_000,
        text: None,
    };
    let all = artifact_bytes(&artifact, 7, 0, 1_000);
    assert_eq!(all.len(), 1_000);
    assert_eq!(artifact_bytes(&artifact, 7, 13, 977), all[13..977]);
    assert_ne!(artifact_bytes(&artifact, 8, 0, 1_000), all);
}

#[test]
fn a_branch_job_is_found_however_deep_its_name_is_encoded() {
    let mut jenkins = Jenkins::new(Scale(1.0));
    let id = JobId {
        project: "d".into(),
        pipeline: "m".into(),
        branch: Some("feature%2Fx".into()),
    };
    jenkins.jobs.insert(id.clone(), job(BuildScript::default()));
    for name in ["feature%2Fx", "feature/x", "feature%252Fx", "feature%25252Fx"] {
        assert_eq!(jenkins.find("d", "m", Some(name)).as_ref(), Some(&id), "{name}");
    }
    assert_eq!(jenkins.find("d", "m", Some("other")), None);
}
