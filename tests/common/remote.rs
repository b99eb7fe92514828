//! What strangers do at the gateway, beside tenantry.

use serde_json::{Value, json};

use super::{PROJECT, Stage};

/// Logs in, as a browser would.
pub async fn token(stage: &Stage, user: &str, password: &str) -> String {
    let form = format!(
        "grant_type=password&username={user}&password={password}&client_id=kubesphere&client_secret=kubesphere"
    );
    let answer = client()
        .post(format!("{}/oauth/token", stage.simulator.url()))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .expect("an answer");
    let answer: Value = json_of(answer).await;
    answer["access_token"].as_str().expect("a token").to_owned()
}

/// Starts a run of a pipeline of `shop` in this user's name; returns the run's name.
pub async fn post_run(
    stage: &Stage,
    user: &str,
    password: &str,
    pipeline: &str,
    parameters: &[(&str, &str)],
) -> String {
    let path = format!(
        "/kapis/devops.kubesphere.io/v1alpha3/namespaces/{PROJECT}/pipelines/{pipeline}/pipelineruns"
    );
    let body = json!({"parameters": super::parameters(parameters)});
    let run = post(stage, &token(stage, user, password).await, &path, &body).await;
    run["metadata"]["name"].as_str().expect("a name").to_owned()
}

/// Creates a run object of this name in `shop`, as an administrator.
pub async fn create_run(stage: &Stage, name: &str, pipeline: &str) {
    let path = format!("/apis/devops.kubesphere.io/v1alpha3/namespaces/{PROJECT}/pipelineruns");
    let body = json!({
        "apiVersion": "devops.kubesphere.io/v1alpha3", "kind": "PipelineRun",
        "metadata": {"name": name, "namespace": PROJECT, "annotations": {"devops.kubesphere.io/creator": "admin"}},
        "spec": {"pipelineRef": {"kind": "Pipeline", "name": pipeline, "namespace": PROJECT}},
    });
    post(
        stage,
        &token(stage, "admin", "admin-Passw0rd").await,
        &path,
        &body,
    )
    .await;
}

/// The whole log of a build, byte by byte as Jenkins has it.
pub async fn console_text(stage: &Stage, pipeline: &str, number: u64) -> String {
    let path = format!(
        "/kapis/devops.kubesphere.io/v1alpha2/namespaces/{PROJECT}/jenkins/job/{PROJECT}/job/{pipeline}/{number}/consoleText"
    );
    let answer = client()
        .get(format!("{}{path}", stage.simulator.url()))
        .bearer_auth(token(stage, "admin", "admin-Passw0rd").await)
        .send()
        .await
        .expect("an answer");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.text().await.expect("a text")
}

/// What Jenkins has under `path` of a build, byte by byte, for who has an administrator's token.
pub async fn jenkins(
    stage: &Stage,
    token: &str,
    project: &str,
    pipeline: &str,
    number: u64,
    path: &str,
) -> Vec<u8> {
    let path = format!(
        "/kapis/devops.kubesphere.io/v1alpha2/namespaces/{project}/jenkins/job/{project}/job/{pipeline}/{number}/{path}"
    );
    let url = format!("{}{path}", stage.simulator.url());
    let answer = client()
        .get(url)
        .bearer_auth(token)
        .send()
        .await
        .expect("an answer");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.bytes().await.expect("bytes").to_vec()
}

async fn post(stage: &Stage, token: &str, path: &str, body: &Value) -> Value {
    let answer = client()
        .post(format!("{}{path}", stage.simulator.url()))
        .bearer_auth(token)
        .header("Content-Type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .expect("an answer");
    json_of(answer).await
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

async fn json_of(answer: reqwest::Response) -> Value {
    let (status, url) = (answer.status(), answer.url().to_string());
    let text = answer.text().await.expect("a body");
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).expect("JSON")
}
