//! Which namespaces a container shares with whom.

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_testkit::cri;
use tonic::Code;

use crate::support::{Scene, idle, node, pod_security, security};

fn options(config: &mut v1::ContainerConfig) -> &mut v1::NamespaceOption {
    security(config).namespace_options.get_or_insert_default()
}

fn inode(name: &str) -> Result<String> {
    Ok(std::fs::read_link(format!("/proc/self/ns/{name}"))?.display().to_string())
}

/// A pod whose PID namespace option is this, for its containers too.
async fn with_pid(name: &str, mode: v1::NamespaceMode) -> Result<Scene> {
    let node = node().await?;
    let mut pod = cri::host_network(node.daemon.pod(name));
    pod_security(&mut pod).namespace_options.get_or_insert_default().set_pid(mode);
    Scene::with(node, pod).await
}

#[tokio::test]
async fn containers_of_a_pod_share_network_ipc_and_names() -> Result<()> {
    let scene = Scene::networked("ns-shared").await?;
    let (one, two) = (scene.idle("one").await?, scene.idle("two").await?);
    for kind in ["net", "ipc", "uts"] {
        let link = format!("readlink /proc/self/ns/{kind}");
        let (first, second) = (scene.sh(&one, &link).await?, scene.sh(&two, &link).await?);
        assert_eq!(first, second, "{kind}");
        assert_ne!(first, inode(kind)?, "{kind}");
    }
    for kind in ["pid", "mnt"] {
        let link = format!("readlink /proc/self/ns/{kind}");
        let (first, second) = (scene.sh(&one, &link).await?, scene.sh(&two, &link).await?);
        assert_ne!(first, second, "{kind}");
        assert_ne!(first, inode(kind)?, "{kind}");
    }
    // Shared memory is the pod's: what one writes the other reads, and another pod does not see.
    scene.sh(&one, "echo shared > /dev/shm/file").await?;
    assert_eq!(scene.sh(&two, "cat /dev/shm/file").await?, "shared");
    assert!(scene.sh(&one, "mount | grep ' /dev/shm '").await?.contains("tmpfs"));
    let other = Scene::networked("ns-shared-other").await?;
    let apart = other.idle("one").await?;
    assert_eq!(other.sh(&apart, "ls /dev/shm").await?, "");
    assert!(!std::path::Path::new("/dev/shm/file").exists());
    other.end().await?;
    scene.end().await
}

#[tokio::test]
async fn a_mount_covers_the_pods_shared_memory() -> Result<()> {
    let scene = Scene::host("ns-shm").await?;
    let dir = scene.node.daemon.home().join("own-shm");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("mine"), "mine")?;
    let mut config = idle("main");
    config.mounts = vec![crate::support::mount(&dir, "/dev/shm")];
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "ls /dev/shm").await?, "mine");
    scene.end().await
}

#[tokio::test]
async fn the_hosts_ipc_is_the_hosts() -> Result<()> {
    let node = node().await?;
    let mut pod = cri::host_network(node.daemon.pod("ns-host-ipc"));
    pod_security(&mut pod).namespace_options.get_or_insert_default().set_ipc(v1::NamespaceMode::Node);
    let scene = Scene::with(node, pod).await?;
    let mut config = idle("main");
    options(&mut config).set_ipc(v1::NamespaceMode::Node);
    options(&mut config).set_network(v1::NamespaceMode::Node);
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "readlink /proc/self/ns/ipc").await?, inode("ipc")?);
    let name = format!("cricket-{}", scene.id);
    scene.sh(&main, &format!("touch /dev/shm/{name}")).await?;
    let path = std::path::Path::new("/dev/shm").join(name);
    assert!(path.exists());
    std::fs::remove_file(path)?;
    scene.end().await
}

#[tokio::test]
async fn its_own_pids_by_default() -> Result<()> {
    let scene = Scene::host("ns-own-pid").await?;
    let main = scene.idle("main").await?;
    assert!(scene.sh(&main, "cat /proc/1/cmdline | tr '\\0' ' '").await?.starts_with("sh -c"));
    scene.end().await
}

