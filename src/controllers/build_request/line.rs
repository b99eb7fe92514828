//! Who waits to start a run, in which order, and what is shown of that. Pure.
//!
//! What is shown must not cost a write per waiting object and start. So it is exact for the first ten of a line only,
//! in tens up to a hundred and in hundreds beyond; and nobody is woken because it moved up: those in front look every
//! ten seconds, those within a hundred every minute, the others every five. What is shown may be as old as that.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use jiff::Timestamp;

use super::{inputs, turns::Place};
use crate::{
    api::build_request::{BuildRequest, QueuePosition},
    runtime::ObjectKey,
};

/// Who goes first: the higher priority, then the older object, then by name, so that it is always the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    priority: Reverse<i32>,
    created: Timestamp,
    /// The object.
    pub key: ObjectKey,
}

/// What an object wants to start, and how soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its rank.
    pub rank: Rank,
    /// Digest of what it wants: another wish may wait elsewhere.
    inputs: String,
}

impl Wish {
    /// That of `object`.
    pub fn of(object: &BuildRequest) -> Self {
        let created = object.metadata.creation_timestamp.as_ref();
        Self {
            rank: Rank {
                priority: Reverse(object.spec.priority),
                created: created.map_or(Timestamp::MAX, |time| time.0),
                key: ObjectKey::of(object),
            },
            inputs: inputs::wanted(object).digest,
        }
    }
}

/// A place in a line, from 1, and how many stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InLine {
    position: usize,
    of: usize,
}

/// So many in front see exactly where they stand.
const EXACT: usize = 10;
/// So many see it in tens; the others in hundreds.
const TENS: usize = 100;

impl InLine {
    /// The `position`th of `of`.
    pub fn new(position: usize, of: usize) -> Self {
        Self { position, of }
    }

    /// Whether what is shown is what is.
    pub fn is_exact(self) -> bool {
        self.position <= EXACT
    }

    /// What is shown.
    pub fn shown(self) -> QueuePosition {
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let position = rounded(self.position);
        QueuePosition {
            position: number(position),
            of: number(rounded(self.of).max(position)),
        }
    }

    /// When to look again where one stands.
    pub fn look_in(self) -> Duration {
        Duration::from_secs(match self.position {
            n if n <= EXACT => 10,
            n if n <= TENS => 60,
            _ => 300,
        })
    }
}

/// Exact for the first, then rounded up.
fn rounded(n: usize) -> usize {
    match n {
        _ if n <= EXACT => n,
        _ if n <= TENS => n.next_multiple_of(10),
        _ => n.next_multiple_of(100),
    }
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub rank: Rank,
    pub place: Place,
    pub connection: ObjectKey,
    inputs: String,
}

/// All who wait: at each place, and through each connection.
#[derive(Debug, Default)]
pub(super) struct Lines {
    waiters: BTreeMap<ObjectKey, Waiter>,
    at: HashMap<Place, BTreeSet<Rank>>,
    through: HashMap<ObjectKey, BTreeSet<Rank>>,
}

impl Lines {
    pub fn get(&self, key: &ObjectKey) -> Option<&Waiter> {
        self.waiters.get(key)
    }

    /// Whether somebody waits with this very wish.
    pub fn has(&self, wish: &Wish) -> bool {
        self.get(&wish.rank.key)
            .is_some_and(|waiter| waiter.rank == wish.rank && waiter.inputs == wish.inputs)
    }

    /// Whether somebody waits with this very wish at this place.
    pub fn stands(&self, wish: &Wish, place: &Place, connection: &ObjectKey) -> bool {
        let here = |waiter: &Waiter| waiter.place == *place && waiter.connection == *connection;
        self.has(wish) && self.get(&wish.rank.key).is_some_and(here)
    }

    pub fn join(&mut self, wish: &Wish, place: &Place, connection: &ObjectKey) {
        let Wish { rank, inputs } = wish.clone();
        self.at.entry(place.clone()).or_default().insert(rank.clone());
        self.through
            .entry(connection.clone())
            .or_default()
            .insert(rank.clone());
        let waiter = Waiter {
            rank,
            place: place.clone(),
            connection: connection.clone(),
            inputs,
        };
        self.waiters.insert(waiter.rank.key.clone(), waiter);
    }

    pub fn leave(&mut self, key: &ObjectKey) -> Option<Waiter> {
        let waiter = self.waiters.remove(key)?;
        if let Some(line) = self.at.get_mut(&waiter.place) {
            line.remove(&waiter.rank);
        }
        if let Some(line) = self.through.get_mut(&waiter.connection) {
            line.remove(&waiter.rank);
        }
        self.at.retain(|_, line| !line.is_empty());
        self.through.retain(|_, line| !line.is_empty());
        Some(waiter)
    }

    /// Those who wait for this place, the first first.
    pub fn at(&self, place: &Place) -> impl Iterator<Item = &Waiter> {
        self.of(self.at.get(place))
    }

    /// Those who wait for room of this connection, the first first.
    pub fn through(&self, connection: &ObjectKey) -> impl Iterator<Item = &Waiter> {
        self.of(self.through.get(connection))
    }

    pub fn before_at<'a>(&'a self, waiter: &'a Waiter) -> impl Iterator<Item = &'a Waiter> {
        self.at(&waiter.place)
            .take_while(|other| other.rank < waiter.rank)
    }

    pub fn before_through<'a>(&'a self, waiter: &'a Waiter) -> impl Iterator<Item = &'a Waiter> {
        self.through(&waiter.connection)
            .take_while(|other| other.rank < waiter.rank)
    }

    pub fn position_at(&self, waiter: &Waiter) -> InLine {
        InLine::new(self.before_at(waiter).count() + 1, self.at(&waiter.place).count())
    }

    pub fn position_through(&self, waiter: &Waiter) -> InLine {
        let of = self.through(&waiter.connection).count();
        InLine::new(self.before_through(waiter).count() + 1, of)
    }

    fn of<'a>(&'a self, line: Option<&'a BTreeSet<Rank>>) -> impl Iterator<Item = &'a Waiter> {
        line.into_iter()
            .flatten()
            .filter_map(move |rank| self.get(&rank.key))
    }
}
