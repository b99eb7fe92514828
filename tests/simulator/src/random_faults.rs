//! Faults that hit requests at random: any route, any user, at a rate. The same seed draws the same faults in the same
//! order; which request meets which of them is up to the order of arrival.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::faults::{Cut, FaultAction};

/// One sort of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Reset, and the request is not carried out.
    RequestLost,
    /// Carried out, then reset.
    AnswerLost,
    /// Carried out late.
    RequestLate,
    /// Carried out at once and answered late.
    AnswerLate,
    /// 500, not carried out.
    InternalError,
    /// 503, not carried out.
    Unavailable,
    /// 429, not carried out.
    Throttled,
    /// Carried out, but a proxy on the way answers 502.
    MaskedBadGateway,
    /// Half of the body, then reset.
    HalfBody,
    /// 401, not carried out, although the token is good.
    Unauthorized,
    /// Every token is forgotten, as by a restart of ks-apiserver; the request meets that.
    TokensFlushed,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::RequestLost,
        Self::AnswerLost,
        Self::RequestLate,
        Self::AnswerLate,
        Self::InternalError,
        Self::Unavailable,
        Self::Throttled,
        Self::MaskedBadGateway,
        Self::HalfBody,
        Self::Unauthorized,
        Self::TokensFlushed,
    ];

    fn action(self, late: u64) -> FaultAction {
        let status = |code: u16, reason: &str| {
            let body = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                "reason": reason, "message": format!("made up: {reason}"),
            });
            FaultAction::answer(code, &body.to_string())
        };
        match self {
            Self::RequestLost => FaultAction::cut(Cut::RequestLost),
            Self::AnswerLost => FaultAction::cut(Cut::AnswerLost),
            Self::RequestLate => FaultAction::delay(late),
            Self::AnswerLate => FaultAction {
                answer_delay_ms: late,
                ..FaultAction::default()
            },
            Self::InternalError => status(500, "InternalError"),
            Self::Unavailable => status(503, "ServiceUnavailable"),
            Self::Throttled => FaultAction {
                headers: vec![("retry-after".into(), "1".into())],
                ..status(429, "TooManyRequests")
            },
            Self::MaskedBadGateway => FaultAction {
                carried_out: true,
                ..FaultAction::answer(502, "<html>502 Bad Gateway</html>")
            },
            Self::HalfBody => FaultAction {
                half_body: true,
                ..FaultAction::default()
            },
            Self::Unauthorized => status(401, "Unauthorized"),
            Self::TokensFlushed => FaultAction::default(),
        }
    }
}

/// At what rate faults come, and which.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomFaults {
    /// The seed.
    pub seed: u64,
    /// Of a thousand requests, how many meet a fault.
    pub permille: u32,
    /// The longest lateness in milliseconds (not scaled).
    pub late_ms: u64,
    /// Which there are, all as likely.
    pub kinds: Vec<FaultKind>,
}

impl Default for RandomFaults {
    fn default() -> Self {
        Self {
            seed: 0,
            permille: 30,
            late_ms: 1_000,
            kinds: FaultKind::ALL.to_vec(),
        }
    }
}

/// What a request meets.
#[derive(Debug, Default)]
pub(crate) struct Drawn {
    pub(crate) action: Option<FaultAction>,
    pub(crate) flush: bool,
}

/// The draws so far.
#[derive(Debug, Default)]
pub(crate) struct Dice {
    faults: Option<(RandomFaults, Rng)>,
    served: BTreeMap<FaultKind, u64>,
}

impl Dice {
    /// Begins anew; `None` ends it. What was served stays counted.
    pub(crate) fn set(&mut self, faults: Option<RandomFaults>) {
        self.faults = faults.map(|faults| {
            let rng = Rng::with_seed(faults.seed);
            (faults, rng)
        });
    }

    pub(crate) fn served(&self) -> BTreeMap<FaultKind, u64> {
        self.served.clone()
    }

    pub(crate) fn draw(&mut self) -> Drawn {
        let Some((faults, rng)) = &mut self.faults else {
            return Drawn::default();
        };
        if rng.u32(0..1_000) >= faults.permille {
            return Drawn::default();
        }
        let Some(kind) = rng.choice(&faults.kinds).copied() else {
            return Drawn::default();
        };
        *self.served.entry(kind).or_default() += 1;
        let late = rng.u64(0..=faults.late_ms);
        Drawn {
            flush: kind == FaultKind::TokensFlushed,
            action: Some(kind.action(late)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_every_sort_comes_and_the_seed_decides() {
        let draws = |seed| {
            let mut dice = Dice::default();
            dice.set(Some(RandomFaults {
                seed,
                permille: 50,
                ..RandomFaults::default()
            }));
            let hits: Vec<bool> = (0..10_000).map(|_| dice.draw().action.is_some()).collect();
            (hits, dice.served())
        };
        let (hits, served) = draws(7);
        assert_eq!(draws(7), (hits.clone(), served.clone()), "the same seed");
        assert_ne!(draws(8).0, hits, "another seed");
        assert_eq!(served.len(), FaultKind::ALL.len(), "{served:?}");
        let count = hits.iter().filter(|hit| **hit).count();
        assert!((400..=600).contains(&count), "{count} of 10000 at 5 %");
    }
}
