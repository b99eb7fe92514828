//! When nothing is sent to a gateway, because it asked for that or is not there. Pure.
//!
//! A gateway that says when to come back is left alone until then; one that fails several times in a row for a while,
//! each time longer. Then one request goes out, and the others wait for what comes of it: see [`Breaker`].

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::{
    ErrorKind, GatewayError, RouteClass,
    exchange::Answered,
    wire::refusal::{Reply, is_of_the_gateway, retry_after},
};

/// So many failures in a row open it.
const FAILURES: u32 = 3;
/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause that we choose ourselves: so long a gateway that is back may go unnoticed.
const LONGEST: Duration = Duration::from_secs(60);

/// What an exchange tells about the gateway itself.
#[derive(Debug)]
pub(crate) enum Word {
    /// It answered, whatever it said: what is behind it is another matter.
    Alive,
    /// Nothing.
    Nothing,
    /// It was not there, or whoever stands in for it said so.
    Down(GatewayError),
    /// It wants to be left alone.
    Hold(GatewayError),
}

/// What an exchange tells about the gateway itself: see contract §5 and §6, finding F-H for what does not come from it.
pub(crate) fn word(route: RouteClass, result: &Result<Answered, GatewayError>) -> Word {
    match result {
        Ok(Answered::Success(_)) => Word::Alive,
        Ok(Answered::Refused(whole)) => of_refusal(&whole.reply(), || whole.refusal()),
        Err(error) => match error.kind() {
            ErrorKind::ConnectFailed => Word::Down(error.share()),
            // A gateway that waits for Jenkins is silent too.
            ErrorKind::TimedOut | ErrorKind::ConnectionLost if !route.behind_jenkins() => {
                Word::Down(error.share())
            }
            _ => Word::Nothing,
        },
    }
}

fn of_refusal(reply: &Reply<'_>, error: impl Fn() -> GatewayError) -> Word {
    let route = reply.subject.route;
    match reply.status {
        // A lockout is about one user's logins, and the session keeps quiet by itself.
        429 if route == RouteClass::Token => Word::Alive,
        429 | 502..=504 if route.behind_jenkins() => Word::Nothing,
        429 => Word::Hold(error()),
        503 if is_of_the_gateway(reply) && retry_after(reply.headers).is_some() => Word::Hold(error()),
        502..=504 if is_of_the_gateway(reply) => Word::Down(error()),
        _ => Word::Alive,
    }
}

/// Closed while all is well; open for a while after failures in a row, or as long as the gateway asks for; half open while
/// one request, the probe, finds out.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: State,
    /// How often it opened since it was last closed.
    opened: u32,
    /// Counts its turns: what was sent before one tells nothing after it.
    turns: u64,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, why: GatewayError },
    Probing { why: GatewayError },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// What may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stance {
    /// Whatever the budget allows.
    Go,
    /// One request.
    Probe,
    /// Nothing until the probe is back.
    Wait,
    /// Nothing for so long.
    Refuse(Duration),
}

/// A request that was let out.
#[derive(Debug)]
pub(crate) struct Pass {
    turn: u64,
    probe: bool,
}

/// It opened or closed.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Turn {
    Opened,
    Closed,
}

impl Breaker {
    pub(crate) fn stance(&self, now: Instant) -> Stance {
        match &self.state {
            State::Closed { .. } => Stance::Go,
            State::Open { until, .. } if *until > now => Stance::Refuse(*until - now),
            State::Open { .. } => Stance::Probe,
            State::Probing { .. } => Stance::Wait,
        }
    }

    /// Why nothing is sent, and for how long at the least; None where something is.
    pub(crate) fn refusal(&self, now: Instant) -> Option<GatewayError> {
        match (&self.state, self.stance(now)) {
            (State::Open { why, .. }, Stance::Refuse(wait)) => Some(why.share().held_for(wait)),
            _ => None,
        }
    }

    /// A request is let out: the probe, where one is due.
    pub(crate) fn begin(&mut self) -> Pass {
        let state = std::mem::take(&mut self.state);
        let probe = matches!(state, State::Open { .. });
        self.state = match state {
            State::Open { why, .. } => State::Probing { why },
            other => other,
        };
        Pass {
            turn: self.turns,
            probe,
        }
    }

    /// What came of a request. `random` is from 0 to 1.
    pub(crate) fn hear(&mut self, pass: &Pass, word: Word, now: Instant, random: f64) -> Option<Turn> {
        if pass.turn != self.turns {
            self.hear_late(&word, now);
            return None;
        }
        match word {
            Word::Nothing if pass.probe => {
                self.lose_probe(now);
                None
            }
            Word::Nothing => None,
            Word::Alive if pass.probe => {
                *self = Self {
                    turns: self.turns + 1,
                    ..Self::default()
                };
                Some(Turn::Closed)
            }
            Word::Alive => {
                self.state = State::default();
                None
            }
            Word::Down(why) => match &mut self.state {
                State::Closed { failures } if *failures + 1 < FAILURES => {
                    *failures += 1;
                    None
                }
                _ => self.open(why, None, now, random),
            },
            Word::Hold(why) => {
                let asked = why.retry_after();
                self.open(why, asked, now, random)
            }
        }
    }

    /// A request was given up before anything came of it.
    pub(crate) fn abandoned(&mut self, pass: &Pass, now: Instant) {
        if pass.probe && pass.turn == self.turns {
            self.lose_probe(now);
        }
    }

    /// Another probe may go out.
    fn lose_probe(&mut self, now: Instant) {
        let state = std::mem::take(&mut self.state);
        self.state = match state {
            State::Probing { why } => State::Open { until: now, why },
            other => other,
        };
    }

    /// Of what was sent before it opened, only a wish to be left alone longer counts.
    fn hear_late(&mut self, word: &Word, now: Instant) {
        if let (State::Open { until, .. }, Word::Hold(error)) = (&mut self.state, word)
            && let Some(asked) = error.retry_after()
        {
            *until = (*until).max(now + asked);
        }
    }

    fn open(
        &mut self,
        why: GatewayError,
        asked: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Option<Turn> {
        let was_closed = matches!(self.state, State::Closed { .. });
        self.opened = self.opened.saturating_add(1);
        self.turns += 1;
        // Never before it asked for; a little later, for others were asked the same.
        let asked = asked.map(|asked| asked + (asked / 10).min(FIRST).mul_f64(random));
        let until = now + asked.unwrap_or_default().max(pause(self.opened, random));
        self.state = State::Open { until, why };
        was_closed.then_some(Turn::Opened)
    }
}

/// The pause after it opened so often in a row: somewhere in the upper half of it, for others see the same.
fn pause(opened: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << opened.saturating_sub(1).min(16));
    doubled.min(LONGEST).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
