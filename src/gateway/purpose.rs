//! On whose behalf a request is sent, and how urgent that is: what the `budget` goes by.

use std::{fmt::Display, sync::Arc};

use super::{route::Request, telemetry::RouteClass};

/// How urgent a request is. Earlier ones go first, within limits: see `gateway/budget/queue.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A person waits for it: a login, a start, a stop, a deletion, the look that a start needs.
    Interactive,
    /// How a run stands.
    Following,
    /// What nobody waits for: a log while it is written, files, what only a status shows.
    Background,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Following, Self::Background];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Following => "following",
            Self::Background => "background",
        }
    }
}

/// On whose behalf requests are sent, and how urgent they are where their route does not say.
#[derive(Debug, Clone)]
pub struct Purpose {
    object: Arc<str>,
    class: Class,
}

impl Purpose {
    /// For `object`. It only tells objects from each other: those of one connection share its budget evenly.
    pub fn new(object: impl Display, class: Class) -> Self {
        Self {
            object: object.to_string().into(),
            class,
        }
    }

    pub(crate) fn object(&self) -> &Arc<str> {
        &self.object
    }
}

/// Of nobody in particular.
impl Default for Purpose {
    fn default() -> Self {
        Self::new("", Class::Following)
    }
}

impl Request {
    /// How urgent it is: by its route where that says so, else by its purpose.
    pub(crate) fn class(&self) -> Class {
        match self.subject.route {
            RouteClass::Token | RouteClass::UserInfo => Class::Interactive,
            _ if self.subject.write => Class::Interactive,
            RouteClass::Log
            | RouteClass::Nodes
            | RouteClass::Steps
            | RouteClass::StepLog
            | RouteClass::LogProxy
            | RouteClass::Artifacts
            | RouteClass::Download
            | RouteClass::DownloadProxy => Class::Background,
            _ => self.purpose.class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_says_how_urgent_it_is_else_the_purpose_does() {
        let purpose = |class| Purpose::new("team/app", class);
        let of = |route, class, write| {
            let mut request = Request::get(route, "/", "x");
            request.subject.write = write;
            request.purpose = purpose(class);
            request.class()
        };
        for asked in Class::ALL {
            for route in RouteClass::ALL {
                assert_eq!(of(route, asked, true), Class::Interactive, "a write by {route:?}");
            }
            assert_eq!(of(RouteClass::Token, asked, false), Class::Interactive);
            for route in RouteClass::ALL.into_iter().filter(|route| {
                matches!(
                    route,
                    RouteClass::Log | RouteClass::DownloadProxy | RouteClass::Artifacts
                )
            }) {
                assert_eq!(of(route, asked, false), Class::Background, "{route:?}");
            }
            for route in [RouteClass::RunGet, RouteClass::Projects, RouteClass::Kubernetes] {
                assert_eq!(of(route, asked, false), asked, "{route:?}");
            }
        }
    }
}
