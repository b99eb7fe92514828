//! DECIDE: from spec, status, what was observed and the clock to one [`Decision`]. Pure: no I/O, no async, no clock.
//!
//! [`next_step`] says what has to be looked at; `begin`, `find`, `follow` and `collect` decide on what was seen. A
//! decision's status is written *before* its act is carried out (intent before effect); what came of the act goes
//! through [`after`] into the status again. Nothing here may call the gateway or the API server.

pub mod after;
pub mod begin;
pub mod collect;
mod ending;
mod facts;
pub mod find;
pub mod follow;
pub mod hold;
mod missing;
pub mod ours;
mod step;
mod stop;
#[cfg(test)]
pub mod testing;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::outcome;
use crate::{
    api::{
        build_request::{BuildPhase, BuildRequest, BuildRequestStatus, CurrentRun},
        conditions::Reason,
    },
    controllers::Tunables,
    trouble::{Remedy, Trouble},
};

pub use facts::adopt;
pub use step::{Step, next_step};

/// All that a decision may know besides what was observed.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    /// The object, read live.
    pub object: &'a BuildRequest,
    /// The time.
    pub now: Timestamp,
    /// How long to wait for what.
    pub tunables: &'a Tunables,
    /// How often a run is looked at.
    pub poll: Duration,
}

impl Situation<'_> {
    /// The status as it is.
    pub fn status(&self) -> BuildRequestStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// Now, as the API writes it.
    pub fn time(&self) -> Time {
        Time(self.now)
    }

    /// How long ago `time` was; nothing for times to come.
    pub fn since(&self, time: &Time) -> Duration {
        Duration::try_from(self.now.duration_since(time.0)).unwrap_or_default()
    }
}

/// What is to be done on the remote or in our own cluster. One at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing but the status.
    Nothing,
    /// Create the run under its chosen name.
    Create,
    /// Post the run; the remote chooses the name.
    Post,
    /// Ask the remote to stop the build.
    Stop,
    /// Delete the run object.
    DeleteRun,
    /// Bring home what is new in the log.
    PullLog,
    /// Bring home all of the log: the build is over.
    ArchiveLog,
    /// Create or update the owned ArtifactFetch.
    EnsureArtifacts,
    /// Delete this very object: its time is over.
    DeleteSelf,
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// At once: the next step is known.
    Now,
    /// After so long.
    After(Duration),
    /// With the object's backoff: something failed that time may mend.
    Backoff,
    /// When something changes.
    OnChange,
    /// The same, and it is finished: not before that time, if there is one.
    Settled(Option<Timestamp>),
}

/// How the object stands, from which all conditions are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Something is on its way.
    Busy {
        /// In one word.
        phase: BuildPhase,
        /// Why.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// Nothing will happen until somebody changes something.
    Stuck {
        /// In one word.
        phase: BuildPhase,
        /// Why.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// Held back on purpose.
    Held {
        /// For people.
        message: String,
    },
    /// The run ended well and everything is stored.
    Done {
        /// For people.
        message: String,
    },
    /// As before: only what is written elsewhere changes.
    Unchanged,
}

/// Something that people should hear of as an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a Warning.
    pub warning: bool,
    /// The reason.
    pub reason: Reason,
    /// The sentence.
    pub message: String,
}

/// What follows from what was observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status, to be written before the act. Its conditions are made from `standing`.
    pub status: BuildRequestStatus,
    /// How the object stands.
    pub standing: Standing,
    /// What is to be done then.
    pub act: Act,
    /// When to look again.
    pub wake: Wake,
    /// What people should hear of.
    pub notes: Vec<Note>,
    /// What became of the artifacts, where that was just settled.
    pub artifacts: Option<collect::ArtifactsEnd>,
}

impl Decision {
    /// A decision that does nothing but say how things stand.
    pub fn wait(status: BuildRequestStatus, standing: Standing, wake: Wake) -> Self {
        Self {
            status,
            standing,
            act: Act::Nothing,
            wake,
            notes: Vec::new(),
            artifacts: None,
        }
    }

    /// With an act.
    pub fn act(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    /// With an Event.
    pub fn note(mut self, warning: bool, reason: Reason, message: impl Into<String>) -> Self {
        self.notes.push(Note {
            warning,
            reason,
            message: message.into(),
        });
        self
    }
}

/// Something stands in the way; what was true stays true (design §3.7: unknown is not failed).
pub fn hindered(situation: &Situation<'_>, trouble: &Trouble) -> Decision {
    let status = situation.status();
    let phase = status.phase.unwrap_or(BuildPhase::Pending);
    let (reason, message) = (trouble.reason, trouble.message.clone());
    let wake = match trouble.remedy {
        Remedy::User => Wake::After(situation.tunables.stalled_resync),
        Remedy::Time(after) => after.map_or(Wake::Backoff, Wake::After),
        Remedy::Gateway(after) => Wake::After(after),
    };
    match trouble.remedy {
        Remedy::User => Decision::wait(
            status,
            Standing::Stuck {
                phase,
                reason,
                message,
            },
            wake,
        ),
        Remedy::Time(_) | Remedy::Gateway(_) => Decision::wait(
            status,
            Standing::Busy {
                phase,
                reason,
                message,
            },
            wake,
        ),
    }
}

/// Something is on its way.
pub(super) fn busy(
    status: BuildRequestStatus,
    phase: BuildPhase,
    reason: Reason,
    message: &str,
    wake: Wake,
) -> Decision {
    Decision::wait(
        status,
        Standing::Busy {
            phase,
            reason,
            message: message.into(),
        },
        wake,
    )
}

/// `project/pipeline[/branch]#id`, for messages and revisions.
pub fn title(run: &CurrentRun) -> String {
    let mut text = format!("{}/{}", run.project, run.pipeline);
    if let Some(branch) = &run.branch {
        text.push('/');
        text.push_str(branch);
    }
    match (&run.id, &run.name) {
        (Some(id), _) => text.push_str(&format!("#{id}")),
        (None, Some(name)) => text.push_str(&format!(" ({name})")),
        (None, None) => {}
    }
    text
}

/// The sentence about a run that ended.
pub fn verdict(run: &CurrentRun) -> String {
    let word = run.outcome.map_or("is over", outcome::sentence);
    format!("build {} {word}", title(run))
}
