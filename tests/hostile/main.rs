//! A gateway that means harm, beside one that does not, behind one operator: it hurts only who goes through it. And the same
//! for `tenantry fetch`.
//!
//! What is asserted of the operator: builds through the good gateway end within [`USUAL`], less than one answer of a gateway
//! may take; its memory stays below [`MEMORY`]; nothing panics; no bearer leaves the gateway's origin; and whatever goes
//! through the bad one says in its conditions what is wrong.

mod canaries;
#[path = "../common/mod.rs"]
mod common;
mod echo;
mod fetch;
mod logins;
#[path = "../fetch_simulator/bench.rs"]
#[allow(dead_code)] // shared with the suite of the fetch pod, which uses all of it
mod pod;
mod server;
mod watch;

use std::time::{Duration, Instant};

use serde_json::json;
use tenantry::api::TenantConnection;
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use common::{PASSWORD, Setup, Stage, condition};
use server::{Evil, Hostile, Trap, answer, bomb, endless_head, json as json_answer};

/// A good build takes a second or two here; what waits for the bad gateway waits for 35 s and more.
const USUAL: Duration = Duration::from_secs(30);
/// On a machine that is slow at everything: so many times what it took before.
const SLOWER: u32 = 8;
/// The operator at its peak, not optimised, with every attack at once: what the chart lets it have. 172 MiB were seen.
const MEMORY: u64 = 256 * 1024;

/// A connection `name` to `endpoint`, with the good login.
async fn connect(stage: &Stage, name: &str, endpoint: &str) {
    stage
        .apply::<TenantConnection>(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "TenantConnection", "metadata": {"name": name},
            "spec": {
                "endpoint": endpoint, "workspace": "acme", "pollInterval": "1s",
                "limits": {"requestsPerSecond": 200, "burst": 400, "concurrentRuns": 100},
                "credentials": {"password": {"secretRef": {"name": "login"}}},
            },
        }))
        .await;
}

/// A word of `/proc/PID/status`, in KiB.
fn memory(stage: &Stage, word: &str) -> u64 {
    let pid = stage
        .operator
        .as_ref()
        .and_then(tenantry_test_support::Operator::pid)
        .expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(word))
        .expect("a line");
    line.trim_matches([':', ' ', '\t', 'k', 'B'])
        .parse()
        .expect("a number")
}

/// How long a build through the good gateway takes, from `kubectl apply` to Ready.
async fn good_build(stage: &Stage, name: &str) -> Duration {
    let begun = Instant::now();
    stage
        .build(
            name,
            json!({"artifacts": {"include": ["**"]}, "parameters": [
                {"name": "ARTIFACTS", "value": "a.txt:100"}, {"name": "VERSION", "value": name},
            ]}),
        )
        .await;
    stage.until_ready(name).await;
    begun.elapsed()
}

/// A good build took no longer than usual, or not much longer than `before`.
fn assert_usual(before: Duration, worst: Duration) {
    println!("a good build: {before:?} before, at most {worst:?} meanwhile");
    assert!(
        worst < USUAL.max(before * SLOWER),
        "a good build took {worst:?}, {before:?} before"
    );
}

