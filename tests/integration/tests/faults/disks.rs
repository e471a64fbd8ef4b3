//! Disks without space: errors say so, what is there answers and can be taken down, and space that is back is used.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1::{self, ContainerState};
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Answer, Cri, container};
use cricket_testkit::host;
use tonic::Code;

use crate::support::{SOON, footprint, pid, ready, remove, whole_lines};

/// A file system of its own on a directory.
pub(crate) struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let options = format!("size={size},mode=711");
        host::run("mount", ["-t", "tmpfs", "-o", &options, "tmpfs", &at.display().to_string()])?;
        Ok(Self(at.to_owned()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes until there is no space left.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.0.join("fill"))?;
        for size in [1 << 16, 1] {
            let piece = vec![b'x'; size];
            while file.write_all(&piece).is_ok() {}
        }
        Ok(())
    }

    pub(crate) fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.join("fill"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = host::run("umount", ["-l", &self.0.display().to_string()]);
    }
}

/// A node that was restarted with a small file system in the place of its root or state directory.
pub(crate) async fn on_disk(at: impl Fn(&Node) -> PathBuf, size: &str) -> Result<(Disk, Node)> {
    let mut node = Node::start().await?;
    node.daemon.stop()?;
    let disk = Disk::mount(&at(&node), size)?;
    node.daemon.launch()?;
    node.daemon.cri().await?.pull(BUSYBOX).await?;
    Ok((disk, node))
}

fn no_space<T: std::fmt::Debug>(answer: Answer<T>) -> Result<()> {
    let status = answer.err().context("it succeeded without space")?;
    let told = status.message().to_lowercase().contains("space");
    ensure!(status.code() == Code::ResourceExhausted && told, "{status:?}");
    Ok(())
}

/// What needs no space.
async fn serves(cri: &Cri, pod: &str, main: &str) -> Result<()> {
    ensure!(cri.container(main).await?.state() == ContainerState::ContainerRunning);
    ready(cri, pod).await?;
    ensure!(cri.pods().await?.len() == 1 && cri.containers().await?.len() == 1);
    cri.runtime().status(v1::StatusRequest { verbose: false }).await?;
    ensure!(cri.exec_text(main, &["echo", "hello"]).await? == "hello\n");
    Ok(())
}

/// Nothing but the file system that the test mounted.
fn clean(node: &Node, disk: &Disk) -> Result<()> {
    let mut left = Vec::new();
    let mine = |line: &String| line.ends_with(&disk.0.display().to_string()) || line.ends_with("/fill");
    let done = host::wait_for("leftovers to go", SOON, || {
        left = footprint(&node.daemon)?.into_iter().filter(|l| !mine(l) && l != "state fill").collect();
        Ok(left.is_empty().then_some(()))
    });
    done.with_context(|| left.join("\n"))
}

#[tokio::test]
async fn a_full_root() -> Result<()> {
    let (disk, node) = on_disk(|node| node.daemon.root().to_owned(), "48m").await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("full");
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    disk.fill()?;
    no_space(cri.create(&pod, &container("more", BUSYBOX, &["true"]), &sandbox).await)?;
    serves(&cri, &pod, &main).await?;
    // Space that is back counts at once.
    disk.free()?;
    let more = cri.create(&pod, &container("more", BUSYBOX, &["true"]), &sandbox).await?;
    cri.remove(&more).await?;
    // Teardown does not need any.
    disk.fill()?;
    cri.stop(&main, 0).await?;
    cri.remove(&main).await?;
    remove(&cri, &pod).await?;
    ensure!(cri.pods().await?.is_empty());
    clean(&node, &disk)?;
    disk.free()?;
    let pod = cri.run_pod(&node.daemon.pod("again")).await?;
    ready(&cri, &pod).await?;
    remove(&cri, &pod).await?;
    clean(&node, &disk)
}

