//! kubectl logs, and what the kubelet's rotation does to them.

use crate::space::{LONG, Space, has};
use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::Pod;
use cricket_testkit::leaks;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

pub(crate) async fn kubectl_logs(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/logs.yaml")).await?;
    let again = |pod: &Pod| (pod.ready && pod.container("main").ok()?.restarts == 1).then_some(());
    space.pod("logs", "its second start", again).await?;
    let logs = |more: &[&str]| {
        let words: Vec<String> = ["logs", "logs"].iter().chain(more).map(|&word| word.to_owned()).collect();
        let kubectl = space.kubectl.clone();
        async move { kubectl.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    ensure!(logs(&["--previous"]).await? == "of the first\n", "another previous log");

    let mut child = space.kubectl.spawn(&["logs", "-f", "logs"])?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let mut seen = Vec::new();
    // Both streams are there; between them there is no order.
    while seen.len() < 6 {
        let line = timeout(LONG, lines.next_line()).await.with_context(|| format!("{seen:#?}"))??;
        seen.push(line.with_context(|| format!("the log ended: {seen:#?}"))?);
    }
    seen.sort();
    ensure!(seen == ["line 1", "line 2", "line 3", "line 4", "line 5", "to the other stream"], "{seen:#?}");
    space.sh("logs", "main", "touch /work/more").await?;
    let line = timeout(LONG, lines.next_line()).await.context("nothing follows")??;
    ensure!(line.as_deref() == Some("the end"), "{line:?}");
    child.kill().await?;

    ensure!(logs(&["--tail=1"]).await? == "the end\n", "{}", logs(&["--tail=1"]).await?);
    ensure!(logs(&["--limit-bytes=6"]).await?.len() == 6, "{}", logs(&["--limit-bytes=6"]).await?);
    let stamped = logs(&["--timestamps", "--since=1h"]).await?;
    ensure!(
        stamped.lines().count() == 7 && stamped.lines().all(|line| line.starts_with("20") && line.contains("Z ")),
        "{stamped}"
    );
    ensure!(logs(&["--since-time=2100-01-01T00:00:00Z"]).await?.is_empty(), "lines of the future");
    space.delete("logs").await
}

/// The file grows to the limit, is renamed and begun anew; no line is lost to who follows, or lost between the files.
pub(crate) async fn rotation(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/rotation.yaml")).await?;
    let pod = space.ready("talker").await?;
    let node = space.node("talker").await?;
    let dir = node.kubelet.logs().join(format!("{}_talker_{}/main", space.kubectl.namespace, pod.uid));
    let mut child = space.kubectl.spawn(&["logs", "-f", "talker"])?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let mut number = 0;
    let mut rotated = 0;
    let follow = async {
        // Two rotations, and some lines more.
        let mut rest = 300;
        while rest > 0 {
            let line = lines.next_line().await?.with_context(|| format!("the log ended after line {number}"))?;
            number += 1;
            ensure!(line.starts_with(&format!("line {number} ")), "line {number} is {line:?}");
            if number % 100 == 0 {
                rotated = leaks::names(&dir).iter().filter(|name| name.starts_with("0.log.")).count();
            }
            rest -= i32::from(rotated >= 2);
        }
        Ok(())
    };
    timeout(LONG, follow)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("waited {LONG:?} for two rotations")))
        .with_context(|| {
            format!("{rotated} rotated, {number} lines, in {}: {:?}", dir.display(), leaks::names(&dir))
        })?;
    child.kill().await?;
    // What kubectl shows without -f is the file that is written now.
    has(&space.kubectl.run(&["logs", "talker", "--tail=1"]).await?, &["line "])?;
    space.delete("talker").await
}
