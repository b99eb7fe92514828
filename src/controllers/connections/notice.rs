//! Notices when a call turns out to be allowed, or refused, that was not known to be: the connection's status is then
//! brought up to date at once and not at the next look.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

use crate::{
    gateway::{CallObserver, CallOutcome, Class, ErrorKind, Grant, LoginOutcome, RouteClass},
    runtime::{Bell, ObjectKey},
};

/// Meters calls, and rings where one tells something new about the user's rights.
pub struct Noticing {
    metered: Arc<dyn CallObserver>,
    bell: Bell,
    connection: ObjectKey,
    allowed: Mutex<HashMap<RouteClass, bool>>,
}

impl Noticing {
    /// Passes everything on to `metered`, and rings `bell` for `connection`.
    pub fn new(metered: Arc<dyn CallObserver>, bell: Bell, connection: ObjectKey) -> Self {
        Self {
            metered,
            bell,
            connection,
            allowed: Mutex::default(),
        }
    }

    /// Whether the call tells something new about a right that the status shows.
    fn is_news(&self, route: RouteClass, outcome: CallOutcome) -> bool {
        let shown = matches!(
            route,
            RouteClass::RunCreate | RouteClass::Kubernetes | RouteClass::LogProxy | RouteClass::DownloadProxy
        );
        let allowed = match outcome {
            CallOutcome::Ok => true,
            CallOutcome::Error(ErrorKind::Forbidden) => false,
            // Says nothing about rights.
            CallOutcome::Error(_) => return false,
        };
        shown && {
            let mut known = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(route, allowed) != Some(allowed)
        }
    }
}

impl CallObserver for Noticing {
    fn call(&self, route: RouteClass, outcome: CallOutcome, elapsed: Duration) {
        self.metered.call(route, outcome, elapsed);
        if self.is_news(route, outcome) {
            self.bell.ring(self.connection.clone());
        }
    }

    fn waited(&self, class: Class, waited: Duration) {
        self.metered.waited(class, waited);
    }

    fn held_back(&self, held: bool) {
        self.metered.held_back(held);
        tracing::info!(connection = %self.connection, held, "whether the requests of a connection are held back");
        self.bell.ring(self.connection.clone());
    }

    fn login(&self, grant: Grant, outcome: LoginOutcome) {
        self.metered.login(grant, outcome);
    }

    fn token(&self, expires_at: Option<Timestamp>) {
        self.metered.token(expires_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::NoObserver;

    #[test]
    fn the_connection_shows_that_it_is_held_back_and_that_it_is_not_any_more() {
        let (bell, mut rings) = Bell::new();
        let observer = Noticing::new(Arc::new(NoObserver), bell, ObjectKey::new("team", "ks"));
        for held in [true, false] {
            observer.held_back(held);
            assert_eq!(
                rings.try_recv().ok(),
                Some(ObjectKey::new("team", "ks")),
                "{held}"
            );
        }
    }

    #[test]
    fn it_rings_once_for_each_turn_of_a_right_that_is_shown() {
        let (bell, mut rings) = Bell::new();
        let observer = Noticing::new(Arc::new(NoObserver), bell, ObjectKey::new("team", "ks"));
        let mut heard = |route, outcome| {
            observer.call(route, outcome, Duration::ZERO);
            rings.try_recv().is_ok()
        };
        let refused = CallOutcome::Error(ErrorKind::Forbidden);
        let table = [
            (RouteClass::RunCreate, refused, true),
            (RouteClass::RunCreate, refused, false),
            (
                RouteClass::RunCreate,
                CallOutcome::Error(ErrorKind::TimedOut),
                false,
            ),
            (RouteClass::RunCreate, CallOutcome::Ok, true),
            (RouteClass::RunCreate, CallOutcome::Ok, false),
            (RouteClass::LogProxy, CallOutcome::Ok, true),
            (RouteClass::RunGet, CallOutcome::Ok, false),
        ];
        for (route, outcome, rings) in table {
            assert_eq!(heard(route, outcome), rings, "{route:?} {outcome:?}");
        }
    }
}
