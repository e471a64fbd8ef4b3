//! Pulls of a large image over loopback: new content in each round, which
//! both sides then pull for the first time.

use super::{Plan, order};
use crate::metric::Metric;
use crate::results::Results;
use crate::side::Side;
use anyhow::{Context, Result};
use cricket_testkit::registry::Registry;
use cricket_testkit::{host, image};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// 6 layers of 320 MiB of files each: 1.9 GiB.
const LAYERS: usize = 6;
const LAYER_BYTES: usize = 320 << 20;

/// Between two pulls, for the disk.
const REST: Duration = Duration::from_secs(3);

pub(super) async fn take(sides: &[Side], registry: &Registry, plan: &Plan, results: &mut Results) -> Result<()> {
    for round in 0..plan.pulls {
        let seed = u64::from_str_radix(&host::unique(), 16)?;
        let large = tokio::task::block_in_place(|| image::large(seed << 8, LAYERS, LAYER_BYTES))?;
        let tag = round.to_string();
        registry.pusher()?.push("bench/large", &tag, &large).await?;
        drop(large);
        for at in order(sides.len(), round) {
            let side = &sides[at];
            // What was written before is not this pull's to wait for.
            tokio::task::block_in_place(|| sync(side.daemon.root()))?;
            tokio::time::sleep(REST).await;
            let began = Instant::now();
            let name = format!("docker.io/bench/large:{tag}");
            side.cri.pull(&name).await.with_context(|| format!("{} pulls {name}", side.runtime.name()))?;
            results.add(Metric::Pull, side.runtime, began.elapsed().as_secs_f64());
            tokio::task::block_in_place(|| sync(side.daemon.root()))?;
            results.add(Metric::PullSynced, side.runtime, began.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// syncfs(2) of the file system that has the directory.
fn sync(dir: &Path) -> Result<()> {
    let dir = File::open(dir).with_context(|| dir.display().to_string())?;
    Ok(nix::unistd::syncfs(dir)?)
}