/// What must hold of the operator whatever it met.
async fn assert_unharmed(stage: &mut Stage) {
    let operator = stage.operator.as_mut().expect("an operator");
    assert!(operator.exited().expect("known").is_none(), "it has ended");
    let logs = operator.logs().expect("logs");
    assert!(!logs.contains("panicked"), "{logs}");
    let metrics = operator.metrics_text().await.expect("metrics");
    assert!(!metrics.contains(r#"result="panic""#), "{metrics}");
    for secret in [PASSWORD, "eyJ"] {
        assert!(
            !logs.contains(secret) && !metrics.contains(secret),
            "{secret} is shown"
        );
    }
    let peak = memory(stage, "VmHWM");
    println!("the operator at its peak: {peak} KiB");
    assert!(peak < MEMORY, "{peak} KiB at the peak");
}

/// A stage whose operator tries again as seldom as elsewhere: it is what is sent that is to hurt, not how often we ask.
async fn stage() -> Stage {
    let args = ["--tune", "backoff-first=1s", "--tune", "backoff-cap=120s"];
    Stage::with(Setup {
        args: args.map(str::to_owned).to_vec(),
        ..Setup::default()
    })
    .await
}

/// What is spoilt, and how.
type Spoils = Vec<(Vec<&'static str>, Evil)>;

/// An attack: its name, what is spoilt and how, and the reasons that a build through it may show.
type Attack = (&'static str, Spoils, &'static [&'static str]);

const UNAVAILABLE: &[&str] = &["RemoteUnavailable"];
const UNEXPECTED: &[&str] = &["UnexpectedAnswer", "RemoteUnavailable"];

fn attacks(trap: &Trap) -> Vec<Attack> {
    let project = || vec!["GET", "/workspaces/acme/namespaces"];
    let pipeline = || vec!["GET", "v1alpha3", "/pipelines/build"];
    let redirect = |to: &str| {
        Evil::Bytes(
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .into(),
        )
    };
    let bytes = |text: String| Evil::Bytes(text.into_bytes());
    let wide = format!(
        r#"{{"items":[{}{{"metadata":{{"name":"x"}}}}],"totalItems":1}}"#,
        r#"{"metadata":{"name":"a-project-of-many"}},"#.repeat(1_000_000)
    );
    vec![
        ("link-local", vec![(pipeline(), redirect("http://169.254.169.254/latest/meta-data/"))], &["InvalidSpec"]),
        ("elsewhere", vec![(pipeline(), redirect(&format!("http://{}/", trap.address)))], &["InvalidSpec"]),
        ("elsewhere-token", vec![(vec!["/oauth/token"], redirect(&format!("http://{}/", trap.address)))], &["InvalidSpec"]),
        ("loop", vec![(pipeline(), Evil::Loop)], &["InvalidSpec"]),
        ("endless", vec![(pipeline(), Evil::Endless { head: endless_head("application/json"), piece: b"[[\"x\"],".to_vec(), per_second: 40 << 20 })], UNEXPECTED),
        ("drip", vec![(pipeline(), Evil::Drip { head: endless_head("application/json") })], UNAVAILABLE),
        ("silence", vec![(pipeline(), Evil::Silence)], UNAVAILABLE),
        ("bomb-of-nothing", vec![(project(), Evil::Bytes(bomb("          ", 10_000_000)))], UNEXPECTED),
        ("bomb-of-objects", vec![(project(), Evil::Bytes(bomb("{},", 5_000_000)))], UNEXPECTED),
        ("million-projects", vec![(project(), Evil::Bytes(json_answer(&wide)))], UNEXPECTED),
        ("wide-header", vec![(pipeline(), bytes(format!("HTTP/1.1 200 OK\r\nX-Wide: {}\r\n\r\n{{}}", "x".repeat(10 << 20))))], UNAVAILABLE),
        ("many-headers", vec![(pipeline(), bytes(format!("HTTP/1.1 200 OK\r\n{}\r\n{{}}", "X-Many: x\r\n".repeat(900_000))))], UNAVAILABLE),
        ("deep", vec![(pipeline(), Evil::Bytes(json_answer(&format!(r#"{{"metadata":{{"name":"build"}},"spec":{}"#, "[".repeat(2_000_000)))))], UNEXPECTED),
        ("short", vec![(pipeline(), bytes("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n{\"metadata\"".into()))], UNAVAILABLE),
        ("length", vec![(pipeline(), bytes("HTTP/1.1 200 OK\r\nContent-Length: -1\r\nContent-Length: 18446744073709551616\r\n\r\n{}".into()))], UNAVAILABLE),
        ("not-http", vec![(pipeline(), bytes("\0\u{1}\u{2}SSH-2.0-OpenSSH\r\n".into()))], UNAVAILABLE),
        ("years", vec![(pipeline(), bytes("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 999999999999\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into()))], &["Throttled"]),
        ("years-token", vec![(vec!["/oauth/token"], bytes("HTTP/1.1 429 Too Many Requests\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nDate: Sun, 22 Nov 2026 20:00:00 GMT\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into()))], &["LockedOut"]),
        ("control-characters", vec![(pipeline(), Evil::Bytes(answer("500 Internal Server Error", "text/plain", &b"\x1b[2J\x07\xff\xfe broken ".repeat(100_000))))], UNAVAILABLE),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_gateway_sends_hurts_only_who_goes_through_it() {
    let mut stage = stage().await;
    let trap = Trap::start().await;
    let before = good_build(&stage, "before").await;

    let mut servers = Vec::new();
    for (name, spoils, reasons) in attacks(&trap) {
        let hostile = Hostile::start(&stage.simulator.url(), spoils).await;
        let connection = format!("evil-{name}");
        connect(&stage, &connection, &hostile.url()).await;
        for n in 0..2 {
            stage
                .build(
                    &format!("{name}-{n}"),
                    json!({"connectionRef": {"name": connection}}),
                )
                .await;
        }
        servers.push((name, reasons, hostile));
    }
    // A gateway that speaks no TLS where TLS is asked for, and one whose certificate nobody trusts.
    let plain = Hostile::start(&stage.simulator.url(), vec![]).await;
    connect(&stage, "evil-no-tls", &format!("https://{}", plain.address)).await;
    stage
        .build("no-tls-0", json!({"connectionRef": {"name": "evil-no-tls"}}))
        .await;
    // A token for ever is one.
    let token = json_answer(
        r#"{"access_token":"e30.eyJzdWIiOiJyb2JvIn0.x","token_type":"Bearer","expires_in":18446744073709551615}"#,
    );
    let endless_life = Hostile::start(
        &stage.simulator.url(),
        vec![(vec!["/oauth/token"], Evil::Bytes(token))],
    )
    .await;
    connect(&stage, "evil-life", &endless_life.url()).await;
    stage
        .build("life-0", json!({"connectionRef": {"name": "evil-life"}}))
        .await;

    let mut worst = Duration::ZERO;
    for n in 0..6 {
        worst = worst.max(good_build(&stage, &format!("during-{n}")).await);
    }
    assert_usual(before, worst);

    for (name, reasons, _) in &servers {
        let object = stage
            .until(&format!("{name}-0"), &format!("one of {reasons:?}"), |o| {
                reasons.contains(&condition(o, "Ready").1.as_str())
            })
            .await;
        let (status, reason, message) = condition(&object, "Ready");
        println!("{name}: {reason}: {message}");
        assert_ne!(status, "True", "{name}");
        assert!(message.len() > 20 && message.len() < 2_000, "{name}: {message}");
        assert!(!message.chars().any(char::is_control), "{name}: {message:?}");
    }
    for name in ["no-tls-0", "life-0"] {
        let object = stage
            .until(name, "a reason", |o| {
                ["RemoteUnavailable", "CredentialsInvalid"].contains(&condition(o, "Ready").1.as_str())
            })
            .await;
        println!("{name}: {}", condition(&object, "Ready").2);
    }
    for (name, _, server) in &servers {
        assert!(server.count() > 0, "{name} was never asked");
    }
    assert_eq!(trap.came(), 0, "somebody was led astray");
    assert_eq!(stage.built("build"), 7, "the good builds, and nothing else");
    assert_unharmed(&mut stage).await;
}

/// The share of a connection: here the operator has fewer places than there are objects that hang.
#[tokio::test(flavor = "multi_thread")]
async fn many_builds_through_a_gateway_that_hangs_leave_room_for_others() {
    let mut stage = Stage::new().await;
    let before = good_build(&stage, "before").await;
    let hostile = Hostile::start(
        &stage.simulator.url(),
        vec![(vec!["GET", "v1alpha3", "/pipelines/build"], Evil::Silence)],
    )
    .await;
    connect(&stage, "hangs", &hostile.url()).await;
    for n in 0..60 {
        stage
            .build(&format!("hangs-{n}"), json!({"connectionRef": {"name": "hangs"}}))
            .await;
    }
    wait_for("as many to hang as may", PATIENCE, async || {
        Ok(Seen::when(hostile.count() >= 12, || {
            format!("{}", hostile.count())
        }))
    })
    .await
    .expect("hanging");
    let mut worst = Duration::ZERO;
    for n in 0..3 {
        worst = worst.max(good_build(&stage, &format!("during-{n}")).await);
    }
    assert_usual(before, worst);
    assert_unharmed(&mut stage).await;
}

/// Builds that begin well: their stages, logs and files are what is spoilt.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_brought_home_of_a_hostile_build_is_bounded() {
    let mut stage = stage().await;
    let before = good_build(&stage, "before").await;
    let crowd = |item: &str, count: usize| format!("[{}{}]", format!("{item},").repeat(count), item);
    let many_files = (0..1_000_000)
        .map(|n| format!(r#"{{"path":"a/{n}.txt","size":1}}"#))
        .collect::<Vec<_>>()
        .join(",");
    let log = |piece: &[u8]| Evil::Endless {
        head: endless_head("text/plain"),
        piece: piece.to_vec(),
        per_second: 5 << 20,
    };
    // Without the mark of Jenkins it is the gateway that refuses.
    let refusal = r#"{"kind":"Status","message":"no","reason":"Forbidden","code":403}"#;
    let refusal = answer("403 Forbidden", "application/json", refusal.as_bytes());
    let refusal = String::from_utf8_lossy(&refusal).replace("X-Jenkins: 2.4\r\n", "");
    let forbidden = Evil::Bytes(refusal.into_bytes());
    let running = r#"[{"id":"6","displayName":"build","state":"RUNNING","result":"UNKNOWN"}]"#;
    let attacks: Vec<(&str, Spoils)> = vec![
        (
            "stages",
            vec![(
                vec!["GET", "/nodedetails"],
                Evil::Bytes(json_answer(&crowd("{}", 2_000_000))),
            )],
        ),
        (
            "long-stages",
            vec![(
                vec!["GET", "/nodedetails"],
                Evil::Bytes(json_answer(&crowd(
                    r#"{"id":"6","displayName":"a stage with a name of some length","state":"RUNNING","steps":[]}"#,
                    90_000,
                ))),
            )],
        ),
        (
            "files",
            vec![(
                vec!["GET", "/artifacts"],
                Evil::Bytes(json_answer(&format!("[{many_files}]"))),
            )],
        ),
        (
            "log",
            vec![(vec!["GET", "progressiveText"], log(b"a line of an endless log\n"))],
        ),
        (
            "log-without-lines",
            vec![(vec!["GET", "progressiveText"], log(b"x"))],
        ),
        (
            "step-log",
            vec![
                (vec!["GET", "/jenkins/"], forbidden),
                (vec!["GET", "/steps/7/log"], log(b"x")),
                (
                    vec!["GET", "/nodes/6/steps"],
                    Evil::Bytes(json_answer(&running.replace('6', "7"))),
                ),
                (vec!["GET", "/runs/", "/nodes"], Evil::Bytes(json_answer(running))),
            ],
        ),
    ];
    let mut servers = Vec::new();
    for (name, spoils) in attacks {
        let hostile = Hostile::start(&stage.simulator.url(), spoils).await;
        connect(&stage, &format!("evil-{name}"), &hostile.url()).await;
        stage.build(name, json!({
            "connectionRef": {"name": format!("evil-{name}")}, "artifacts": {"include": ["**"]},
            "parameters": [
                {"name": "ARTIFACTS", "value": "a.txt:100"}, {"name": "DURATION", "value": "20"}, {"name": "VERSION", "value": name},
            ],
        })).await;
        servers.push((name, hostile));
    }
    for (name, server) in &servers {
        wait_for(&format!("{name} to be spoilt"), PATIENCE, async || {
            Ok(Seen::when(server.count() > 0, || "not asked yet".into()))
        })
        .await
        .expect("asked");
    }
    let mut worst = Duration::ZERO;
    for n in 0..5 {
        worst = worst.max(good_build(&stage, &format!("during-{n}")).await);
    }
    assert_usual(before, worst);
    // What the stages say is a courtesy; the files are not.
    for name in ["stages", "long-stages"] {
        let object = stage
            .until(name, "its end", |o| condition(o, "Succeeded").0 == "True")
            .await;
        assert!(
            json!(object).to_string().len() < 100 << 10,
            "a status of {} bytes",
            json!(object).to_string().len()
        );
    }
    let files = stage
        .until("files", "a word about its files", |o| {
            condition(o, "Ready").2.contains("larger than accepted")
        })
        .await;
    println!("files: {:?}", condition(&files, "Ready"));
    // Whom an endless log holds up can still be stopped.
    stage.patch("log", json!({"spec": {"cancel": true}})).await;
    assert_unharmed(&mut stage).await;
}
