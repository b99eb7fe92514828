//! What was done behind the scenes of the recordings, by number, and what the recordings do not show of how it came to be.

use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};
use tenantry_simulator::{
    ClusterHealth, Control, JenkinsFault, JenkinsOutage, Role, Timings, World,
    world::{BuildScript, InputScript, PipelineWorld, User},
};

use crate::{
    ensure::{self, Build},
    replay::Stage,
};

/// The installation at the start of a group.
pub fn world(group: &str) -> World {
    let mut world = if group < "30" {
        World::recorded()
    } else {
        World::recorded_with_member()
    };
    if group == "31" {
        // The member's project is made in the course of it.
        world.projects.retain(|p| p.cluster != "member-1");
    }
    world
}

/// Recordings whose state has to be there before this one, because afterwards it could not come to be.
pub fn presupposed(number: &str) -> &'static [&'static str] {
    match number {
        "0416" => &["0421"],
        "1806" => &["1808", "1809", "1811", "1812", "1817"],
        "1825" => &["1825", "1827"],
        "2001" => &["2001"],
        "2206" => &["2206", "2209"],
        _ => &[],
    }
}

/// Builds of runs of which only the names are shown.
pub fn number_of(run: &str) -> Option<&'static str> {
    (run == "gate-admin-kl8rg").then_some("7")
}

/// Parameters of a build that were not recorded.
pub fn parameters_of(_project: &str, pipeline: &str, number: u64) -> Vec<(String, String)> {
    let many = || {
        let files: Vec<_> = (0..130).map(|i| format!("f{i:03}.txt:10")).collect();
        files.join(",")
    };
    let list: Vec<(&str, String)> = match (pipeline, number) {
        ("hello", 7) => vec![("ARTIFACTS", many())],
        ("gate", 24) => vec![
            ("INPUT", "Deploy".into()),
            ("INPUT_SUBMITTER", "carol,dave".into()),
        ],
        ("gate-admin", 7) => vec![("INPUT", "Deploy".into()), ("INPUT_SUBMITTER", "carol".into())],
        ("gate-admin", _) => vec![
            ("INPUT", "Deploy".into()),
            ("INPUT_SUBMITTER", "carol, alice".into()),
        ],
        ("gate", _) => vec![("INPUT", "Deploy".into())],
        _ => Vec::new(),
    };
    // The gates' builds were short ones.
    let short = pipeline.starts_with("gate").then(|| ("DURATION", "6".into()));
    let list = list.into_iter().chain(short);
    list.map(|(n, v)| (n.to_owned(), v)).collect()
}

fn outage(control: &Control, fault: JenkinsFault, calls: &str) {
    let done = control.jenkins_outage(JenkinsOutage::new(fault).on(calls));
    done.expect("a host cluster");
}

fn page(code: u16, body: &str) -> JenkinsFault {
    JenkinsFault::Status {
        code,
        body: body.into(),
    }
}

async fn phase(control: &Control, namespace: &str, run: &str, wanted: &str) {
    ensure::wait(|| {
        let object = control.object("pipelineruns", namespace, run);
        object.is_some_and(|o| o.pointer("/status/phase").and_then(Value::as_str) == Some(wanted))
    })
    .await;
}

