//! The measures, one file for each way to ask.

mod cpu;
mod cycles;
mod execs;
mod idle;
mod pull;
mod rate;

use crate::results::Results;
use crate::side::Side;
use anyhow::Result;
use cricket_testkit::registry::Registry;
use std::time::Duration;

/// The rest before each operation that is measured by itself: caches cool down
/// and the kernel's deferred work ends, as between the pods of a real node.
const PACE: Duration = Duration::from_millis(100);

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Pods of each kind, one after the other.
    pub(crate) cycles: usize,
    /// ExecSyncs of each kind.
    pub(crate) execs: usize,
    /// Blocks of [`Plan::block`] cycles whose CPU time is taken.
    pub(crate) blocks: usize,
    /// Cycles in a block.
    pub(crate) block: usize,
    /// Windows with many clients.
    pub(crate) windows: usize,
    /// Cycles in a window.
    pub(crate) window: usize,
    /// ListContainerStats.
    pub(crate) stats: usize,
    /// How long idle daemons are watched.
    pub(crate) watch: Duration,
    /// Kills.
    pub(crate) restarts: usize,
    /// Large images.
    pub(crate) pulls: usize,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        cycles: 40,
        execs: 150,
        blocks: 8,
        block: 5,
        windows: 4,
        window: 64,
        stats: 30,
        watch: Duration::from_secs(20),
        restarts: 5,
        pulls: 3,
    };
    pub(crate) const QUICK: Self = Self {
        cycles: 10,
        execs: 30,
        blocks: 2,
        block: 5,
        windows: 1,
        window: 32,
        stats: 10,
        watch: Duration::from_secs(10),
        restarts: 2,
        pulls: 1,
    };
}

/// A measure by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Measure {
    /// Pods up and down, paced, and each of their calls
    Cycles,
    /// ExecSync, paced
    Execs,
    /// CPU time of a pod cycle
    Cpu,
    /// Cycles a second with eight clients
    Rate,
    /// Thirty pods: memory, idle CPU, ListContainerStats, restart
    Idle,
    /// Pulls of large images
    Pull,
}

impl Measure {
    /// Every one, in the order they are taken: what leaves a mark on the disk comes last.
    pub(crate) const ALL: [Self; 6] = [Self::Cycles, Self::Execs, Self::Cpu, Self::Rate, Self::Idle, Self::Pull];

    /// Takes it.
    pub(crate) async fn take(
        self,
        sides: &mut [Side],
        registry: &Registry,
        plan: &Plan,
        results: &mut Results,
    ) -> Result<()> {
        match self {
            Self::Cycles => cycles::take(sides, plan, results).await,
            Self::Execs => execs::take(sides, plan, results).await,
            Self::Cpu => cpu::take(sides, plan, results).await,
            Self::Rate => rate::take(sides, plan, results).await,
            Self::Idle => idle::take(sides, plan, results).await,
            Self::Pull => pull::take(sides, registry, plan, results).await,
        }
    }
}

/// The sides' order in a round: each is first as often as the other, so that
/// neither always comes in the other's wake.
fn order(sides: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..sides).map(move |at| (at + round) % sides)
}

async fn pace() {
    tokio::time::sleep(PACE).await;
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_at_being_first() {
        let orders: Vec<Vec<usize>> = (0..3).map(|round| order(2, round).collect()).collect();
        assert_eq!(orders, [[0, 1], [1, 0], [0, 1]]);
        assert_eq!(order(1, 5).collect::<Vec<_>>(), [0]);
    }
}
