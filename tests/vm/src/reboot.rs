//! Pods before and after a reboot: `/run` is new, the disk is the same.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1::{self, ContainerState, NamespaceMode, PodSandboxState};
use cricket_testkit::cri::Cri;
use cricket_testkit::{host, leaks, logs};
use serde::{Deserialize, Serialize};

use crate::pods::{pod, remove_all, shell};
use crate::process::{SOON, init, monitor};
use crate::unit;

/// What the second boot is to find; on the disk.
const EXPECTED: &str = "/srv/node/expected.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Serialize, Deserialize)]
struct Expected {
    boot: String,
    pods: Vec<String>,
    main: String,
    done: String,
    created: String,
    shared: String,
    log: PathBuf,
    started_at: i64,
    created_at: i64,
    /// Process IDs of what will have died: inits and monitors.
    pids: Vec<i32>,
}

pub(crate) async fn before(images: &Path) -> Result<()> {
    unit::storage(true)?;
    unit::up(&unit::this_build()?, images)?;
    let cri = unit::connect().await?;
    let own = NamespaceMode::Container;
    let sandbox = pod("rebooted", own)?;
    let rebooted = cri.run_pod(&sandbox).await?;
    let mut config = shell("main", "echo before; sleep 86400", own);
    config.metadata.get_or_insert_default().attempt = 3;
    let main = cri.run(&rebooted, &config, &sandbox).await?;
    let done = cri.run(&rebooted, &shell("done", "exit 4", own), &sandbox).await?;
    cri.wait_exit(&done, SOON).await?;
    let created = cri.create(&rebooted, &shell("created", "true", own), &sandbox).await?;
    let both = pod("shared", NamespaceMode::Pod)?;
    let sharing = cri.run_pod(&both).await?;
    let shared = cri.run(&sharing, &shell("main", "sleep 86400", NamespaceMode::Pod), &both).await?;
    let stopped = cri.run_pod(&pod("stopped", own)?).await?;
    cri.stop_pod(&stopped).await?;
    ensure!(unit::leases()?.len() == 2, "leases: {:?}", unit::leases()?);

    let status = cri.container(&main).await?;
    let mut pids = vec![init(&cri, &main).await?.pid, init(&cri, &shared).await?.pid];
    for id in [&rebooted, &sharing] {
        pids.push(monitor(id)?.pid);
    }
    let log = Path::new(&sandbox.log_directory).join(&config.log_path);
    host::wait_for("the log", SOON, || Ok((std::fs::read(&log)?.ends_with(b" before\n")).then_some(())))?;
    let expected = Expected {
        boot: std::fs::read_to_string(BOOT_ID)?,
        pods: vec![rebooted, sharing, stopped],
        main,
        done,
        created,
        shared,
        log,
        started_at: status.started_at,
        created_at: status.created_at,
        pids,
    };
    let file = File::create(EXPECTED)?;
    serde_json::to_writer(&file, &expected)?;
    file.sync_all()?;
    // What RPCs need not wait for is on the disk by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("reboot: {} pods run, and the machine goes down", expected.pods.len());
    Ok(())
}

