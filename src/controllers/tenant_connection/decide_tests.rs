use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::*;

const EXPIRES: i64 = 1_700_007_200;

fn now() -> Time {
    Time(Timestamp::from_second(1_700_000_000).unwrap())
}

fn connection() -> TenantConnection {
    let mut connection: TenantConnection = serde_json::from_value(json!({
        "apiVersion": "tenantry.dev/v1alpha1",
        "kind": "TenantConnection",
        "metadata": {"name": "ks", "namespace": "team", "generation": 3},
        "spec": {
            "endpoint": "https://ks.example.org",
            "workspace": "demo",
            "credentials": {"password": {"secretRef": {"name": "ks"}}},
        },
    }))
    .unwrap();
    connection.status = None;
    connection
}

fn session() -> SessionInfo {
    SessionInfo {
        user: "alice".into(),
        expires_at: Some(Timestamp::from_second(EXPIRES).unwrap()),
    }
}

fn project(name: &str, short: &str) -> ProjectName {
    ProjectName {
        name: name.into(),
        short_name: Some(short.into()),
    }
}

fn reached() -> Observation {
    Observation::Reached {
        session: session(),
        projects: vec![project("shopx7k2p", "shop"), project("appsab1cd", "apps")],
        capabilities: Capabilities::default(),
    }
}

fn hindered(trouble: Trouble) -> Observation {
    Observation::Hindered {
        session: None,
        trouble,
    }
}

fn look(object: &TenantConnection, observation: Observation) -> Decision {
    decide(object, observation, &Tunables::default(), &now())
}

/// `connection` as it is after `observation`.
fn after(observation: Observation) -> TenantConnection {
    let mut object = connection();
    object.status = Some(look(&object, observation).status);
    object
}

/// The conditions as `Type=Status(Reason)`, in order.
fn conditions_of(status: &TenantConnectionStatus) -> String {
    let all = status
        .conditions
        .iter()
        .map(|c| format!("{}={}({})", c.type_, c.status, c.reason));
    all.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_situation_has_its_conditions_and_its_next_look() {
    let t = Tunables::default();
    let user = |reason| hindered(Trouble::user(reason, "x"));
    let passing = |reason| hindered(Trouble::passing(reason, "x"));
    let minute = Duration::from_secs(60);
    let table = [
        (
            Observation::Suspended,
            "Ready=False(Suspended)",
            Requeue::OnChange,
        ),
        (
            reached(),
            "Ready=True(Ready)",
            Requeue::After(t.connection_resync),
        ),
        (
            user(Reason::CredentialsInvalid),
            "Ready=False(CredentialsInvalid) Stalled=True(CredentialsInvalid)",
            Requeue::After(t.stalled_resync),
        ),
        (
            user(Reason::ReferenceNotFound),
            "Ready=False(ReferenceNotFound) Stalled=True(ReferenceNotFound)",
            Requeue::After(t.stalled_resync),
        ),
        (
            passing(Reason::RemoteUnavailable),
            "Ready=Unknown(RemoteUnavailable) Reconciling=True(RemoteUnavailable)",
            Requeue::Backoff { at_least: None },
        ),
        (
            hindered(Trouble::until(Reason::LockedOut, "x", minute)),
            "Ready=False(LockedOut) Reconciling=True(LockedOut)",
            Requeue::Backoff {
                at_least: Some(minute),
            },
        ),
    ];
    for (observation, conditions, requeue) in table {
        let name = format!("{observation:?}");
        let decision = look(&connection(), observation);
        assert_eq!(conditions_of(&decision.status), conditions, "{name}");
        assert_eq!(decision.requeue, requeue, "{name}");
        assert_eq!(decision.status.observed_generation, Some(3), "{name}");
    }
}

#[test]
fn a_good_look_says_who_we_are_and_what_we_see() {
    let status = look(&connection(), reached()).status;
    assert_eq!(status.user.as_deref(), Some("alice"));
    assert_eq!(
        status.token_expires_at,
        Some(Time(Timestamp::from_second(EXPIRES).unwrap()))
    );
    assert_eq!(status.project_count, Some(2));
    let names: Vec<_> = status.projects.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["appsab1cd", "shopx7k2p"], "sorted");
    assert_eq!(
        status.conditions[0].message,
        "logged in as alice; 2 DevOps projects in workspace demo"
    );
}

