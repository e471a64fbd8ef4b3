//! The service is restarted, stopped, started and killed under pods that would notice.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use cricket_testkit::cri::Cri;
use cricket_testkit::{host, leaks};

use crate::pods::{Pods, remove_all};
use crate::process::{SOON, init};
use crate::{readiness, unit};

pub(crate) async fn run(images: &Path) -> Result<()> {
    unit::storage(false)?;
    unit::up(&unit::this_build()?, images)?;
    // No waiting: systemctl came back, so it serves.
    let cri = unit::connect().await?;
    settings()?;
    let mut pods = Pods::start(&cri).await?;
    let usual = pods.check(&cri).await?;
    println!("longest time between two lines of the counter's log at rest: {usual} ms");

    let cri = restarts(cri, &mut pods).await?;
    let cri = stopped(cri, &mut pods).await?;
    let cri = killed(cri, &mut pods).await?;
    readiness::run(&mut pods).await?;
    drop(cri);
    let cri = unit::connect().await?;
    remove_all(&cri).await?;
    println!("service: passed");
    Ok(())
}

/// What the unit asks of systemd has come about.
fn settings() -> Result<()> {
    let daemon = unit::daemon()?;
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", daemon.pid))?;
    ensure!(score.trim() == "-999", "OOM score adjustment {score}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid))?;
    let files = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit of files")?;
    ensure!(files.contains("1048576"), "{files}");
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt"));
    ensure!(namespace(&daemon.pid.to_string())? == namespace("1")?, "the daemon has mounts of its own");
    ensure!(unit::property("Delegate")? == "yes" && unit::property("TasksMax")? == "infinity");
    Ok(())
}

/// `systemctl restart`, with an exec under way and a container that ends meanwhile.
async fn restarts(mut cri: Cri, pods: &mut Pods) -> Result<Cri> {
    for round in 0..3 {
        let before = unit::daemon()?;
        let running = {
            let (cri, id) = (cri.clone(), pods.counter().to_owned());
            tokio::spawn(async move { cri.exec(&id, &["sleep", "4711"], 600).await })
        };
        let execs =
            || -> Result<bool> { Ok(leaks::processes(pods.counter())?.iter().any(|p| p.command == "sleep 4711")) };
        host::wait_for("the exec", SOON, || Ok(execs()?.then_some(())))?;
        let mortal = if round == 0 { Some(init(&cri, &pods.mortal[0]).await?) } else { None };
        let began = Instant::now();
        let mut restart = std::process::Command::new("systemctl").args(["restart", "cricket"]).spawn()?;
        if let Some(mortal) = mortal {
            mortal.kill("USR1")?;
        }
        let status = restart.wait()?;
        ensure!(status.success(), "systemctl restart: {status}");
        let took = began.elapsed();
        cri = unit::connect().await?;
        ensure!(unit::daemon()? != before, "the same daemon runs");
        let answer = tokio::time::timeout(SOON, running).await.context("the exec of the former daemon hangs")??;
        ensure!(answer.as_ref().map_or(true, |a| a.exit_code != 0), "an exec that was cut off answers {answer:?}");
        ensure!(!execs()?, "the exec outlives its caller");
        let gap = pods.check(&cri).await?;
        println!("systemctl restart: {took:.1?}; longest time between two lines of the log: {gap} ms");
    }
    pods.ended(&cri, 0, None).await?;
    Ok(cri)
}

/// `systemctl stop` and, later, `start`; a container ends between.
async fn stopped(cri: Cri, pods: &mut Pods) -> Result<Cri> {
    let mortal = init(&cri, &pods.mortal[1]).await?;
    unit::systemctl(&["stop", "cricket"])?;
    ensure!(unit::property("ActiveState")? == "inactive", "{}", unit::property("ActiveState")?);
    ensure!(unit::connect().await.is_err(), "somebody listens for a service that is stopped");
    pods.undisturbed().await?;
    let since = now()?;
    mortal.kill("USR1")?;
    mortal.wait_gone()?;
    let until = now()?;
    let gap = pods.logged()?;
    println!("stopped: longest time between two lines of the log: {gap} ms");
    let began = Instant::now();
    unit::systemctl(&["start", "cricket"])?;
    println!("systemctl start with pods: {:.1?}", began.elapsed());
    let cri = unit::connect().await?;
    pods.check(&cri).await?;
    pods.ended(&cri, 1, Some((since, until))).await?;
    Ok(cri)
}

/// `kill -9`: systemd starts another one.
async fn killed(cri: Cri, pods: &mut Pods) -> Result<Cri> {
    let mortal = init(&cri, &pods.mortal[2]).await?;
    let daemon = unit::daemon()?;
    daemon.kill("KILL")?;
    mortal.kill("USR1")?;
    host::wait_for("another daemon", SOON, || {
        let other = unit::daemon().is_ok_and(|now| now != daemon);
        Ok((other && unit::property("ActiveState")? == "active").then_some(()))
    })?;
    ensure!(unit::property("NRestarts")? == "1");
    let cri = unit::connect().await?;
    pods.check(&cri).await?;
    pods.ended(&cri, 2, None).await?;
    Ok(cri)
}

/// Nanoseconds since 1970, as CRI has them.
pub(crate) fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}
