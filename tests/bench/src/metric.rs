//! What is measured, in which unit, and what cricket wants to reach: the table
//! of the report is this file's [`ROWS`].

use std::fmt;

/// The network of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Net {
    /// The plugins `bridge` and `portmap`.
    Bridge,
    /// The host's.
    Host,
}

/// The calls of a pod's life, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    RunPodSandbox,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    StopPodSandbox,
    RemovePodSandbox,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// RunPodSandbox, CreateContainer and StartContainer.
    Up(Net),
    /// Same on the host's network, the container with the profile RuntimeDefault.
    UpSeccomp,
    /// StopContainer (timeout 0), RemoveContainer, StopPodSandbox and RemovePodSandbox.
    Down(Net),
    /// ExecSync of `true`.
    Exec,
    /// Same in a container with the profile RuntimeDefault.
    ExecSeccomp,
    /// CPU time of the whole machine for a pod up and down, less what the machine uses when idle.
    CycleCpu,
    /// Same, only what the daemon, its helpers, plugins and containers used themselves.
    CycleCpuOwn,
    /// Pods up and down in a second with several clients at once.
    CycleRate,
    /// Processes that a pod costs besides its container's.
    PodMemory,
    /// The daemon without pods, after the cycles.
    DaemonMemory,
    /// The daemon with thirty pods.
    LoadedMemory,
    /// ListContainerStats with thirty pods.
    Stats,
    /// PullImage until its answer.
    Pull,
    /// PullImage and then `syncfs` of the file system below the root directory.
    PullSynced,
    /// CPU time of the daemon and its pods' helpers, thirty pods, no requests.
    IdleCpu,
    /// From `kill -9` to an answer of ListContainers with thirty running containers.
    Restart,
    /// One call of [`Metric::Up`] or [`Metric::Down`].
    Stage(Net, Call),
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Seconds,
    PerSecond,
    KiB,
    MiB,
    Percent,
}

impl Unit {
    /// The figure with its unit, three significant digits.
    pub(crate) fn format(self, value: f64) -> String {
        let (digits, name) = (digits(value), self.name());
        format!("{value:.digits$} {name}")
    }

    /// Its usual sign.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::PerSecond => "/s",
            Self::KiB => "KiB",
            Self::MiB => "MiB",
            Self::Percent => "%",
        }
    }
}

/// How many digits after the point show three significant ones.
fn digits(value: f64) -> usize {
    match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    }
}

/// What cricket wants to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// Nothing is promised: the figure is there to explain others.
    Open,
    /// At most so many times the best peer's.
    AtMost(f64),
    /// At least so many times the best peer's.
    AtLeast(f64),
    /// Nothing at all: what the table shows as 0.0 %.
    Zero,
}

impl Target {
    /// Whether it is reached; None where nothing is promised, or the other side was not measured.
    pub(crate) fn met(self, value: f64, best_peer: Option<f64>) -> Option<bool> {
        match self {
            Self::Open => None,
            Self::AtMost(factor) => Some(value <= factor * best_peer.filter(|best| *best > 0.0)?),
            Self::AtLeast(factor) => Some(value >= factor * best_peer?),
            Self::Zero => Some(value < 0.05),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => Ok(()),
            Self::AtMost(factor) => write!(f, "≤ {factor}×"),
            Self::AtLeast(factor) => write!(f, "≥ {factor}×"),
            Self::Zero => f.write_str("0 %"),
        }
    }
}

/// A line of the report's table.
pub(crate) struct Row {
    pub(crate) metric: Metric,
    pub(crate) text: &'static str,
    pub(crate) unit: Unit,
    pub(crate) target: Target,
    /// See [`Row::best_peer`].
    best: Option<(f64, f64)>,
}

impl Row {
    /// What the best peer would reach here: containerd with runc's figure of
    /// this run times the quotient below. None where no quotient is known.
    pub(crate) fn best_peer(&self, containerd_runc: f64) -> Option<f64> {
        self.best.map(|(best, containerd_runc_then)| containerd_runc * best / containerd_runc_then)
    }
}

const fn row(metric: Metric, text: &'static str, unit: Unit, target: Target, best: Option<(f64, f64)>) -> Row {
    Row { metric, text, unit, target, best }
}

use Target::{AtLeast, AtMost, Open, Zero};
use Unit::{KiB, MiB, Milliseconds, PerSecond, Percent, Seconds};

