//! Runs: both ways to start one, what is ambiguous, branches, stages, inputs, stop, delete.

use tenantry::gateway::{
    Branch, BuildOutcome, CreateOutcome, EncodedBranch, ErrorClass, ErrorKind, GitBranch, JenkinsState,
    Known, PipelineKind, Run, RunPhase, RunProgress, declared_parameters, first_failed, paused_inputs,
};
use tenantry_simulator::{Cut, Fault, FaultAction, Role, world::PipelineWorld};

use super::bench::{PROJECT, create, finished, new_run, parameter, recorded, until};

#[tokio::test]
async fn a_chosen_name_starts_one_build_however_often_it_is_sent() {
    let (sim, project) = recorded(None).await;
    let pipeline = project.pipeline("hello").await.unwrap();
    let run = new_run("breq-1", &pipeline, None);
    let CreateOutcome::Created(created) = project.create_run(&run).await.unwrap() else {
        panic!("not created")
    };
    assert_eq!(
        (created.name.as_str(), created.progress()),
        ("breq-1", RunProgress::Submitted)
    );
    for _ in 0..5 {
        assert!(matches!(
            project.create_run(&run).await.unwrap(),
            CreateOutcome::AlreadyExists
        ));
    }
    let (run, outcome) = finished(&project, "breq-1").await;
    assert_eq!(outcome, Some(BuildOutcome::Success));
    assert_eq!(run.uid, created.uid);
    assert_eq!(run.creator.as_deref(), Some("alice"));
    assert_eq!(run.annotations["tenantry.dev/run-token"], "breq-1");
    assert_eq!(sim.ledger().builds_of(PROJECT, "hello").len(), 1);
    assert!(matches!(project.capabilities().create_runs, Known::Yes { .. }));

    let stages = project
        .stages("breq-1")
        .await
        .unwrap()
        .expect("it is over, so there are stages");
    let names: Vec<_> = stages.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["Checkout", "Build", "Publish"]);
    assert_eq!(first_failed(&stages), None);
    let build = project.jenkins_run(&run.reference().unwrap()).await.unwrap();
    assert_eq!(
        (build.state.clone(), build.outcome()),
        (JenkinsState::Finished, outcome)
    );
}

#[tokio::test]
async fn who_may_not_create_objects_posts_instead() {
    let (sim, project) = recorded(Some(Role::tenant_without_pipelineruns())).await;
    let pipeline = project.pipeline("hello").await.unwrap();
    let error = project
        .create_run(&new_run("breq-1", &pipeline, None))
        .await
        .unwrap_err();
    assert_eq!((error.class(), error.ambiguous()), (ErrorClass::Denied, false));
    assert!(matches!(project.capabilities().create_runs, Known::No { .. }));
    let run = project
        .post_run("hello", None, &[parameter("VERSION", "2")])
        .await
        .unwrap();
    assert!(run.name.starts_with("hello-"), "{}", run.name);
    let (run, outcome) = finished(&project, &run.name).await;
    assert_eq!(
        (outcome, run.parameter("VERSION")),
        (Some(BuildOutcome::Success), Some("2"))
    );
    assert_eq!(sim.ledger().builds_of(PROJECT, "hello").len(), 1);
    // Both ways to delete need the same right (contract §4.0), so there is nothing to fall to.
    let error = project.delete_run(&run.name, Some(&run.uid)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied);
}

