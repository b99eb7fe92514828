//! A plain HTTP client with a login, and patience.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use serde_json::Value;
use tenantry_simulator::{Config, Simulator, World};

pub const PROJECT: &str = "demo2snmj";

/// Everything twenty times as fast.
pub const SCALE: f64 = 0.05;

/// A simulator of the recorded world, fast.
pub async fn recorded() -> Simulator {
    Simulator::start(Config::of(World::recorded()).with_time_scale(SCALE))
        .await
        .expect("it starts")
}

/// A user of a simulator.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub url: String,
    pub token: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    }
}

impl Client {
    pub async fn alice(simulator: &Simulator) -> Self {
        Self::login(simulator, "alice", "tenant-Passw0rd").await
    }

    pub async fn login(simulator: &Simulator, user: &str, password: &str) -> Self {
        // Whoever comes first installs it; the others find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client");
        let mut client = Self {
            http,
            url: simulator.url(),
            token: String::new(),
        };
        let answer = client
            .grant(&[
                ("grant_type", "password"),
                ("username", user),
                ("password", password),
            ])
            .await;
        client.token = answer.json()["access_token"]
            .as_str()
            .map(str::to_owned)
            .expect("a token");
        client
    }

    pub async fn grant(&self, form: &[(&str, &str)]) -> Answer {
        let client = [("client_id", "kubesphere"), ("client_secret", "kubesphere")];
        let form: Vec<_> = form.iter().chain(&client).collect();
        let request = self.http.post(format!("{}/oauth/token", self.url)).form(&form);
        read(request.send().await.expect("an answer")).await
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
    }

    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        Ok(read(request.send().await?).await)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.try_send(self.request("GET", path)).await.expect("an answer")
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.try_send(self.request("DELETE", path))
            .await
            .expect("an answer")
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_send(self.request("POST", path).json(body))
            .await
            .expect("an answer")
    }

    /// Triggers a pipeline and returns the run's name.
    pub async fn trigger(&self, pipeline: &str, parameters: &[(&str, &str)]) -> String {
        let list: Vec<Value> = parameters
            .iter()
            .map(|(n, v)| serde_json::json!({"name": n, "value": v}))
            .collect();
        let body = serde_json::json!({"parameters": list});
        let answer = self
            .post(&v3(&format!("pipelines/{pipeline}/pipelineruns")), &body)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned()
    }

    pub async fn run(&self, name: &str) -> Value {
        self.get(&v3(&format!("pipelineruns/{name}"))).await.json()
    }

    /// Waits until a run is over and returns it.
    pub async fn finished(&self, name: &str) -> Value {
        until(&format!("{name} is over"), async || {
            let run = self.run(name).await;
            run.pointer("/status/completionTime").is_some().then_some(run)
        })
        .await
    }
}

async fn read(response: reqwest::Response) -> Answer {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap_or_default();
    Answer {
        status,
        headers,
        text,
    }
}

/// A v1alpha3 path in the project.
pub fn v3(rest: &str) -> String {
    format!("/kapis/devops.kubesphere.io/v1alpha3/namespaces/{PROJECT}/{rest}")
}

/// A v1alpha2 path in the project.
pub fn v2(rest: &str) -> String {
    format!("/kapis/devops.kubesphere.io/v1alpha2/namespaces/{PROJECT}/{rest}")
}

/// Asks until there is an answer; gives up after a minute.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = ask().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited a minute and it did not happen: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
