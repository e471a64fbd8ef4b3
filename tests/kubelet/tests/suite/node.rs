//! The node to play with: what it offers is there, its example runs, and
//! nothing stays of it.

use crate::support::{LONG, lines, until};
use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::peer;
use cricket_testkit::{host, leaks};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};

#[tokio::test]
async fn a_node_runs_its_example() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let links = dir.path().join("node");
    let mut command = host::bound(env!("CARGO_BIN_EXE_cricket-node"));
    command.arg("--dir").arg(&links);
    if peer() {
        command.arg("--peer");
    }
    let mut node = Running(host::spawn(command)?);
    until("the node", LONG, || links.join("next").exists()).await?;
    let home = fs::read_link(links.join("config.toml"))?;
    let home = home.parent().context("no directory")?;

    fs::copy(links.join("example.yaml"), home.join("kubelet/example.yaml"))?;
    fs::rename(home.join("kubelet/example.yaml"), links.join("manifests/example.yaml"))?;
    let greeted = || log(&links, "main").iter().filter(|line| line.ends_with(" hello")).count();
    until("the example's log", LONG, || greeted() > 0).await?;
    ensure!(log(&links, "setup").iter().any(|line| line.ends_with(" preparing")), "{:?}", log(&links, "setup"));

    node.signal("HUP")?;
    let before = greeted();
    until("the example to go on without the runtime", LONG, || greeted() > before + 1).await?;
    fs::remove_file(links.join("manifests/example.yaml"))?;
    until("the signal", LONG, || log(&links, "main").iter().any(|line| line.ends_with(" asked to end"))).await?;
    ensure!(log(&links, "main").iter().any(|line| line.ends_with(" stopping")), "no preStop hook");

    node.signal("TERM")?;
    let mut status = None;
    until("the end of the node", LONG, || {
        status = node.0.try_wait().ok().flatten();
        status.is_some()
    })
    .await?;
    ensure!(status.is_some_and(|status| status.success()), "{status:?}");
    let mark = home.file_name().and_then(|name| name.to_str()).context("no mark")?;
    ensure!(!links.exists() && !home.exists(), "{} or {} is left", links.display(), home.display());
    ensure!(leaks::processes(mark)?.is_empty(), "{:?}", leaks::processes(mark)?);
    ensure!(leaks::cgroups(mark)?.is_empty(), "{:?}", leaks::cgroups(mark)?);
    Ok(())
}

/// Killed when the test fails; what it started dies with it, and a later test run removes the rest.
struct Running(Child);

impl Running {
    fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status()?;
        ensure!(status.success(), "kill: {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In order if it can be: it then cleans up.
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) && self.signal("TERM").is_ok() {
            let _ = host::wait_for("the node to end", LONG, || Ok(self.0.try_wait()?));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The log of a container of the only pod.
fn log(links: &Path, container: &str) -> Vec<String> {
    let dir = links.join("pod-logs");
    let pods = leaks::names(&dir).into_iter();
    pods.flat_map(|pod| lines(&dir.join(pod).join(container).join("0.log"))).collect()
}
