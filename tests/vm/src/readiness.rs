//! `Type=notify`: systemd waits until cricket serves.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use cricket_testkit::host;

use crate::pods::Pods;
use crate::process::{Process, SOON};
use crate::unit;

/// How often a daemon may be too quick to be held up.
const ATTEMPTS: u32 = 5;

/// A daemon that is held up before it serves is not ready, however long that takes; one that is ready answers at once.
pub(crate) async fn run(pods: &mut Pods) -> Result<()> {
    for _ in 0..ATTEMPTS {
        unit::systemctl(&["stop", "cricket"])?;
        let (mut start, daemon) = held_up()?;
        if unit::property("ActiveState")? != "activating" || unit::connect().await.is_ok() {
            daemon.kill("CONT")?;
            start.wait()?;
            continue;
        }
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(3)).await;
        ensure!(unit::property("ActiveState")? == "activating", "it is {}", unit::property("ActiveState")?);
        ensure!(start.try_wait()?.is_none(), "systemctl did not wait for a daemon that does not serve");
        ensure!(unit::connect().await.is_err(), "a daemon that is held up listens");
        pods.undisturbed().await?;
        daemon.kill("CONT")?;
        let status = start.wait()?;
        ensure!(status.success(), "systemctl start: {status}");
        let waited = began.elapsed();
        let cri = unit::connect().await?;
        pods.check(&cri).await?;
        println!(
            "Type=notify: systemctl waited {waited:.1?} for a daemon that was held up, which then answered at once"
        );
        return Ok(());
    }
    bail!("the daemon served before it could be held up, {ATTEMPTS} times")
}

/// `systemctl start` under way, and its daemon, stopped where it is.
fn held_up() -> Result<(Child, Process)> {
    let start = Command::new("systemctl").args(["start", "cricket"]).spawn()?;
    let daemon = host::wait_for("the daemon to be started", SOON, || {
        // Before it is executed systemd's name for it has brackets.
        let daemon = unit::daemon().ok();
        Ok(daemon.filter(|daemon| {
            std::fs::read_to_string(format!("/proc/{}/comm", daemon.pid)).is_ok_and(|name| name.trim() == "cricket")
        }))
    })?;
    daemon.kill("STOP")?;
    Ok((start, daemon))
}