/// The table. The pair in each line is what was once measured on one machine,
/// in one unit: the best of containerd 2.4 with runc 1.5, containerd 2.4 with
/// crun 1.27, and CRI-O 1.37 with crun 1.27; and containerd with runc. Only
/// their quotient is used.
pub(crate) const ROWS: &[Row] = &[
    // CRI-O with crun is the best at starting with a network.
    row(Metric::Up(Net::Bridge), "pod up, bridge CNI", Milliseconds, AtMost(0.7), Some((100.0, 120.0))),
    // Only containerd with runc was measured.
    row(Metric::Up(Net::Host), "pod up, host network", Milliseconds, AtMost(0.6), Some((98.0, 98.0))),
    row(Metric::UpSeccomp, "pod up, host network, RuntimeDefault", Milliseconds, Open, None),
    // Stopping: 23 + 94 ms with runc, 23 + 101 with crun, 48 + 81 in CRI-O.
    row(Metric::Down(Net::Bridge), "pod down, bridge CNI", Milliseconds, AtMost(0.8), Some((117.0, 117.0))),
    row(Metric::Down(Net::Host), "pod down, host network", Milliseconds, Open, None),
    // containerd with crun.
    row(Metric::Exec, "ExecSync true", Milliseconds, AtMost(0.3), Some((9.3, 21.0))),
    row(Metric::ExecSeccomp, "ExecSync true, RuntimeDefault", Milliseconds, Open, None),
    // CRI-O.
    row(Metric::CycleCpu, "CPU per pod cycle", Seconds, AtMost(0.7), Some((0.15, 0.21))),
    row(Metric::CycleCpuOwn, "CPU per pod cycle, its own processes", Seconds, Open, None),
    row(Metric::CycleRate, "pod cycles a second, 8 clients", PerSecond, AtLeast(2.0), Some((9.7, 7.7))),
    // CRI-O's conmon against a Go shim and a pause process.
    row(Metric::PodMemory, "memory (PSS) per idle pod", KiB, AtMost(0.4), Some((439.0, 5716.0))),
    // containerd with crun.
    row(Metric::DaemonMemory, "daemon (PSS) at rest", MiB, AtMost(0.4), Some((56.0, 63.0))),
    row(Metric::LoadedMemory, "daemon (PSS) with 30 pods", MiB, Open, None),
    // CRI-O.
    row(Metric::Stats, "ListContainerStats, 30 pods", Milliseconds, AtMost(0.1), Some((44.0, 55.0))),
    // containerd's answer does not wait for the disk, cricket's does: the strict comparison.
    row(Metric::Pull, "pull of a large image, answered", Seconds, AtMost(0.5), Some((15.8, 15.8))),
    row(Metric::PullSynced, "pull of a large image, answered and syncfs", Seconds, Open, None),
    row(Metric::IdleCpu, "idle CPU, 30 pods", Percent, Zero, None),
    row(Metric::Restart, "restart with 30 pods", Milliseconds, Open, None),
];

/// The parts of the rows about pods.
pub(crate) const STAGES: [Call; 7] = [
    Call::RunPodSandbox,
    Call::CreateContainer,
    Call::StartContainer,
    Call::StopContainer,
    Call::RemoveContainer,
    Call::StopPodSandbox,
    Call::RemovePodSandbox,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(Unit::Milliseconds.format(123.456), "123 ms");
        assert_eq!(Unit::Milliseconds.format(12.345), "12.3 ms");
        assert_eq!(Unit::KiB.format(1.234), "1.23 KiB");
        assert_eq!(Unit::Percent.format(0.0123), "0.012 %");
    }

    #[test]
    fn targets_are_relative_to_the_best_peer() {
        let exec = ROWS.iter().find(|row| row.metric == Metric::Exec).expect("a row");
        let best = exec.best_peer(42.0).expect("a quotient");
        assert!((best - 18.6).abs() < 1e-9, "{best}");
        assert_eq!(exec.target.met(5.5, Some(best)), Some(true));
        assert_eq!(exec.target.met(5.7, Some(best)), Some(false));
        assert_eq!(exec.target.met(5.7, None), None);
        assert_eq!(exec.target.met(-2.0, Some(-1.0)), None, "no figure at all");
        assert_eq!(AtLeast(2.0).met(19.0, Some(9.7)), Some(false));
        assert_eq!(AtLeast(2.0).met(19.5, Some(9.7)), Some(true));
        assert_eq!(Zero.met(0.06, None), Some(false));
        assert_eq!(Open.met(1.0, Some(1.0)), None);
    }

    #[test]
    fn every_figure_has_one_row() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..at].iter().all(|earlier| earlier.metric != row.metric), "{}", row.text);
        }
    }
}
