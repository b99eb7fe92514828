//! Faults at the edge of the simulator: what happens to a request on its way in, and to its answer on its way out.
//!
//! Outages *behind* ks-devops (Jenkins, the controller, members) are not here; they are state of those parts.

use serde::{Deserialize, Serialize};

/// Where a request is lost or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// The connection is reset and the request is not carried out.
    RequestLost,
    /// The request is carried out; the client sees a reset instead of the answer.
    AnswerLost,
}

/// What a fault does. Parts combine: a delay may come before any of the others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultAction {
    /// Milliseconds before the request is handled (not scaled).
    pub delay_ms: u64,
    /// Milliseconds between handling and the answer (not scaled).
    pub answer_delay_ms: u64,
    /// Answer this status instead of handling the request.
    pub status: Option<u16>,
    /// Handle the request all the same: the answer lies, as that of a proxy on the way may.
    pub carried_out: bool,
    /// Body of that answer.
    pub body: String,
    /// Its content type; `application/json` if the body starts with `{` or `[`, else text.
    pub content_type: Option<String>,
    /// Extra headers of the answer, whether made up or real.
    pub headers: Vec<(String, String)>,
    /// Lose the request or its answer.
    pub cut: Option<Cut>,
    /// Send only so many bytes of the body, then reset the connection; the promised length stays.
    pub truncate: Option<usize>,
    /// Send only half of the body, then reset the connection; of a stream, its first bytes.
    pub half_body: bool,
    /// Never answer.
    pub hang: bool,
}

/// A fault and the requests it is for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Route class as in the ledger; `*` stands for any characters. Empty: every class.
    pub class: String,
    /// Path (as sent, without the query); `*` stands for any characters. Empty: every path.
    pub path: String,
    /// HTTP method. Empty: every method.
    pub method: String,
    /// User. Empty: everybody.
    pub user: String,
    /// Let so many matching requests pass first.
    pub skip: u32,
    /// Apply to so many requests, then disappear. `None`: until cleared.
    pub times: Option<u32>,
    /// What happens.
    pub action: FaultAction,
}

impl Fault {
    /// A fault for the next request of this class.
    pub fn once(class: &str, action: FaultAction) -> Self {
        Self {
            class: class.into(),
            times: Some(1),
            action,
            ..Self::default()
        }
    }

    /// A fault for every request of this class until it is cleared.
    pub fn always(class: &str, action: FaultAction) -> Self {
        Self {
            class: class.into(),
            action,
            ..Self::default()
        }
    }

    /// For the next `times` requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// After `skip` matching requests were let through.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Only for paths that match.
    #[must_use]
    pub fn on_path(mut self, glob: &str) -> Self {
        self.path = glob.into();
        self
    }

    fn matches(&self, class: &str, method: &str, path: &str, user: &str) -> bool {
        let fits = |pattern: &str, value: &str| pattern.is_empty() || glob(pattern, value);
        fits(&self.class, class)
            && fits(&self.path, path)
            && fits(&self.method, method)
            && fits(&self.user, user)
    }
}

impl FaultAction {
    /// Answers with this status and body.
    pub fn answer(status: u16, body: &str) -> Self {
        Self {
            status: Some(status),
            body: body.into(),
            ..Self::default()
        }
    }

    /// Loses the request or its answer.
    pub fn cut(cut: Cut) -> Self {
        Self {
            cut: Some(cut),
            ..Self::default()
        }
    }

    /// Waits before handling.
    pub fn delay(ms: u64) -> Self {
        Self {
            delay_ms: ms,
            ..Self::default()
        }
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self {
            hang: true,
            ..Self::default()
        }
    }

    /// Cuts the body.
    pub fn truncate(bytes: usize) -> Self {
        Self {
            truncate: Some(bytes),
            ..Self::default()
        }
    }
}

/// The faults in force, in the order they were added.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<(u64, Fault)>,
    next_id: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> u64 {
        self.next_id += 1;
        self.list.push((self.next_id, fault));
        self.next_id
    }

    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let before = self.list.len();
        self.list.retain(|(i, _)| *i != id);
        self.list.len() != before
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn list(&self) -> Vec<(u64, Fault)> {
        self.list.clone()
    }

    /// The first fault that is for this request; counts it.
    pub(crate) fn take(&mut self, class: &str, method: &str, path: &str, user: &str) -> Option<FaultAction> {
        let position = self.list.iter_mut().position(|(_, fault)| {
            if !fault.matches(class, method, path, user) {
                return false;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return false;
            }
            true
        })?;
        let fault = &mut self.list[position].1;
        let action = fault.action.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.list.remove(position);
            }
        }
        Some(action)
    }
}

/// Whether the value fits a pattern in which `*` stands for any characters.
pub(crate) fn glob(pattern: &str, value: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = value.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, value, fits) in [
            ("v2.*", "v2.run.log", true),
            ("v2.*", "v3.run.get", false),
            ("*.create", "v3.runs.create", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(glob(pattern, value), fits, "{pattern} {value}");
        }
    }

    #[test]
    fn a_fault_counts_what_it_skips_and_what_it_hits() {
        let mut faults = Faults::default();
        faults.add(
            Fault::once("v3.*", FaultAction::answer(500, ""))
                .after(1)
                .times(2),
        );
        let mut hit = || faults.take("v3.run.get", "GET", "/", "alice").is_some();
        assert_eq!([hit(), hit(), hit(), hit()], [false, true, true, false]);
    }
}
