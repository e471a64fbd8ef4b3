//! Pulls and pods until the power is cut, and what must be there afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1::{self, ContainerState, NamespaceMode, PodSandboxState};
use cricket_testkit::cri::Cri;
use cricket_testkit::host;
use cricket_testkit::registry::{Options, Registry};

use crate::ledger::{Entry, Ledger};
use crate::pods::{pod, remove_all, shell};
use crate::prepare::{ARCHIVE, PULLABLE, REGISTRY, pullable};
use crate::process::SOON;
use crate::unit;

/// What no RPC waits for is on the disk after so many milliseconds of an emulated machine.
const LAZY: u64 = 5000;
/// Nobody cuts the power of a round that takes longer.
const ROUND: Duration = Duration::from_secs(300);
/// Pods that a round keeps.
const PODS: usize = 3;

pub(crate) async fn run(images: &Path, ledger: &Path, last: bool) -> Result<()> {
    unit::storage(true)?;
    let registry = Registry::with(Options { data: Some(images.join(REGISTRY)), ..Options::default() })?;
    unit::install(&unit::this_build()?)?;
    unit::configure("vm", Some(registry.url()))?;
    let began = Instant::now();
    // The record store opens, or this fails.
    unit::systemctl(&["enable", "--now", "cricket"])?;
    let cri = unit::connect().await?;
    let ledger = Ledger::read(ledger)?;
    println!("power: systemctl start: {:.1?}", began.elapsed());
    check(&cri, &ledger).await?;
    if last {
        for image in images_of(&cri).await? {
            cri.remove_image(&image.id).await?;
        }
        for left in ["containers", "layers", "chains", "trash"] {
            host::wait_for("the images' files to go", SOON, || Ok((entries(left)? == 0).then_some(())))
                .with_context(|| left.to_owned())?;
        }
        println!("power cut: passed");
        return Ok(());
    }
    unit::cricket(&["image", "load", &images.join(ARCHIVE).display().to_string()])?;
    let began = Instant::now();
    // The host counts from here.
    println!("power cut");
    let working = async { tokio::try_join!(pulls(&cri, &ledger), runs(&cri, began)) };
    tokio::time::timeout(ROUND, working).await.context("the power was not cut")??;
    Ok(())
}

async fn images_of(cri: &Cri) -> Result<Vec<v1::Image>> {
    Ok(cri.images().list_images(v1::ListImagesRequest { filter: None }).await?.into_inner().images)
}

/// Names in a directory of the image store.
fn entries(name: &str) -> Result<usize> {
    Ok(std::fs::read_dir(Path::new("/var/lib/cricket/images").join(name))?.count())
}

/// Everything that was acknowledged is there and whole, and nothing of what was not gets in the way.
async fn check(cri: &Cri, ledger: &Ledger) -> Result<()> {
    for (image, id) in &ledger.images {
        let found = cri.image(image).await?.with_context(|| format!("{image} was pulled, and is not there"))?;
        ensure!(found.id == *id, "{image}: {}, not {id}", found.id);
    }
    for id in &ledger.pods {
        let status = cri.pod(id).await.with_context(|| format!("pod {id} was acknowledged"))?;
        ensure!(status.state() == PodSandboxState::SandboxNotready, "{status:?}");
    }
    let mut old = 0;
    for (id, (_, at)) in &ledger.containers {
        match cri.container(id).await {
            Ok(status) => {
                ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
                ensure!((status.exit_code, status.reason.as_str()) == (255, "Unknown"), "{status:?}");
                old += 1;
            }
            Err(error) => {
                ensure!(at + LAZY > ledger.ended, "container {id} of {at} ms, cut at {}: {error}", ledger.ended)
            }
        }
    }
    let began = Instant::now();
    let said = unit::doctor(true)?;
    // Healing would hide what was lost.
    ensure!(said.contains("every file is as it was unpacked"), "{said}");
    println!(
        "power: {} images verified in {:.1?}; {} pods and {old} of {} containers are there",
        ledger.images.len(),
        began.elapsed(),
        ledger.pods.len(),
        ledger.containers.len()
    );
    host::wait_for("what was half unpacked to go", SOON, || Ok((entries("staging")? == 0).then_some(())))?;
    host::wait_for("the leases to be given back", SOON, || Ok(unit::leases()?.is_empty().then_some(())))?;
    for image in &ledger.pulling {
        let id = cri.pull(image).await.with_context(|| format!("{image}, whose pull was cut off"))?;
        Entry::Pulled { image: image.clone(), id }.write()?;
    }
    for pod in cri.pods().await? {
        Entry::RemovingPod { id: pod.id }.write()?;
    }
    remove_all(cri).await
}

/// Pulls one image after the other; when all are there, from the first again.
async fn pulls(cri: &Cri, ledger: &Ledger) -> Result<()> {
    let first = ledger.images.len() as u64;
    for number in first.. {
        let image = pullable(number % PULLABLE);
        if cri.image(&image).await?.is_some() {
            Entry::RemovingImage { image: image.clone() }.write()?;
            cri.remove_image(&image).await?;
        }
        Entry::Pulling { image: image.clone() }.write()?;
        let id = cri.pull(&image).await?;
        Entry::Pulled { image, id }.write()?;
    }
    Ok(())
}

/// Runs pods, and removes each when some others have come.
async fn runs(cri: &Cri, began: Instant) -> Result<()> {
    let mut pods = std::collections::VecDeque::new();
    for number in 0.. {
        let own = NamespaceMode::Container;
        let sandbox = pod(&format!("pod-{number}"), own)?;
        let id = cri.run_pod(&sandbox).await?;
        Entry::Pod { id: id.clone() }.write()?;
        let main = cri.run(&id, &shell("main", "while :; do echo line; sleep 0.2; done", own), &sandbox).await?;
        Entry::Time { ms: u64::try_from(began.elapsed().as_millis())? }.write()?;
        Entry::Container { id: main, pod: id.clone() }.write()?;
        pods.push_back(id);
        if pods.len() > PODS {
            let id = pods.pop_front().context("no pod")?;
            Entry::RemovingPod { id: id.clone() }.write()?;
            cri.stop_pod(&id).await?;
            cri.remove_pod(&id).await?;
        }
    }
    Ok(())
}
