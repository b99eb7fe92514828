//! Sends recorded requests to a simulator and compares the answers.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;
use http::Method;
use serde_json::Value;
use tenantry_simulator::{Config, Control, JenkinsFault, JenkinsOutage, Simulator, Timings};
use tenantry_test_support::recorded::{Exchange, Response};
use tokio::time::Instant;

use crate::{
    argo,
    differences::Found,
    ensure, scenes,
    shape::{self, Answer},
};

/// Passwords of the recorded worlds' users.
const USERS: [(&str, &str); 5] = [
    ("alice", "tenant-Passw0rd"),
    ("bob", "viewer-Passw0rd"),
    ("carol", "viewer-Passw0rd"),
    ("admin", "admin-Passw0rd"),
    ("dora", "viewer-Passw0rd"),
];

/// How long a read may take to be answered as recorded. States pass by themselves: runs start, are polled, end.
const PATIENCE: Duration = Duration::from_secs(6);
/// Pace: fast enough to wait for, slow enough that no state passes unseen; inputs pass many.
fn pace(group: &str) -> f64 {
    if group == "30" { 1.0 } else { 0.15 }
}

/// A simulator under replay.
pub struct Stage {
    pub sim: Simulator,
    pub http: reqwest::Client,
    /// Recorded token → simulated token.
    tokens: BTreeMap<String, String>,
    /// Recorded UID → simulated UID.
    uids: BTreeMap<String, String>,
    /// Jenkins takes no triggers, so that a fresh run stays as it is until it was looked at.
    holding: bool,
    /// How long things take inside.
    pub timings: Timings,
    /// Where watches begin, by cluster prefix.
    versions: BTreeMap<&'static str, String>,
}

/// Replays a group; gives the differences by number.
pub async fn replay(prefix: &str, exchanges: &[Exchange]) -> Found {
    // reqwest is built without a provider of its own; a second installation is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::of(scenes::world(prefix)).with_time_scale(pace(prefix));
    // A fresh run is seen as it is before the controller comes, as it was in the recordings.
    config.timings.controller_latency = 1_500;
    let timings = config.timings;
    let sim = Simulator::start(config).await.expect("a simulator");
    let mut stage = Stage {
        sim,
        http: reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(5))
            .build()
            .expect("an HTTP client"),
        tokens: BTreeMap::new(),
        uids: BTreeMap::new(),
        holding: false,
        timings,
        versions: BTreeMap::new(),
    };
    argo::begin(&stage.sim.control(), prefix);
    for prefix in ["", "/clusters/member-1"] {
        // Runs that Jenkins' events made are made where a recording shows one, under its name.
        let _ = stage.control(prefix).jenkins_events(false, false);
        let version = stage.list_version(prefix).await;
        stage.versions.insert(prefix, version);
    }
    let mut found = Found::new();
    for exchange in exchanges {
        for number in scenes::presupposed(&exchange.number) {
            for other in exchanges.iter().filter(|e| e.number == *number) {
                ensure::state_for(&stage, other, exchanges).await;
            }
        }
        scenes::before(&mut stage, &exchange.number).await;
        if prefix < "10" {
            stage.hold_triggers(exchange, exchanges);
        }
        ensure::state_for(&stage, exchange, exchanges).await;
        scenes::ready(&stage, &exchange.number, &exchange.path).await;
        let differences = stage.play(exchange).await;
        if exchange.method != Method::GET
            && let Some(json) = exchange.response.as_ref().and_then(|r| r.json.as_ref())
        {
            ensure::date(&stage.control(&exchange.path), json);
        }
        if !differences.is_empty() {
            found.insert(exchange.number.clone(), differences);
        }
    }
    found
}

impl Stage {
    /// The controls of the cluster a path is for.
    pub fn control(&self, path: &str) -> Control {
        let control = self.sim.control();
        match ensure::cluster_in(&format!("{path}/")) {
            Some(cluster) => control.on(cluster),
            None => control,
        }
    }

    /// After a restart of the gateway: its users log in anew.
    pub fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    async fn list_version(&self, prefix: &str) -> String {
        let url = format!(
            "{}{prefix}/apis/devops.kubesphere.io/v1alpha3/pipelineruns",
            self.sim.url()
        );
        let token = self.login("admin").await;
        let list: Option<Value> = match self.http.get(url).bearer_auth(token).send().await {
            Ok(answer) => answer.json().await.ok(),
            Err(_) => None,
        };
        list.and_then(|l| Some(l.pointer("/metadata/resourceVersion")?.as_str()?.to_owned()))
            .unwrap_or_else(|| "1".into())
    }

