//! Pods up and down as fast as several clients get answers.

use super::{Plan, order};
use crate::metric::{Metric, Net};
use crate::results::Results;
use crate::side::{Laps, Side};
use crate::workload::Seccomp;
use anyhow::Result;
use futures_util::future::try_join_all;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Clients, each with a connection of its own.
const CLIENTS: usize = 8;

/// Between two windows, for what the one before left to the kernel.
const REST: Duration = Duration::from_secs(2);

pub(super) async fn take(sides: &[Side], plan: &Plan, results: &mut Results) -> Result<()> {
    for side in sides {
        window(side, 2 * CLIENTS).await?;
    }
    for round in 0..plan.windows {
        for at in order(sides.len(), round) {
            tokio::time::sleep(REST).await;
            results.add(Metric::CycleRate, sides[at].runtime, window(&sides[at], plan.window).await?);
        }
    }
    Ok(())
}

/// So many cycles by all clients together; how many there were in a second.
async fn window(side: &Side, cycles: usize) -> Result<f64> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(side.daemon.cri().await?);
    }
    let taken = AtomicUsize::new(0);
    let began = Instant::now();
    try_join_all(clients.iter().map(async |cri| {
        while taken.fetch_add(1, Ordering::Relaxed) < cycles {
            let pod = side.up(cri, Net::Bridge, Seccomp::Unconfined, &mut Laps::new()).await?;
            side.down(cri, pod, &mut Laps::new()).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(cycles as f64 / began.elapsed().as_secs_f64())
}
