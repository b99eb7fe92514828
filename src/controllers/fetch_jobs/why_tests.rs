use serde_json::{Value, json};

use super::{super::testing, *};

fn claim(phase: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": "data"}, "spec": {"storageClassName": "fast"}, "status": {"phase": phase},
    }))
    .unwrap()
}

fn held_up(status: &Value, node: Option<&str>, claim_phase: Option<&str>, seconds: u64) -> Holdup {
    let mut pod = testing::pod("files-1-x", status);
    pod.spec = Some(serde_json::from_value(json!({"containers": [], "nodeName": node})).unwrap());
    let claim = claim_phase.map(claim);
    not_running(&pod, "data", claim.as_ref(), Duration::from_secs(seconds))
}

fn container(state: &Value) -> Value {
    json!({"containerStatuses": [
        {"name": "fetch", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state},
    ]})
}

/// What the pod says, its node, the phase of its claim, its age in seconds; then reason and words.
type Row<'a> = (&'a Value, Option<&'a str>, Option<&'a str>, u64, Reason, &'a str);

#[test]
fn every_way_of_not_starting_has_its_reason_and_words() {
    let unscheduled = json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"},
    ]});
    let waiting = |reason: &str| container(&json!({"waiting": {"reason": reason, "message": "its words"}}));
    let nothing = json!({});
    let table: [Row<'_>; 15] = [
        (
            &nothing,
            None,
            Some("Bound"),
            0,
            Reason::Fetching,
            "waits for a node",
        ),
        (
            &nothing,
            Some("n1"),
            Some("Bound"),
            5,
            Reason::Fetching,
            "starting on node n1",
        ),
        (
            &nothing,
            Some("n1"),
            Some("Bound"),
            90,
            Reason::PodNotStarted,
            "kubectl describe pod files-1-x",
        ),
        (&nothing, None, None, 0, Reason::ClaimNotFound, "\"data\""),
        (
            &unscheduled,
            None,
            Some("Bound"),
            0,
            Reason::PodUnschedulable,
            "0/3 nodes are available",
        ),
        (
            &unscheduled,
            None,
            Some("Pending"),
            0,
            Reason::ClaimNotBound,
            "storage class \"fast\"",
        ),
        (
            &unscheduled,
            None,
            Some("Pending"),
            0,
            Reason::ClaimNotBound,
            "0/3 nodes are available",
        ),
        (
            &unscheduled,
            None,
            Some("Lost"),
            0,
            Reason::ClaimNotBound,
            "lost its volume",
        ),
        (
            &waiting("ContainerCreating"),
            Some("n1"),
            Some("Bound"),
            5,
            Reason::Fetching,
            "starting",
        ),
        (
            &waiting("ErrImagePull"),
            Some("n1"),
            Some("Bound"),
            5,
            Reason::ImageUnavailable,
            "its words",
        ),
        (
            &waiting("ImagePullBackOff"),
            Some("n1"),
            Some("Bound"),
            5,
            Reason::ImageUnavailable,
            "its words",
        ),
        (
            &waiting("InvalidImageName"),
            Some("n1"),
            Some("Bound"),
            5,
            Reason::ImageUnavailable,
            "its words",
        ),
        (
            &waiting("ErrImageNeverPull"),
            Some("n1"),
            Some("Bound"),
            5,
            Reason::ImageUnavailable,
            "administrator",
        ),
        (
            &waiting("CreateContainerConfigError"),
            Some("n1"),
            Some("Bound"),
            5,
            Reason::PodNotStarted,
            "its words",
        ),
        (
            &waiting("RunContainerError"),
            Some("n1"),
            Some("Bound"),
            5,
            Reason::PodNotStarted,
            "RunContainerError",
        ),
    ];
    for (status, node, phase, seconds, reason, words) in table {
        let holdup = held_up(status, node, phase, seconds);
        assert_eq!(holdup.reason, reason, "{status}");
        assert!(holdup.message.contains(words), "{status}: {}", holdup.message);
    }
    assert!(!without_pod("j", Duration::ZERO).is_amiss());
    let late = without_pod("j", Duration::from_secs(60));
    assert!(
        late.is_amiss() && late.message.contains("kubectl describe job j"),
        "{late:?}"
    );
}

#[test]
fn what_a_pod_may_try_again_time_may_mend_and_nothing_else_but_a_lockout() {
    for kind in FailureKind::ALL {
        let (reason, remedy) = meaning(*kind);
        let again = kind.exit_code() != crate::fetcher::outcome::FINAL;
        let waits = matches!(remedy, Remedy::Time(_));
        assert_eq!(
            waits,
            again || *kind == FailureKind::LockedOut,
            "{kind:?}: {reason:?}"
        );
    }
}

