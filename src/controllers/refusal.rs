//! What a refusal of the gateway means for an object: the one table from an error's kind to the reason, who can mend it, and
//! the pause before the next try.

use std::time::Duration;

use crate::{
    api::conditions::Reason,
    gateway::{ErrorKind, GatewayError, RouteClass},
    trouble::{Remedy, Trouble},
};

/// How long a lockout is taken to last where the gateway does not say (contract §1.2: ten minutes by default).
const LOCKOUT: Duration = Duration::from_secs(600);

/// What a refusal of the gateway means for an object that runs into it. Only what somebody has to mend is for a person;
/// whatever may be otherwise in a minute is not (design §3.7: unknown is not failed).
impl From<GatewayError> for Trouble {
    fn from(error: GatewayError) -> Self {
        Self::from(&error)
    }
}

impl From<&GatewayError> for Trouble {
    fn from(error: &GatewayError) -> Self {
        let (reason, remedy) = meaning(error.kind(), error.retry_after());
        let remedy = error.held_back().map_or(remedy, Remedy::Gateway);
        let advice = match error.kind() {
            ErrorKind::CredentialsRefused | ErrorKind::TokenRejected => {
                Some("; correct the Secret of the TenantConnection".to_owned())
            }
            ErrorKind::LockedOut => Some("; it is tried again later".into()),
            ErrorKind::Forbidden => error
                .route()
                .map(|route| format!("; ask for a role that may {}", needed_right(route))),
            ErrorKind::UnknownCluster => Some("; correct spec.cluster".into()),
            _ => None,
        };
        let message = match advice {
            Some(advice) => format!("{}{advice}", error.to_string().trim_end_matches('.')),
            None => error.to_string(),
        };
        Self {
            reason,
            message,
            remedy,
        }
    }
}

/// The one table from what the gateway client says to a reason and what can change it.
fn meaning(kind: ErrorKind, retry_after: Option<Duration>) -> (Reason, Remedy) {
    match kind {
        ErrorKind::BadConfig | ErrorKind::RedirectRefused => (Reason::InvalidSpec, Remedy::User),
        ErrorKind::CredentialsRefused | ErrorKind::TokenRejected => {
            (Reason::CredentialsInvalid, Remedy::User)
        }
        ErrorKind::LockedOut => (
            Reason::LockedOut,
            Remedy::Time(Some(retry_after.unwrap_or(LOCKOUT))),
        ),
        ErrorKind::Forbidden => (Reason::AccessDenied, Remedy::User),
        ErrorKind::Rejected => (Reason::RemoteRejected, Remedy::User),
        ErrorKind::UnknownCluster => (Reason::ClusterNotFound, Remedy::User),
        ErrorKind::Throttled => (Reason::Throttled, Remedy::Time(retry_after)),
        ErrorKind::RouteMissing
        | ErrorKind::BackendUnavailable
        | ErrorKind::JenkinsUnavailable
        | ErrorKind::RemoteFailure
        | ErrorKind::NotYet
        | ErrorKind::ConnectFailed
        | ErrorKind::ConnectionLost
        | ErrorKind::TimedOut => (Reason::RemoteUnavailable, Remedy::Time(retry_after)),
        // Nobody reads this: whoever may not write to the gateway may not write a status either. The log has it.
        ErrorKind::Fenced => (Reason::RemoteUnavailable, Remedy::Time(None)),
        // Whoever asks for one object knows what its absence means; here it may as well be a stale cache (finding L2).
        ErrorKind::NotFound | ErrorKind::Conflict => (Reason::RemoteRejected, Remedy::Time(retry_after)),
        ErrorKind::Garbled | ErrorKind::TooLarge | ErrorKind::BadRequestForm => {
            (Reason::UnexpectedAnswer, Remedy::Time(retry_after))
        }
    }
}

