//! The daemon is killed between a container's end and its poststop hooks, and while they run.

use anyhow::{Context as _, Result, ensure};
use cricket_integration::{Node, idle};
use cricket_testkit::cri::host_network;
use cricket_testkit::daemon::Options;
use cricket_testkit::host;
use serde_json::json;

use crate::support::{SOON, die_at};

#[tokio::test]
async fn between_an_end_and_its_poststop_hooks() -> Result<()> {
    let home = tempfile::tempdir()?;
    let (base, noted) = (home.path().join("base.json"), home.path().join("noted"));
    let begun = home.path().join("begun");
    let script = format!("echo > {}; sleep 1; echo ran >> {}", begun.display(), noted.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] });
    std::fs::write(&base, json!({ "ociVersion": "1.1.0", "hooks": { "poststop": [hook] } }).to_string())?;
    let table = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.hooked";
    let tables = format!("[{table}]\nruntime_type = 'io.cricket.youki.v1'\nbase_runtime_spec = {base:?}\n");
    let mut node = Node::with(Options { tables, ..Options::default() }).await?;
    let cri = node.daemon.cri().await?;
    let sandbox = host_network(node.daemon.pod("poststop"));
    let pod = cri.run_pod_with(&sandbox, "hooked").await?;
    let runs = || std::fs::read_to_string(&noted).unwrap_or_default().lines().count();
    let mut count = 0;
    // After the record, and before the first of them: not begun again, for nobody knows how far they came.
    for (point, ran) in [("exit.recorded", 1), ("remove.recorded", 1), ("poststop.recorded", 0)] {
        let config = idle(point, cricket_integration::BUSYBOX);
        let id = node.daemon.cri().await?.run(&pod, &config, &sandbox).await?;
        let cri = match point {
            "remove.recorded" => die_at(&mut node.daemon, point, async |cri| cri.remove(&id).await).await?,
            _ => die_at(&mut node.daemon, point, async |cri| cri.stop(&id, 10).await).await?,
        };
        cri.remove(&id).await?;
        count += ran;
        let waited = host::wait_for("the hooks", SOON, || Ok((runs() >= count).then_some(())));
        waited.with_context(|| format!("{point}: {}", node.daemon.log()))?;
        ensure!(runs() == count, "{point}: {} runs, not {count}", runs());
    }
    // Once begun, they go on without the daemon.
    std::fs::remove_file(&begun)?;
    let id = node.daemon.cri().await?.run(&pod, &idle("last", cricket_integration::BUSYBOX), &sandbox).await?;
    node.daemon.cri().await?.stop(&id, 10).await?;
    host::wait_for("the hooks to begin", SOON, || Ok(begun.exists().then_some(())))?;
    node.daemon.kill_and_launch()?;
    host::wait_for("the hooks", SOON, || Ok((runs() > count).then_some(())))?;
    let cri = node.daemon.cri().await?;
    cri.remove(&id).await?;
    cri.stop_pod(&pod).await?;
    cri.remove_pod(&pod).await?;
    ensure!(runs() == count + 1, "{} runs", runs());
    node.daemon.assert_no_leaks(SOON)
}
