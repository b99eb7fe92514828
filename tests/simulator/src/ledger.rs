//! The honest ledger: what was asked, what was answered, what it caused. Nothing is ever left out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::clock::{self, Millis};
use crate::faults::glob;

/// One request at the gateway.
#[derive(Debug, Clone, Serialize)]
pub struct RequestRecord {
    /// Place in the order of arrival, from 1.
    pub number: u64,
    /// Milliseconds since the epoch.
    pub at: i64,
    /// Method.
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// Route class; see the route table in the README.
    pub class: &'static str,
    /// Cluster it was for.
    pub cluster: String,
    /// User the credentials stood for.
    pub user: String,
    /// Status that was answered; 0 if none was.
    pub status: u16,
    /// Bytes of the body that went out.
    pub bytes_out: u64,
    /// A fault that was applied.
    pub faulted: bool,
}

/// One attempt to get tokens.
#[derive(Debug, Clone, Serialize)]
pub struct LoginRecord {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// Grant type as sent.
    pub grant: String,
    /// User name, where one was known.
    pub user: String,
    /// `ok` or the OAuth error code.
    pub outcome: String,
}

/// One build that Jenkins took on.
#[derive(Debug, Clone, Serialize)]
pub struct BuildRecord {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// Cluster.
    pub cluster: String,
    /// Project (namespace).
    pub project: String,
    /// Pipeline.
    pub pipeline: String,
    /// Branch as Jenkins names the job (`feature%2Fx`).
    pub branch: Option<String>,
    /// Build number.
    pub number: u64,
    /// Parameters, defaults filled in.
    pub parameters: Vec<(String, String)>,
    /// Who asked: `controller`, `v1alpha2`, `replay #n`, `control`.
    pub cause: String,
}

/// A stop, delete or trigger that was asked of Jenkins or of the object store; that a PipelineRun began or ended.
#[derive(Debug, Clone, Serialize)]
pub struct ActionRecord {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// `stop`, `folded`, `deduplicated`, `delete-run`, `delete-build`, `input`; `run-started` and `run-ended` when the status of
    /// a PipelineRun first says so: subject `PROJECT/RUN PIPELINE #NUMBER`.
    pub what: String,
    /// Project, object and details.
    pub subject: String,
}

#[derive(Debug, Default)]
struct Entries {
    requests: Vec<RequestRecord>,
    logins: Vec<LoginRecord>,
    builds: Vec<BuildRecord>,
    actions: Vec<ActionRecord>,
    tokens_issued: u64,
    /// Number of the last request; survives `clear`, so that a late byte count never hits a newer request.
    last: u64,
}

/// Read access to what happened; cheap to clone, always current.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Entries>>);

/// Everything in the ledger at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerSnapshot {
    /// Requests in order of arrival.
    pub requests: Vec<RequestRecord>,
    /// Logins and refreshes.
    pub logins: Vec<LoginRecord>,
    /// Jenkins builds.
    pub builds: Vec<BuildRecord>,
    /// Stops, deletes and the like.
    pub actions: Vec<ActionRecord>,
    /// Tokens issued (access and refresh count as one).
    pub tokens_issued: u64,
    /// Bytes of all bodies.
    pub bytes_out: u64,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything.
    pub fn snapshot(&self) -> LedgerSnapshot {
        let e = self.entries();
        LedgerSnapshot {
            requests: e.requests.clone(),
            logins: e.logins.clone(),
            builds: e.builds.clone(),
            actions: e.actions.clone(),
            tokens_issued: e.tokens_issued,
            bytes_out: e.requests.iter().map(|r| r.bytes_out).sum(),
        }
    }

    /// Requests whose class fits the pattern (`*` stands for any characters).
    pub fn requests(&self, class: &str) -> Vec<RequestRecord> {
        self.entries()
            .requests
            .iter()
            .filter(|r| glob(class, r.class))
            .cloned()
            .collect()
    }

    /// How many requests there were; quick, for who looks often.
    pub fn len(&self) -> usize {
        self.entries().requests.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many requests have a class that fits.
    pub fn count(&self, class: &str) -> usize {
        self.entries()
            .requests
            .iter()
            .filter(|r| glob(class, r.class))
            .count()
    }

    /// How many requests of a fitting class were answered with this status.
    pub fn count_status(&self, class: &str, status: u16) -> usize {
        self.entries()
            .requests
            .iter()
            .filter(|r| glob(class, r.class) && r.status == status)
            .count()
    }

    /// Logins by grant and outcome (both may hold `*`).
    pub fn logins(&self, grant: &str, outcome: &str) -> usize {
        self.entries()
            .logins
            .iter()
            .filter(|l| glob(grant, &l.grant) && glob(outcome, &l.outcome))
            .count()
    }

    /// How often tokens were issued.
    pub fn tokens_issued(&self) -> u64 {
        self.entries().tokens_issued
    }

    /// All Jenkins builds.
    pub fn builds(&self) -> Vec<BuildRecord> {
        self.entries().builds.clone()
    }

    /// The Jenkins builds of one pipeline, in all its branches.
    pub fn builds_of(&self, project: &str, pipeline: &str) -> Vec<BuildRecord> {
        let e = self.entries();
        e.builds
            .iter()
            .filter(|b| b.project == project && b.pipeline == pipeline)
            .cloned()
            .collect()
    }

    /// Actions of one sort.
    pub fn actions(&self, what: &str) -> Vec<ActionRecord> {
        self.entries()
            .actions
            .iter()
            .filter(|a| glob(what, &a.what))
            .cloned()
            .collect()
    }

    /// Bytes of all bodies so far.
    pub fn bytes_out(&self) -> u64 {
        self.entries().requests.iter().map(|r| r.bytes_out).sum()
    }

    /// Forgets everything, for a suite that shares a simulator between cases.
    pub fn clear(&self) {
        let mut e = self.entries();
        *e = Entries {
            last: e.last,
            ..Entries::default()
        };
    }

    pub(crate) fn request(&self, mut record: RequestRecord) -> u64 {
        let mut e = self.entries();
        e.last += 1;
        let number = e.last;
        record.number = number;
        e.requests.push(record);
        number
    }

    /// Changes a request's record after the fact; does nothing if the ledger was cleared meanwhile.
    pub(crate) fn amend(&self, number: u64, change: impl FnOnce(&mut RequestRecord)) {
        let mut e = self.entries();
        let found = e.requests.binary_search_by_key(&number, |r| r.number);
        if let Ok(index) = found {
            change(&mut e.requests[index]);
        }
    }

    pub(crate) fn login(&self, grant: &str, user: &str, outcome: &str) {
        let mut e = self.entries();
        if outcome == "ok" {
            e.tokens_issued += 1;
        }
        e.logins.push(LoginRecord {
            at: clock::now(),
            grant: grant.into(),
            user: user.into(),
            outcome: outcome.into(),
        });
    }

    pub(crate) fn build(&self, record: BuildRecord) {
        self.entries().builds.push(record);
    }

    pub(crate) fn action(&self, at: Millis, what: &str, subject: String) {
        self.entries().actions.push(ActionRecord {
            at,
            what: what.into(),
            subject,
        });
    }
}
