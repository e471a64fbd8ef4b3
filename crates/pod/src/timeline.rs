//! What was done to a pod or container, stage by stage, with how long each took: for `cricket explain`.
//!
//! Stages write themselves down as they are left ([`crate::stage`]); the record takes them over when it is written
//! anyway, so that a timeline costs no write of its own and survives what the record survives.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::shared::now;

/// Most steps of one timeline; the oldest go.
const MOST: usize = 48;

/// Something that was done, or that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Short", from = "Short")]
pub struct Step {
    /// In words.
    pub what: Cow<'static, str>,
    /// When it began, nanoseconds since 1970.
    pub at: i64,
    /// How long it took, microseconds; 0 of what merely happened.
    pub took: u32,
}

/// Records have many.
type Short = (Cow<'static, str>, i64, u32);

impl From<Step> for Short {
    fn from(Step { what, at, took }: Step) -> Self {
        (what, at, took)
    }
}

impl From<Short> for Step {
    fn from((what, at, took): Short) -> Self {
        Self { what, at, took }
    }
}

/// Steps, in the order in which they began. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(Arc<Vec<Step>>);

impl Timeline {
    /// All of them.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Nothing was done.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what was done.
    pub(crate) fn add(&mut self, steps: Vec<Step>) {
        if steps.is_empty() {
            return;
        }
        let all = Arc::make_mut(&mut self.0);
        all.extend(steps);
        all.sort_by_key(|step| step.at);
        all.drain(..all.len().saturating_sub(MOST));
    }

    /// Adds what happens now.
    pub(crate) fn note(&mut self, what: impl Into<Cow<'static, str>>) {
        self.add(vec![Step { what: what.into(), at: now(), took: 0 }]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: i64) -> Step {
        Step { what: "s".into(), at, took: 7 }
    }

    #[test]
    fn steps_are_in_order_and_the_oldest_go() {
        let mut timeline = Timeline::default();
        timeline.add(vec![step(3), step(1)]);
        timeline.add(vec![step(2)]);
        assert_eq!(timeline.steps().iter().map(|s| s.at).collect::<Vec<_>>(), [1, 2, 3]);
        timeline.add((4..100).map(step).collect());
        assert_eq!((timeline.steps().len(), timeline.steps()[0].at), (MOST, 100 - i64::try_from(MOST).expect("small")));
    }

    #[test]
    fn a_step_is_short_in_a_record() {
        let mut timeline = Timeline::default();
        timeline.add(vec![step(1)]);
        let json = serde_json::to_string(&timeline).expect("serialise");
        assert_eq!(json, r#"[["s",1,7]]"#);
        assert_eq!(serde_json::from_str::<Timeline>(&json).expect("parse"), timeline);
    }
}
