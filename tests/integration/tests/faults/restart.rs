//! The daemon is killed with thirty pods running, and is back at once with all of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Cri, container, host_network};

use crate::support::{SOON, back_to, gone, kill, monitor, pid};

const PODS: usize = 30;
/// From exec to the answer of ListContainers; the best of some is taken, other tests run on this machine.
const LIMIT: Duration = Duration::from_secs(1);

type View = (BTreeMap<String, v1::PodSandbox>, BTreeMap<String, v1::Container>);

async fn view(cri: &Cri) -> Result<View> {
    let pods = cri.pods().await?.into_iter().map(|p| (p.id.clone(), p)).collect();
    let containers = cri.containers().await?.into_iter().map(|c| (c.id.clone(), c)).collect();
    Ok((pods, containers))
}

async fn make(cri: Cri, sandbox: v1::PodSandboxConfig) -> Result<String> {
    let pod = cri.run_pod(&sandbox).await?;
    let script = "trap 'exit 42' USR1; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
    Ok(cri.run(&pod, &container("main", BUSYBOX, &["sh", "-c", script]), &sandbox).await?)
}

#[tokio::test]
async fn thirty_pods_are_back_within_a_second() -> Result<()> {
    let mut node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let mut containers = Vec::new();
    for group in (0..PODS).collect::<Vec<_>>().chunks(6) {
        let mut tasks = tokio::task::JoinSet::new();
        for n in group {
            let sandbox = node.daemon.pod(&format!("pod-{n}"));
            // A third with a network of their own.
            let sandbox = if n % 3 == 0 { sandbox } else { host_network(sandbox) };
            tasks.spawn(make(cri.clone(), sandbox));
        }
        while let Some(id) = tasks.join_next().await {
            containers.push(id??);
        }
    }
    let before = view(&cri).await?;
    ensure!((before.0.len(), before.1.len()) == (PODS, PODS));
    let victim = containers.first().context("no container")?;
    let init = pid(&cri, victim).await?;

    let mut best = Duration::MAX;
    for round in 0..10 {
        if round > 2 && best < LIMIT {
            break;
        }
        node.daemon.kill()?;
        let began = Instant::now();
        node.daemon.launch()?;
        let cri = node.daemon.cri().await?;
        let now = cri.containers().await?;
        best = best.min(began.elapsed());
        ensure!(now.len() == PODS, "{} containers", now.len());
        ensure!(view(&cri).await? == before, "the restart changed what lists show");
    }
    println!("daemon back with {PODS} pods {best:?} after its start");
    ensure!(best < LIMIT, "the daemon needed {best:?}");

    // A container that ends meanwhile: its code, and when it was.
    node.daemon.kill()?;
    kill("USR1", init)?;
    gone(init)?;
    let ended = now()?;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    let status = cri.container(victim).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (42, "Error"), "{status:?}");
    let off = (status.finished_at - ended).abs();
    ensure!(off < 1_500_000_000, "the finish time is {off} ns off");

    events_come(&cri, containers.last().context("no container")?).await?;
    cri.remove_all_pods().await?;
    back_to(&node.daemon, &Default::default())
}

async fn events_come(cri: &Cri, id: &str) -> Result<()> {
    let request = v1::GetEventsRequest {};
    let mut events = cri.runtime().get_container_events(request).await?.into_inner();
    cri.stop(id, 5).await?;
    let next = async {
        loop {
            let event = events.message().await?.context("the stream of events ended")?;
            if event.container_id == id {
                return anyhow::Ok(event);
            }
        }
    };
    let event = tokio::time::timeout(SOON, next).await.context("no event")??;
    ensure!(event.container_event_type() == v1::ContainerEventType::ContainerStoppedEvent, "{event:?}");
    Ok(())
}

fn now() -> Result<i64> {
    Ok(i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos())?)
}

/// Nothing that was acknowledged is lost, and nothing that was removed comes back, however soon the daemon dies after.
#[tokio::test]
async fn what_was_acknowledged_holds() -> Result<()> {
    let mut node = Node::start().await?;
    for _ in 0..4 {
        let cri = node.daemon.cri().await?;
        let sandbox = node.daemon.pod("quick");
        let pod = cri.run_pod(&sandbox).await?;
        let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
        node.daemon.kill_and_launch()?;
        let cri = node.daemon.cri().await?;
        ensure!(pid(&cri, &main).await? > 0 && monitor(&node.daemon, &pod)? > 0);
        // Long enough for the durable record to know the pod, too.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        cri.remove(&main).await?;
        node.daemon.kill_and_launch()?;
        let cri = node.daemon.cri().await?;
        ensure!(cri.containers().await?.is_empty(), "a removed container is back");
        cri.stop_pod(&pod).await?;
        node.daemon.kill_and_launch()?;
        let cri = node.daemon.cri().await?;
        ensure!(cri.pod(&pod).await?.state() == v1::PodSandboxState::SandboxNotready, "a stopped pod is back");
        cri.remove_pod(&pod).await?;
        node.daemon.kill_and_launch()?;
        ensure!(node.daemon.cri().await?.pods().await?.is_empty(), "a removed pod is back");
        back_to(&node.daemon, &Default::default())?;
    }
    Ok(())
}
