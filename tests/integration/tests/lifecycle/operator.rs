//! The operator's commands, asked of a daemon that runs.

use anyhow::{Context, Result};
use cricket_integration::Node;
use cricket_testkit::host;

use crate::support::Scene;

/// `cricket COMMAND …` with the running daemon's own binary and directories.
pub(crate) fn operate(node: &Node, command: &str, words: &[&str]) -> Result<String> {
    let daemon = &node.daemon;
    let binary = format!("/proc/{}/exe", daemon.pid().context("the daemon runs")?);
    let (config, root, state) = (daemon.config(), daemon.root(), daemon.state());
    let socket = daemon.socket();
    let paths = [("--config", config.as_path()), ("--root", root), ("--state", &state), ("--address", &socket)];
    let mut arguments = vec![command.to_owned()];
    arguments.extend(paths.iter().flat_map(|(flag, path)| [(*flag).to_owned(), path.display().to_string()]));
    arguments.extend(words.iter().map(|&word| word.to_owned()));
    host::run(&binary, arguments)
}

#[tokio::test]
async fn what_is_known_of_a_container_and_its_pod() -> Result<()> {
    let scene = Scene::networked("explain").await?;
    let main = scene.idle("main").await?;
    let text = operate(&scene.node, "explain", &[&main[..20], "--json"])?;
    let known: serde_json::Value = serde_json::from_str(&text)?;
    let (container, pod) = (&known["container"], &known["pod"]);
    assert_eq!((container["id"].as_str(), container["name"].as_str()), (Some(main.as_str()), Some("main")));
    assert_eq!((container["state"]["is"].as_str(), pod["state"].as_str()), (Some("Running"), Some("Ready")));
    let pid = container["state"]["pid"].as_u64().context("a PID")?;
    let cgroup = container["cgroup"].as_str().context("a control group")?;
    assert!(std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?.contains(cgroup), "{cgroup}");
    let monitor = pod["monitor"]["pid"].as_u64().context("a monitor")?;
    assert!(std::fs::read_to_string(format!("/proc/{monitor}/cmdline"))?.starts_with("cricket-monitor"));
    assert_eq!(pod["id"].as_str(), Some(scene.id.as_str()));
    let status = scene.cri.pod(&scene.id).await?;
    let ip = status.network.context("a network")?.ip;
    assert_eq!(pod["network"]["ips"][0].as_str(), Some(ip.as_str()));
    assert!(!container["image"]["diff_ids"].as_array().context("layers")?.is_empty());
    let mounted = container["mounts"].as_array().context("mounts")?;
    assert!(mounted.iter().any(|m| m.as_str().is_some_and(|m| m.contains(&main))), "{mounted:?}");
    // For a person.
    let page = operate(&scene.node, "explain", &[&scene.id[..20]])?;
    for line in ["pod:\n", "containers:\n", "is: Running", &format!("pid: {monitor}"), &ip] {
        assert!(page.contains(line), "{line}: {page}");
    }
    let error = operate(&scene.node, "explain", &["0123456789abcdef"]).expect_err("nobody").to_string();
    assert!(error.contains("no pod or container"), "{error}");
    scene.end().await
}

/// What the timeline of a pod or container says, and how long each took.
fn steps(about: &serde_json::Value) -> Vec<(String, Option<f64>)> {
    let steps = about["timeline"].as_array().cloned().unwrap_or_default();
    steps.iter().map(|step| (step["what"].as_str().unwrap_or_default().to_owned(), step["ms"].as_f64())).collect()
}

#[tokio::test]
async fn a_timeline_has_every_stage_and_survives_restarts() -> Result<()> {
    let node = Node::start().await?;
    let pod = node.daemon.pod("timeline");
    let cri = node.daemon.cri().await?;
    let id = cri.run_pod(&pod).await?;
    let main = cri.run(&id, &cricket_integration::idle("main", cricket_integration::BUSYBOX), &pod).await?;
    let mut node = node;
    node.daemon.kill_and_launch()?;
    let cri = node.daemon.cri().await?;
    cri.stop(&main, 5).await?;
    cri.stop_pod(&id).await?;
    node.daemon.kill_and_launch()?;
    let known: serde_json::Value = serde_json::from_str(&operate(&node, "explain", &[&main, "--json"])?)?;
    let (of_pod, of_main) = (steps(&known["pod"]), steps(&known["container"]));
    let took = |steps: &[(String, Option<f64>)], what: &str| {
        let step = steps.iter().find(|(name, _)| name == what).with_context(|| format!("{what}: {steps:?}"))?;
        step.1.with_context(|| format!("{what} took no time: {steps:?}"))
    };
    for what in
        ["make namespaces", "add the pod to its network", "start the pod's monitor", "take the pod off its network"]
    {
        assert!(took(&of_pod, what)? < 60_000.0, "{of_pod:?}");
    }
    for what in ["make the root file system", "make the specification", "prepare the start", "launch the container"] {
        assert!(took(&of_main, what)? < 60_000.0, "{of_main:?}");
    }
    assert!(of_main.iter().any(|(what, _)| what == "to be stopped within 5 s"), "{of_main:?}");
    // In the order in which it was.
    let at: Vec<_> =
        known["pod"]["timeline"].as_array().context("steps")?.iter().map(|s| s["at"].to_string()).collect();
    assert!(at.is_sorted(), "{at:?}");
    let page = operate(&node, "explain", &[&main])?;
    assert!(page.contains(" ms  launch the container\n"), "{page}");
    let cri = node.daemon.cri().await?;
    Ok(cri.remove_pod(&id).await?)
}

#[tokio::test]
async fn leftovers_are_taken_away_by_the_daemon_that_runs_and_pods_stay() -> Result<()> {
    let node = Node::start().await?;
    let pod = node.daemon.pod("repair");
    let cri = node.daemon.cri().await?;
    let id = cri.run_pod(&pod).await?;
    let main = cri.run(&id, &cricket_integration::idle("main", cricket_integration::BUSYBOX), &pod).await?;
    // A folder with a mount, and a name where network namespaces are pinned: of no pod.
    let folder = node.daemon.state().join("pods").join("f".repeat(64));
    let mounted = folder.join("shm");
    std::fs::create_dir_all(&mounted)?;
    host::run("mount", ["-t", "tmpfs", "none", &mounted.display().to_string()])?;
    let lost = node.daemon.state().join("netns/cni-lost");
    std::fs::write(&lost, "")?;
    let text = operate(&node, "doctor", &["--repair"])?;
    for line in [
        format!("fixed  mount {}: unmounted", mounted.display()),
        format!("fixed  folder {}: removed", folder.display()),
        format!("fixed  network namespace {}: unpinned", lost.display()),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(!folder.exists() && !lost.exists());
    assert_eq!(cricket_integration::sh(&cri, &main, "echo alive").await?, "alive");
    let again = operate(&node, "doctor", &["--repair"])?;
    assert!(!again.contains("fixed"), "{again}");
    cri.stop_pod(&id).await?;
    Ok(cri.remove_pod(&id).await?)
}
