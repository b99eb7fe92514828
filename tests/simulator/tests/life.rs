//! The life of runs: from the trigger to the end, and the ways in which it goes astray.

mod common;

use common::{Client, PROJECT, recorded, until, v2, v3};
use serde_json::{Value, json};
use tenantry_simulator::{JenkinsFault, JenkinsOutage, Quirks, Timings};

fn annotation(run: &Value, key: &str) -> Value {
    let text = run["metadata"]["annotations"][format!("devops.kubesphere.io/{key}")]
        .as_str()
        .unwrap_or_default();
    serde_json::from_str(text).unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_run_goes_from_nothing_to_succeeded_and_leaves_log_and_stages() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    sim.control().controller(false).unwrap();
    let name = alice
        .trigger("hello", &[("VERSION", "1.2.3"), ("DURATION", "20")])
        .await;
    let fresh = alice.run(&name).await;
    assert_eq!(
        (&fresh["status"], &fresh["kind"]),
        (&json!({}), &json!("PipelineRun"))
    );
    let early = alice.get(&v3(&format!("pipelineruns/{name}/nodedetails"))).await;
    assert_eq!(
        (early.status, early.text.as_str()),
        (500, "unexpected end of JSON input\n")
    );
    let hidden = alice
        .get(&v3("pipelines/hello/pipelineruns?page=1&limit=1&backward=true"))
        .await
        .json();
    let shown = alice
        .get(&v3("pipelines/hello/pipelineruns?page=1&limit=1"))
        .await
        .json();
    assert_eq!(
        (&hidden["totalItems"], &shown["totalItems"]),
        (&json!(0), &json!(1)),
        "filter keys hide fresh runs"
    );

    sim.control().controller(true).unwrap();
    let running = until("it runs", async || {
        let run = alice.run(&name).await;
        (run["status"]["phase"] == "Running").then_some(run)
    })
    .await;
    assert_eq!(
        annotation(&running, "jenkins-pipelinerun-status")["state"],
        "RUNNING"
    );
    let refused = alice.delete(&v3(&format!("pipelineruns/{name}"))).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    sim.control()
        .finish_build(PROJECT, "hello", None, 1, "SUCCESS")
        .unwrap();

    let run = alice.finished(&name).await;
    assert_eq!(run["status"]["phase"], "Succeeded");
    assert_eq!(run["status"]["conditions"][0]["type"], "Succeeded");
    assert_eq!(
        run["status"]["conditions"][1]["reason"], "RUNNING",
        "the Ready condition stays behind"
    );
    let stages = alice
        .get(&v3(&format!("pipelineruns/{name}/nodedetails")))
        .await
        .json();
    assert_eq!(stages[2]["displayName"], "Publish");
    assert_eq!(stages[0]["steps"][0]["approvable"], true);
    let log = alice.get(&v2("pipelines/hello/runs/1/log?start=0")).await;
    assert!(log.text.starts_with("Started by user admin\r\n"), "{log:?}");
    assert!(
        log.text.ends_with("Finished: SUCCESS\r\n") && log.header("x-text-size").is_empty(),
        "{log:?}"
    );
    let builds = sim.ledger().builds_of(PROJECT, "hello");
    assert_eq!((builds.len(), builds[0].cause.as_str()), (1, "controller"));
}

#[tokio::test]
async fn results_become_phases() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    for (pipeline, phase, result) in [
        ("fails", "Failed", "FAILURE"),
        ("unstable", "Failed", "UNSTABLE"),
        ("aborts", "Failed", "ABORTED"),
        ("notbuilt", "Unknown", "NOT_BUILT"),
    ] {
        let name = alice.trigger(pipeline, &[]).await;
        let run = alice.finished(&name).await;
        let told = annotation(&run, "jenkins-pipelinerun-status");
        assert_eq!(
            (run["status"]["phase"].as_str(), told["result"].as_str()),
            (Some(phase), Some(result))
        );
    }
}