#[tokio::test]
async fn where_objects_are_out_of_reach_kapis_deletes_what_is_over() {
    let (sim, project) = recorded(None).await;
    let run = create(&project, "old", "slow", vec![parameter("DURATION", "600")]).await;
    let started = until(&project, "old", |run| run.progress() == RunProgress::Running).await;
    let refused = r#"{"kind":"Status","message":"no","reason":"Forbidden","code":403}"#;
    sim.control().fault(Fault::always(
        "apis.pipelineruns.delete",
        FaultAction::answer(403, refused),
    ));
    let error = project.delete_run("old", Some(&run.uid)).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Conflict,
        "kapis does not delete what is not over"
    );
    project.stop(&started.reference().unwrap()).await.unwrap();
    finished(&project, "old").await;
    project.delete_run("old", Some("another-uid")).await.unwrap();
    assert_eq!(
        sim.ledger().count("v3.run.delete"),
        1,
        "another object of this name is left alone"
    );
    project.delete_run("old", Some(&run.uid)).await.unwrap();
    assert_eq!(sim.ledger().count_status("v3.run.delete", 200), 1);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_ambiguous_whether_it_happened_or_not() {
    for (fault, builds) in [
        (FaultAction::cut(Cut::AnswerLost), 1),
        (FaultAction::cut(Cut::RequestLost), 0),
        (
            FaultAction::answer(
                502,
                r#"{"ErrStatus":{"message":"Error while proxying request: x","code":502}}"#,
            ),
            0,
        ),
    ] {
        let (sim, project) = recorded(None).await;
        let pipeline = project.pipeline("hello").await.unwrap();
        sim.control().fault(Fault::once("v3.runs.create", fault.clone()));
        let error = project.post_run("hello", None, &[]).await.unwrap_err();
        assert_eq!(
            (error.class(), error.ambiguous()),
            (ErrorClass::Unavailable, true),
            "{error}"
        );
        assert_eq!(sim.ledger().count("v3.runs.create"), 1, "a write is sent once");
        let listed = project.runs("hello", 1, 10).await.unwrap();
        assert_eq!(
            listed.items.len(),
            builds,
            "a search without filter keys finds it at once"
        );

        // With a chosen name the same loss is cured by asking again.
        sim.control()
            .fault(Fault::once("apis.pipelineruns.create", fault));
        let run = new_run("breq-1", &pipeline, None);
        assert!(project.create_run(&run).await.unwrap_err().ambiguous());
        let again = project.create_run(&run).await.unwrap();
        assert_eq!(matches!(again, CreateOutcome::AlreadyExists), builds == 1);
        finished(&project, "breq-1").await;
        assert_eq!(sim.ledger().builds_of(PROJECT, "hello").len(), builds + 1);
    }
}

#[tokio::test]
async fn a_branch_with_a_slash_runs_and_is_found_everywhere() {
    let (sim, project) = recorded(None).await;
    let pipeline = project.pipeline("multi").await.unwrap();
    assert_eq!(pipeline.kind, PipelineKind::MultiBranch);
    let branches = project.branches("multi").await.unwrap();
    let branch =
        Branch::find(&branches, &GitBranch::new("refs/heads/feature/x")).expect("feature/x is there");
    assert_eq!(branch.encoded, EncodedBranch::from_git(&branch.git));

    let created = project
        .create_run(&new_run("breq-b", &pipeline, Some(branch.encoded.clone())))
        .await
        .unwrap();
    assert!(matches!(created, CreateOutcome::Created(_)));
    let posted = project
        .post_run("multi", Some(&branch.encoded), &[])
        .await
        .unwrap();
    for name in ["breq-b", posted.name.as_str()] {
        let (run, outcome) = finished(&project, name).await;
        assert_eq!(outcome, Some(BuildOutcome::Success), "{name}");
        let reference = run.reference().unwrap();
        assert_eq!(reference.branch.as_ref(), Some(&branch.encoded));
        assert_eq!(project.jenkins_run(&reference).await.unwrap().outcome(), outcome);
        let log = project
            .log(&reference, &tenantry::gateway::LogCursor::default(), 1 << 20)
            .await
            .unwrap();
        assert!(!log.text.is_empty());
        project
            .stop(&reference)
            .await
            .expect("stopping a finished one does no harm");
    }
    assert!(
        sim.ledger()
            .builds_of(PROJECT, "multi")
            .iter()
            .all(|b| b.branch.as_deref() == Some("feature%2Fx"))
    );
    let error = project.post_run("multi", None, &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.ambiguous()), (ErrorKind::Rejected, false));
}

#[tokio::test]
async fn every_way_of_ending_is_told_apart() {
    let (_sim, project) = recorded(None).await;
    for (pipeline, want) in [
        ("hello", BuildOutcome::Success),
        ("fails", BuildOutcome::Failure),
        ("unstable", BuildOutcome::Unstable),
        ("aborts", BuildOutcome::Aborted),
        ("notbuilt", BuildOutcome::Indeterminate),
    ] {
        let name = format!("end-{pipeline}");
        create(&project, &name, pipeline, vec![]).await;
        let (_, outcome) = finished(&project, &name).await;
        assert_eq!(outcome, Some(want), "{pipeline}");
        let bare = project.apis_run(&name).await.unwrap();
        assert_eq!(bare.jenkins, None, "/apis does not tell the result");
        if want == BuildOutcome::Failure {
            assert_eq!(bare.progress(), RunProgress::Finished(None));
            let stages = project.stages(&name).await.unwrap().unwrap();
            assert!(first_failed(&stages).is_some());
        }
    }
}

