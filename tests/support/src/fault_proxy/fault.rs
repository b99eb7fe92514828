//! What happens to a request, and the list of what is still to happen.

use std::time::Duration;

use serde_json::json;

use super::request::{ApiRequest, Select};

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum ApiAction {
    /// It is not carried out, and the connection is reset.
    RequestLost,
    /// It is carried out; the connection is reset instead of the answer.
    AnswerLost,
    /// It is carried out at once and answered after this time.
    AnswerLate(Duration),
    /// It is carried out after this time, though the client may have left, and answered then.
    RequestLate(Duration),
    /// It is not carried out and never answered.
    Hang,
    /// It is not carried out, and answered with a Kubernetes `Status`.
    Refuse(Refusal),
    /// It is carried out, and answered with a Kubernetes `Status` that says that it was not.
    CarriedOutThough(Refusal),
    /// It is carried out; half of the answer's body is sent, then the connection is reset.
    HalfBody,
    /// A watch begins well and then tells an error event in its stream, such as 410.
    WatchError(Refusal),
}

/// A Kubernetes `Status` that says no.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub(crate) code: u16,
    reason: String,
    message: String,
    pub(crate) retry_after: Option<u32>,
}

impl Refusal {
    /// One with the reason that Kubernetes gives with this code.
    pub fn code(code: u16) -> Self {
        let reason = match code {
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        Self {
            code,
            reason: reason.to_owned(),
            message: format!("the fault proxy answers {code}"),
            retry_after: None,
        }
    }

    /// With these words, as an admission webhook would say them.
    #[must_use]
    pub fn saying(mut self, message: &str) -> Self {
        self.message = message.to_owned();
        self
    }

    /// With a `Retry-After` of so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.status().to_string().into_bytes()
    }

    /// The line that a watch tells it by.
    pub(crate) fn watch_event(&self) -> Vec<u8> {
        format!("{}\n", json!({"type": "ERROR", "object": self.status()})).into_bytes()
    }

    fn status(&self) -> serde_json::Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}

/// What happens to which requests, and to how many of them.
#[derive(Clone, Debug)]
pub struct ApiFault {
    select: Select,
    action: ApiAction,
    skip: usize,
    times: Option<usize>,
}

impl ApiFault {
    /// For the next request that fits.
    pub fn once(select: Select, action: ApiAction) -> Self {
        Self {
            select,
            action,
            skip: 0,
            times: Some(1),
        }
    }

    /// For every request that fits, until it is removed.
    pub fn always(select: Select, action: ApiAction) -> Self {
        Self {
            times: None,
            ..Self::once(select, action)
        }
    }

    /// For so many requests that fit.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// After so many requests that fit were let through.
    #[must_use]
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }
}

/// What is still to happen, in the order in which it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<(u64, ApiFault)>,
    last: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: ApiFault) -> u64 {
        self.last += 1;
        self.list.push((self.last, fault));
        self.last
    }

    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let before = self.list.len();
        self.list.retain(|(other, _)| *other != id);
        self.list.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The first that is for this request; counts it.
    pub(crate) fn take(&mut self, request: &ApiRequest, body: &[u8]) -> Option<ApiAction> {
        let at = self.list.iter_mut().position(|(_, fault)| {
            let fits = fault.select.fits(request, body);
            let passes = fits && fault.skip > 0;
            fault.skip -= usize::from(passes);
            fits && !passes
        })?;
        let fault = &mut self.list[at].1;
        let action = fault.action.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.list.remove(at);
            }
        }
        Some(action)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_fault_counts_what_it_lets_through_and_what_it_strikes() {
        let mut faults = Faults::default();
        faults.add(
            ApiFault::once(Select::of("create configmaps"), ApiAction::Hang)
                .after(1)
                .times(2),
        );
        let create = ApiRequest::of(&Method::POST, "/api/v1/namespaces/n/configmaps", "");
        let other = ApiRequest::of(&Method::GET, "/api/v1/namespaces/n/configmaps", "");
        let mut strikes = |request: &ApiRequest| faults.take(request, b"{}").is_some();
        assert_eq!(
            [
                strikes(&create),
                strikes(&other),
                strikes(&create),
                strikes(&create),
                strikes(&create)
            ],
            [false, false, true, true, false]
        );
    }
}