#[test]
fn every_failure_of_a_pod_has_a_reason_that_names_it() {
    // Where the remote is the trouble, the reason is the one that it has everywhere else.
    for kind in FailureKind::ALL {
        let (reason, _) = meaning(*kind);
        let own = matches!(kind, FailureKind::InvalidPlan | FailureKind::Unknown);
        assert_eq!(reason == Reason::FetchFailed, own, "{kind:?}");
        let text = serde_json::to_string(&Outcome::Failed(Failure::new(*kind, "what happened"))).unwrap();
        let pod = testing::pod(
            "p",
            &container(&json!({"terminated": {"exitCode": 1, "message": text}})),
        );
        let trouble = job_failed(&JobSeen::of(&testing::job("s", 1, &json!({}))), Some(&pod));
        assert_eq!(
            (trouble.reason, trouble.message.as_str()),
            (reason, "what happened")
        );
    }
}

#[test]
fn what_the_pod_says_about_waiting_is_heeded() {
    let failure = Failure {
        retry_after_seconds: Some(7),
        ..Failure::new(FailureKind::LockedOut, "")
    };
    assert_eq!(
        failed(&failure).remedy,
        Remedy::Time(Some(Duration::from_secs(7)))
    );
    let silent = Failure::new(FailureKind::LockedOut, "");
    assert_eq!(failed(&silent).remedy, Remedy::Time(Some(LOCKOUT)));
    let disk = Failure {
        retry_after_seconds: Some(7),
        ..Failure::new(FailureKind::DiskFull, "")
    };
    assert!(failed(&disk).is_stalled(), "waiting does not make room");
}

#[test]
fn a_job_that_failed_without_a_word_is_explained_by_kubernetes() {
    let job = |reason: &str| {
        JobSeen::of(&testing::job(
            "s",
            1,
            &json!({"conditions": [{"type": "Failed", "status": "True", "reason": reason, "message": "its words"}]}),
        ))
    };
    let ended = |end: Value| testing::pod("p", &container(&json!({"terminated": end})));
    let evicted = testing::pod(
        "p",
        &json!({"reason": "Evicted", "message": "The node was low on resource"}),
    );
    // As the kubelet evicts: it asks the pod to stop, which tells that it was asked.
    let stopped =
        crate::fetcher::outcome::Outcome::Failed(Failure::new(FailureKind::Interrupted, "asked to stop"));
    let mut evicted_in_order =
        container(&json!({"terminated": {"exitCode": 75, "message": stopped.compact()}}));
    evicted_in_order["reason"] = json!("Evicted");
    evicted_in_order["message"] = json!("Pod ephemeral local storage usage exceeds");
    let evicted_in_order = testing::pod("p", &evicted_in_order);
    let drained = testing::pod(
        "p",
        &json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "message": "drained"}]}),
    );
    let oom = ended(json!({"exitCode": 137, "reason": "OOMKilled"}));
    let killed = ended(json!({"exitCode": 137, "reason": "Error"}));
    let garbled = ended(json!({"exitCode": 78, "reason": "Error", "message": "not JSON"}));
    let table = [
        (
            "DeadlineExceeded",
            None,
            Reason::FetchTimedOut,
            "its words",
            false,
        ),
        (
            "BackoffLimitExceeded",
            None,
            Reason::FetchFailed,
            "BackoffLimitExceeded",
            false,
        ),
        (
            "BackoffLimitExceeded",
            Some(&evicted),
            Reason::PodEvicted,
            "low on resource",
            false,
        ),
        (
            "BackoffLimitExceeded",
            Some(&evicted_in_order),
            Reason::PodEvicted,
            "ephemeral local storage",
            false,
        ),
        (
            "BackoffLimitExceeded",
            Some(&drained),
            Reason::PodEvicted,
            "drained",
            false,
        ),
        (
            "BackoffLimitExceeded",
            Some(&oom),
            Reason::OutOfMemory,
            "administrator",
            true,
        ),
        (
            "BackoffLimitExceeded",
            Some(&killed),
            Reason::FetchFailed,
            "exit code 137",
            false,
        ),
        (
            "PodFailurePolicy",
            Some(&garbled),
            Reason::FetchFailed,
            "exit code 78",
            false,
        ),
    ];
    for (why, pod, reason, words, stalled) in table {
        let trouble = job_failed(&job(why), pod);
        assert_eq!(
            (trouble.reason, trouble.is_stalled()),
            (reason, stalled),
            "{why}: {trouble}"
        );
        assert!(trouble.message.contains(words), "{trouble}");
    }
}
