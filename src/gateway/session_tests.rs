//! The rules of a login, with the clock in hand.

use super::*;
use crate::gateway::error::Subject;

fn error(kind: ErrorKind) -> GatewayError {
    GatewayError::new(
        kind,
        &Subject {
            route: RouteClass::Token,
            what: "log in".into(),
            write: false,
        },
    )
}

fn tokens(seconds: Option<u64>) -> Tokens {
    Tokens {
        access: "a".into(),
        refresh: Some("r".into()),
        expires_in: seconds.map(Duration::from_secs),
    }
}

fn name(plan: &Plan) -> &'static str {
    match plan {
        Plan::Use(_) => "use",
        Plan::Renew(_) => "renew",
        Plan::Login => "login",
        Plan::Refuse(_) => "refuse",
    }
}

fn after(seconds: u64, start: Instant) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn a_token_is_used_renewed_at_80_percent_and_replaced_at_its_end() {
    let start = Instant::now();
    let mut state = State::default();
    assert_eq!(name(&state.plan(start)), "login");
    state.logged_in(Bearer::issued(tokens(Some(1000)), start));
    for (second, want) in [
        (0, "use"),
        (799, "use"),
        (800, "renew"),
        (999, "renew"),
        (1000, "login"),
    ] {
        assert_eq!(name(&state.plan(after(second, start))), want, "after {second} s");
    }
    state.logged_in(Bearer::issued(tokens(None), start));
    assert_eq!(
        name(&state.plan(after(1_000_000, start))),
        "use",
        "no expires_in means no end"
    );
}

#[test]
fn every_refusal_keeps_quiet_for_its_own_time_and_says_how_long() {
    let policy = SessionPolicy::default();
    for (kind, quiet) in [
        (ErrorKind::LockedOut, 600),
        (ErrorKind::CredentialsRefused, 600),
        (ErrorKind::ConnectFailed, 1),
        (ErrorKind::BackendUnavailable, 1),
    ] {
        let start = Instant::now();
        let mut state = State::default();
        state.login_failed(&error(kind), &policy, start);
        match state.plan(after(0, start)) {
            Plan::Refuse(e) => {
                assert_eq!(e.kind(), kind);
                assert_eq!(e.retry_after(), Some(Duration::from_secs(quiet)), "{kind:?}");
            }
            other => panic!("{kind:?}: {}", name(&other)),
        }
        assert_eq!(name(&state.plan(after(quiet - 1, start))), "refuse", "{kind:?}");
        assert_eq!(name(&state.plan(after(quiet, start))), "login", "{kind:?}");
    }
}

#[test]
fn a_longer_retry_after_of_the_gateway_wins_over_our_own_window() {
    let start = Instant::now();
    let mut state = State::default();
    let said = error(ErrorKind::LockedOut).with_retry_after(Some(Duration::from_secs(3600)));
    state.login_failed(&said, &SessionPolicy::default(), start);
    assert_eq!(name(&state.plan(after(3599, start))), "refuse");
    assert_eq!(name(&state.plan(after(3600, start))), "login");
}

#[test]
fn a_failed_renewal_does_not_stop_the_use_of_a_good_token() {
    let start = Instant::now();
    let mut state = State::default();
    state.logged_in(Bearer::issued(tokens(Some(1000)), start));
    state.login_failed(
        &error(ErrorKind::LockedOut),
        &SessionPolicy::default(),
        after(800, start),
    );
    assert_eq!(name(&state.plan(after(801, start))), "use");
    assert_eq!(name(&state.plan(after(1000, start))), "refuse");
}

#[test]
fn a_401_forgets_that_token_only() {
    let start = Instant::now();
    let policy = SessionPolicy::default();
    let mut state = State::default();
    let old = state.logged_in(Bearer::issued(tokens(Some(1000)), start));
    old.mark_accepted();
    let rejected = error(ErrorKind::TokenRejected);
    state.reject(&old, &rejected, &policy, start);
    assert_eq!(name(&state.plan(start)), "login");
    let new = state.logged_in(Bearer::issued(tokens(Some(1000)), start));
    state.reject(&old, &rejected, &policy, start);
    match state.plan(start) {
        Plan::Use(bearer) => assert!(
            Arc::ptr_eq(&bearer, &new),
            "a late 401 of the old token hit the new one"
        ),
        other => panic!("{}", name(&other)),
    }
}

#[test]
fn tokens_that_are_never_accepted_are_not_asked_for_ever_faster() {
    let start = Instant::now();
    let policy = SessionPolicy::default();
    let mut state = State::default();
    let rejected = error(ErrorKind::TokenRejected);
    let mut now = start;
    let mut waits = Vec::new();
    for _ in 0..10 {
        let bearer = state.logged_in(Bearer::issued(tokens(Some(1000)), now));
        state.reject(&bearer, &rejected, &policy, now);
        let wait = match state.plan(now) {
            Plan::Login => Duration::ZERO,
            Plan::Refuse(error) => error.retry_after().unwrap(),
            other => panic!("{}", name(&other)),
        };
        waits.push(wait.as_secs());
        now += wait;
    }
    assert_eq!(waits, [0, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
    let good = state.logged_in(Bearer::issued(tokens(Some(1000)), now));
    good.mark_accepted();
    state.reject(&good, &rejected, &policy, now);
    assert_eq!(name(&state.plan(now)), "login", "an accepted token ends the row");
}

#[test]
fn a_life_longer_than_any_clock_is_one_without_an_end() {
    let start = Instant::now();
    for seconds in [u64::MAX, u64::MAX / 2, i64::MAX as u64, 1 << 40] {
        let mut state = State::default();
        let bearer = state.logged_in(Bearer::issued(tokens(Some(seconds)), start));
        assert_eq!(name(&state.plan(start)), "use", "{seconds} s");
        assert!(
            bearer.expires.is_none_or(|end| end > Timestamp::now()),
            "{seconds} s"
        );
    }
}