/// What a role has to allow for a request: for people who ask their administrator.
const fn needed_right(route: RouteClass) -> &'static str {
    match route {
        RouteClass::Token | RouteClass::UserInfo => "log in",
        RouteClass::Workspaces => "view the workspace",
        RouteClass::Projects => "list the DevOps projects of the workspace (being a member of it is enough)",
        RouteClass::Namespace => "view the namespace of the project",
        RouteClass::Pipelines | RouteClass::Branches => "view the pipelines of the project",
        RouteClass::RunCreate | RouteClass::RunTrigger => "create pipelineruns in the project",
        RouteClass::RunGet | RouteClass::RunList | RouteClass::Kubernetes | RouteClass::Stages => {
            "view pipelineruns in the project"
        }
        RouteClass::RunDelete => "delete pipelineruns in the project",
        RouteClass::Stop => "stop runs of the project's pipelines",
        RouteClass::JenkinsRun
        | RouteClass::Log
        | RouteClass::Nodes
        | RouteClass::Steps
        | RouteClass::StepLog
        | RouteClass::Artifacts
        | RouteClass::Download => "view the runs of the project's pipelines",
        RouteClass::LogProxy | RouteClass::DownloadProxy => "use the project's Jenkins proxy",
        RouteClass::Events => "view events in the project",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::ErrorClass;

    #[test]
    fn every_kind_of_refusal_has_its_reason_and_remedy() {
        use ErrorKind as K;
        let time = Remedy::Time(None);
        let table = [
            (K::BadConfig, Reason::InvalidSpec, Remedy::User),
            (K::CredentialsRefused, Reason::CredentialsInvalid, Remedy::User),
            (K::LockedOut, Reason::LockedOut, Remedy::Time(Some(LOCKOUT))),
            (K::TokenRejected, Reason::CredentialsInvalid, Remedy::User),
            (K::Forbidden, Reason::AccessDenied, Remedy::User),
            (K::NotFound, Reason::RemoteRejected, time),
            (K::RouteMissing, Reason::RemoteUnavailable, time),
            (K::Conflict, Reason::RemoteRejected, time),
            (K::Rejected, Reason::RemoteRejected, Remedy::User),
            (K::UnknownCluster, Reason::ClusterNotFound, Remedy::User),
            (K::Throttled, Reason::Throttled, time),
            (K::BackendUnavailable, Reason::RemoteUnavailable, time),
            (K::JenkinsUnavailable, Reason::RemoteUnavailable, time),
            (K::RemoteFailure, Reason::RemoteUnavailable, time),
            (K::NotYet, Reason::RemoteUnavailable, time),
            (K::ConnectFailed, Reason::RemoteUnavailable, time),
            (K::ConnectionLost, Reason::RemoteUnavailable, time),
            (K::TimedOut, Reason::RemoteUnavailable, time),
            (K::RedirectRefused, Reason::InvalidSpec, Remedy::User),
            (K::Garbled, Reason::UnexpectedAnswer, time),
            (K::TooLarge, Reason::UnexpectedAnswer, time),
            (K::BadRequestForm, Reason::UnexpectedAnswer, time),
            (K::Fenced, Reason::RemoteUnavailable, time),
        ];
        let kinds: Vec<_> = table.iter().map(|row| row.0).collect();
        assert_eq!(kinds, K::ALL, "every kind has a row");
        for (kind, reason, remedy) in table {
            assert_eq!(meaning(kind, None), (reason, remedy), "{kind:?}");
        }
    }

    #[test]
    fn what_was_held_back_has_not_failed_and_comes_back_when_the_gateway_may() {
        let wait = Duration::from_secs(9);
        for (kind, reason) in [
            (ErrorKind::Throttled, Reason::Throttled),
            (ErrorKind::ConnectFailed, Reason::RemoteUnavailable),
        ] {
            let trouble = Trouble::from(GatewayError::config(kind, "x").held_for(wait));
            assert_eq!((trouble.reason, trouble.remedy), (reason, Remedy::Gateway(wait)));
            assert!(!trouble.is_stalled());
        }
    }

    #[test]
    fn what_may_be_otherwise_in_a_minute_never_stalls() {
        for kind in ErrorKind::ALL {
            if matches!(kind.class(), ErrorClass::Unavailable | ErrorClass::Throttled) {
                assert_ne!(meaning(kind, None).1, Remedy::User, "{kind:?}");
            }
        }
    }

    #[test]
    fn what_the_gateway_says_about_waiting_is_heeded() {
        let after = Some(Duration::from_secs(7));
        for kind in [
            ErrorKind::Throttled,
            ErrorKind::LockedOut,
            ErrorKind::BackendUnavailable,
        ] {
            assert_eq!(meaning(kind, after).1, Remedy::Time(after), "{kind:?}");
        }
    }
}
