//! The edge: identity, roles, clusters, faults, the ledger, the control API.

mod common;

use common::{Client, PROJECT, recorded, v2, v3};
use serde_json::{Value, json};
use tenantry_simulator::{
    AuthConfig, ClusterHealth, Config, Cut, Fault, FaultAction, JenkinsFault, JenkinsOutage, Role, Simulator,
    World,
};

#[tokio::test]
async fn tokens_are_issued_refreshed_flushed_and_locked() {
    let sim = recorded().await;
    sim.control().set_auth(AuthConfig {
        lockout_failures: 2,
        ..AuthConfig::default()
    });
    let mut alice = Client::alice(&sim).await;
    let refresh = |token: &str| {
        [("grant_type", "refresh_token"), ("refresh_token", token)].map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let pair = alice
        .grant(&[
            ("grant_type", "password"),
            ("username", "alice"),
            ("password", "tenant-Passw0rd"),
        ])
        .await
        .json();
    let token = pair["refresh_token"].as_str().unwrap();
    let form = refresh(token);
    let form: Vec<(&str, &str)> = form.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(alice.grant(&form).await.status, 200);
    assert_eq!(
        alice.grant(&form).await.status,
        200,
        "the same refresh token works again"
    );
    let access = refresh(pair["access_token"].as_str().unwrap());
    let access: Vec<(&str, &str)> = access.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(alice.grant(&access).await.json()["error"], "invalid_grant");
    sim.control().flush_tokens();
    let flushed = alice.get(&v3("pipelines/hello")).await;
    assert_eq!(
        (flushed.status, flushed.json()["message"].as_str()),
        (401, Some("token not found in cache"))
    );
    assert_eq!(
        alice.grant(&form).await.status,
        400,
        "refresh tokens are gone as well"
    );
    for status in [400, 400, 429, 429] {
        let wrong = [
            ("grant_type", "password"),
            ("username", "alice"),
            ("password", "wrong"),
        ];
        assert_eq!(alice.grant(&wrong).await.status, status);
    }
    let right = [
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", "tenant-Passw0rd"),
    ];
    assert_eq!(
        alice.grant(&right).await.status,
        429,
        "not even the right password"
    );
    alice.token = sim.control().add_service_account("ns", "robot");
    let robot = alice.get(&v3("pipelines/hello")).await;
    assert!(
        robot
            .text
            .contains("User \\\"kubesphere:serviceaccount:ns:robot\\\" cannot get"),
        "{robot:?}"
    );
    assert_eq!(sim.ledger().logins("password", "locked_out"), 3);
}

#[tokio::test]
async fn a_single_login_system_kicks_out_the_earlier_session() {
    let sim = recorded().await;
    sim.control().set_auth(AuthConfig {
        multi_login: false,
        access_token_seconds: 7_200,
        ..AuthConfig::default()
    });
    let first = Client::alice(&sim).await;
    // Tokens of the same second are equal: the next login has to be a different one.
    sim.control().set_auth(AuthConfig {
        multi_login: false,
        access_token_seconds: 7_000,
        ..AuthConfig::default()
    });
    let second = Client::alice(&sim).await;
    assert_eq!(first.get(&v3("pipelines/hello")).await.status, 401);
    assert_eq!(second.get(&v3("pipelines/hello")).await.status, 200);
}

#[tokio::test]
async fn roles_decide_by_path() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let apis = format!("/apis/devops.kubesphere.io/v1alpha3/namespaces/{PROJECT}/pipelineruns");
    let body = json!({"metadata": {"name": "x", "annotations": {"a": "b"}}, "spec": {"pipelineRef": {"name": "hello"}}});
    let control = sim.control();
    control
        .set_role(PROJECT, "alice", Some(Role::tenant_without_pipelineruns()))
        .unwrap();
    let refused = alice.post(&apis, &body).await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.json()["message"],
        format!(
            "pipelineruns.devops.kubesphere.io is forbidden: User \"alice\" cannot create resource \"pipelineruns\" in \
             API group \"devops.kubesphere.io\" in the namespace \"{PROJECT}\""
        )
    );
    assert_eq!(
        alice
            .post(&v3("pipelines/hello/pipelineruns"), &json!({}))
            .await
            .status,
        200
    );
    control
        .set_role(PROJECT, "alice", Some(Role::tenant_without_watch()))
        .unwrap();
    assert_eq!(
        alice
            .get(&format!("{apis}?watch=1&timeoutSeconds=1"))
            .await
            .status,
        403
    );
    assert_eq!(alice.get(&apis).await.status, 200);
    control
        .set_role(PROJECT, "alice", Some(Role::tenant_without_jenkins_proxy()))
        .unwrap();
    assert_eq!(
        alice
            .get(&v2(&format!("jenkins/job/{PROJECT}/job/hello/api/json")))
            .await
            .status,
        403
    );
    let missing = alice
        .get("/kapis/devops.kubesphere.io/v1alpha3/namespaces/nope/pipelines")
        .await;
    assert_eq!(
        missing.status, 403,
        "a namespace that does not exist is forbidden"
    );
    control.set_workspace_labels(PROJECT, None, Some("acme")).unwrap();
    let listed = alice
        .get("/kapis/devops.kubesphere.io/v1alpha3/workspaces/acme/namespaces")
        .await;
    assert_eq!(listed.text, "null", "a project without its label is in no list");
    assert_eq!(
        alice.get(&v3("pipelines/hello")).await.status,
        200,
        "and is there all the same"
    );
}

