//! A pod from its sandbox to its removal.

use std::time::Duration;

use anyhow::Result;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::container;
use cricket_testkit::logs::lines;

#[tokio::test]
async fn runs_logs_executes_stops_and_leaves_nothing() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let pod = node.daemon.pod("whole");
    let id = cri.run_pod(&pod).await?;
    let status = cri.pod(&id).await?;
    assert_eq!(status.state, 0, "ready");
    assert!(!status.network.unwrap_or_default().ip.is_empty(), "has an address");

    let script = "echo out; echo err >&2; trap 'exit 7' TERM; while :; do sleep 0.05; done";
    let config = container("main", BUSYBOX, &["sh", "-c", script]);
    let main = cri.create(&id, &config, &pod).await?;
    cri.start(&main).await?;
    let done = cri.exec(&main, &["sh", "-c", "echo hello; echo bad >&2; exit 3"], 10).await?;
    assert_eq!((done.exit_code, done.stdout.as_slice(), done.stderr.as_slice()), (3, &b"hello\n"[..], &b"bad\n"[..]));

    cri.stop(&main, 10).await?;
    let ended = cri.container(&main).await?;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
    let logs = node.daemon.logs(&pod, &config)?;
    assert_eq!((lines(&logs, "stdout"), lines(&logs, "stderr")), (vec!["out".to_owned()], vec!["err".to_owned()]));

    cri.remove(&main).await?;
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    node.daemon.assert_no_leaks(Duration::from_secs(5))
}
