//! Logins: one at a time, again when tokens die, and quiet when refused.

use tenantry::gateway::{Credentials, ErrorClass, ErrorKind, Gateway};
use tenantry_simulator::{Fault, FaultAction, World, world::UserState};

use super::bench::{PASSWORD, PROJECT, alice, config, finished, project, recorded, simulator};

#[tokio::test]
async fn fifty_calls_at_once_share_one_login() {
    let sim = simulator(World::recorded()).await;
    let scope = alice(&sim).scope(None);
    for result in futures::future::join_all((0..50).map(|_| scope.projects("acme"))).await {
        assert_eq!(result.unwrap()[0].name.as_str(), PROJECT);
    }
    assert_eq!(sim.ledger().logins("password", "ok"), 1);
    assert_eq!(sim.ledger().count("v3.projects.list"), 50);
}

#[tokio::test]
async fn tokens_that_die_in_the_middle_cost_one_login_and_lose_nothing() {
    let (sim, project) = recorded(None).await;
    let run = super::bench::create(&project, "flushed", "hello", vec![]).await;
    for _ in 0..3 {
        sim.control().flush_tokens();
        let calls = (0..10).map(|_| project.run(&run.name));
        for result in futures::future::join_all(calls).await {
            result.unwrap();
        }
    }
    sim.control().flush_tokens();
    let (_, outcome) = finished(&project, &run.name).await;
    assert_eq!(outcome, Some(tenantry::gateway::BuildOutcome::Success));
    assert_eq!(
        sim.ledger().logins("password", "ok"),
        5,
        "one at first, one per flush"
    );
    assert_eq!(
        sim.ledger().logins("refresh_token", "ok"),
        0,
        "what killed one token killed the other"
    );
    assert_eq!(sim.ledger().builds_of(PROJECT, "hello").len(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_by_its_refresh_token_before_it_ends() {
    let sim = simulator(World::recorded()).await;
    let credentials = Credentials::Password {
        username: "alice".into(),
        password: PASSWORD.into(),
        client_id: "shortlived".into(), // 3 s
        client_secret: "shortlived".into(),
    };
    let scope = Gateway::new(config(&sim, credentials)).unwrap().scope(None);
    let begun = std::time::Instant::now();
    while sim.ledger().logins("refresh_token", "ok") < 1 {
        scope
            .projects("acme")
            .await
            .expect("no call is lost around a renewal");
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(30),
            "it was never renewed"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_lockout_are_asked_about_once() {
    let sim = simulator(World::recorded()).await;
    for (user, password, kind, class) in [
        (
            "alice",
            "wrong",
            ErrorKind::CredentialsRefused,
            ErrorClass::Denied,
        ),
        (
            "dora",
            "viewer-Passw0rd",
            ErrorKind::CredentialsRefused,
            ErrorClass::Denied,
        ),
        (
            "rita",
            "viewer-Passw0rd",
            ErrorKind::LockedOut,
            ErrorClass::Throttled,
        ),
    ] {
        let before = sim.ledger().count("oauth.token");
        let gateway = Gateway::new(config(&sim, Credentials::password(user, password))).unwrap();
        let scope = gateway.scope(None);
        for result in futures::future::join_all((0..20).map(|_| scope.projects("acme"))).await {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.class()), (kind, class), "{user}");
        }
        assert!(
            gateway.session().await.unwrap_err().retry_after().is_some(),
            "{user}"
        );
        assert_eq!(sim.ledger().count("oauth.token") - before, 1, "{user}");
    }
    assert_eq!(
        sim.ledger().count("v3.projects.list"),
        0,
        "nothing is asked without a token"
    );
}

#[tokio::test]
async fn a_lockout_does_not_touch_a_session_that_stands() {
    let sim = simulator(World::recorded()).await;
    let gateway = alice(&sim);
    assert_eq!(gateway.session().await.unwrap().user, "alice");
    sim.control()
        .set_user_state("alice", UserState::AuthLimitExceeded)
        .unwrap();
    gateway.scope(None).projects("acme").await.unwrap();
}

#[tokio::test]
async fn a_service_accounts_token_is_used_as_it_is() {
    let sim = simulator(World::recorded()).await;
    let token = sim.control().add_service_account(PROJECT, "robot");
    let name = format!("kubesphere:serviceaccount:{PROJECT}:robot");
    sim.control()
        .set_role(PROJECT, &name, Some(tenantry_simulator::Role::tenant()))
        .unwrap();
    let gateway = Gateway::new(config(&sim, Credentials::Token(token.into()))).unwrap();
    assert_eq!(gateway.user_name().await.unwrap(), name);
    assert_eq!(project(&gateway).pipeline("hello").await.unwrap().name, "hello");
    sim.control().flush_tokens();
    assert_eq!(
        project(&gateway).pipeline("hello").await.unwrap().name,
        "hello",
        "it is in no cache"
    );
    sim.control().remove_service_account(PROJECT, "robot");
    let error = project(&gateway).pipeline("hello").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenRejected);
    assert_eq!(sim.ledger().count("oauth.token"), 0);
}

#[tokio::test]
async fn a_redirect_elsewhere_is_refused_and_nothing_arrives_there() {
    let home = simulator(World::recorded()).await;
    let elsewhere = simulator(World::recorded()).await;
    let redirect = FaultAction {
        headers: vec![("Location".into(), format!("{}/collect", elsewhere.url()))],
        ..FaultAction::answer(302, "")
    };
    home.control().fault(Fault::always("v3.*", redirect));
    let gateway = alice(&home);
    let error = gateway.scope(None).projects("acme").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::RedirectRefused, ErrorClass::User)
    );
    assert!(elsewhere.ledger().snapshot().requests.is_empty());
}
