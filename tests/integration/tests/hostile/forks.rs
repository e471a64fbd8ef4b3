//! A container that forks without end: it hits its limit, and nobody else notices.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::{cri, host};

use crate::support::{SOON, Scene, idle};

/// What a pod may have, as a kubelet's `podPidsLimit`.
const LIMIT: usize = 64;

#[tokio::test]
async fn a_fork_bomb_stays_within_its_pod_and_can_be_stopped() -> Result<()> {
    if host::systemd_driver() {
        host::skip("the pod's limit is systemd's");
        return Ok(());
    }
    let node = std::sync::Arc::new(Node::start().await?);
    let neighbour = Scene::on(node.clone(), "forks-neighbour").await?;
    let other = neighbour.run(&idle("other", BUSYBOX)).await?;
    let scene = Scene::on(node.clone(), "forks").await?;
    let first = scene.run(&idle("first", BUSYBOX)).await?;
    let parent = scene.pod.linux.as_ref().context("no linux")?.cgroup_parent.trim_start_matches('/').to_owned();
    let v1 = Path::new("/sys/fs/cgroup/pids");
    let cgroup = if v1.is_dir() { v1.join(parent) } else { PathBuf::from("/sys/fs/cgroup").join(parent) };
    std::fs::write(cgroup.join("pids.max"), LIMIT.to_string()).with_context(|| cgroup.display().to_string())?;

    // The init neither reaps nor hears of SIGTERM. It forks once: a shell that cannot fork for its pipe ends.
    let bomb = cri::container("bomb", BUSYBOX, &["sh", "-c", "b() { b | b & }; { b; } & exec sleep 1000"]);
    let bomb = scene.run(&bomb).await?;
    let count = || -> Result<usize> { Ok(std::fs::read_to_string(cgroup.join("pids.current"))?.trim().parse()?) };
    host::wait_for("the limit to be reached", SOON, || Ok((count()? >= LIMIT - 8).then_some(())))?;
    assert!(count()? <= LIMIT, "{} processes", count()?);

    // Others are not held up; in the pod itself an answer comes too, whichever.
    let began = Instant::now();
    assert_eq!(neighbour.cri.exec_text(&other, &["echo", "hello"]).await?, "hello\n");
    assert!(scene.cri.containers().await?.len() >= 3);
    let _ = scene.cri.exec(&first, &["true"], 5).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());

    let began = Instant::now();
    scene.cri.stop(&bomb, 1).await?;
    assert!(began.elapsed().as_secs() < 6, "{:?}", began.elapsed());
    assert_eq!(scene.cri.container(&bomb).await?.exit_code, 137);
    host::wait_for("the processes to be gone", SOON, || Ok((count()? < 8).then_some(())))?;
    // There is room again.
    assert_eq!(scene.cri.exec_text(&first, &["echo", "hello"]).await?, "hello\n");
    scene.end().await?;
    neighbour.end().await?;
    node.daemon.assert_no_leaks(SOON)
}