#[tokio::test]
async fn of_two_equal_queued_triggers_one_run_is_swallowed() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let parameters = [("VERSION", "dup"), ("QUEUE", "100")];
    let first = alice.trigger("queued", &parameters).await;
    until("the first has its id", async || {
        alice.run(&first).await["status"]["phase"]
            .is_string()
            .then_some(())
    })
    .await;
    let second = alice.trigger("queued", &parameters).await;
    until("the second is gone", async || {
        (alice.get(&v3(&format!("pipelineruns/{second}"))).await.status == 404).then_some(())
    })
    .await;
    assert_eq!(
        alice.run(&first).await["status"]["conditions"][0]["reason"],
        "QUEUED"
    );
    assert_eq!(sim.ledger().builds().len(), 1);
    assert_eq!(sim.ledger().actions("folded").len(), 1);
    assert_eq!(sim.ledger().actions("deduplicated").len(), 1);
}

#[tokio::test]
async fn with_the_same_expected_id_a_stranger_takes_the_place_of_the_swallowed_run() {
    let sim = recorded().await;
    sim.control().set_quirks(Quirks {
        same_expected_id: true,
        ..Quirks::default()
    });
    let alice = Client::alice(&sim).await;
    let first = alice.trigger("queued", &[("VERSION", "1")]).await;
    until("the first has its id", async || {
        alice.run(&first).await["status"]["phase"]
            .is_string()
            .then_some(())
    })
    .await;
    alice.trigger("queued", &[("VERSION", "2")]).await;
    let stranger = until("the event makes a run for build 2", async || {
        let runs = sim.control().runs(PROJECT);
        runs.into_iter()
            .find(|r| r["metadata"]["annotations"]["devops.kubesphere.io/jenkins-pipelinerun-id"] == "2")
    })
    .await;
    assert!(
        stranger["metadata"]["annotations"]
            .get("devops.kubesphere.io/creator")
            .is_none()
    );
    assert_eq!(
        stranger["spec"]["parameters"][0],
        json!({"name": "VERSION", "value": "2"})
    );
    assert_eq!(sim.ledger().builds().len(), 2);
}

#[tokio::test]
async fn a_late_answer_of_jenkins_makes_two_builds_and_two_runs() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let late = JenkinsOutage::new(JenkinsFault::Late(17_000))
        .on("trigger")
        .times(1);
    sim.control().jenkins_outage(late).unwrap();
    let name = alice.trigger("hello", &[("VERSION", "late")]).await;
    alice.finished(&name).await;
    let runs = until("the event makes a second run", async || {
        let runs = sim.control().runs(PROJECT);
        (runs.len() == 2).then_some(runs)
    })
    .await;
    assert!(
        runs.iter().all(|r| r["spec"]["parameters"][0]["value"] == "late"),
        "{runs:?}"
    );
    assert_eq!(sim.ledger().builds_of(PROJECT, "hello").len(), 2);
}

