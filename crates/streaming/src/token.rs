//! Tokens: what an RPC allowed, to be claimed once, soon, by whoever was told the token.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::backend::{AttachOrder, ExecOrder, ForwardOrder};

/// How long a token lives, as in containerd.
pub(crate) const LIFETIME: Duration = Duration::from_secs(60);
/// Tokens that may be unclaimed at once, as in containerd.
pub(crate) const IN_FLIGHT: usize = 1000;
/// Random bytes of a token: nobody guesses 128 bits within a minute.
const RANDOM: usize = 16;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// `/exec/TOKEN`
    Exec(ExecOrder),
    /// `/attach/TOKEN`
    Attach(AttachOrder),
    /// `/portforward/TOKEN`
    Forward(ForwardOrder),
}

impl Order {
    /// The first part of the URL's path.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::Forward(_) => "portforward",
        }
    }
}

/// Why there is no URL.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Too many URLs were asked for and not used.
    #[error("{IN_FLIGHT} streaming requests are waiting for their clients already")]
    TooMany,
    /// The kernel gave no random bytes.
    #[error("random bytes for a token: {0}")]
    Random(getrandom::Error),
}

/// The unclaimed tokens.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    orders: HashMap<String, (Order, Instant)>,
    /// In the order of their ends; those that were claimed are still named here until then.
    ends: VecDeque<(Instant, String)>,
}

impl Tokens {
    /// Makes a token for an order.
    pub(crate) fn issue(&self, order: Order) -> Result<String, IssueError> {
        self.issue_at(order, Instant::now())
    }

    fn issue_at(&self, order: Order, now: Instant) -> Result<String, IssueError> {
        let mut random = [0; RANDOM];
        getrandom::fill(&mut random).map_err(IssueError::Random)?;
        let token = URL_SAFE_NO_PAD.encode(random);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.expire(now);
        if table.orders.len() >= IN_FLIGHT {
            return Err(IssueError::TooMany);
        }
        table.orders.insert(token.clone(), (order, now + LIFETIME));
        table.ends.push_back((now + LIFETIME, token.clone()));
        Ok(token)
    }

    /// Claims a token that was issued for `verb`. Whatever the outcome, it cannot be claimed again.
    pub(crate) fn claim(&self, verb: &str, token: &str) -> Option<Order> {
        self.claim_at(verb, token, Instant::now())
    }

    fn claim_at(&self, verb: &str, token: &str, now: Instant) -> Option<Order> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.expire(now);
        table.orders.remove(token).map(|(order, _)| order).filter(|order| order.verb() == verb)
    }
}

impl Table {
    fn expire(&mut self, now: Instant) {
        while let Some((end, token)) = self.ends.front() {
            // Claimed ones in front go at once, so that the queue stays as short as the table.
            if *end > now && self.orders.contains_key(token) {
                break;
            }
            self.orders.remove(token);
            self.ends.pop_front();
        }
        if self.ends.len() > 2 * IN_FLIGHT {
            let orders = &self.orders;
            self.ends.retain(|(_, token)| orders.contains_key(token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order::Forward(ForwardOrder { pod: "p".into(), ports: vec![] })
    }

    #[test]
    fn a_token_is_claimed_once_for_what_it_was_issued() {
        let tokens = Tokens::default();
        let token = tokens.issue(order()).expect("room");
        assert_eq!(URL_SAFE_NO_PAD.decode(&token).expect("base64").len(), 16);
        assert_eq!(tokens.claim("portforward", &token), Some(order()));
        assert_eq!(tokens.claim("portforward", &token), None);
        let token = tokens.issue(order()).expect("room");
        assert_eq!(tokens.claim("exec", &token), None);
        assert_eq!(tokens.claim("portforward", &token), None, "the wrong path used it up");
    }

    #[test]
    fn tokens_end_after_a_minute_and_make_room() {
        let tokens = Tokens::default();
        let now = Instant::now();
        let all: Vec<_> = (0..IN_FLIGHT).map(|_| tokens.issue_at(order(), now).expect("room")).collect();
        assert!(matches!(tokens.issue_at(order(), now), Err(IssueError::TooMany)));
        let later = now + LIFETIME;
        assert_eq!(tokens.claim_at("portforward", &all[0], later), None, "too late");
        assert!(tokens.issue_at(order(), later).is_ok());
    }

    #[test]
    fn claimed_tokens_leave_nothing() {
        let tokens = Tokens::default();
        let kept = tokens.issue(order()).expect("room");
        for _ in 0..10 * IN_FLIGHT {
            let token = tokens.issue(order()).expect("room");
            tokens.claim("portforward", &token).expect("there");
        }
        let table = tokens.0.lock().expect("not poisoned");
        assert_eq!(table.orders.len(), 1);
        assert!(table.ends.len() <= 2 * IN_FLIGHT + 1, "{}", table.ends.len());
        assert!(table.orders.contains_key(&kept));
    }
}