    /// Holds Jenkins' triggers back while the recordings look at a run that was not triggered yet, or just before.
    fn hold_triggers(&mut self, exchange: &Exchange, group: &[Exchange]) {
        let shown = ensure::run_shown(exchange);
        let name = shown.map(|(name, _)| name);
        let later = group.iter().filter(|e| e.number > exchange.number);
        let next = later
            .filter_map(ensure::run_shown)
            .find(|(n, _)| Some(*n) == name);
        let fresh = |run: Option<(&str, bool)>| run.is_some_and(|(_, triggered)| !triggered);
        let hold = if exchange.method == Method::GET {
            fresh(shown)
        } else {
            fresh(next)
        };
        let control = self.sim.control();
        if hold && !self.holding {
            let outage = JenkinsOutage::new(JenkinsFault::Down).on("trigger");
            control.jenkins_outage(outage).expect("a host cluster");
        } else if !hold && self.holding {
            control.jenkins_up().expect("a host cluster");
        }
        self.holding = hold;
    }

    async fn play(&mut self, exchange: &Exchange) -> Vec<String> {
        let Some(recorded) = &exchange.response else {
            return match self.send(exchange).await {
                None => Vec::new(),
                Some(answer) => vec![format!("status {} instead of silence", answer.status)],
            };
        };
        let wanted = answer_of(recorded);
        let deadline = Instant::now() + PATIENCE;
        // States pass: told is how the nearest one differs.
        let mut nearest: Option<Vec<String>> = None;
        loop {
            let Some(got) = self.send(exchange).await else {
                return vec!["silence".into()];
            };
            let differences = shape::differences(&wanted, &got);
            // A login may be asked for again as well: tokens expire.
            let again = exchange.method == Method::GET || exchange.path == "/oauth/token";
            let nearer = nearest.as_ref().is_none_or(|n| differences.len() < n.len());
            if nearer {
                nearest = Some(differences);
            }
            let same = nearest.as_ref().is_some_and(Vec::is_empty);
            if same || !again || Instant::now() > deadline {
                self.learn(&wanted, &got);
                return nearest.unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn learn(&mut self, recorded: &Answer, simulated: &Answer) {
        let uid = |a: &Answer| Some(a.json.as_ref()?.pointer("/metadata/uid")?.as_str()?.to_owned());
        if let (Some(theirs), Some(ours)) = (uid(recorded), uid(simulated)) {
            self.uids.insert(theirs, ours);
        }
        for key in ["access_token", "refresh_token"] {
            let text = |a: &Answer| Some(a.json.as_ref()?.get(key)?.as_str()?.to_owned());
            if let (Some(theirs), Some(ours)) = (text(recorded), text(simulated)) {
                self.tokens.insert(theirs, ours);
            }
        }
    }

    /// A fresh bearer of a user.
    pub async fn login(&self, user: &str) -> String {
        let password = USERS.iter().find(|(u, _)| *u == user).map_or("", |(_, p)| p);
        let form = format!(
            "grant_type=password&username={user}&password={password}&client_id=kubesphere&client_secret=kubesphere"
        );
        let answer = self
            .http
            .post(format!("{}/oauth/token", self.sim.url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await;
        let body: Value = match answer {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        };
        body.get("access_token")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// Does something that no recording shows; it has to succeed.
    pub async fn send_as(&self, user: &str, method: Method, path: &str, content_type: &str, body: &Value) {
        let token = self.login(user).await;
        let url = format!("{}{path}", self.sim.url());
        let mut request = self.http.request(method.clone(), url).bearer_auth(token);
        if !body.is_null() {
            request = request
                .header("content-type", content_type)
                .body(body.to_string());
        }
        let answer = request.send().await.expect("the simulator answers");
        assert!(
            answer.status().is_success(),
            "cannot make what is presupposed: {method} {path}: {}",
            answer.status()
        );
    }

    /// What a user reads at a path; null if that is no JSON.
    pub async fn get_as(&self, user: &str, path: &str) -> Value {
        let token = self.login(user).await;
        let url = format!("{}{path}", self.sim.url());
        match self.http.get(url).bearer_auth(token).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// A recorded Authorization header in the simulator's terms.
    async fn authorization(&mut self, recorded: &str) -> String {
        let Some(token) = recorded.strip_prefix("Bearer ") else {
            return recorded.to_owned();
        };
        if let Some(ours) = self.tokens.get(token) {
            return format!("Bearer {ours}");
        }
        let named = token.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
        let user = named.map(str::to_owned).or_else(|| scenes::user_of(token));
        match user {
            Some(user) => {
                let ours = self.login(&user).await;
                self.tokens.insert(token.to_owned(), ours.clone());
                format!("Bearer {ours}")
            }
            None => recorded.to_owned(),
        }
    }

    /// The bearers go stale when the scene flushes them.
    async fn send(&mut self, exchange: &Exchange) -> Option<Answer> {
        let path = self.path(&exchange.path);
        let mut request = self
            .http
            .request(exchange.method.clone(), format!("{}{path}", self.sim.url()));
        for (name, value) in &exchange.request_headers {
            let mut text = value.to_str().unwrap_or_default().to_owned();
            if name == "authorization" {
                text = self.authorization(&text).await;
            }
            request = request.header(name, text);
        }
        if let Some(body) = self.body(exchange) {
            request = request.body(body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let content_type = answer
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let body = if path.contains("watch=1&") && status == 200 && !path.contains("/kapis/") {
            let lines = exchange.response.as_ref().map_or(0, |r| lines(&r.body).len());
            read_lines(answer, lines).await
        } else {
            read_all(answer).await
        };
        Some(Answer {
            status,
            content_type,
            json: json_of(&body),
            body,
            shortened: false,
        })
    }

    fn path(&self, recorded: &str) -> String {
        let Some((path, query)) = recorded.split_once('?') else {
            return recorded.to_owned();
        };
        let parts: Vec<String> = query
            .split('&')
            .map(|part| match part.strip_prefix("resourceVersion=") {
                // "1" is the recording of a version from too long ago.
                Some(version) if version != "1" => {
                    let prefix = if path.starts_with("/clusters/") {
                        "/clusters/member-1"
                    } else {
                        ""
                    };
                    format!("resourceVersion={}", self.versions[prefix])
                }
                _ => part.to_owned(),
            })
            .collect();
        format!("{path}?{}", parts.join("&"))
    }

    fn body(&self, exchange: &Exchange) -> Option<Vec<u8>> {
        let form = exchange
            .request_headers
            .get("content-type")
            .is_some_and(|v| v == "application/x-www-form-urlencoded");
        match &exchange.request_body {
            Value::Null => None,
            Value::Object(fields) if form => {
                let pairs: Vec<String> = fields
                    .iter()
                    .map(|(key, value)| {
                        let value = value.as_str().unwrap_or_default();
                        let value = self.tokens.get(value).map_or(value, String::as_str);
                        format!("{key}={}", ensure::encode(value))
                    })
                    .collect();
                Some(pairs.join("&").into_bytes())
            }
            Value::String(text) => Some(text.clone().into_bytes()),
            json => {
                let text = self.uids.iter().fold(json.to_string(), |text, (theirs, ours)| {
                    text.replace(theirs, ours)
                });
                Some(text.into_bytes())
            }
        }
    }
}

fn answer_of(recorded: &Response) -> Answer {
    let json = recorded.json.clone().or_else(|| json_of(&recorded.body));
    Answer {
        status: recorded.status,
        content_type: recorded
            .headers
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned(),
        json: json.filter(|_| !recorded.shortened),
        body: recorded.body.clone(),
        shortened: recorded.shortened,
    }
}

/// A body as JSON; the lines of a watch as a list.
fn json_of(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().or_else(|| {
        let all: Option<Vec<Value>> = lines(body)
            .into_iter()
            .map(|line| serde_json::from_slice(line).ok())
            .collect();
        all.filter(|list| !list.is_empty()).map(Value::from)
    })
}

fn lines(body: &[u8]) -> Vec<&[u8]> {
    body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect()
}

async fn read_all(mut answer: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        body.extend_from_slice(&piece);
    }
    body
}

/// As many lines of a stream as were recorded, or what comes before it falls silent.
async fn read_lines(answer: reqwest::Response, wanted: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let mut pieces = answer.bytes_stream();
    while lines(&body).len() < wanted {
        match tokio::time::timeout(Duration::from_secs(2), pieces.next()).await {
            Ok(Some(Ok(piece))) => body.extend_from_slice(&piece),
            _ => break,
        }
    }
    body
}
