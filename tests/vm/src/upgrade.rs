//! An upgrade: the programs are replaced where they are, then the service is restarted. The pods' monitors stay those of
//! the older version.

use std::path::Path;

use anyhow::{Result, ensure};
use cricket_cri_api::v1::NamespaceMode;
use cricket_testkit::host;

use crate::pods::{Pods, pod, remove_all, shell};
use crate::process::SOON;
use crate::unit;

pub(crate) async fn run(images: &Path, previous: &Path) -> Result<()> {
    unit::storage(false)?;
    unit::up(previous, images)?;
    let cri = unit::connect().await?;
    let mut pods = Pods::start(&cri).await?;
    pods.check(&cri).await?;
    let old = running()?;

    unit::install(&unit::this_build()?)?;
    ensure!(running()? == old, "installing is not restarting");
    pods.check(&cri).await?;
    unit::systemctl(&["restart", "cricket"])?;
    let cri = unit::connect().await?;
    let new = running()?;
    ensure!(new != old && new == digest("/usr/local/bin/cricket")?, "the daemon is not the new program");
    let gap = pods.check(&cri).await?;
    println!("upgraded: longest time between two lines of the counter's log: {gap} ms");

    // What began under the old daemon ends under the new one, with its code.
    cri.stop(&pods.mortal[0], 1).await?;
    ensure!(cri.container(&pods.mortal[0]).await?.exit_code == 137);
    // A pod of today beside those of yesterday.
    let sandbox = pod("new", NamespaceMode::Container)?;
    let id = cri.run_pod(&sandbox).await?;
    let config = shell("says", "echo new; exit 5", NamespaceMode::Container);
    let says = cri.run(&id, &config, &sandbox).await?;
    ensure!(cri.wait_exit(&says, SOON).await?.exit_code == 5);
    unit::systemctl(&["restart", "cricket"])?;
    let cri = unit::connect().await?;
    ensure!(cri.container(&says).await?.exit_code == 5);
    pods.undisturbed().await?;
    remove_all(&cri).await?;
    println!("upgrade: passed");
    Ok(())
}

/// The digest of the program that runs.
fn running() -> Result<String> {
    digest(&format!("/proc/{}/exe", unit::daemon()?.pid))
}

fn digest(path: &str) -> Result<String> {
    let said = host::run("sha256sum", [path])?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}
