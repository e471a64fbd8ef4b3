//! Creates that repeat one another: who waits for whom, and who has been told.
//!
//! ```text
//! (none) ──begin──▶ InFlight ──finish(Ok)──▶ Done(Untold) ──told──▶ Done(Told) ──forget──▶ (none)
//!                      └─finish(Err), or of what is gone─▶ (none)       restore ──▶ Done(Unsure)
//! ```
//!
//! Invariants: a key has one entry; an entry in flight is joined by equal requests only; an ID that a caller was told of
//! is never given to a second create by the daemon that told it. Requests are compared as values: the encoded form of
//! two equal ones may differ in the order of their maps.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::stage::Stage;

/// What a waiter sees: nothing yet, or the outcome.
type Outcome = Option<Result<String>>;

enum Entry<R> {
    /// What was removed meanwhile may be what it has just made: its outcome comes from another task than that.
    InFlight {
        request: R,
        outcome: watch::Receiver<Outcome>,
        stage: Stage,
        gone: Vec<String>,
    },
    Done {
        request: R,
        id: String,
        told: Heard,
    },
}

/// Whether the caller of a finished create knows its outcome.
#[derive(Clone, Copy, PartialEq)]
enum Heard {
    /// Nobody was handed the ID.
    Untold,
    /// An earlier daemon made it and may have died before it answered: an equal request gets the ID, a different one
    /// must not cost somebody their object.
    Unsure,
    /// The ID is known outside.
    Told,
}

/// What to do with a create.
#[derive(Debug)]
pub(crate) enum Begin {
    /// Nobody makes it: the caller does, and reports through the [`Lead`].
    Lead(Lead),
    /// An equal one is in flight: wait for it.
    Join(Wait),
    /// An equal one has finished and its caller never heard of it: this is its ID.
    Adopt(String),
    /// A different one has finished and nobody was told of it: remove this ID, then begin again.
    Replace(String),
    /// A different one is in flight.
    Busy,
    /// It exists, and somebody knows.
    Exists(String),
}

/// The right and duty to make what a key names.
#[derive(Debug)]
pub(crate) struct Lead {
    key: String,
    outcome: watch::Sender<Outcome>,
    stage: Stage,
}

impl Lead {
    /// Where those that wait find what it is at.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.clone()
    }
}

/// A place in the queue of those that wait for a create in flight.
#[derive(Debug)]
pub(crate) struct Wait(watch::Receiver<Outcome>, Stage);

impl Wait {
    /// The outcome of the create that was joined.
    pub(crate) async fn outcome(mut self) -> Result<String> {
        let waiting = self.1.waiting();
        let outcome = self.0.wait_for(Option::is_some).await;
        waiting.done();
        match outcome {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| unreachable!("waited for it")),
            Err(_) => Err(Error::new(
                cricket_model::ErrorKind::Internal,
                "the create that was joined ended without an outcome",
            )),
        }
    }
}

/// All creates of one sort (sandboxes, or the containers of one pod), by name.
pub(crate) struct Joins<R> {
    entries: Mutex<HashMap<String, Entry<R>>>,
}

impl<R> Default for Joins<R> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<R: PartialEq + Clone> Joins<R> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry<R>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks what a create of `key` with this request has to do.
    pub(crate) fn begin(&self, key: &str, request: &R) -> Begin {
        let mut entries = self.lock();
        match entries.get(key) {
            // A lead that was dropped (a panic) has no outcome: the name is free.
            Some(Entry::InFlight { outcome, .. }) if abandoned(outcome) => lead(&mut entries, key, request),
            Some(Entry::InFlight { request: r, outcome, stage, .. }) if r == request => {
                Begin::Join(Wait(outcome.clone(), stage.clone()))
            }
            Some(Entry::InFlight { .. }) => Begin::Busy,
            Some(Entry::Done { request: r, id, told }) => match (told, r == request) {
                (Heard::Untold | Heard::Unsure, true) => Begin::Adopt(id.clone()),
                (Heard::Untold, false) => Begin::Replace(id.clone()),
                (Heard::Told, _) | (Heard::Unsure, false) => Begin::Exists(id.clone()),
            },
            None => lead(&mut entries, key, request),
        }
    }

    /// Joins the create that a [`Lead`] was just given for, as its first waiter.
    pub(crate) fn wait(&self, lead: &Lead) -> Wait {
        Wait(lead.outcome.subscribe(), lead.stage())
    }

    /// Ends a create and wakes those who joined it.
    pub(crate) fn finish(&self, lead: Lead, outcome: Result<String>) {
        {
            let mut entries = self.lock();
            match (&outcome, entries.remove(&lead.key)) {
                (Ok(id), Some(Entry::InFlight { request, gone, .. })) if !gone.contains(id) => {
                    entries.insert(lead.key.clone(), Entry::Done { request, id: id.clone(), told: Heard::Untold });
                }
                (_, Some(done @ Entry::Done { .. })) => {
                    entries.insert(lead.key.clone(), done);
                }
                _ => {}
            }
        }
        lead.outcome.send_replace(Some(outcome));
    }

    /// A caller is about to be handed this ID.
    pub(crate) fn told(&self, key: &str, made: &str) {
        if let Some(Entry::Done { id, told, .. }) = self.lock().get_mut(key)
            && id == made
        {
            *told = Heard::Told;
        }
    }

    /// Takes up what an earlier daemon made; nobody knows whether its caller heard of it.
    pub(crate) fn restore(&self, key: &str, id: &str, request: R) {
        self.lock().insert(key.to_owned(), Entry::Done { request, id: id.to_owned(), told: Heard::Unsure });
    }

    /// The object is gone: its name is free again.
    pub(crate) fn forget(&self, key: &str, gone: &str) {
        let mut entries = self.lock();
        match entries.get_mut(key) {
            Some(Entry::Done { id, .. }) if id == gone => drop(entries.remove(key)),
            Some(Entry::InFlight { gone: removed, .. }) => removed.push(gone.to_owned()),
            _ => {}
        }
    }
}