#[tokio::test]
async fn a_trigger_that_jenkins_refuses_is_explained_by_its_event_only() {
    let (_sim, project) = recorded(None).await;
    let run = create(&project, "refused", "hello", vec![parameter("NOT_DECLARED", "1")]).await;
    let begun = std::time::Instant::now();
    let why = loop {
        if let Some(why) = project.trigger_failure(&run.name, &run.uid).await.unwrap() {
            break why;
        }
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(30),
            "no event came"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(why.contains("Failed to trigger PipelineRun"), "{why}");
    assert_eq!(
        project.run("refused").await.unwrap().progress(),
        RunProgress::Submitted
    );
    project.delete_run("refused", Some("another-uid")).await.unwrap();
    assert!(
        project.apis_run("refused").await.is_ok(),
        "another object's uid deletes nothing"
    );
    project.delete_run("refused", Some(&run.uid)).await.unwrap();
    let begun = std::time::Instant::now();
    while project.apis_run("refused").await.is_ok() {
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(30),
            "it is still there"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    project
        .delete_run("refused", Some(&run.uid))
        .await
        .expect("gone already is fine");
}

#[tokio::test]
async fn what_a_run_may_be_given_is_known_before_it_starts() {
    let (sim, project) = recorded(None).await;
    let gate = PipelineWorld::regular("choosy").created_by("alice").parameters([
        tenantry_simulator::world::Parameter::string("VERSION", "1.0.0"),
        tenantry_simulator::world::Parameter::choice("TARGET", &["staging", "production"]),
    ]);
    sim.control().add_pipeline(PROJECT, &gate).unwrap();
    let pipeline = project.pipeline("choosy").await.unwrap();
    let declared = declared_parameters(&pipeline, None).unwrap();
    let target = declared.iter().find(|p| p.name == "TARGET").unwrap();
    assert_eq!(
        (target.default.as_deref(), target.choices.len()),
        (Some("staging"), 2)
    );
    let bare = project.pipeline("noparams").await.unwrap();
    assert_eq!(declared_parameters(&bare, None), None);
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_says_what_it_asks() {
    let (sim, project) = recorded(None).await;
    let gate = PipelineWorld::regular("gate").created_by("alice").script(|s| {
        s.input = Some(tenantry_simulator::world::InputScript {
            id: "Deploy".into(),
            parameters: "TARGET:staging".into(),
            ..Default::default()
        });
    });
    sim.control().add_pipeline(PROJECT, &gate).unwrap();
    create(&project, "asks", "gate", vec![]).await;
    let paused = |run: &Run| run.progress() == RunProgress::Paused && run.phase == RunPhase::Pending;
    let run = until(&project, "asks", paused).await;
    let stages = project.stages("asks").await.unwrap().unwrap();
    let inputs = paused_inputs(&stages);
    assert_eq!(inputs.len(), 1);
    assert_eq!(
        (inputs[0].stage.as_str(), inputs[0].input.id.as_str()),
        ("Build", "Deploy")
    );
    assert_eq!(inputs[0].input.parameters[0].default.as_deref(), Some("staging"));
    project.stop(&run.reference().unwrap()).await.unwrap();
    assert_eq!(finished(&project, "asks").await.1, Some(BuildOutcome::Aborted));
}

#[tokio::test]
async fn a_build_that_jenkins_lost_is_gone_though_its_run_says_running() {
    let (sim, project) = recorded(None).await;
    create(&project, "lost", "slow", vec![parameter("DURATION", "600")]).await;
    let run = until(&project, "lost", |run| run.progress() == RunProgress::Running).await;
    let reference = run.reference().unwrap();
    sim.control()
        .vanish_build(PROJECT, "slow", None, reference.id.as_str().parse().unwrap())
        .unwrap();
    assert_eq!(
        project.jenkins_run(&reference).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        project.run("lost").await.unwrap().progress(),
        RunProgress::Running
    );
}
