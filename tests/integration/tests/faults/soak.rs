//! Pods come and go, and nothing grows. `hack/soak` runs it for longer.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cricket_integration::{BUSYBOX, Node, idle};
use cricket_testkit::cri::Cri;

use crate::support::SOON;

/// How many pods live at once.
const AT_ONCE: usize = 4;
/// Cycles after which what is kept for reuse is there.
const WARM: usize = 24;
/// How much memory more is no growth: the allocator's and the database's caches, in KiB.
const SLACK: i64 = 4096;

/// What the daemon, and the whole machine, has.
type Figures = BTreeMap<&'static str, i64>;

fn count(path: &str, of: impl Fn(&str) -> bool) -> Result<i64> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    Ok(i64::try_from(text.lines().filter(|line| of(line)).count())?)
}

fn measure(node: &Node) -> Result<Figures> {
    let pid = node.daemon.pid().context("no daemon")?;
    let kib = |file: &str, field: &str| -> Result<i64> {
        let path = format!("/proc/{pid}/{file}");
        let text = std::fs::read_to_string(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| path)?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let mark = node.daemon.mark();
    let records = std::fs::metadata(node.daemon.root().join("records.redb"))?.len();
    Ok(BTreeMap::from([
        ("file descriptors of the daemon", i64::try_from(node.daemon.open_fds()?)?),
        // Not its program's pages: each of them counts for less while other daemons run the same one.
        ("memory of the daemon, KiB", kib("smaps_rollup", "Anonymous:")?),
        ("records, KiB", i64::try_from(records >> 10)?),
        ("mounts of the daemon and its pods", count("/proc/self/mountinfo", |line| line.contains(mark))?),
        ("network namespaces", i64::try_from(cricket_testkit::leaks::names(&node.daemon.state().join("netns")).len())?),
        ("control groups", i64::try_from(cricket_testkit::leaks::cgroups(mark)?.len())?),
        ("processes", i64::try_from(cricket_testkit::leaks::processes(mark)?.len())?),
        ("files of the state directory", i64::try_from(cricket_testkit::leaks::files(&node.daemon.state()).len())?),
        (
            "files of containers",
            i64::try_from(cricket_testkit::leaks::names(&node.daemon.root().join("images/containers")).len())?,
        ),
    ]))
}

async fn cycle(node: &Node, cri: &Cri, number: usize) -> Result<()> {
    let sandbox = node.daemon.pod(&format!("soak-{number}"));
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &idle("main", BUSYBOX), &sandbox).await?;
    ensure!(cri.exec_text(&main, &["echo", "hello"]).await? == "hello\n");
    // Every other pod is stopped in one go, as a node is drained in a hurry.
    if number.is_multiple_of(2) {
        cri.stop(&main, 5).await?;
        cri.remove(&main).await?;
    }
    cri.stop_pod(&pod).await?;
    cri.remove_pod(&pod).await?;
    Ok(std::fs::remove_dir_all(&sandbox.log_directory)?)
}

async fn cycles(node: &Node, numbers: std::ops::Range<usize>) -> Result<()> {
    let one = async |first: usize| -> Result<()> {
        let cri = node.daemon.cri().await?;
        for number in numbers.clone().skip(first).step_by(AT_ONCE) {
            cycle(node, &cri, number).await.with_context(|| format!("cycle {number}"))?;
        }
        Ok(())
    };
    let (a, b, c, d) = tokio::join!(one(0), one(1), one(2), one(3));
    a.and(b).and(c).and(d)?;
    node.daemon.assert_no_leaks(SOON)
}

#[tokio::test]
async fn many_pods_leave_nothing_and_nothing_grows() -> Result<()> {
    let pods = match std::env::var("CRICKET_SOAK_PODS") {
        Ok(text) => text.parse().context("CRICKET_SOAK_PODS")?,
        Err(_) => 40,
    };
    let node = Node::start().await?;
    cycles(&node, 0..WARM).await?;
    let before = measure(&node)?;
    let daemon = i32::try_from(node.daemon.pid().context("no daemon")?)?;
    let open = cricket_testkit::leaks::descriptors(daemon)?;
    let began = Instant::now();
    cycles(&node, WARM..WARM + pods).await?;
    let took = began.elapsed();
    // Threads for blocking work and what the allocator keeps go with time, not with work.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let after = measure(&node)?;
    println!("{pods} pods, {AT_ONCE} at once, in {:.1} s", took.as_secs_f64());
    println!("{:<40}{:>10}{:>10}", "", "before", "after");
    let mut grown = Vec::new();
    for (name, was) in &before {
        let is = after[name];
        println!("{name:<40}{was:>10}{is:>10}");
        let slack = if name.ends_with("KiB") { SLACK } else { 0 };
        if is > was + slack {
            grown.push(format!("{name}: {was} before, {is} after"));
        }
    }
    let now = cricket_testkit::leaks::descriptors(daemon)?;
    ensure!(grown.is_empty(), "{}; descriptors before: {open:?}, after: {now:?}", grown.join("\n"));
    Ok(())
}
