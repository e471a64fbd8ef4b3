//! A host path on a file system that hangs: nobody answers what the kernel asks of it. Only the calls that touch it wait,
//! and not for ever.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::host;
use tonic::Code;

use crate::hung::{AT_ONCE, answers};
use crate::support::{SOON, back_to, footprint, pod_ids, remove, set};

/// A FUSE file system whose server never reads a request. The kernel ends all of them when the server goes.
struct Stuck {
    at: PathBuf,
    server: Option<File>,
}

impl Stuck {
    fn directory(node: &Node) -> Result<PathBuf> {
        let at = node.daemon.home().join("stuck");
        std::fs::create_dir_all(at.join("volume"))?;
        Ok(at)
    }

    fn mount(at: PathBuf) -> Result<Self> {
        let server = File::options().read(true).write(true).open("/dev/fuse").context("/dev/fuse")?;
        let mut mount = Command::new("mount");
        mount.args(["-n", "-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other", "stuck"]);
        // The kernel takes the descriptor that the command has as its standard input.
        let status = mount.arg(&at).stdin(Stdio::from(server.try_clone()?)).status()?;
        ensure!(status.success(), "mount a FUSE file system: {status}");
        Ok(Self { at, server: Some(server) })
    }

    /// Everything that waits for it fails.
    fn end(&mut self) {
        self.server = None;
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.end();
        // Without an open descriptor of the server nothing of it can hang any more.
        let _ = host::run("umount", ["-l", &self.at.display().to_string()]);
    }
}

fn with_volume(name: &str, path: &std::path::Path) -> v1::ContainerConfig {
    let mut config = container(name, BUSYBOX, &["sleep", "600"]);
    config.mounts.push(v1::Mount {
        host_path: path.display().to_string(),
        container_path: "/volume".into(),
        ..Default::default()
    });
    config
}

/// CreateContainer with a deadline of the caller's.
async fn create(
    cri: &Cri,
    pod: &str,
    config: &v1::ContainerConfig,
    sandbox: &v1::PodSandboxConfig,
    limit: Duration,
) -> std::result::Result<String, tonic::Status> {
    let mut request = tonic::Request::new(v1::CreateContainerRequest {
        pod_sandbox_id: pod.to_owned(),
        config: Some(config.clone()),
        sandbox_config: Some(sandbox.clone()),
    });
    request.set_timeout(limit);
    Ok(cri.runtime().create_container(request).await?.into_inner().container_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_create() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let other = node.daemon.pod("other");
    let living = cri.run_pod(&other).await?;
    let main = cri.run(&living, &container("main", BUSYBOX, &["sleep", "600"]), &other).await?;
    let sandbox = node.daemon.pod("stuck");
    let pod = cri.run_pod(&sandbox).await?;
    let mut stuck = Stuck::mount(Stuck::directory(&node)?)?;
    let before = footprint(&node.daemon)?;

    let config = with_volume("waits", &stuck.at.join("volume"));
    let limit = Duration::from_secs(4);
    let call = {
        let (cri, pod, config, sandbox) = (cri.clone(), pod.clone(), config.clone(), sandbox.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            (create(&cri, &pod, &config, &sandbox, limit).await, began.elapsed())
        })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(!call.is_finished(), "it does not hang: {:?}", call.await);
    let took = answers(&cri, &living, &main).await?;
    ensure!(took < AT_ONCE, "five lists and statuses took {took:?}");
    cri.pod(&pod).await?;
    ensure!(cri.exec_text(&main, &["echo", "hello"]).await? == "hello\n");
    // Others of the same pod are made and run, other pods come and go.
    let beside = cri.run(&pod, &container("beside", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    ensure!(cri.exec_text(&beside, &["echo", "hello"]).await? == "hello\n");
    cri.remove(&beside).await?;
    let third = cri.run_pod(&node.daemon.pod("third")).await?;
    remove(&cri, &third).await?;

    let (answer, took) = call.await?;
    let status = answer.err().context("a create that hangs succeeds")?;
    ensure!(took < limit + Duration::from_secs(2), "{took:?}");
    ensure!(status.code() == Code::DeadlineExceeded, "{status:?}");
    let path = stuck.at.join("volume").display().to_string();
    ensure!(status.message().contains(&path), "the stage is not named: {status:?}");
    // The kubelet tries again: it joins.
    let again = create(&cri, &pod, &config, &sandbox, Duration::from_secs(2)).await;
    ensure!(again.as_ref().is_err_and(|e| e.code() == Code::DeadlineExceeded), "{again:?}");

    // The file system answers again, with errors: the create fails, or has made what can only fail at the start.
    stuck.end();
    match create(&cri, &pod, &config, &sandbox, SOON).await {
        Ok(id) => {
            ensure!(cri.start(&id).await.is_err(), "a container with a volume that is not there");
            cri.remove(&id).await?;
        }
        Err(status) => ensure!(status.code() != Code::DeadlineExceeded, "{status:?}"),
    }
    ensure!(pod_ids(&cri).await? == set(&[&living, &pod]));
    back_to(&node.daemon, &before)?;
    drop(stuck);
    remove(&cri, &pod).await?;
    remove(&cri, &living).await?;
    back_to(&node.daemon, &Default::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_start() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("stuck");
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    let at = Stuck::directory(&node)?;
    let id = cri.create(&pod, &with_volume("waits", &at.join("volume")), &sandbox).await?;
    // It hangs from now on.
    let stuck = Stuck::mount(at)?;
    let start = {
        let (cri, id) = (cri.clone(), id.clone());
        tokio::spawn(async move { cri.start(&id).await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(!start.is_finished(), "it does not hang: {:?}", start.await);
    let took = answers(&cri, &pod, &main).await?;
    ensure!(took < AT_ONCE, "five lists and statuses took {took:?}");
    ensure!(cri.exec_text(&main, &["echo", "hello"]).await? == "hello\n");
    let began = Instant::now();
    cri.stop(&id, 1).await?;
    ensure!(began.elapsed() < SOON, "{:?}", began.elapsed());
    ensure!(start.await?.is_err(), "it was killed");
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &std::iter::once(format!("mount {}", stuck.at.display())).collect())?;
    drop(stuck);
    back_to(&node.daemon, &Default::default())
}