#[tokio::test]
async fn a_refused_trigger_shows_only_in_events() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let name = alice.trigger("hello", &[("NOT_DECLARED", "1")]).await;
    let path = format!(
        "/api/v1/namespaces/{PROJECT}/events?fieldSelector=involvedObject.name%3D{name}%2Creason%3DTriggerFailed"
    );
    let event = until("the event is there and counts", async || {
        let list = alice.get(&path).await.json();
        list["items"]
            .get(0)
            .filter(|e| e["count"].as_u64() > Some(2))
            .cloned()
    })
    .await;
    let expected =
        format!("Failed to trigger PipelineRun {PROJECT}/{name}, and error was bad request, code 400");
    assert_eq!(event["message"], expected);
    assert_eq!(alice.run(&name).await["status"], json!({}));
    let refused = alice.delete(&v3(&format!("pipelineruns/{name}"))).await;
    assert!(
        refused.status == 400 && refused.text.ends_with("current status is \n"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_branch_with_a_slash_runs_only_when_encoded_twice() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let trigger = async |branch: &str| {
        let path = v3(&format!("pipelines/multi/pipelineruns?branch={branch}"));
        let answer = alice.post(&path, &json!({})).await;
        answer.json()["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let (good, raw) = (trigger("feature%252Fx").await, trigger("feature%2Fx").await);
    alice.finished(&good).await;
    assert_eq!(alice.run(&raw).await["status"], json!({}));
    let run = alice
        .get(&v2("pipelines/multi/branches/feature%252Fx/runs/1"))
        .await;
    assert_eq!(run.json()["pipeline"], "feature%2Fx");
    assert_eq!(
        alice
            .get(&v2("pipelines/multi/branches/feature%2Fx/runs/1"))
            .await
            .status,
        404
    );
    let missing = alice.post(&v3("pipelines/multi/pipelineruns"), &json!({})).await;
    assert_eq!(
        missing.text,
        "missing branch name for running a multi-branch Pipeline\n"
    );
}

#[tokio::test]
async fn a_build_that_jenkins_lost_stays_running() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let name = alice.trigger("hello", &[("DURATION", "60")]).await;
    until("it runs", async || {
        (alice.run(&name).await["status"]["phase"] == "Running").then_some(())
    })
    .await;
    sim.control().vanish_build(PROJECT, "hello", None, 1).unwrap();
    let gone = alice.get(&v2("pipelines/hello/runs/1")).await;
    assert_eq!(gone.status, 500);
    assert_eq!(
        gone.text,
        "{\"message\": \"Run 1 in pipeline hello not found\", \"code\": 404, \"errors\": []}"
    );
    let events = sim.control();
    until("the controller has looked again", async || {
        let run = events.object("pipelineruns", PROJECT, &name)?;
        (run["status"]["phase"] == "Running").then_some(())
    })
    .await;
    assert_eq!(
        alice.delete(&v3(&format!("pipelineruns/{name}"))).await.status,
        400
    );
}

#[tokio::test]
async fn an_input_pauses_a_build_until_it_is_answered() {
    let config =
        tenantry_simulator::Config::of(tenantry_simulator::World::demo()).with_time_scale(common::SCALE);
    let sim = tenantry_simulator::Simulator::start(config).await.unwrap();
    let dev = Client::login(&sim, "dev", "demo-password").await;
    let project = sim.control().project_names("shop").remove(0);
    let base = format!("/kapis/devops.kubesphere.io/v1alpha3/namespaces/{project}");
    let old = format!("/kapis/devops.kubesphere.io/v1alpha2/namespaces/{project}/pipelines/gate/runs/1");
    let started = dev
        .post(&format!("{base}/pipelines/gate/pipelineruns"), &json!({}))
        .await
        .json();
    let path = format!(
        "{base}/pipelineruns/{}",
        started["metadata"]["name"].as_str().unwrap()
    );
    until("it waits", async || {
        (dev.get(&path).await.json()["status"]["phase"] == "Pending").then_some(())
    })
    .await;
    let stages = dev.get(&format!("{path}/nodedetails")).await.json();
    assert_eq!(stages[1]["steps"][1]["input"]["id"], "Deploy");
    let submit = format!("{old}/nodes/11/steps/13");
    let refused = dev
        .post(
            &submit,
            &json!({"id": "Deploy", "parameters": [{"name": "NOPE", "value": "1"}]}),
        )
        .await;
    assert_eq!(refused.status, 500, "{refused:?}");
    let accepted = dev.post(&submit, &json!({"id": "Deploy"})).await;
    assert_eq!((accepted.status, accepted.text.as_str()), (200, ""));
    let again = dev.post(&submit, &json!({"id": "Deploy"})).await.json();
    assert_eq!(again["allow"], "false");
    until("it succeeds", async || {
        (dev.get(&path).await.json()["status"]["phase"] == "Succeeded").then_some(())
    })
    .await;
}

#[tokio::test]
async fn deleting_a_finished_run_takes_its_build_along_unless_it_is_to_be_kept() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    for (query, left) in [("", 0), ("?keepJenkinsRecord=true", 1)] {
        let name = alice.trigger("hello", &[]).await;
        alice.finished(&name).await;
        let answer = alice.delete(&v3(&format!("pipelineruns/{name}{query}"))).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""));
        until("the run is gone", async || {
            (alice.get(&v3(&format!("pipelineruns/{name}"))).await.status == 404).then_some(())
        })
        .await;
        assert_eq!(sim.control().builds(PROJECT, "hello").unwrap().len(), left);
    }
}