#[tokio::test]
async fn a_pull_without_space() -> Result<()> {
    let (disk, node) = on_disk(|node| node.daemon.root().to_owned(), "48m").await?;
    let cri = node.daemon.cri().await?;
    cri.remove_image(BUSYBOX).await?;
    let layers = node.daemon.root().join("images/layers");
    host::wait_for("the layer to be collected", SOON, || {
        Ok(cricket_testkit::leaks::names(&layers).is_empty().then_some(()))
    })?;
    disk.fill()?;
    no_space(cri.pull(BUSYBOX).await)?;
    ensure!(cri.image(BUSYBOX).await?.is_none());
    disk.free()?;
    cri.pull(BUSYBOX).await?;
    let sandbox = node.daemon.pod("after");
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["true"]), &sandbox).await?;
    ensure!(cri.wait_exit(&main, SOON).await?.exit_code == 0);
    remove(&cri, &pod).await?;
    clean(&node, &disk)
}

#[tokio::test]
async fn a_full_state_directory() -> Result<()> {
    let (disk, node) = on_disk(|node| node.daemon.state(), "4m").await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("full");
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    disk.fill()?;
    no_space(cri.run_pod(&node.daemon.pod("more")).await)?;
    no_space(cri.create(&pod, &container("more", BUSYBOX, &["true"]), &sandbox).await)?;
    serves(&cri, &pod, &main).await?;
    cri.stop(&main, 0).await?;
    ensure!(cri.container(&main).await?.exit_code == 137);
    cri.remove(&main).await?;
    remove(&cri, &pod).await?;
    ensure!(cri.pods().await?.is_empty());
    disk.free()?;
    clean(&node, &disk)?;
    let pod = cri.run_pod(&node.daemon.pod("again")).await?;
    ready(&cri, &pod).await?;
    remove(&cri, &pod).await?;
    clean(&node, &disk)
}

#[tokio::test]
async fn a_full_log_disk() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("full");
    let dir = PathBuf::from(&sandbox.log_directory);
    let disk = Disk::mount(&dir, "256k")?;
    let pod = cri.run_pod(&sandbox).await?;
    let config = container("main", BUSYBOX, &["sh", "-c", "seq 1 100000; sleep 600"]);
    let main = cri.run(&pod, &config, &sandbox).await?;
    let neighbour_config = container("quiet", BUSYBOX, &["sleep", "600"]);
    let quiet = cri.run(&pod, &neighbour_config, &sandbox).await?;
    let written = || Ok::<_, anyhow::Error>(std::fs::metadata(dir.join(&config.log_path))?.len());
    let mut last = Vec::new();
    host::wait_for("the disk to be full", SOON, || {
        // A line that does not fit may be followed by a shorter one that does.
        last.push(written()?);
        let still = last.iter().rev().take(60).all(|size| Some(size) == last.last());
        Ok((last.len() > 60 && still && written()? > 200_000).then_some(()))
    })?;

    // The application waits as at any full pipe; all else goes on.
    let size = written()?;
    ensure!(cri.container(&main).await?.state() == ContainerState::ContainerRunning);
    ensure!(!children(pid(&cri, &main).await?)?.is_empty(), "seq has ended");
    ensure!(cri.exec_text(&main, &["echo", "hello"]).await? == "hello\n");
    cri.stop(&quiet, 0).await?;
    ensure!(cri.container(&quiet).await?.exit_code == 137);
    ensure!(written()? == size);
    let lines = whole_lines(&dir, &config)?;
    ensure!(lines.iter().enumerate().all(|(n, line)| *line == (n + 1).to_string()), "lines are missing");

    let began = std::time::Instant::now();
    cri.stop(&main, 0).await?;
    ensure!(began.elapsed() < SOON, "the stop waited {:?} for the disk", began.elapsed());
    let status = cri.container(&main).await?;
    ensure!(status.exit_code == 137 && status.message.contains("bytes of output were lost"), "{status:?}");
    cri.remove(&main).await?;
    remove(&cri, &pod).await?;
    drop(disk);
    node.daemon.assert_no_leaks(SOON)
}

/// PIDs of a process' children.
fn children(pid: i32) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}