/// Waits until a build has come to its last stage.
async fn last_stage_begins(stage: &Stage, project: &str, pipeline: &str, number: u64) {
    let nodes = format!("namespaces/{project}/pipelines/{pipeline}/runs/{number}/nodes/");
    let path = format!("/kapis/devops.kubesphere.io/v1alpha2/{nodes}");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while tokio::time::Instant::now() < deadline {
        let nodes: Value = stage.get_as("alice", &path).await;
        let last = nodes.as_array().and_then(|n| n.last());
        if last.is_some_and(|n| n.get("startTime").is_some()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// What was done just before a recording.
pub async fn before(stage: &mut Stage, number: &str) {
    let control = stage.sim.control();
    let member = control.on("member-1");
    let health = |to: ClusterHealth| member.cluster_health(to).expect("a member");
    match number {
        "1111" => {
            let pipeline = PipelineWorld::regular("rec-reg").created_by("alice");
            control.add_pipeline("demo2snmj", &pipeline).expect("a project");
        }
        "1112" => outage(&control, JenkinsFault::Down, "trigger"),
        "1114" => control.jenkins_up().expect("a host cluster"),
        "1206" => {
            let started = control.start_build("demo2snmj", "queued", None, &[("QUEUE", "600")]);
            started.expect("a build");
        }
        // The run of 1615 is seen between the write of its id and that of its status.
        "1615" => control.set_timings(Timings {
            start_gap: 4_000_000,
            ..stage.timings
        }),
        "1616" => control.set_timings(stage.timings),
        "1606" => control.compact().expect("a host cluster"),
        "1801" => {
            let outage = JenkinsOutage::new(page(500, "<html><body>Oops</body></html>"));
            control
                .jenkins_outage(outage.on("trigger").times(2))
                .expect("a host cluster");
        }
        "1804" => {
            let outage = JenkinsOutage::new(JenkinsFault::Late(17_000));
            control
                .jenkins_outage(outage.on("trigger").times(1))
                .expect("a host cluster");
        }
        "1806" => {
            for branch in ["main", "develop", "feature%2Fx"] {
                finished_build(&control, "demo2snmj", "multi", Some(branch));
            }
            ensure::wait(|| {
                let multi = control
                    .object("pipelines", "demo2snmj", "multi")
                    .unwrap_or_default();
                multi.to_string().matches("latestRun").count() >= 3
            })
            .await;
            phase(&control, "demo2snmj", "slow-gzrb7", "Running").await;
            phase(&control, "demo2snmj", "artifacts-skd4c", "Succeeded").await;
            outage(&control, JenkinsFault::Down, "*");
        }
        "1824" | "2003" | "3036" => control.jenkins_up().expect("a host cluster"),
        "1825" => {
            phase(&control, "demo2snmj", "artifacts-n2npz", "Succeeded").await;
            outage(&control, page(500, "<html><body>Oops</body></html>"), "*");
        }
        "1829" | "1833" | "1837" | "1841" | "1844" => {
            control.jenkins_up().expect("a host cluster");
            let fault = match number {
                "1829" => JenkinsFault::Starting,
                "1833" => page(403, "<html>No valid crumb</html>"),
                "1837" => JenkinsFault::Reset,
                "1841" => JenkinsFault::Truncate(98_304),
                _ => JenkinsFault::Late(20_000),
            };
            outage(&control, fault, "*");
        }
        "2001" => {
            phase(&control, "demo2snmj", "hello-fdnqp", "Running").await;
            control
                .vanish_build("demo2snmj", "hello", None, 15)
                .expect("a build");
        }
        "2113" => control.extension(false).expect("a host cluster"),
        "2114" => {
            control.extension(true).expect("a host cluster");
            control.devops_apiserver(false).expect("a host cluster");
        }
        "2116" => control.devops_apiserver(true).expect("a host cluster"),
        "2206" => {
            phase(&control, "demo2snmj", "slow-6gg88", "Running").await;
            phase(&control, "demo2snmj", "fails-7p2jg", "Failed").await;
            control.controller(false).expect("a host cluster");
        }
        "2212" => {
            control.controller(true).expect("a host cluster");
            phase(&control, "demo2snmj", "hello-zxzsk", "Succeeded").await;
            control.drop_run_data("demo2snmj", "hello-zxzsk").expect("a run");
        }
        "2213" => control.flush_tokens(),
        "2214" => stage.forget_tokens(),
        "3020" => {
            // spec.action is taken and ignored (finding F-L9).
            let path = "/apis/devops.kubesphere.io/v1alpha3/namespaces/demo4ksqs/pipelineruns/gate-jsw5w";
            let body = json!({"spec": {"action": "Resume"}});
            let kind = "application/merge-patch+json";
            stage.send_as("alice", Method::PATCH, path, kind, &body).await;
        }
        "3041" => {
            last_stage_begins(stage, "demo4ksqs", "gate", 17).await;
            control.controller(true).expect("a host cluster");
        }
        "3049" => control.controller(true).expect("a host cluster"),
        "3067" => {
            let input = InputScript {
                id: "Deploy".into(),
                ..InputScript::default()
            };
            let script = BuildScript {
                input: Some(input),
                ..BuildScript::default()
            };
            control
                .set_script("demo4ksqs", "multi", script)
                .expect("a pipeline");
        }
        "3124" => {
            // Pipelines made by a request build without a script; the recorded ones archived these files.
            let files = "app.jar:1048576,target/reports/junit report.xml:2048,empty.txt:0,a+b%20c.txt:9";
            for (pipeline, artifacts, duration) in [
                ("hello", "hello.txt:12", 3.0),
                ("artifacts", files, 2.0),
                ("slow", "", 15.0),
            ] {
                let script = BuildScript {
                    artifacts: artifacts.into(),
                    duration,
                    ..BuildScript::default()
                };
                member
                    .set_script("eastrq64q", pipeline, script)
                    .expect("a pipeline");
            }
        }
        "3034" => outage(&control, page(503, "<html>fake failure</html>"), "*"),
        "3035" => {
            control.jenkins_up().expect("a host cluster");
            outage(&control, page(500, "<html>fake failure</html>"), "input");
        }
        "3101" => health(ClusterHealth::NotReady),
        "3105" | "3169" | "3177" | "3182" => health(ClusterHealth::Healthy),
        "3117" => {
            member
                .set_role("eastrq64q", "alice", Some(Role::tenant()))
                .expect("a project");
        }
        "3149" => {
            let multi = PipelineWorld::multi_branch("multi", &["main", "develop", "feature/x"]);
            member
                .add_pipeline("eastrq64q", &multi.created_by("alice"))
                .expect("a project");
        }
        "3164" => member.devops_apiserver(false).expect("a member"),
        "3166" => {
            member.devops_apiserver(true).expect("a member");
            health(ClusterHealth::KsApiserverDown);
        }
        "3170" => health(ClusterHealth::IdentityRejected),
        "3173" => health(ClusterHealth::Hangs),
        "3174" => health(ClusterHealth::KubeApiserverDown),
        "3181" => health(ClusterHealth::CredentialsRefused),
        "3329" => control
            .remove_argo_application("demo4ksqs", "l-prog")
            .expect("an application"),
        "3415" => outage(&control, JenkinsFault::Down, "*"),
        "3416" => {
            control.jenkins_up().expect("a host cluster");
            outage(&control, JenkinsFault::AnswerLost, "replay");
        }
        "3501" => {
            let mut alice = User::new("alice", "tenant-Passw0rd");
            alice.granted_clusters = ["host", "member-1", "gone"].map(String::from).to_vec();
            control.add_user(alice);
            stage.forget_tokens();
        }
        _ => {}
    }
}

/// What has to be so before a recording, once everything it names exists.
pub async fn ready(stage: &Stage, number: &str, path: &str) {
    let control = stage.control(path);
    let has = async |namespace: &str, run: &str, pointer: &str| {
        ensure::wait(|| {
            let object = control.object("pipelineruns", namespace, run);
            object.is_some_and(|o| o.pointer(pointer).is_some())
        })
        .await;
    };
    match number {
        "1401" => phase(&control, "demo2snmj", "slow-k94fm", "Running").await,
        "1416" => phase(&control, "demo2snmj", "slow-97pcs", "Running").await,
        "1615" => {
            has(
                "demo2snmj",
                "own-6b02e0be-ssa",
                "/metadata/annotations/devops.kubesphere.io~1jenkins-pipelinerun-id",
            )
            .await;
        }
        "1623" => has("demo2snmj", "own-6b02e0be-na2", "/metadata/finalizers").await,
        "3055" => phase(&control, "demo4ksqs", "gate-4pb6k", "Pending").await,
        // The controller looks every three seconds; until it does, what it saw last is told.
        "3036" => stage.control("").controller(false).expect("a host cluster"),
        "3047" | "3052" => {
            let run = if number == "3047" {
                "gate-xz4fs"
            } else {
                "gate-n7p9w"
            };
            phase(&control, "demo4ksqs", run, "Pending").await;
            control.controller(number == "3052").expect("a host cluster");
        }
        "3073" => {
            let _ = control.answer_input("demo4ksqs", "multi", Some("main"), 5, true);
        }
        // Answers to an input: it has to wait for one. 3044 comes after the end.
        _ if path.contains("/nodes/")
            && !path.contains("/log")
            && number.starts_with("30")
            && number != "3044" =>
        {
            let Some(build) = Build::of(path) else { return };
            let wanted = build.number.unwrap_or_default();
            if wanted > 100 || build.pipeline == "nope" || build.pipeline == "hidden" {
                return;
            }
            ensure::wait(|| {
                let builds = control
                    .builds(&build.project, &build.pipeline)
                    .unwrap_or_default();
                builds.iter().any(|b| b.number == wanted && b.state == "PAUSED")
            })
            .await;
        }
        _ => {}
    }
}

fn finished_build(control: &Control, project: &str, pipeline: &str, branch: Option<&str>) {
    let number = control
        .start_build(project, pipeline, branch, &[])
        .expect("a build");
    control
        .finish_build(project, pipeline, branch, number, "SUCCESS")
        .expect("its end");
}

/// Whose a recorded token is that no recorded login gave: an ordinary access token was good at the time.
pub fn user_of(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims)
        .ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let second = |key: &str| claims.get(key)?.as_i64();
    (second("exp")? - second("iat")? >= 600).then_some(claims.get("sub")?.as_str()?.to_owned())
}
