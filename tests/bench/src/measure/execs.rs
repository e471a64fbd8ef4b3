//! ExecSync of `true` in a container that runs.

use super::{Plan, ms, order, pace};
use crate::metric::{Metric, Net};
use crate::results::Results;
use crate::side::{Laps, Pod, Side};
use crate::workload::Seccomp;
use anyhow::{Context, Result, ensure};
use std::time::Instant;

const WARM: usize = 5;

pub(super) async fn take(sides: &[Side], plan: &Plan, results: &mut Results) -> Result<()> {
    let kinds = [(Seccomp::Unconfined, Metric::Exec), (Seccomp::RuntimeDefault, Metric::ExecSeccomp)];
    let mut pods: Vec<Vec<Pod>> = Vec::new();
    for (seccomp, _) in kinds {
        let mut row = Vec::new();
        for side in sides {
            row.push(side.up(&side.cri, Net::Host, seccomp, &mut Laps::new()).await?);
        }
        pods.push(row);
    }
    for round in 0..WARM + plan.execs {
        for (pods, (_, metric)) in pods.iter().zip(kinds) {
            for at in order(sides.len(), round) {
                let (side, pod) = (&sides[at], &pods[at]);
                pace().await;
                let began = Instant::now();
                let answer = side.cri.exec(&pod.container, &["true"], 10).await;
                let lap = began.elapsed();
                let answer = answer.with_context(|| format!("{}: ExecSync", side.runtime.name()))?;
                ensure!(answer.exit_code == 0, "{}: exit code {}", side.runtime.name(), answer.exit_code);
                if round >= WARM {
                    results.add(metric, side.runtime, ms(lap));
                }
            }
        }
    }
    for row in pods {
        for (side, pod) in sides.iter().zip(row) {
            side.down(&side.cri, pod, &mut Laps::new()).await?;
        }
    }
    Ok(())
}
