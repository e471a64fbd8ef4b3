//! Thirty pods that do nothing: what they and the daemon cost, and how fast
//! the daemon answers about them, also after it was killed.

use super::{Plan, ms, order, pace};
use crate::metric::{Metric, Net};
use crate::procs::{self, Clock};
use crate::results::Results;
use crate::side::{Laps, Pod, Side};
use crate::workload::Seccomp;
use anyhow::{Context, Result, bail, ensure};
use cricket_cri_api::v1;
use cricket_testkit::cri::Cri;
use std::path::Path;
use std::time::{Duration, Instant};

const PODS: usize = 30;

/// Until caches are filled and start-up work is over.
const SETTLE: Duration = Duration::from_secs(5);

/// How long a killed daemon may take to be back.
const RESTART_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn take(sides: &mut [Side], plan: &Plan, results: &mut Results) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    for side in &*sides {
        results.add(Metric::DaemonMemory, side.runtime, procs::pss(side.daemon_pid()?)? / 1024.0);
    }
    let mut pods: Vec<Vec<Pod>> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..PODS {
        for (side, pods) in sides.iter().zip(&mut pods) {
            pods.push(side.up(&side.cri, Net::Bridge, Seccomp::Unconfined, &mut Laps::new()).await?);
        }
    }
    tokio::time::sleep(SETTLE).await;
    memory(sides, results)?;
    watch(sides, plan.watch, results).await?;
    stats(sides, plan, results).await?;
    for round in 0..plan.restarts {
        for at in order(sides.len(), round) {
            pace().await;
            let lap = restart(&mut sides[at]).await?;
            results.add(Metric::Restart, sides[at].runtime, ms(lap));
        }
    }
    for (side, pods) in sides.iter().zip(pods) {
        for pod in pods {
            side.down(&side.cri, pod, &mut Laps::new()).await?;
        }
    }
    Ok(())
}

fn memory(sides: &[Side], results: &mut Results) -> Result<()> {
    for side in sides {
        let helpers = side.helper_pids()?;
        ensure!(helpers.len() >= PODS, "{}: {} helpers for {PODS} pods", side.runtime.name(), helpers.len());
        let mut sum = 0.0;
        for pid in helpers {
            sum += procs::pss(pid)?;
        }
        results.add(Metric::PodMemory, side.runtime, sum / PODS as f64);
        results.add(Metric::LoadedMemory, side.runtime, procs::pss(side.daemon_pid()?)? / 1024.0);
    }
    Ok(())
}

/// Both sides at the same time: each process has a clock of its own.
async fn watch(sides: &[Side], length: Duration, results: &mut Results) -> Result<()> {
    let mut clocks = Vec::new();
    for side in sides {
        let mut pids = side.helper_pids()?;
        pids.push(side.daemon_pid()?);
        clocks.push((side, Clock::read(&pids), pids));
    }
    let began = Instant::now();
    tokio::time::sleep(length).await;
    for (side, before, pids) in clocks {
        let spent = Clock::read(&pids).seconds_since(&before);
        results.add(Metric::IdleCpu, side.runtime, 100.0 * spent / began.elapsed().as_secs_f64());
    }
    Ok(())
}

async fn stats(sides: &[Side], plan: &Plan, results: &mut Results) -> Result<()> {
    const WARM: usize = 2;
    for round in 0..WARM + plan.stats {
        for at in order(sides.len(), round) {
            let side = &sides[at];
            let mut runtime = side.cri.runtime();
            pace().await;
            let began = Instant::now();
            let answer = runtime.list_container_stats(v1::ListContainerStatsRequest { filter: None }).await;
            let lap = began.elapsed();
            let stats = answer.with_context(|| side.runtime.name())?.into_inner().stats;
            let counted = stats.iter().filter(|stats| stats.cpu.is_some() && stats.memory.is_some()).count();
            ensure!(counted == PODS, "{}: stats of {counted} containers, not {PODS}", side.runtime.name());
            if round >= WARM {
                results.add(Metric::Stats, side.runtime, ms(lap));
            }
        }
    }
    Ok(())
}

/// Kills the daemon and starts it again; how long it did not answer for its containers.
async fn restart(side: &mut Side) -> Result<Duration> {
    let socket = side.daemon.socket();
    let (handle, daemon) = (tokio::runtime::Handle::current(), &mut side.daemon);
    let began = Instant::now();
    // The start waits in a thread of its own, while this one asks.
    let answered = tokio::task::block_in_place(|| {
        daemon.kill()?;
        std::thread::scope(|scope| {
            let launch = scope.spawn(|| daemon.launch());
            let answered = handle.block_on(answers(&socket, began));
            launch.join().map_err(|_| anyhow::anyhow!("the thread that starts the daemon panicked"))??;
            answered
        })
    });
    side.cri = side.daemon.cri().await?;
    answered.with_context(|| format!("{} after kill -9", side.runtime.name()))
}

/// Asks every millisecond until every container is listed as running.
async fn answers(socket: &Path, began: Instant) -> Result<Duration> {
    while began.elapsed() < RESTART_LIMIT {
        if let Ok(cri) = Cri::connect(socket).await
            && let Ok(containers) = cri.containers().await
        {
            let lap = began.elapsed();
            let running = containers.iter().filter(|c| c.state() == v1::ContainerState::ContainerRunning).count();
            ensure!(running == PODS, "{running} containers run, not {PODS}");
            return Ok(lap);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("no answer within {RESTART_LIMIT:?}")
}
