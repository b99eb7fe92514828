//! The request budget of a connection: how many requests may go out in a second, how many may be in flight, and whose
//! turn it is.
//!
//! A request needs a token of the bucket and a place among those in flight; who is next is said by [`queue`], which is
//! pure. It keeps its place until its answer has come whole. A watch gives it back with its headers: it asks for nothing
//! any more. A log or a file keeps it until its last byte, because so long it costs the gateway and Jenkins a connection;
//! but what is in the background may never take all places: a quarter, and one at least, is kept for the rest. Where there
//! is one place only, a log or a file gives it back with its headers.
//!
//! Before all that comes the [`breaker`]: while the gateway wants to be left alone, or is not there, whoever asks is refused
//! at once and nothing is sent; while one probe finds out, the others wait for what comes of it.

mod breaker;
mod queue;

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

pub(crate) use self::breaker::{Turn, Word, word};
use self::{
    breaker::{Breaker, Pass, Stance},
    queue::{Queue, Ticket},
};
use super::{config::Limits, error::Result, purpose::Class, route::Limit};

/// What a connection may ask of its gateway.
pub(crate) struct Budget(Arc<Shared>);

struct Shared {
    bucket: DefaultDirectRateLimiter,
    /// Requests that may be in flight.
    places: usize,
    state: Mutex<State>,
    /// Somebody came, went, or gave a place back.
    changed: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue<Waiter>,
    breaker: Breaker,
    in_flight: usize,
    /// Those in flight that are of the background.
    background: usize,
    /// Whether somebody looks after those who wait.
    attended: bool,
}

/// Tells one who waits that it may go, or why nobody may.
type Waiter = oneshot::Sender<Result<Place>>;

/// A place among the requests in flight. Dropping it gives it back.
pub(crate) struct Place {
    shared: Arc<Shared>,
    class: Class,
    /// Until it is known what came of the request.
    pass: Option<Pass>,
}

impl Place {
    /// What came of the request, as far as it tells about the gateway itself.
    pub(crate) fn hear(&mut self, word: Word) -> Option<Turn> {
        let pass = self.pass.take()?;
        let random = fastrand::f64();
        let turn = self
            .shared
            .lock()
            .breaker
            .hear(&pass, word, Instant::now(), random);
        self.shared.changed.notify_one();
        turn
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(pass) = self.pass.take() {
            state.breaker.abandoned(&pass, Instant::now());
        }
        state.in_flight -= 1;
        state.background -= usize::from(self.class == Class::Background);
        drop(state);
        self.shared.changed.notify_one();
    }
}

/// Somebody who waits. Who is dropped waits no longer.
struct Waiting<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waited = self.shared.lock().queue.remove(&self.ticket);
        if waited.is_some() {
            self.shared.changed.notify_one();
        }
    }
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        // A new field has to be decided on here.
        let Limits {
            requests_per_second,
            burst,
            concurrent_requests,
        } = limits;
        let quota = Quota::per_second(at_least_one(requests_per_second)).allow_burst(at_least_one(burst));
        Self(Arc::new(Shared {
            bucket: RateLimiter::direct(quota),
            places: concurrent_requests.max(1) as usize,
            state: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Waits until `object` may send a request of this class; an error where nothing is sent for now.
    pub(crate) async fn enter(&self, class: Class, object: &Arc<str>) -> Result<Place> {
        loop {
            let (waiting, turn) = {
                let mut state = self.0.lock();
                if let Some(refusal) = state.breaker.refusal(Instant::now()) {
                    return Err(refusal);
                }
                if state.queue.is_empty() && self.0.admits(&state, class) && self.0.bucket.check().is_ok() {
                    return Ok(self.0.take(&mut state, class));
                }
                let (give, turn) = oneshot::channel();
                let ticket = state.queue.push(class, object, give);
                if !std::mem::replace(&mut state.attended, true) {
                    tokio::spawn(Attendant::new(self.0.clone()).run());
                }
                let waiting = Waiting {
                    shared: &self.0,
                    ticket,
                };
                (waiting, turn)
            };
            self.0.changed.notify_one();
            let told = turn.await;
            drop(waiting);
            // It is never closed without a word but by a defect.
            if let Ok(told) = told {
                return told;
            }
        }
    }

    /// Whether an answer keeps its place until its body has come.
    pub(crate) fn keeps(&self, limit: Limit) -> bool {
        match limit {
            Limit::Json => true,
            Limit::Log | Limit::Artifact => self.0.places > 1,
            Limit::Watch => false,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admits(&self, state: &State, class: Class) -> bool {
        if !matches!(state.breaker.stance(Instant::now()), Stance::Go | Stance::Probe) {
            return false;
        }
        let kept = match self.places {
            1 => 0,
            places => (places / 4).max(1),
        };
        let crowded = class == Class::Background && state.background >= self.places - kept;
        state.in_flight < self.places && !crowded
    }

    fn take(self: &Arc<Self>, state: &mut State, class: Class) -> Place {
        state.in_flight += 1;
        state.background += usize::from(class == Class::Background);
        Place {
            shared: self.clone(),
            class,
            pass: Some(state.breaker.begin()),
        }
    }
}

/// Lets in who waits, one after the other, until nobody does. A task of its own: none of those who wait has to be polled
/// for another to get on.
struct Attendant {
    shared: Arc<Shared>,
    /// Nobody waits any more.
    done: bool,
}

impl Attendant {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, done: false }
    }

    async fn run(mut self) {
        while self.somebody_may_go().await {
            self.shared.bucket.until_ready().await;
            // Who that is, is said now: somebody more urgent may have come.
            let let_in = {
                let mut state = self.shared.lock();
                let next = self.shared.next(&mut state);
                next.map(|(class, give)| (give, self.shared.take(&mut state, class)))
            };
            if let Some((give, place)) = let_in {
                // Who went away at this very moment gives the place back by that.
                let _ = give.send(Ok(place));
            }
        }
    }

    /// Waits until somebody may go; false once nobody waits.
    async fn somebody_may_go(&mut self) -> bool {
        loop {
            if self.shared.turn_away() {
                continue;
            }
            {
                let mut state = self.shared.lock();
                if state.queue.is_empty() {
                    state.attended = false;
                    self.done = true;
                    return false;
                }
                let may_go = |class| self.shared.admits(&state, class);
                if state.queue.next(may_go).is_some() {
                    return true;
                }
            }
            self.shared.changed.notified().await;
        }
    }
}

/// One that was stopped before its time is replaced when the next comes to wait.
impl Drop for Attendant {
    fn drop(&mut self) {
        if !self.done {
            self.shared.lock().attended = false;
        }
    }
}

impl Shared {
    /// Refuses all who wait, while nothing is sent. Whether there was somebody.
    fn turn_away(&self) -> bool {
        let mut state = self.lock();
        let Some(refusal) = state.breaker.refusal(Instant::now()) else {
            return false;
        };
        let mut waiters = Vec::new();
        while let Some((_, waiter)) = state.queue.pop(|_| true) {
            waiters.push(waiter);
        }
        drop(state);
        let any = !waiters.is_empty();
        for waiter in waiters {
            // Who went away at this very moment need not know.
            let _ = waiter.send(Err(refusal.share()));
        }
        any
    }

    fn next(&self, state: &mut State) -> Option<(Class, Waiter)> {
        let may_go = Class::ALL.map(|class| self.admits(state, class));
        state.queue.pop(|class| may_go[class as usize])
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
