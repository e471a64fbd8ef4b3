//! Poststop hooks (OCI runtime-spec, "POSIX-platform Hooks"): once, at the end of a container that was launched, by the
//! built-in handler and by an OCI binary.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri;
use cricket_testkit::daemon::Options;
use cricket_testkit::host::{skip, systemd_driver, tool_dir, unique};
use serde_json::{Value, json};

use crate::support::{SOON, Scene, idle, until};

/// A folder with a base specification and what its hooks write, removed at the end.
struct Hooked(PathBuf);

impl Drop for Hooked {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Hooked {
    /// The handlers `hooked` and `hooked-runc`, with these scripts as hooks in turn; `@` in one is the folder.
    async fn node(scripts: &[(&str, Value)]) -> Result<(Self, Node)> {
        let home = std::env::temp_dir().join(format!("cricket-poststop-{}", unique()));
        std::fs::create_dir_all(&home)?;
        let hook = |(script, timeout): &(&str, Value)| {
            let script = script.replace('@', &home.display().to_string());
            let mut hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] });
            if timeout.is_number() {
                hook["timeout"] = timeout.clone();
            }
            hook
        };
        let hooks: Vec<_> = scripts.iter().map(hook).collect();
        let base = home.join("base.json");
        std::fs::write(&base, json!({ "ociVersion": "1.1.0", "hooks": { "poststop": hooks } }).to_string())?;
        let runtimes = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes";
        let tables = format!(
            "[{runtimes}.hooked]\nruntime_type = 'io.cricket.youki.v1'\nbase_runtime_spec = {base:?}\n\
             [{runtimes}.hooked-runc]\nruntime_type = 'io.containerd.runc.v2'\nbase_runtime_spec = {base:?}\n\
             [{runtimes}.hooked-runc.options]\nBinaryName = {:?}\n",
            tool_dir("runc")?.join("runc")
        );
        Ok((Self(home), Node::with(Options { tables, ..Options::default() }).await?))
    }

    /// The states that hooks were given, in turn.
    fn states(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.0.join("states")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).context("a state")).collect()
    }

    async fn has(&self, count: usize) -> Result<()> {
        until("the hooks to run", || async { Ok(self.states()?.len() >= count) }).await
    }
}

async fn scene(node: &std::sync::Arc<Node>, handler: &str) -> Result<Scene> {
    let cri = node.daemon.cri().await?;
    let pod = cri::host_network(node.daemon.pod(handler));
    let id = cri.run_pod_with(&pod, handler).await?;
    Ok(Scene { cri, pod, id, node: node.clone() })
}

/// Notes the state, if the root file system is still there.
const NOTE: &str = r#"state=$(cat | tr -d '\n'); bundle=$(echo "$state" | sed 's/.*"bundle": *"\([^"]*\)".*/\1/')
                      test -x "$bundle/rootfs/bin/sh" && echo "$state" >> @/states"#;

#[tokio::test]
async fn poststop_hooks_run_once_when_a_container_has_ended() -> Result<()> {
    let broken = ("echo broken >&2; exit 3", Value::Null);
    let (hooked, node) = Hooked::node(&[(NOTE, Value::Null), broken, (NOTE, json!(10))]).await?;
    let node = std::sync::Arc::new(node);
    let mut count = 0;
    // runc does not go on after one that fails.
    let mut handlers = vec![("hooked", 2), ("hooked-runc", 1)];
    if systemd_driver() {
        skip("runc takes no scope that has a process");
        handlers.pop();
    }
    for (handler, hooks) in handlers {
        let scene = scene(&node, handler).await?;
        let never = scene.cri.create(&scene.id, &idle("never"), &scene.pod).await?;
        scene.cri.remove(&never).await?;
        let main = scene.idle("main").await?;
        assert_eq!(hooked.states()?.len(), count, "{handler}: they ran before the end");
        scene.cri.stop(&main, 10).await?;
        count += hooks;
        // At the end, not at the removal.
        hooked.has(count).await.context(handler)?;
        assert_eq!(scene.cri.container(&main).await?.id, main);
        scene.cri.remove(&main).await?;
        let states = hooked.states()?;
        assert_eq!(states.len(), count, "{handler}: {states:?}");
        let last = &states[count - 1];
        assert_eq!((&last["id"], &last["status"]), (&json!(main), &json!("stopped")), "{handler}");
        ensure!(last["annotations"].is_object() && last["ociVersion"].is_string(), "{last}");
        // One that could not be started was made all the same.
        let missing = cri::container("missing", BUSYBOX, &["/no/such/command"]);
        let missing = scene.cri.create(&scene.id, &missing, &scene.pod).await?;
        scene.cri.start(&missing).await.expect_err("there is no such command");
        if handler == "hooked" {
            count += hooks;
            hooked.has(count).await?;
        } else {
            // It depends on runc how far it came.
            scene.cri.remove(&missing).await?;
            count = hooked.states()?.len();
        }
        scene.end().await?;
        assert_eq!(hooked.states()?.len(), count, "{handler}: they ran again");
    }
    node.daemon.assert_no_leaks(SOON)
}

#[tokio::test]
async fn a_poststop_hook_that_hangs_holds_a_removal_up_no_longer_than_its_timeout() -> Result<()> {
    let hangs = ("echo $$ > @/pid; exec sleep 1000", json!(4));
    let (hooked, node) = Hooked::node(&[hangs, (NOTE, Value::Null)]).await?;
    let scene = scene(&node.into(), "hooked").await?;
    let main = scene.idle("main").await?;
    let begin = Instant::now();
    scene.cri.stop(&main, 10).await?;
    ensure!(begin.elapsed() < Duration::from_secs(4), "the stop waited for the hooks: {:?}", begin.elapsed());
    scene.cri.remove(&main).await?;
    let took = begin.elapsed();
    ensure!(took >= Duration::from_secs(4) && took < SOON, "the removal took {took:?}");
    assert_eq!(hooked.states()?.len(), 1, "the hook after it");
    let pid = std::fs::read_to_string(hooked.0.join("pid"))?;
    ensure!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "the hook runs on");
    // A pod that is removed with such a container waits for it, too.
    scene.idle("other").await?;
    let node = scene.node.clone();
    scene.end().await?;
    assert_eq!(hooked.states()?.len(), 2);
    node.daemon.assert_no_leaks(SOON)
}
