//! No token, password or parameter value in any log line, error or Debug output, whatever the gateway sends back.
//! A suite of its own, because it keeps every log line of its process, at the finest level.

#[path = "gateway_simulator/bench.rs"]
#[allow(dead_code)] // shared with the other suite, which uses all of it
mod bench;

use std::{
    io,
    sync::{Arc, Mutex},
};

use tenantry::gateway::{Credentials, Gateway, ProjectName};
use tenantry_simulator::{Fault, FaultAction, World};

use bench::{PASSWORD, PROJECT, config, parameter, project, simulator};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_in_any_log_line_or_error() {
    let kept = Kept::default();
    let writer = kept.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let sim = simulator(World::recorded()).await;
    let token = sim.control().add_service_account(PROJECT, "robot");
    let mut said = Vec::new();
    for (credentials, own) in [
        (Credentials::password("alice", PASSWORD), PASSWORD),
        (
            Credentials::password("alice", "canary-wrong-password"),
            "canary-wrong-password",
        ),
        (Credentials::Token(token.clone().into()), token.as_str()),
    ] {
        said.push(format!("{credentials:?}"));
        let gateway = Gateway::new(config(&sim, credentials)).unwrap();
        let project = project(&gateway);
        said.push(format!("{:?}", gateway.session().await));
        let secret = vec![parameter("VERSION", "canary-value")];
        said.push(format!("{:?}", project.post_run("hello", None, &secret).await));
        said.push(format!("{:?}", project.post_run("nope", None, &secret).await));
        sim.control().fault(Fault::once(
            "v3.*",
            FaultAction::answer(500, &format!("you are {own}")),
        ));
        said.push(format!("{:?}", project.pipeline("hello").await));
        sim.control().clear_faults(); // a client that never got a token left it for the next, whose secret it is not
        let other = gateway
            .scope(Some("nowhere"))
            .project(&ProjectName::new("x").unwrap());
        said.push(format!("{:?}", other.pipelines().await));
    }
    let logged = String::from_utf8_lossy(&kept.0.lock().unwrap()).into_owned();
    assert!(
        logged.contains("reqwest") && logged.contains("TRACE"),
        "nothing was logged, so nothing was proven"
    );
    let everything = format!("{logged}\n{}", said.join("\n"));
    for secret in [token.as_str(), PASSWORD, "canary", "refresh_token=", "Bearer ey"] {
        let found = everything.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret} is in it");
    }
}
