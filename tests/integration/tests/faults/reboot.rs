//! A reboot: the records are of another boot, and nothing of what they speak of is there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1::{ContainerState, PodSandboxState};
use cricket_integration::{BUSYBOX, Node};
use cricket_pod::PodRecord;
use cricket_store::{Batch, Store};
use cricket_testkit::cri::container;
use cricket_testkit::{host, reap};
use tonic::Code;

use crate::support::{back_to, ready, refused, whole_lines};

/// What a reboot does to a stopped daemon's node: processes, mounts, control groups, interfaces and the state directory
/// are gone, and the kernel gives the boot another ID. Root, logs and the plugins' leases are on the disk.
async fn reboot(node: &mut Node) -> Result<()> {
    node.daemon.kill()?;
    let daemon = &node.daemon;
    let state = daemon.state();
    reap::processes(daemon.mark(), &[])?;
    reap::mounts(&[&state, daemon.root()])?;
    reap::cgroups(daemon.mark())?;
    host::run("ip", ["link", "delete", daemon.network().bridge()])?;
    std::fs::remove_dir_all(&state)?;

    let store = Store::open(daemon.root().join("records.redb"))?;
    let mut batch = Batch::new();
    for (key, mut record) in store.list::<PodRecord>()? {
        record.sandbox.boot_id = "00000000-0000-0000-0000-000000000000".to_owned();
        batch.put(&key, &record)?;
    }
    ensure!(!batch.is_empty(), "no pod is recorded");
    store.commit(batch).await?;
    Ok(())
}

#[tokio::test]
async fn everything_has_ended_and_can_be_removed() -> Result<()> {
    let mut node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("rebooted");
    let pod = cri.run_pod(&sandbox).await?;
    let mut config = container("main", BUSYBOX, &["sh", "-c", "echo before; sleep 600"]);
    config.metadata.get_or_insert_default().attempt = 3;
    let main = cri.run(&pod, &config, &sandbox).await?;
    let done = cri.run(&pod, &container("done", BUSYBOX, &["sh", "-c", "exit 4"]), &sandbox).await?;
    cri.wait_exit(&done, Duration::from_secs(10)).await?;
    let created = cri.create(&pod, &container("created", BUSYBOX, &["true"]), &sandbox).await?;
    let before = cri.container(&main).await?;
    // One that was removed, but the disk has its files still when the power goes.
    let gone = cri.create(&pod, &container("gone", BUSYBOX, &["true"]), &sandbox).await?;
    let files = node.daemon.root().join("images/containers").join(&gone);
    let aside = node.daemon.root().join("aside");
    host::run("cp", ["-a".as_ref(), files.as_os_str(), aside.as_os_str()])?;
    cri.remove(&gone).await?;
    // A second pod that was stopped before.
    let other = node.daemon.pod("stopped");
    let stopped = cri.run_pod(&other).await?;
    cri.stop_pod(&stopped).await?;
    ensure!(node.daemon.network().leases()?.len() == 1);
    // What RPCs need not wait for is on the disk a second later, and the disk may be busy.
    tokio::time::sleep(Duration::from_secs(3)).await;

    reboot(&mut node).await?;
    std::fs::rename(&aside, &files)?;
    let volume = node.daemon.root().join("volumes").join(&gone);
    std::fs::create_dir_all(volume.join("0"))?;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    let status = cri.container(&main).await?;
    ensure!(status.state() == ContainerState::ContainerExited);
    ensure!((status.exit_code, status.reason.as_str()) == (255, "Unknown"), "{status:?}");
    ensure!(status.started_at == before.started_at && status.finished_at > status.started_at, "{status:?}");
    ensure!(status.metadata.as_ref().map(|m| m.attempt) == Some(3) && status.log_path == before.log_path);
    ensure!(whole_lines(Path::new(&sandbox.log_directory), &config)? == ["before"]);
    let status = cri.container(&done).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (4, "Error"), "what had ended before keeps its end");
    for id in [&pod, &stopped] {
        ensure!(cri.pod(id).await?.state() == PodSandboxState::SandboxNotready);
    }
    ensure!(cri.pod(&pod).await?.metadata == sandbox.metadata);
    host::wait_for("the files of a container without a record to go", Duration::from_secs(10), || {
        Ok((!files.exists() && !volume.exists()).then_some(()))
    })?;
    // The plugins are asked to give the address back, while the node serves already.
    host::wait_for("the lease to be gone", Duration::from_secs(10), || {
        Ok(node.daemon.network().leases()?.is_empty().then_some(()))
    })?;
    ensure!(cri.start(&created).await.is_err() && cri.exec(&main, &["true"], 5).await.is_err());

    // The kubelet makes the next attempt, and removes the old ones in its own time.
    let mut next = sandbox.clone();
    next.metadata.as_mut().context("no metadata")?.attempt = 1;
    let new = cri.run_pod(&next).await?;
    ready(&cri, &new).await?;
    let again = cri.run(&new, &container("main", BUSYBOX, &["sleep", "600"]), &next).await?;
    ensure!(cri.exec_text(&again, &["echo", "after"]).await? == "after\n");
    cri.remove(&main).await?;
    refused(cri.container(&main).await, Code::NotFound, &main)?;
    for id in [&pod, &stopped, &new] {
        crate::support::remove(&cri, id).await?;
    }
    ensure!(cri.pods().await?.is_empty() && cri.containers().await?.is_empty());
    back_to(&node.daemon, &Default::default())?;

    // And it stays so.
    node.daemon.kill_and_launch()?;
    ensure!(node.daemon.cri().await?.pods().await?.is_empty());
    Ok(())
}