#[tokio::test]
async fn a_pods_pids_have_a_reaper_and_survive_any_container() -> Result<()> {
    let scene = with_pid("ns-pod-pid", v1::NamespaceMode::Pod).await?;
    let container = |name: &str| {
        let mut config = idle(name);
        options(&mut config).set_pid(v1::NamespaceMode::Pod);
        config
    };
    let (one, two) = (scene.run(&container("one")).await?, scene.run(&container("two")).await?);
    let first = scene.sh(&one, "cat /proc/1/comm").await?;
    assert!(first.starts_with("cricket"), "process 1 is the pod's, not a container's: {first}");
    assert_eq!(
        scene.sh(&one, "readlink /proc/self/ns/pid").await?,
        scene.sh(&two, "readlink /proc/self/ns/pid").await?
    );
    assert_ne!(scene.sh(&one, "readlink /proc/self/ns/pid").await?, inode("pid")?);
    // Each sees the other's processes.
    assert_eq!(scene.sh(&one, "pgrep -f '[w]hile :; do sleep 1000' | wc -l").await?, "2");
    // Orphans are reaped, not left as zombies.
    scene.sh(&one, "for i in 1 2 3; do (sleep 0.1 &); done").await?;
    crate::support::until("orphans to be reaped", || async {
        Ok(scene.sh(&one, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l").await? == "0")
    })
    .await?;
    scene.cri.stop(&one, 5).await?;
    assert_eq!(scene.sh(&two, "echo alive").await?, "alive");
    assert_eq!(scene.cri.pod(&scene.id).await?.state(), v1::PodSandboxState::SandboxReady);
    scene.end().await
}

#[tokio::test]
async fn without_its_reaper_a_sandbox_is_not_ready() -> Result<()> {
    let scene = with_pid("ns-reaper", v1::NamespaceMode::Pod).await?;
    let mut config = idle("main");
    options(&mut config).set_pid(v1::NamespaceMode::Pod);
    let main = scene.run(&config).await?;
    let pid = scene.pid(&main).await?;
    // The parent of all in a PID namespace is its process 1: found as the one with the same namespace.
    let namespace = std::fs::read_link(format!("/proc/{pid}/ns/pid"))?;
    let mut reaper = None;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Ok(found) = std::fs::read_link(format!("/proc/{name}/ns/pid")) else { continue };
        let status = std::fs::read_to_string(format!("/proc/{name}/status")).unwrap_or_default();
        let inner = status.lines().find_map(|l| l.strip_prefix("NSpid:")).and_then(|l| l.split_whitespace().last());
        if found == namespace && inner == Some("1") {
            reaper = name.parse::<u32>().ok();
        }
    }
    let reaper = reaper.ok_or_else(|| anyhow::anyhow!("no process 1"))?;
    cricket_testkit::host::run("kill", ["-KILL", &reaper.to_string()])?;
    crate::support::until("the sandbox to be not ready", || async {
        Ok(scene.cri.pod(&scene.id).await?.state() == v1::PodSandboxState::SandboxNotready)
    })
    .await?;
    // The kernel kills all of the namespace with it.
    assert_eq!(scene.cri.wait_exit(&main, crate::support::SOON).await?.exit_code, 137);
    scene.end().await
}

#[tokio::test]
async fn the_hosts_pids_are_the_hosts() -> Result<()> {
    let scene = with_pid("ns-host-pid", v1::NamespaceMode::Node).await?;
    let mut config = idle("main");
    options(&mut config).set_pid(v1::NamespaceMode::Node);
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "readlink /proc/self/ns/pid").await?, inode("pid")?);
    let pid = scene.pid(&main).await?;
    assert!(scene.sh(&main, &format!("cat /proc/{pid}/cmdline | tr '\\0' ' '")).await?.starts_with("sh -c"));
    scene.end().await
}