fn lead<R: Clone>(entries: &mut HashMap<String, Entry<R>>, key: &str, request: &R) -> Begin {
    let ((tx, rx), stage) = (watch::channel(None), Stage::default());
    let entry = Entry::InFlight { request: request.clone(), outcome: rx, stage: stage.clone(), gone: Vec::new() };
    entries.insert(key.to_owned(), entry);
    Begin::Lead(Lead { key: key.to_owned(), outcome: tx, stage })
}

fn abandoned(outcome: &watch::Receiver<Outcome>) -> bool {
    outcome.has_changed().is_err() && outcome.borrow().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_lead(joins: &Joins<u8>, key: &str, request: u8) -> Lead {
        match joins.begin(key, &request) {
            Begin::Lead(lead) => lead,
            other => panic!("expected to lead, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn an_equal_request_joins_and_a_different_one_does_not() {
        let joins = Joins::default();
        let lead = take_lead(&joins, "a", 1);
        let Begin::Join(wait) = joins.begin("a", &1) else { panic!("join") };
        assert!(matches!(joins.begin("a", &2), Begin::Busy));
        joins.finish(lead, Ok("id".into()));
        assert_eq!(wait.outcome().await.expect("outcome"), "id");
    }

    #[test]
    fn what_nobody_was_told_of_is_adopted_or_replaced() {
        let joins = Joins::default();
        joins.finish(take_lead(&joins, "a", 1), Ok("id".into()));
        assert!(matches!(joins.begin("a", &1), Begin::Adopt(id) if id == "id"));
        assert!(matches!(joins.begin("a", &2), Begin::Replace(id) if id == "id"));
        joins.told("a", "id");
        assert!(matches!(joins.begin("a", &1), Begin::Exists(id) if id == "id"));
        joins.forget("a", "other");
        assert!(matches!(joins.begin("a", &1), Begin::Exists(_)));
        joins.forget("a", "id");
        take_lead(&joins, "a", 3);
    }

    #[test]
    fn what_an_earlier_daemon_made_is_adopted_and_never_replaced() {
        let joins = Joins::default();
        joins.restore("a", "id", 1);
        assert!(matches!(joins.begin("a", &2), Begin::Exists(id) if id == "id"));
        assert!(matches!(joins.begin("a", &1), Begin::Adopt(id) if id == "id"));
        joins.told("a", "id");
        assert!(matches!(joins.begin("a", &1), Begin::Exists(id) if id == "id"));
    }

    #[tokio::test]
    async fn what_was_removed_before_its_create_was_heard_of_is_given_to_nobody_else() {
        let joins = Joins::default();
        let lead = take_lead(&joins, "a", 1);
        let wait = joins.wait(&lead);
        // Another client found it in a list.
        joins.forget("a", "id");
        joins.finish(lead, Ok("id".into()));
        assert_eq!(wait.outcome().await.expect("it was made"), "id");
        let next = take_lead(&joins, "a", 1);
        joins.finish(next, Ok("other".into()));
        assert!(matches!(joins.begin("a", &1), Begin::Adopt(id) if id == "other"));
    }

    #[tokio::test]
    async fn a_failure_reaches_everyone_and_frees_the_name() {
        let joins = Joins::default();
        let first = take_lead(&joins, "a", 1);
        let wait = joins.wait(&first);
        joins.finish(first, Err(Error::invalid("no")));
        assert_eq!(wait.outcome().await.expect_err("fails").to_string(), "no");
        take_lead(&joins, "a", 1);
    }

    #[tokio::test]
    async fn a_lead_that_is_dropped_does_not_hang_its_waiters() {
        let joins = Joins::default();
        let first = take_lead(&joins, "a", 1);
        let wait = joins.wait(&first);
        drop(first);
        assert!(wait.outcome().await.is_err());
        take_lead(&joins, "a", 1);
    }
}
