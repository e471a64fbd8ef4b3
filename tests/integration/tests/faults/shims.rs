//! A containerd shim whose start is cut off.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::container;
use cricket_testkit::daemon::Options;
use cricket_testkit::host::{self, tool_dir};
use cricket_testkit::leaks;

use crate::support::{SOON, back_to, footprint, ready, remove};

/// The table of a shim whose `start`, as long as a file is there, leaves a shim behind and never says where that listens.
fn slow_shim(dir: &Path) -> Result<String> {
    let shim = tool_dir("containerd")?.join("containerd-shim-runc-v2");
    let (script, closed) = (dir.join("containerd-shim-slow-v2"), dir.join("closed"));
    let text = format!(
        "#!/bin/sh\nfor word; do\n[ $word = start ] && [ -e {closed} ] || continue\n\
         {shim} \"$@\" > {said}\nexec sleep 4262\ndone\nexec {shim} \"$@\"\n",
        closed = closed.display(),
        shim = shim.display(),
        said = dir.join("said").display(),
    );
    std::fs::write(&script, text)?;
    std::fs::write(&closed, "")?;
    host::run("chmod", ["755", &script.display().to_string()])?;
    let table = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.slow";
    let runc = tool_dir("runc")?.join("runc");
    Ok(format!(
        "[{table}]\nruntime_type = 'io.containerd.runc.v2'\nruntime_path = {script:?}\n\
         [{table}.options]\nBinaryName = {runc:?}\n"
    ))
}

#[tokio::test]
async fn a_start_that_is_cut_off_leaves_no_shim() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut node = Node::with(Options { tables: slow_shim(dir.path())?, ..Options::default() }).await?;
    let before = footprint(&node.daemon)?;
    let mark = node.daemon.mark().to_owned();
    let find = |part: &str| -> Result<Option<i32>> {
        Ok(leaks::processes(&mark)?.into_iter().find(|p| p.command.contains(part)).map(|p| p.pid))
    };
    for daemon_too in [false, true] {
        let config = node.daemon.pod(&format!("cut-off-{daemon_too}"));
        let cri = node.daemon.cri().await?;
        let made = {
            let (cri, config) = (cri.clone(), config.clone());
            tokio::spawn(async move { cri.run_pod_with(&config, "slow").await })
        };
        // It has started the shim, and waits for nothing.
        let begun = Instant::now();
        while find("sleep 4262")?.is_none() {
            ensure!(begun.elapsed() < SOON, "the shim is not started");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let server = find("containerd-shim-runc-v2")?.context("no shim")?;
        let helper = find("cricket-launch")?.context("no helper")?;
        // The next one answers, as one does that finds a shim of that name.
        std::fs::remove_file(dir.path().join("closed"))?;
        if daemon_too {
            node.daemon.kill()?;
        }
        host::run("kill", ["-KILL", &helper.to_string()])?;
        ensure!(made.await?.is_err(), "it was made without a shim");
        if daemon_too {
            node.daemon.launch()?;
        }
        back_to(&node.daemon, &before).with_context(|| format!("the shim was {server}"))?;
        // The name is free.
        let cri = node.daemon.cri().await?;
        let id = cri.run_pod_with(&config, "slow").await?;
        ready(&cri, &id).await?;
        let main = container("main", BUSYBOX, &["sh", "-c", "exit 3"]);
        let main = cri.run(&id, &main, &config).await?;
        ensure!(cri.wait_exit(&main, SOON).await?.exit_code == 3);
        remove(&cri, &id).await?;
        back_to(&node.daemon, &before)?;
        std::fs::write(dir.path().join("closed"), "")?;
    }
    Ok(())
}
