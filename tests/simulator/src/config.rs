//! How a simulator is to behave: addresses, pace and the settings of the real system that an installation chooses.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::world::World;

/// Configuration of one simulator. Everything here is fixed at start; what may change while it runs is in
/// [`Control`](crate::Control).
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen. Loopback only; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Users, workspaces, projects, pipelines.
    pub world: World,
    /// Factor on every internal length of time (polls, queue times, builds, back-offs, Jenkins client time-outs).
    /// Token lifetimes and lock-out windows are not scaled: they are part of the protocol.
    pub time_scale: f64,
    /// Lengths of time inside the simulated system, nominal (before `time_scale`).
    pub timings: Timings,
    /// Settings of ks-apiserver's authentication.
    pub auth: AuthConfig,
    /// Behaviour of the simulated ks-devops and Jenkins that differs between installations.
    pub quirks: Quirks,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            world: World::recorded(),
            time_scale: 1.0,
            timings: Timings::default(),
            auth: AuthConfig::default(),
            quirks: Quirks::default(),
        }
    }
}

impl Config {
    /// A simulator of this world on a free port, at full length of time.
    pub fn of(world: World) -> Self {
        Self {
            world,
            ..Self::default()
        }
    }

    /// The same at another pace.
    #[must_use]
    pub fn with_time_scale(mut self, scale: f64) -> Self {
        self.time_scale = scale;
        self
    }
}

/// Nominal lengths of time in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// From a change of an object to the controller's reaction (finding F-J: 60–90 ms).
    pub controller_latency: i64,
    /// From the run id to the first look at the build.
    pub first_poll: i64,
    /// Between the write of the run id and of the first status.
    pub start_gap: i64,
    /// Poll interval of a running run (contract §6.2 step 8).
    pub poll: i64,
    /// Retry while Jenkins says 404 for a started run.
    pub lost_poll: i64,
    /// First step of the trigger back-off, which doubles.
    pub backoff_base: i64,
    /// Its ceiling.
    pub backoff_max: i64,
    /// From the start of a build to the PipelineRun made by the Jenkins event (finding F-A2).
    pub jenkins_event: i64,
    /// Between the write of the status ConfigMap and of the status itself.
    pub status_gap: i64,
    /// ks-devops' Jenkins client gives up after this: triggers and artifact downloads.
    pub jenkins_timeout: i64,
    /// How often pipelines' branches and metadata are read from Jenkins.
    pub metadata_refresh: i64,
    /// Bookmarks on a watch that asked for them.
    pub bookmark: i64,
    /// A kapis GET of a run younger than this is a 404 (stale cache, finding F-L2); 0 = never.
    pub stale_get: i64,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            controller_latency: 60,
            first_poll: 30,
            start_gap: 2,
            poll: 3_000,
            lost_poll: 5_000,
            backoff_base: 5,
            backoff_max: 1_000_000,
            jenkins_event: 5_000,
            status_gap: 4,
            jenkins_timeout: 15_000,
            metadata_refresh: 10_000,
            bookmark: 60_000,
            stale_get: 0,
        }
    }
}

/// Settings of ks-apiserver (contract §1.2); seconds, not scaled.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Life of an access token.
    pub access_token_seconds: i64,
    /// Extra life of a refresh token.
    pub inactivity_seconds: i64,
    /// When false, every issue revokes the user's earlier tokens.
    pub multi_login: bool,
    /// Failures within the window that lock a user out.
    pub lockout_failures: usize,
    /// The window, and how long the lock-out lasts.
    pub lockout_window_seconds: i64,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            access_token_seconds: 7_200,
            inactivity_seconds: 1_800,
            multi_login: true,
            lockout_failures: 10,
            lockout_window_seconds: 600,
        }
    }
}

/// Where the papers know two behaviours. The defaults are what was recorded.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// Every queued run of a job gets the same expected number (contract §6.2 step 6), not its place in the queue.
    pub same_expected_id: bool,
    /// A queued run that is stopped vanishes (contract §6.2), instead of staying as ABORTED (recorded 1624).
    pub queued_stop_vanishes: bool,
    /// Stop answers with the momentary state (contract §9), instead of FINISHED/ABORTED (recorded 1402).
    pub stop_answers_running: bool,
    /// The ConfigMap store is off: status and stages live in annotations (contract §6.1).
    pub annotation_store: bool,
    /// ks-apiserver adds `fieldValidation=Strict`: unknown fields are refused.
    pub strict_fields: bool,
}
