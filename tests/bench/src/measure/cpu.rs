//! CPU time of the whole machine for a pod's way up and down: the daemon, its
//! helpers, the plugins, the kernel's threads, and the client, which is the
//! same for both sides. Other programs would be counted too, so the machine is
//! watched at rest before each round, and the sides' own processes are also
//! counted by themselves.

use super::{Plan, order};
use crate::account::Account;
use crate::metric::{Metric, Net};
use crate::procs;
use crate::results::Results;
use crate::side::{Laps, Side};
use crate::workload::Seccomp;
use anyhow::Result;
use std::time::{Duration, Instant};

/// The end of a window, when the kernel takes namespaces and devices down.
const SETTLE: Duration = Duration::from_millis(500);

/// How long the machine is watched with nothing to do.
const REST: Duration = Duration::from_secs(2);

pub(super) async fn take(sides: &[Side], plan: &Plan, results: &mut Results) -> Result<()> {
    // The daemons' control groups are below their pods', which the first pod makes.
    let mut accounts = Vec::new();
    for side in sides {
        let pod = side.up(&side.cri, Net::Bridge, Seccomp::Unconfined, &mut Laps::new()).await?;
        accounts.push(Account::open(side.daemon.mark(), side.daemon_pid()?)?);
        side.down(&side.cri, pod, &mut Laps::new()).await?;
    }
    for round in 0..1 + plan.blocks {
        let idle = rate(Window::open()?, REST).await?;
        results.background.push(100.0 * idle);
        for at in order(sides.len(), round) {
            let side = &sides[at];
            let (window, own) = (Window::open()?, accounts[at].seconds()?);
            for _ in 0..plan.block {
                let pod = side.up(&side.cri, Net::Bridge, Seccomp::Unconfined, &mut Laps::new()).await?;
                side.down(&side.cri, pod, &mut Laps::new()).await?;
            }
            tokio::time::sleep(SETTLE).await;
            let (wall, busy) = window.close()?;
            // The first round warms up.
            if round > 0 {
                let cycles = plan.block as f64;
                results.add(Metric::CycleCpu, side.runtime, (busy - idle * wall) / cycles);
                results.add(Metric::CycleCpuOwn, side.runtime, (accounts[at].seconds()? - own) / cycles);
            }
        }
    }
    Ok(())
}

/// What part of a second the processors are busy in a second.
async fn rate(window: Window, length: Duration) -> Result<f64> {
    tokio::time::sleep(length).await;
    let (wall, busy) = window.close()?;
    Ok(busy / wall)
}

struct Window {
    began: Instant,
    busy: f64,
}

impl Window {
    fn open() -> Result<Self> {
        Ok(Self { began: Instant::now(), busy: procs::machine_busy()? })
    }

    /// Seconds that went by, and seconds that the processors were busy.
    fn close(self) -> Result<(f64, f64)> {
        Ok((self.began.elapsed().as_secs_f64(), procs::machine_busy()? - self.busy))
    }
}
