//! Who waits to send something, and who is next. Pure.
//!
//! The more urgent class first; within a class the objects take turns, so that it does not matter how much one of them
//! has to ask. A class that waits is passed over only so often ([`patience`]), then it is its turn once: nobody starves.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::gateway::Class;

/// How often others may go first while this class waits.
const fn patience(class: Class) -> u32 {
    match class {
        Class::Interactive => 0, // nobody goes before it but who has waited
        Class::Following => 4,
        Class::Background => 8,
    }
}

/// Who waits.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    lanes: [Lane<T>; Class::ALL.len()],
    last: u64,
}

/// Those of one class.
#[derive(Debug)]
struct Lane<T> {
    /// The objects that wait, the next one first.
    turns: VecDeque<Arc<str>>,
    /// What each of them waits with; never an empty list.
    of: HashMap<Arc<str>, VecDeque<(u64, T)>>,
    /// How often others went first since it was last its turn.
    passed: u32,
}

/// A place in the queue.
#[derive(Debug)]
pub(crate) struct Ticket {
    class: Class,
    object: Arc<str>,
    number: u64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            of: HashMap::new(),
            passed: 0,
        }
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            lanes: Class::ALL.map(|_| Lane::default()),
            last: 0,
        }
    }
}

impl<T> Queue<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.turns.is_empty())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let waits = self.lanes.iter().flat_map(|lane| lane.of.values());
        waits.map(VecDeque::len).sum()
    }

    /// Somebody begins to wait.
    pub(crate) fn push(&mut self, class: Class, object: &Arc<str>, what: T) -> Ticket {
        self.last += 1;
        let number = self.last;
        let lane = &mut self.lanes[class as usize];
        let waits = lane.of.entry(object.clone()).or_default();
        if waits.is_empty() {
            lane.turns.push_back(object.clone());
        }
        waits.push_back((number, what));
        Ticket {
            class,
            object: object.clone(),
            number,
        }
    }

    /// Somebody waits no longer.
    pub(crate) fn remove(&mut self, ticket: &Ticket) -> Option<T> {
        let lane = &mut self.lanes[ticket.class as usize];
        let waits = lane.of.get_mut(&ticket.object)?;
        let at = waits.iter().position(|(number, _)| *number == ticket.number)?;
        let (_, what) = waits.remove(at)?;
        if waits.is_empty() {
            lane.of.remove(&ticket.object);
            lane.turns.retain(|object| *object != ticket.object);
            lane.rested();
        }
        Some(what)
    }

    /// Whose turn it is, of the classes that may go now.
    pub(crate) fn next(&self, may_go: impl Fn(Class) -> bool) -> Option<Class> {
        let waits = |class: &Class| !self.lanes[*class as usize].turns.is_empty() && may_go(*class);
        let waited = |class: &Class| self.lanes[*class as usize].passed >= patience(*class);
        let mut lower = Class::ALL.into_iter().rev();
        lower
            .find(|class| *class != Class::Interactive && waits(class) && waited(class))
            .or_else(|| Class::ALL.into_iter().find(waits))
    }

    /// Takes out whose turn it is.
    pub(crate) fn pop(&mut self, may_go: impl Fn(Class) -> bool) -> Option<(Class, T)> {
        let class = self.next(&may_go)?;
        for other in Class::ALL
            .into_iter()
            .filter(|other| *other > class && may_go(*other))
        {
            let lane = &mut self.lanes[other as usize];
            if !lane.turns.is_empty() {
                lane.passed += 1;
            }
        }
        let lane = &mut self.lanes[class as usize];
        lane.passed = 0;
        let object = lane.turns.pop_front()?;
        let waits = lane.of.get_mut(&object)?;
        let (_, what) = waits.pop_front()?;
        if waits.is_empty() {
            lane.of.remove(&object);
        } else {
            lane.turns.push_back(object);
        }
        Some((class, what))
    }
}

impl<T> Lane<T> {
    fn rested(&mut self) {
        if self.turns.is_empty() {
            self.passed = 0;
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