#[tokio::test]
async fn a_member_tells_its_failures_apart() {
    let config = Config::of(World::recorded_with_member()).with_time_scale(common::SCALE);
    let sim = Simulator::start(config).await.unwrap();
    let alice = Client::alice(&sim).await;
    let member = sim.control().on("member-1");
    let path = "/clusters/member-1/kapis/devops.kubesphere.io/v1alpha3/namespaces/eastrq64q/pipelines/hello";
    for (health, status, wrapped) in [
        (ClusterHealth::Healthy, 200, false),
        (ClusterHealth::NotReady, 503, true),
        (ClusterHealth::CredentialsRefused, 503, true),
        (ClusterHealth::KubeApiserverDown, 502, true),
        (ClusterHealth::KsApiserverDown, 503, false),
        (ClusterHealth::IdentityRejected, 511, false),
    ] {
        member.cluster_health(health).unwrap();
        let answer = alice.get(path).await;
        assert_eq!(
            (answer.status, answer.json().get("ErrStatus").is_some()),
            (status, wrapped),
            "{health:?}"
        );
    }
    let unknown = alice
        .get("/clusters/nope/kapis/devops.kubesphere.io/v1alpha3/namespaces/x/pipelines")
        .await;
    assert_eq!(
        (unknown.status, unknown.json()["ErrStatus"]["message"].as_str()),
        (400, Some("cluster nope not exists"))
    );
    let host = alice
        .get("/clusters/host/kapis/devops.kubesphere.io/v1alpha3/workspaces/acme/namespaces")
        .await;
    assert_eq!(
        host.json()["items"][0]["metadata"]["name"],
        "demo4ksqs",
        "the member's project is not the host's"
    );
}

#[tokio::test]
async fn a_lost_answer_is_carried_out_and_a_lost_request_is_not() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    sim.control().controller(false).unwrap();
    for (cut, runs) in [(Cut::RequestLost, 0), (Cut::AnswerLost, 1)] {
        sim.control()
            .fault(Fault::once("v3.runs.create", FaultAction::cut(cut)));
        let request = alice
            .request("POST", &v3("pipelines/hello/pipelineruns"))
            .json(&json!({}));
        assert!(
            alice.try_send(request).await.is_err(),
            "{cut:?}: the client must see a broken connection"
        );
        assert_eq!(sim.control().runs(PROJECT).len(), runs, "{cut:?}");
    }
    assert_eq!(
        alice
            .post(&v3("pipelines/hello/pipelineruns"), &json!({}))
            .await
            .status,
        200
    );
    let asked = sim.ledger().requests("v3.runs.create");
    let seen: Vec<(u16, bool)> = asked.iter().map(|r| (r.status, r.faulted)).collect();
    assert_eq!(seen, [(0, true), (0, true), (200, false)]);
}