#[test]
fn the_same_look_gives_the_same_status_later() {
    let object = after(reached());
    let later = Time(Timestamp::from_second(1_700_000_999).unwrap());
    let decision = decide(&object, reached(), &Tunables::default(), &later);
    assert_eq!(Some(decision.status), object.status);
    assert_eq!(decision.event, None);
}

#[test]
fn the_list_of_projects_is_bounded_and_its_count_is_not() {
    let projects = (0..250)
        .map(|i| project(&format!("p{i:03}"), "p"))
        .rev()
        .collect();
    let status = look(
        &connection(),
        Observation::Reached {
            session: session(),
            projects,
            capabilities: Capabilities::default(),
        },
    )
    .status;
    assert_eq!(status.project_count, Some(250));
    assert_eq!(status.projects.len(), MAX_PROJECTS);
    assert_eq!(status.projects[0].name, "p000");
}

#[test]
fn a_gateway_that_does_not_answer_takes_nothing_from_what_was_known() {
    let object = after(reached());
    let known = object.status.clone().unwrap();
    let status = look(
        &object,
        hindered(Trouble::passing(Reason::RemoteUnavailable, "down")),
    )
    .status;
    assert_eq!(
        (&status.user, &status.projects, &status.token_expires_at),
        (&known.user, &known.projects, &known.token_expires_at)
    );
}

#[test]
fn a_refusal_leaves_no_claim_behind() {
    let object = after(reached());
    let status = look(&object, hindered(Trouble::user(Reason::CredentialsInvalid, "no"))).status;
    assert_eq!(
        (status.user, status.token_expires_at, status.project_count),
        (None, None, None)
    );
    assert!(status.projects.is_empty());
}

#[test]
fn people_hear_of_a_turn_once() {
    let refused = || hindered(Trouble::user(Reason::CredentialsInvalid, "wrong password"));
    let missing = || hindered(Trouble::user(Reason::ReferenceNotFound, "no Secret"));
    let down = || hindered(Trouble::passing(Reason::RemoteUnavailable, "down"));
    let warning = |reason, text: &str| {
        Some((Severity::Warning, reason, text.to_owned())) as Option<(Severity, Reason, String)>
    };
    assert_eq!(
        look(&connection(), refused()).event,
        warning(Reason::CredentialsInvalid, "wrong password")
    );
    assert_eq!(look(&after(refused()), refused()).event, None);
    assert_eq!(
        look(&after(refused()), missing()).event,
        warning(Reason::ReferenceNotFound, "no Secret"),
        "another reason is news"
    );
    assert_eq!(
        look(&after(reached()), down()).event,
        None,
        "what passes is in the conditions"
    );
    let healed = look(&after(refused()), reached()).event.expect("healing is news");
    assert_eq!((healed.0, healed.1), (Severity::Normal, Reason::Ready));
}

#[test]
fn rights_once_found_outlive_a_restart_but_not_another_user() {
    let with = |create_runs, user: &str| Observation::Reached {
        session: SessionInfo {
            user: user.into(),
            ..session()
        },
        projects: vec![],
        capabilities: Capabilities {
            create_runs,
            ..Capabilities::default()
        },
    };
    let object = after(with(Capability::Yes, "alice"));
    let rights = |observation| {
        look(&object, observation)
            .status
            .capabilities
            .unwrap()
            .create_runs
    };
    assert_eq!(rights(with(Capability::Unknown, "alice")), Capability::Yes);
    assert_eq!(rights(with(Capability::No, "alice")), Capability::No);
    assert_eq!(rights(with(Capability::Unknown, "bob")), Capability::Unknown);
}

#[test]
fn a_wish_to_look_now_is_echoed() {
    let mut object = connection();
    object.metadata.annotations = Some([(RECONCILE_REQUESTED_AT.to_owned(), "7".to_owned())].into());
    for observation in [
        reached(),
        Observation::Suspended,
        hindered(Trouble::user(Reason::InvalidSpec, "x")),
    ] {
        let status = look(&object, observation).status;
        assert_eq!(status.last_handled_reconcile_at.as_deref(), Some("7"));
    }
}
