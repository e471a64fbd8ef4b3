//! Pods up and down, one at a time.

use super::{Plan, ms, order, pace};
use crate::metric::{Call, Metric, Net};
use crate::results::Results;
use crate::side::{Laps, Side};
use crate::workload::Seccomp;
use anyhow::Result;

/// Pods of each kind before anything counts.
const WARM: usize = 3;

pub(super) async fn take(sides: &[Side], plan: &Plan, results: &mut Results) -> Result<()> {
    for round in 0..WARM + plan.cycles {
        let kinds = [
            (Net::Bridge, Seccomp::Unconfined),
            (Net::Host, Seccomp::Unconfined),
            (Net::Host, Seccomp::RuntimeDefault),
        ];
        for (net, seccomp) in kinds {
            for at in order(sides.len(), round) {
                let side = &sides[at];
                pace().await;
                let mut up = Laps::new();
                let pod = side.up(&side.cri, net, seccomp, &mut up).await?;
                pace().await;
                let mut down = Laps::new();
                side.down(&side.cri, pod, &mut down).await?;
                if round >= WARM {
                    record(side, net, seccomp, &up, &down, results);
                }
            }
        }
    }
    Ok(())
}

fn record(side: &Side, net: Net, seccomp: Seccomp, up: &Laps, down: &Laps, results: &mut Results) {
    let sum = |laps: &Laps| laps.iter().map(|&(_, lap)| ms(lap)).sum();
    if seccomp == Seccomp::RuntimeDefault {
        results.add(Metric::UpSeccomp, side.runtime, sum(up));
        return;
    }
    results.add(Metric::Up(net), side.runtime, sum(up));
    results.add(Metric::Down(net), side.runtime, sum(down));
    let laps: [&[(Call, _)]; 2] = [up, down];
    for &(call, lap) in laps.into_iter().flatten() {
        results.add(Metric::Stage(net, call), side.runtime, ms(lap));
    }
}
