//! The clock is set a year forward, two years back, and right again, under pods that would notice: what is waited for is
//! waited for by a clock that nobody sets, and what is written down is the time that everybody sees.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cricket_cri_api::v1::{ContainerEventType, ContainerStatsRequest, GetEventsRequest, NamespaceMode};
use cricket_testkit::cri::Cri;
use cricket_testkit::{host, leaks};

use crate::pods::{Pods, pod, remove_all, shell};
use crate::process::{SOON, init};
use crate::service::now;
use crate::unit;

/// Seconds that an exec and a stop may take which are under way when the clock is set.
const TIMEOUT: i64 = 4;
const GRACE: i64 = 5;
/// What an emulated processor may take besides.
const SLACK: Duration = Duration::from_secs(40);
const DAY: i64 = 86_400;
/// Ends only by force, and says when it is up.
const DEAF: &str = "trap '' TERM; echo up; while :; do sleep 0.1; done";
const BUSY: &str = "while :; do :; done";

pub(crate) async fn run(images: &Path) -> Result<()> {
    unit::storage(false)?;
    unit::up(&unit::this_build()?, images)?;
    let mut cri = unit::connect().await?;
    let mut pods = Pods::start(&cri).await?;
    pods.check(&cri).await?;
    for (which, days) in [(0, 365), (1, -730), (2, 365)] {
        cri = jump(&cri, &mut pods, which, days).await.with_context(|| format!("the clock set by {days} days"))?;
    }
    remove_all(&cri).await?;
    println!("clock: passed");
    Ok(())
}

/// Sets the clock while things are under way. `which`: the mortal container that ends afterwards.
async fn jump(cri: &Cri, pods: &mut Pods, which: usize, days: i64) -> Result<Cri> {
    let own = NamespaceMode::Container;
    let sandbox = pod(&format!("clock-{which}"), own)?;
    let id = cri.run_pod(&sandbox).await?;
    let config = shell("deaf", DEAF, own);
    let deaf = cri.run(&id, &config, &sandbox).await?;
    let log = Path::new(&sandbox.log_directory).join(&config.log_path);
    host::wait_for("a container to be up", SOON, || Ok(std::fs::read(&log)?.ends_with(b" up\n").then_some(())))?;
    let busy = cri.run(&id, &shell("busy", BUSY, own), &sandbox).await?;
    let mortal = init(cri, &pods.mortal[which]).await?;
    let mut events = cri.runtime().get_container_events(GetEventsRequest {}).await?.into_inner();

    let exec = {
        let (cri, busy, began) = (cri.clone(), busy.clone(), Instant::now());
        tokio::spawn(async move { (cri.exec(&busy, &["sleep", "4712"], TIMEOUT).await, began.elapsed()) })
    };
    let stop = {
        let (cri, deaf, began) = (cri.clone(), deaf.clone(), Instant::now());
        tokio::spawn(async move { (cri.stop(&deaf, GRACE).await, began.elapsed()) })
    };
    host::wait_for("the exec", SOON, || {
        Ok(leaks::processes(&busy)?.iter().any(|p| p.command == "sleep 4712").then_some(()))
    })?;
    let (before, read) = (usage(cri, &busy).await?, Instant::now());
    let since = now()?.saturating_add(days * DAY * 1_000_000_000);
    host::run("date", ["-s", &format!("@{}", since / 1_000_000_000)])?;
    // The command knows whole seconds.
    let since = since / 1_000_000_000 * 1_000_000_000;
    let drift = now()?.saturating_sub(since);
    ensure!((0..SLACK.as_nanos() as i64).contains(&drift), "the clock is not set: {drift} ns off");

    let after = usage(cri, &busy).await?;
    let (used, elapsed) = (after.0.saturating_sub(before.0), read.elapsed().as_nanos() as u64);
    let most = u64::try_from(u128::from(used) * 1_000_000_000 / u128::from(elapsed))?;
    // Between the two readings less time has passed than here, so that the rate is higher than this one.
    ensure!(after.1 >= most / 2 && after.1 <= 4_000_000_000, "{} nanocores, at least {most} are right", after.1);

    let (answer, took) = exec.await?;
    let error = answer.err().context("an exec that takes too long succeeds")?;
    ensure!(format!("{:?}", error.code()) == "DeadlineExceeded", "{error:?}");
    lasted("an exec's timeout", TIMEOUT, took)?;
    let (answer, took) = stop.await?;
    answer?;
    lasted("a grace period", GRACE, took)?;
    let status = cri.container(&deaf).await?;
    ensure!(status.exit_code == 137 && status.finished_at >= since, "{status:?}");

    mortal.kill("USR1")?;
    pods.ended(cri, which, Some((since, i64::MAX))).await?;
    let ended = cri.container(&pods.mortal[which]).await?;
    ensure!(ended.finished_at <= now()?, "it ended in the future: {ended:?}");
    let told = async {
        while let Some(event) = events.message().await? {
            let stopped = event.container_event_type() == ContainerEventType::ContainerStoppedEvent;
            if stopped && event.container_id == pods.mortal[which] {
                return Ok(event.created_at);
            }
        }
        bail!("the events end")
    };
    let told = tokio::time::timeout(SOON, told).await.context("no event")??;
    ensure!((since..=now()?).contains(&told), "an event of {told}");
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    let restarted = restart(pods, since).await?;
    pods.ended(&restarted, which, Some((since, i64::MAX))).await?;
    Ok(restarted)
}

/// All is well, and is so under another daemon.
async fn restart(pods: &mut Pods, since: i64) -> Result<Cri> {
    let cri = unit::connect().await?;
    pods.check(&cri).await?;
    unit::systemctl(&["restart", "cricket"])?;
    let cri = unit::connect().await?;
    pods.check(&cri).await?;
    let logged = pods.last_logged()?.saturating_mul(1_000_000);
    ensure!((since..=now()?).contains(&logged), "the log's last line is of {logged}, not since {since}");
    println!("clock: at {} everything goes on", host::run("date", ["-u", "+%F %T"])?.trim());
    Ok(cri)
}

/// Not shorter than it was to be, and not for a year.
fn lasted(what: &str, seconds: i64, took: Duration) -> Result<()> {
    let wanted = Duration::from_secs(seconds.unsigned_abs());
    ensure!(took >= wanted && took < wanted + SLACK, "{what} of {seconds} s took {took:.1?}");
    Ok(())
}

/// Nanoseconds of processor time that a container has used, and its use in nanocores.
async fn usage(cri: &Cri, id: &str) -> Result<(u64, u64)> {
    let request = ContainerStatsRequest { container_id: id.to_owned() };
    let answer = cri.runtime().container_stats(request).await?.into_inner();
    let cpu = answer.stats.context("no statistics")?.cpu.context("no use of the processor")?;
    let value = |v: Option<cricket_cri_api::v1::UInt64Value>| v.map_or(0, |v| v.value);
    Ok((value(cpu.usage_core_nano_seconds), value(cpu.usage_nano_cores)))
}
