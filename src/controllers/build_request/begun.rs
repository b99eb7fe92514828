//! Since when this process has been at what has a deadline: bringing home what is over, cleaning up after what is deleted.
//!
//! While no process is there, no such deadline passes: nothing is given up that nobody has tried. In memory only: the next
//! process begins anew.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use crate::{api::build_request::CurrentRun, runtime::ObjectKey};

/// What is done for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    /// The run of this token is brought home.
    BringingHome(String),
    /// The object of this UID is deleted, and cleaned up after.
    CleaningUp(Option<String>),
}

/// Since when this process has been at it.
#[derive(Default)]
pub struct Begun(Mutex<HashMap<ObjectKey, (Work, Timestamp)>>);

impl Begun {
    /// There is nothing left to do for `key`.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    /// Since when `run` is brought home; from `now` on where it was not before.
    pub fn bringing_home(&self, key: &ObjectKey, run: &CurrentRun, now: Timestamp) -> Timestamp {
        self.since(key, Work::BringingHome(run.token.clone()), now)
    }

    /// Since when the object of this UID is cleaned up after; from `now` on where it was not before.
    pub fn cleaning_up(&self, key: &ObjectKey, uid: Option<String>, now: Timestamp) -> Timestamp {
        self.since(key, Work::CleaningUp(uid), now)
    }

    fn since(&self, key: &ObjectKey, work: Work, now: Timestamp) -> Timestamp {
        let mut begun = self.lock();
        match begun.get(key) {
            Some((known, since)) if *known == work => *since,
            _ => {
                begun.insert(key.clone(), (work, now));
                now
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, (Work, Timestamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
