//! Words that the tests have in common.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// `sh -c` with a script.
pub(crate) fn sh(script: &str) -> Value {
    json!(["sh", "-c", script])
}

/// The lines of a file that a pod writes; none while it is not there.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits for something that a pod or the kubelet does.
pub(crate) async fn until(what: &str, limit: Duration, mut happened: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !happened() {
        ensure!(began.elapsed() < limit, "waited {limit:?} for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Where a line is first.
fn first(lines: &[String], line: &str) -> Result<usize> {
    lines.iter().position(|each| each == line).with_context(|| format!("no {line} in {lines:#?}"))
}

/// Checks an order such as `A < B C < D`: what is in the groups comes (first)
/// before what is in the next one.
pub(crate) fn ordered(lines: &[String], order: &str) -> Result<()> {
    let groups: Vec<Vec<&str>> = order.split('<').map(|group| group.split_whitespace().collect()).collect();
    for pair in groups.windows(2) {
        for before in &pair[0] {
            for after in &pair[1] {
                if first(lines, before)? >= first(lines, after)? {
                    bail!("{before} is not before {after}: {lines:#?}");
                }
            }
        }
    }
    Ok(())
}