#[tokio::test]
async fn a_trigger_while_jenkins_is_down_starts_when_it_is_back() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    sim.control()
        .jenkins_outage(JenkinsOutage::new(JenkinsFault::Down))
        .unwrap();
    let name = alice.trigger("hello", &[]).await;
    let log = alice.get(&v2("pipelines/hello/runs/1/log?start=0")).await;
    assert!(
        log.status == 500 && log.text.ends_with("connect: connection refused"),
        "{log:?}"
    );
    let proxied = alice
        .get(&v2(&format!("jenkins/job/{PROJECT}/job/hello/1/consoleText")))
        .await;
    assert_eq!(
        (proxied.status, proxied.text.as_str(), proxied.header("x-jenkins")),
        (200, "", "")
    );
    sim.control().jenkins_up().unwrap();
    alice.finished(&name).await;
    assert_eq!(sim.ledger().builds().len(), 1);
}

#[tokio::test]
async fn a_pipeline_without_annotations_stops_everybody_until_it_is_cured() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let deadly =
        json!({"metadata": {"name": "deadly"}, "spec": {"type": "pipeline", "pipeline": {"name": "deadly"}}});
    assert_eq!(alice.post(&v3("pipelines"), &deadly).await.status, 200);
    let name = alice.trigger("hello", &[]).await;
    let log = alice.get(&v2("pipelines/hello/runs/1/log?start=0")).await;
    assert_eq!(log.status, 500, "nobody triggers it: {log:?}");
    assert_eq!(alice.run(&name).await["status"], json!({}));
    let cure = json!({"metadata": {"annotations": {"kubesphere.io/creator": "alice"}}});
    let path = format!("/apis/devops.kubesphere.io/v1alpha3/namespaces/{PROJECT}/pipelines/deadly");
    let patch = alice
        .request("PATCH", &path)
        .header("content-type", "application/merge-patch+json");
    assert_eq!(
        alice.try_send(patch.body(cure.to_string())).await.unwrap().status,
        200
    );
    alice.finished(&name).await;
}

#[tokio::test]
async fn a_run_can_be_unknown_for_a_moment_after_its_trigger() {
    let sim = recorded().await;
    // A minute of the simulator's time: three real seconds.
    sim.control().set_timings(Timings {
        stale_get: 60_000,
        ..Timings::default()
    });
    let alice = Client::alice(&sim).await;
    let name = alice.trigger("hello", &[]).await;
    assert_eq!(alice.get(&v3(&format!("pipelineruns/{name}"))).await.status, 404);
    until("the cache has heard of it", async || {
        (alice.get(&v3(&format!("pipelineruns/{name}"))).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(sim.ledger().builds().len(), 1);
}

#[tokio::test]
async fn status_can_live_in_annotations_instead_of_a_config_map() {
    let sim = recorded().await;
    sim.control().set_quirks(Quirks {
        annotation_store: true,
        ..Quirks::default()
    });
    let alice = Client::alice(&sim).await;
    let name = alice.trigger("hello", &[]).await;
    alice.finished(&name).await;
    assert!(sim.control().object("configmaps", PROJECT, &name).is_none());
    let stored = sim.control().object("pipelineruns", PROJECT, &name).unwrap();
    assert_eq!(
        annotation(&stored, "jenkins-pipelinerun-status")["result"],
        "SUCCESS"
    );
}

#[tokio::test]
async fn a_replay_and_a_direct_trigger_appear_as_strangers() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let sent = json!({"parameters": [{"name": "VERSION", "value": "v2"}]});
    let direct = alice.post(&v2("pipelines/hello/runs"), &sent).await.json();
    assert_eq!(
        (&direct["id"], &direct["state"]),
        (&json!("1"), &json!("RUNNING"))
    );
    let replay = alice
        .post(&v2("pipelines/hello/runs/1/replay"), &json!({}))
        .await
        .json();
    assert_eq!(replay["causes"][0]["shortDescription"], "Replayed #1");
    let runs = until("both have a run", async || {
        let runs = sim.control().runs(PROJECT);
        (runs.len() == 2).then_some(runs)
    })
    .await;
    for run in runs {
        assert!(
            run["metadata"]["annotations"]
                .get("devops.kubesphere.io/creator")
                .is_none(),
            "{run}"
        );
        assert_eq!(
            run["spec"]["parameters"][0],
            json!({"name": "VERSION", "value": "v2"})
        );
    }
}
