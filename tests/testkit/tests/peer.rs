//! The harness on a runtime that is known to work: what it starts runs, what
//! is left is found, and nothing stays.

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_testkit::daemon::{Daemon, Options, Program};
use cricket_testkit::registry::Registry;
use cricket_testkit::{cri, image, leaks, logs};
use std::path::{Path, PathBuf};
use std::time::Duration;

const IMAGE: &str = "docker.io/library/busybox:latest";

#[tokio::test]
async fn a_pod_runs_and_everything_is_removed() -> Result<()> {
    let registry = Registry::start()?;
    registry.fill(&image::suite()?).await?;
    let mut daemon = Daemon::with(Options {
        program: Program::Containerd,
        registry: Some(registry.url().to_owned()),
        ..Options::default()
    })?;
    let cri = daemon.cri().await?;
    cri.pull(IMAGE).await?;
    assert!(registry.count("GET /v2/library/busybox/blobs/")? > 0);

    let mut pod = daemon.pod("p");
    pod.port_mappings = vec![v1::PortMapping { container_port: 80, host_port: 23456, ..Default::default() }];
    let id = cri.run_pod(&pod).await?;
    let ip = cri.pod(&id).await?.network.context("no network")?.ip;
    assert_eq!(daemon.network().leases()?, [ip]);

    let config = cri::container("c", IMAGE, &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let container = cri.run(&id, &config, &pod).await?;
    assert_eq!(cri.wait_exit(&container, Duration::from_secs(10)).await?.exit_code, 7);
    let records = daemon.logs(&pod, &config)?;
    assert_eq!(logs::lines(&records, "stdout"), ["out"]);
    assert_eq!(logs::lines(&records, "stderr"), ["err"]);

    let sleeper = cri::container("s", IMAGE, &["sleep", "600"]);
    let sleeper = cri.run(&id, &sleeper, &pod).await?;
    assert_eq!(cri.exec_text(&sleeper, &["hostname"]).await?, "p\n");
    assert!(cri.exec_text(&sleeper, &["false"]).await.is_err());

    // A running pod is a leak of every kind that there is.
    let found = daemon.leaks()?.join("\n");
    for kind in ["process", "mount", "cgroup", "lease", "device", "iptables rule"] {
        assert!(found.lines().any(|line| line.starts_with(kind)), "no {kind} in:\n{found}");
    }

    // The daemon is gone, its pod is not: dropping must find it without help.
    daemon.kill()?;
    let mark = daemon.mark().to_owned();
    let dirs: Vec<PathBuf> = [daemon.home(), daemon.root()].map(Path::to_owned).into();
    assert!(leaks::processes(&mark)?.iter().any(|process| process.command == "sleep 600"));
    let bridge = daemon.network().bridge().to_owned();
    drop(daemon);
    assert_eq!(leaks::processes(&mark)?, []);
    assert_eq!(leaks::cgroups(&mark)?, Vec::<PathBuf>::new());
    assert!(dirs.iter().all(|dir| !dir.exists()));
    assert!(!Path::new("/sys/class/net").join(bridge).exists());
    let rules = cricket_testkit::host::run("iptables-save", ["-t", "nat"])?;
    assert!(!rules.contains("23456"), "{rules}");
    Ok(())
}