#[tokio::test]
async fn a_truncated_body_breaks_its_promise() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let name = alice.trigger("artifacts", &[]).await;
    alice.finished(&name).await;
    let path = v2(&format!("jenkins/job/{PROJECT}/job/artifacts/1/artifact/app.jar"));
    let whole = alice.request("GET", &path).send().await.unwrap();
    assert_eq!(whole.headers()["content-length"], "1048576");
    assert_eq!(whole.headers()["x-jenkins"], "2.479.3");
    let whole = whole.bytes().await.unwrap();
    let part = alice
        .request("GET", &path)
        .header("range", "bytes=1000-1999")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), whole[1_000..2_000]);
    let kapis = alice.request(
        "GET",
        &v3(&format!(
            "pipelineruns/{name}/artifacts/download?filename=app.jar"
        )),
    );
    let kapis = kapis.send().await.unwrap();
    assert!(kapis.headers().get("content-length").is_none());
    assert_eq!(kapis.bytes().await.unwrap(), whole);
    sim.control()
        .jenkins_outage(
            JenkinsOutage::new(JenkinsFault::Truncate(98_304))
                .on("artifact")
                .times(1),
        )
        .unwrap();
    let broken = alice.request("GET", &path).send().await.unwrap();
    assert_eq!(broken.headers()["content-length"], "1048576");
    assert!(broken.bytes().await.is_err());
    sim.control()
        .fault(Fault::once("v2.run.log", FaultAction::truncate(10)));
    let log = alice
        .request("GET", &v2("pipelines/artifacts/runs/1/log?start=0"))
        .send()
        .await
        .unwrap();
    assert!(log.bytes().await.is_err());
    sim.control()
        .jenkins_outage(JenkinsOutage::new(JenkinsFault::Truncate(10)).on("log").times(1))
        .unwrap();
    let empty = alice.get(&v2("pipelines/artifacts/runs/1/log?start=0")).await;
    assert_eq!(
        (empty.status, empty.text.as_str(), empty.header("content-type")),
        (200, "", "")
    );
}

#[tokio::test]
async fn the_ledger_counts_every_byte() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let name = alice.trigger("artifacts", &[]).await;
    alice.finished(&name).await;
    sim.ledger().clear();
    let path = v2(&format!("jenkins/job/{PROJECT}/job/artifacts/1/artifact/app.jar"));
    alice
        .request("GET", &path)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(sim.ledger().bytes_out(), 1_048_576);
    assert_eq!(sim.ledger().count("v2.proxy"), 1);
}

#[tokio::test]
async fn log_routes_accept_only_everything() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    for accept in ["application/json", "text/plain"] {
        let request = alice
            .request("GET", &v2("pipelines/hello/runs/1/log"))
            .header("accept", accept);
        let answer = alice.try_send(request).await.unwrap();
        assert_eq!(answer.status, 406);
        assert_eq!(
            answer.text,
            "406: Not Acceptable\n\nAvailable representations: text/plain; charset=utf-8"
        );
    }
    let scan = alice
        .request("POST", &v2("pipelines/multi/scan"))
        .header("accept", "application/json");
    assert_eq!(alice.try_send(scan).await.unwrap().status, 415);
}

#[tokio::test]
async fn the_control_api_does_what_the_handle_does() {
    let sim = recorded().await;
    let alice = Client::alice(&sim).await;
    let fault = json!({"class": "v3.pipeline.get", "times": 1, "action": {"status": 500, "body": "oops"}});
    assert!(alice.post("/_sim/faults", &fault).await.json()["id"].is_number());
    assert_eq!(alice.get(&v3("pipelines/hello")).await.text, "oops");
    assert_eq!(alice.get(&v3("pipelines/hello")).await.status, 200);
    let ledger: Value = alice.get("/_sim/ledger").await.json();
    assert_eq!(
        ledger["requests"].as_array().unwrap().len(),
        3,
        "login and two reads; controls do not count"
    );
    let project = json!({
        "cluster": "host", "workspace": "acme", "short_name": "demo", "labelled": true, "namespace_labelled": true,
    });
    let name = alice.post("/_sim/projects", &project).await.json()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        name.starts_with("demo") && name != PROJECT,
        "a second project of that short name: {name}"
    );
    let wrong = alice.post("/_sim/faults", &json!({"klass": "x"})).await;
    assert!(wrong.status == 400 && wrong.text.contains("klass"), "{wrong:?}");
    assert_eq!(alice.get("/_sim/nothing").await.status, 404);
}
