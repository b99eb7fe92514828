use super::*;
use crate::runtime::sessions::MAX_CONNECTIONS;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team", name)
}

#[track_caller]
fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
}

#[test]
fn all_of_it_renders() {
    let metrics = Arc::new(Metrics::default());
    metrics.reconciled(Kind::BuildRequest, ReconcileResult::Ok, Duration::from_millis(5));
    metrics.queue(Kind::BuildRequest, 3, 2, 1);
    metrics.watch_failed(Kind::Secret);
    metrics.event_dropped();
    metrics.lease.leads(true);
    metrics.lease.transitions(3);
    metrics.lease.failed();
    metrics.lease.write_fenced("gateway");
    metrics.build_ended(Outcome::TriggerFailed);
    metrics.build_retried();
    metrics.build_phase(&key("a"), BuildPhase::Running);
    metrics.build_phase(&key("b"), BuildPhase::Running);
    metrics.build_phase(&key("b"), BuildPhase::Succeeded);
    let observer = metrics.observer(&key("ks"));
    observer.call(RouteClass::RunGet, CallOutcome::Ok, Duration::from_millis(7));
    observer.held_back(true);
    observer.waited(Class::Following, Duration::from_millis(3));
    observer.login(Grant::Password, LoginOutcome::Refused);
    observer.token(Some(Timestamp::from_second(1_800_000_000).unwrap()));
    let text = metrics.render();
    for line in [
        r#"tenantry_reconciles_total{kind="BuildRequest",result="ok"} 1"#,
        r#"tenantry_reconcile_duration_seconds_count{kind="BuildRequest"} 1"#,
        r#"tenantry_reconciles_scheduled{kind="BuildRequest"} 3"#,
        r#"tenantry_reconciles_running{kind="BuildRequest"} 2"#,
        r#"tenantry_objects_in_backoff{kind="BuildRequest"} 1"#,
        r#"tenantry_watch_failures_total{kind="Secret"} 1"#,
        "tenantry_events_dropped_total 1",
        "tenantry_leader 1",
        "tenantry_lease_transitions 3",
        "tenantry_lease_failures_total 1",
        r#"tenantry_fenced_writes_total{target="gateway"} 1"#,
        r#"tenantry_remote_calls_total{route="run_get",outcome="ok"} 1"#,
        r#"tenantry_remote_call_duration_seconds_count{route="run_get"} 1"#,
        r#"tenantry_connection_held_back{namespace="team",connection="ks"} 1"#,
        r#"tenantry_remote_call_wait_seconds_count{class="following"} 1"#,
        r#"tenantry_logins_total{grant="password",outcome="refused"} 1"#,
        r#"tenantry_token_expiry_timestamp_seconds{namespace="team",connection="ks"} 1800000000.0"#,
        r#"tenantry_builds_ended_total{outcome="trigger_failed"} 1"#,
        "tenantry_builds_retried_total 1",
        r#"tenantry_builds{phase="running"} 1"#,
        r#"tenantry_builds{phase="paused"} 0"#,
        "# EOF",
    ] {
        assert_line(&text, line);
    }
}

#[test]
fn a_connection_that_is_gone_leaves_no_series() {
    let metrics = Arc::new(Metrics::default());
    metrics.observer(&key("ks")).token(None);
    assert!(metrics.render().contains("connection=\"ks\""));
    metrics.connection_gone(&key("ks"));
    assert!(!metrics.render().contains("connection=\"ks\""));
}

#[test]
fn the_number_of_connections_shown_is_bounded() {
    let metrics = Arc::new(Metrics::default());
    for i in 0..MAX_CONNECTIONS + 10 {
        metrics.observer(&key(&format!("c{i}"))).token(None);
    }
    let shown = metrics.render().matches("connection=\"").count();
    assert_eq!(shown, MAX_CONNECTIONS);
}
