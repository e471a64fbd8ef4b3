//! Removals that fail half-way: they can be asked for again, and are gone on with when nobody asks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::container;
use cricket_testkit::host;
use tokio::task::JoinSet;

use crate::support::{back_to, pod_ids};

/// A mount in the way of a directory's removal; taken away on drop.
struct Obstacle(PathBuf);

impl Obstacle {
    fn new(parent: &Path) -> Result<Self> {
        let dir = parent.join("obstacle");
        std::fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        host::run("mount", ["-t", "tmpfs", "none", &dir.to_string_lossy()])?;
        Ok(Self(dir))
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        let _ = host::run("umount", [self.0.to_string_lossy().as_ref()]);
    }
}

#[tokio::test]
async fn what_failed_to_be_removed_can_be_removed_again_and_goes_by_itself() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let pod = node.daemon.pod("stubborn");
    let id = cri.run_pod(&pod).await?;
    let main = cri.create(&id, &container("main", BUSYBOX, &["sleep", "60"]), &pod).await?;
    let folder = node.daemon.state().join("pods").join(&id);

    let obstacle = Obstacle::new(&folder.join("c").join(&main))?;
    ensure!(cri.remove(&main).await.is_err(), "a removal that left something succeeded");
    ensure!(cri.remove(&main).await.is_err(), "the second removal was not tried");
    ensure!(cri.container(&main).await.is_err(), "what is being removed is listed");
    drop(obstacle);
    cri.remove(&main).await?;
    // Its name is free.
    cri.create(&id, &container("main", BUSYBOX, &["sleep", "60"]), &pod).await?;

    let obstacle = Obstacle::new(&folder)?;
    ensure!(cri.remove_pod(&id).await.is_err(), "a removal that left something succeeded");
    ensure!(cri.remove_pod(&id).await.is_err(), "the second removal was not tried");
    drop(obstacle);
    // Nobody asks any more.
    host::wait_for("the pod's folder to go", Duration::from_secs(20), || Ok((!folder.exists()).then_some(())))?;
    host::wait_for("no leaks", Duration::from_secs(10), || Ok(node.daemon.leaks()?.is_empty().then_some(())))?;
    let again = cri.run_pod(&pod).await?;
    cri.remove_pod(&again).await?;
    Ok(())
}

#[tokio::test]
async fn statistics_of_what_has_ended_hold_nothing_open() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let pod = node.daemon.pod("counted");
    let id = cri.run_pod(&pod).await?;
    let stats = || async {
        cri.runtime().list_container_stats(cricket_cri_api::v1::ListContainerStatsRequest::default()).await
    };
    let mut before = 0;
    for round in 0..6 {
        let name = format!("c{round}");
        let one = cri.run(&id, &container(&name, BUSYBOX, &["sleep", "60"]), &pod).await?;
        ensure!(stats().await?.into_inner().stats.len() == 1);
        cri.stop(&one, 0).await?;
        cri.remove(&one).await?;
        if round == 1 {
            before = node.daemon.open_fds()?;
        }
    }
    let after = node.daemon.open_fds()?;
    ensure!(after <= before + 2, "{before} descriptors, then {after}");
    cri.remove_pod(&id).await?;
    Ok(())
}

/// A daemon that is killed while it removes many pods is back at once, and goes on with what was begun; what was not is
/// listed and can be removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_dies_while_it_removes_many_pods_goes_on() -> Result<()> {
    const PODS: usize = 60;
    let mut node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let mut tasks = JoinSet::new();
    for n in 0..PODS {
        let (cri, pod) = (cri.clone(), node.daemon.pod(&format!("many-{n}")));
        tasks.spawn(async move {
            let id = cri.run_pod(&pod).await?;
            cri.run(&id, &container("main", BUSYBOX, &["sleep", "600"]), &pod).await
        });
    }
    for made in tasks.join_all().await {
        made?;
    }
    let pods = pod_ids(&cri).await?;
    ensure!(pods.len() == PODS);
    for share in [PODS / 10, PODS / 2] {
        let cri = node.daemon.cri().await?;
        let left = pod_ids(&cri).await?;
        let mut tasks = JoinSet::new();
        for pod in &left {
            let (cri, pod) = (cri.clone(), pod.clone());
            tasks.spawn(async move { cri.remove_pod(&pod).await });
        }
        let until = Instant::now() + Duration::from_secs(60);
        while pod_ids(&cri).await?.len() > PODS - share {
            ensure!(Instant::now() < until, "the removals do not get on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.daemon.kill()?;
        let began = Instant::now();
        node.daemon.launch()?;
        // Pods that are half gone hold nobody up.
        ensure!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        drop(tasks);
    }
    let cri = node.daemon.cri().await?;
    for pod in pod_ids(&cri).await? {
        cri.remove_pod(&pod).await?;
    }
    back_to(&node.daemon, &Default::default())
}
