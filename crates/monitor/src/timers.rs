//! Deadlines of the main thread, by the monotonic clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The time of an exec is over.
    ExecTimeout(u64),
    /// A killed exec has still not ended, or its cgroups are still there.
    ExecSettle(u64),
    /// A container has ended, not all that was in its cgroup.
    ContainerSettle(u64),
    /// A container's output takes too long.
    ContainerGiveUp(u64),
}

/// Names a deadline so that it can be dropped.
pub(crate) type TimerKey = (Instant, u64);

/// Deadlines that are ahead.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    ahead: BTreeMap<TimerKey, Timer>,
    serial: u64,
}

impl Timers {
    pub(crate) fn after(&mut self, delay: Duration, timer: Timer) -> Option<TimerKey> {
        // A delay beyond what the clock can tell never ends.
        let key = (Instant::now().checked_add(delay)?, self.serial);
        self.serial += 1;
        self.ahead.insert(key, timer);
        Some(key)
    }

    pub(crate) fn drop(&mut self, key: Option<TimerKey>) {
        if let Some(key) = key {
            self.ahead.remove(&key);
        }
    }

    /// How long until the next one.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.ahead.keys().next().map(|(at, _)| at.saturating_duration_since(Instant::now()))
    }

    /// One that is due.
    pub(crate) fn due(&mut self) -> Option<Timer> {
        let (at, _) = self.ahead.first_key_value()?.0;
        if *at <= Instant::now() { self.ahead.pop_first().map(|(_, timer)| timer) } else { None }
    }
}