pub(crate) async fn after(images: &Path) -> Result<()> {
    unit::storage(true)?;
    let expected: Expected = serde_json::from_reader(File::open(EXPECTED)?)?;
    ensure!(std::fs::read_to_string(BOOT_ID)? != expected.boot, "the machine was not rebooted");
    ensure!(unit::leases()?.len() == 2, "the plugins' leases are on the disk: {:?}", unit::leases()?);
    let mut others = others(&expected.pids)?;
    unit::install(&unit::this_build()?)?;
    // The network that the pods were in is no longer configured.
    unit::configure("another", None)?;
    let began = Instant::now();
    unit::systemctl(&["enable", "--now", "cricket"])?;
    println!("systemctl start after the reboot: {:.1?}", began.elapsed());
    let cri = unit::connect().await?;
    ended(&cri, &expected).await?;

    host::wait_for("the leases to be given back", SOON, || Ok(unit::leases()?.is_empty().then_some(())))?;
    println!("after the reboot: the leases were given back by DEL with what was cached");
    for other in &mut others {
        ensure!(other.try_wait()?.is_none(), "process {} was taken for one of the former boot", other.id());
    }
    let mounts = leaks::mounts(&[Path::new("/run/cricket")])?;
    ensure!(mounts.is_empty(), "mounts of nobody: {mounts:?}");
    next(&cri).await?;
    for other in &mut others {
        other.kill()?;
        other.wait()?;
    }
    remove_all(&cri).await?;
    // And it stays so.
    unit::systemctl(&["restart", "cricket"])?;
    ensure!(unit::connect().await?.pods().await?.is_empty());
    // The images are there still.
    let said = unit::doctor(true)?;
    ensure!(said.contains("every file is as it was unpacked"), "{said}");
    unit::cricket(&["image", "load", &images.join(crate::prepare::ARCHIVE).display().to_string()])?;
    println!("reboot: passed");
    Ok(())
}

/// Everything has ended, and says so as the kubelet wants it.
async fn ended(cri: &Cri, expected: &Expected) -> Result<()> {
    for id in [&expected.main, &expected.shared] {
        let status = cri.container(id).await?;
        ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
        ensure!((status.exit_code, status.reason.as_str()) == (255, "Unknown"), "{status:?}");
        ensure!(status.finished_at > status.started_at, "{status:?}");
    }
    let status = cri.container(&expected.main).await?;
    ensure!((status.created_at, status.started_at) == (expected.created_at, expected.started_at), "{status:?}");
    ensure!(status.metadata.as_ref().map(|m| m.attempt) == Some(3), "{status:?}");
    ensure!(Path::new(&status.log_path) == expected.log, "{status:?}");
    ensure!(logs::lines(&logs::read(&expected.log)?, "stdout") == ["before"]);
    let status = cri.container(&expected.done).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (4, "Error"), "what had ended keeps its end: {status:?}");
    let mut listed: Vec<_> = cri.pods().await?.into_iter().map(|pod| pod.id).collect();
    let mut all = expected.pods.clone();
    listed.sort();
    all.sort();
    ensure!(listed == all, "{listed:?}, not {all:?}");
    for id in &expected.pods {
        let status = cri.pod(id).await?;
        ensure!(status.state() == PodSandboxState::SandboxNotready, "{status:?}");
    }
    ensure!(cri.start(&expected.created).await.is_err(), "a container of the former boot was started");
    ensure!(cri.exec(&expected.main, &["true"], 5).await.is_err(), "an exec in a container of the former boot");
    println!("after the reboot: {} pods NOTREADY, containers EXITED 255 Unknown, logs and attempts kept", all.len());
    Ok(())
}

/// The kubelet makes the next attempt.
async fn next(cri: &Cri) -> Result<()> {
    let own = NamespaceMode::Container;
    let mut sandbox: v1::PodSandboxConfig = pod("rebooted", own)?;
    sandbox.metadata.as_mut().context("no metadata")?.attempt = 1;
    let id = cri.run_pod(&sandbox).await?;
    let main = cri.run(&id, &shell("main", "sleep 86400", own), &sandbox).await?;
    ensure!(cri.exec_text(&main, &["echo", "after"]).await? == "after\n");
    Ok(())
}

/// Processes that have the IDs of the former boot's by chance.
fn others(pids: &[i32]) -> Result<Vec<Child>> {
    let mut others = Vec::new();
    for pid in pids {
        // Another process may be faster, or have the number already: then that one is the stranger.
        for _ in 0..50 {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())?;
            let mut child = Command::new("sleep").arg("86400").spawn()?;
            if child.id().cast_signed() == *pid {
                others.push(child);
                break;
            }
            child.kill()?;
            child.wait()?;
        }
    }
    ensure!(!others.is_empty(), "none of the process IDs {pids:?} could be had again");
    println!("after the reboot: {} of {} process IDs are somebody else's", others.len(), pids.len());
    Ok(others)
}
