//! A root directory whose disk fails under a running daemon: ext4 that turned read-only after an error, and ext4 that
//! answers everything with an I/O error. Errors say so, and what is there answers and can be stopped.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1::{self, ContainerState};
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::host;

use crate::support::ready;

/// ext4 in a file.
struct Disk {
    dir: PathBuf,
}

impl Disk {
    fn new(file: &Path, dir: PathBuf) -> Result<Self> {
        std::fs::File::create(file)?.set_len(256 << 20)?;
        let name = file.display().to_string();
        host::run("mkfs.ext4", ["-q", &name])?;
        host::run("mount", ["-o", "loop,errors=remount-ro", &name, &dir.display().to_string()])?;
        Ok(Self { dir })
    }

    /// An error of the file system, after which it lets nobody write.
    fn read_only(&self) -> Result<()> {
        let device = host::run("findmnt", ["-n", "-o", "SOURCE", &self.dir.display().to_string()])?;
        let name = device.trim().trim_start_matches("/dev/");
        let trigger = PathBuf::from("/sys/fs/ext4").join(name).join("trigger_fs_error");
        let mut file = std::fs::OpenOptions::new().write(true).open(&trigger)?;
        file.write_all(b"a test").with_context(|| trigger.display().to_string())
    }

    /// `EXT4_IOC_SHUTDOWN` without writing the journal: as a disk that was pulled out.
    fn gone(&self) -> Result<()> {
        let script = "import fcntl, os, struct, sys\n\
                      fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        host::run("python3", ["-c", script, &self.dir.display().to_string()]).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = host::run("umount", ["-l", &self.dir.display().to_string()]);
    }
}

/// What is answered from memory.
async fn serves(cri: &Cri, pod: &str, main: &str) -> Result<()> {
    ensure!(cri.container(main).await?.state() == ContainerState::ContainerRunning);
    ready(cri, pod).await?;
    ensure!(cri.pods().await?.len() == 1 && cri.containers().await?.len() == 1);
    ensure!(cri.image(BUSYBOX).await?.is_some());
    cri.runtime().status(v1::StatusRequest { verbose: false }).await?;
    Ok(())
}

async fn a_disk_fails(fail: impl FnOnce(&Disk) -> Result<()>, told: &str) -> Result<()> {
    let mut node = Node::start().await?;
    node.daemon.stop()?;
    let root = node.daemon.root().to_owned();
    let disk = Disk::new(&node.daemon.home().join("disk.img"), root)?;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    cri.pull(BUSYBOX).await?;
    let sandbox = node.daemon.pod("broken");
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;

    fail(&disk)?;
    let refused = cri.create(&pod, &container("more", BUSYBOX, &["true"]), &sandbox).await;
    let status = refused.err().context("it succeeded on a disk that fails")?;
    ensure!(status.message().to_lowercase().contains(told), "{status:?}");
    let status = cri.run_pod(&node.daemon.pod("more")).await.err().context("it was recorded on a disk that fails")?;
    ensure!(!status.message().is_empty(), "{status:?}");
    serves(&cri, &pod, &main).await?;
    // Nothing of it needs the records.
    cri.stop(&main, 0).await?;
    ensure!(cri.container(&main).await?.exit_code == 137);
    cri.stop_pod(&pod).await?;
    ready(&cri, &pod).await.err().context("it was stopped")?;
    ensure!(cri.pods().await?.len() == 1);
    // Not to be waited for by the daemon that is about to be stopped.
    drop(disk);
    Ok(())
}

#[tokio::test]
async fn a_root_that_turned_read_only() -> Result<()> {
    a_disk_fails(Disk::read_only, "read-only file system").await
}

#[tokio::test]
async fn a_root_whose_disk_is_gone() -> Result<()> {
    a_disk_fails(Disk::gone, "input/output error").await
}