#[tokio::test]
async fn a_debugger_joins_its_targets_pids() -> Result<()> {
    let scene = Scene::host("ns-target").await?;
    let main = scene.idle("main").await?;
    let debugger = |target: &str| {
        let mut config = idle("debugger");
        let options = options(&mut config);
        options.set_pid(v1::NamespaceMode::Target);
        target.clone_into(&mut options.target_id);
        config
    };
    let second = scene.run(&debugger(&main)).await?;
    let link = "readlink /proc/self/ns/pid";
    assert_eq!(scene.sh(&main, link).await?, scene.sh(&second, link).await?);
    assert_eq!(scene.sh(&second, "pgrep -f '[w]hile :; do sleep 1000' | head -n 1").await?, "1");
    // The debugger's end is not the target's.
    scene.cri.stop(&second, 5).await?;
    assert_eq!(scene.sh(&main, "echo alive").await?, "alive");
    scene.cri.remove(&second).await?;

    // A container of another pod is none of this one's business.
    let other = Scene::host("ns-target-other").await?;
    let refused = other.cri.create(&other.id, &debugger(&main), &other.pod).await.expect_err("outside the pod");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains(&main), "{refused}");
    other.end().await?;
    scene.end().await
}

#[tokio::test]
async fn no_process_stays_for_a_pod_but_its_monitor() -> Result<()> {
    let node = cricket_integration::Node::start().await?;
    let cri = node.daemon.cri().await?;
    let pod = node.daemon.pod("ns-none");
    cri.run_pod(&pod).await?;
    let daemon = node.daemon.pid().unwrap_or_default();
    // Network plugins that have ended are collected a moment later.
    cricket_testkit::host::wait_for("no pause process", cricket_integration::SOON, || {
        let other = |p: &cricket_testkit::leaks::Process| {
            u32::try_from(p.pid).ok() != Some(daemon) && !p.command.contains("cricket-monitor")
        };
        Ok((!cricket_testkit::leaks::processes(node.daemon.mark())?.iter().any(other)).then_some(()))
    })?;
    // No image was fetched for it either.
    assert_eq!(node.registry.count("pause")?, 0);
    Ok(())
}

#[tokio::test]
async fn cgroups_are_private_on_v2_unless_privileged() -> Result<()> {
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let scene = Scene::privileged("ns-cgroup").await?;
    let plain = scene.idle("plain").await?;
    let mut config = idle("privileged");
    security(&mut config).privileged = true;
    let privileged = scene.run(&config).await?;
    let host = inode("cgroup")?;
    for (id, private) in [(&plain, v2), (&privileged, false)] {
        let inits = std::fs::read_link(format!("/proc/{}/ns/cgroup", scene.pid(id).await?))?.display().to_string();
        assert_eq!(inits != host, private, "{inits}, the host's is {host}");
        assert_eq!(scene.sh(id, "readlink /proc/self/ns/cgroup").await?, inits, "an exec's is its container's");
        // What a process reads of where it is: its root, or the whole path.
        let own = scene.sh(id, "grep -E '^0::|:memory:' /proc/1/cgroup").await?;
        assert_eq!(own.lines().all(|line| line == "0::/"), private, "{own}");
        assert_eq!(own.contains(id.as_str()), !private, "{own}");
    }
    if v2 {
        // The files are those of the namespace's root: the container's own, or the host's.
        let files = "ls /sys/fs/cgroup | grep -cE '^(memory.max|cgroup.type)$' || true";
        assert_eq!(scene.sh(&plain, files).await?, "2");
        assert_eq!(scene.sh(&privileged, files).await?, "0", "the host's root has neither");
        let mount = "mount | grep ' /sys/fs/cgroup '";
        assert!(scene.sh(&plain, mount).await?.contains("(ro,"));
        assert!(scene.sh(&privileged, mount).await?.contains("(rw,"));
    }
    scene.end().await
}
