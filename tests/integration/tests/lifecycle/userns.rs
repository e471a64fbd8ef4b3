//! Pods with a user namespace of their own (`hostUsers: false`): root inside is nobody's root outside.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{Node, SOON};
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::image::{Layer, Tree};
use tonic::Code;

use crate::support::{Scene, idle, mount, node, pod_security, security, shell};

/// The host's ID of the pods' root.
const ROOT: u32 = 300_000;
const IDS: v1::IdMapping = v1::IdMapping { host_id: ROOT, container_id: 0, length: 65_536 };

fn users() -> v1::UserNamespace {
    v1::UserNamespace { mode: v1::NamespaceMode::Pod.into(), uids: vec![IDS], gids: vec![IDS] }
}

/// A pod's configuration with its own users.
pub(crate) fn of_pod(node: &Node, name: &str) -> v1::PodSandboxConfig {
    let mut pod = node.daemon.pod(name);
    pod_security(&mut pod).namespace_options.get_or_insert_default().userns_options = Some(users());
    pod
}

/// The same of a container.
pub(crate) fn with_users(mut config: v1::ContainerConfig) -> v1::ContainerConfig {
    security(&mut config).namespace_options.get_or_insert_default().userns_options = Some(users());
    config
}

async fn scene(name: &str) -> Result<Scene> {
    let node = node().await?;
    let pod = of_pod(&node, name);
    Scene::with(node, pod).await
}

/// Effective user and group of a process, as the host sees them.
fn ids(pid: impl std::fmt::Display) -> Result<(u32, u32)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let id = |key: &str| -> Result<u32> {
        let line = status.lines().find(|l| l.starts_with(key)).context("no such line")?;
        Ok(line.split_whitespace().nth(2).context("no effective ID")?.parse()?)
    };
    Ok((id("Uid:")?, id("Gid:")?))
}

fn owner(path: &Path) -> Result<(u32, u32)> {
    let meta = std::fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    Ok((meta.uid(), meta.gid()))
}

fn volume(scene: &Scene, name: &str) -> Result<PathBuf> {
    let dir = scene.node.daemon.home().join("userns").join(name);
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A mount whose IDs are the pod's.
pub(crate) fn mapped(mount: v1::Mount) -> v1::Mount {
    v1::Mount { uid_mappings: vec![IDS], gid_mappings: vec![IDS], ..mount }
}

#[tokio::test]
async fn root_inside_is_an_unprivileged_user_outside() -> Result<()> {
    let scene = scene("userns-root").await?;
    let main = scene.run(&with_users(idle("main"))).await?;
    assert_eq!(ids(scene.pid(&main).await?)?, (ROOT, ROOT));
    assert_eq!(scene.sh(&main, "id -u; awk '{print $1, $2, $3}' /proc/self/uid_map").await?, "0\n0 300000 65536");
    // What is executed there is no more, and sees itself in the same namespaces.
    assert_eq!(
        scene.sh(&main, "readlink /proc/1/ns/user").await?,
        scene.sh(&main, "readlink /proc/self/ns/user").await?
    );
    let own = std::fs::read_link("/proc/self/ns/user")?.display().to_string();
    assert_ne!(scene.sh(&main, "readlink /proc/self/ns/user").await?, own);
    // It is root there: of its network and its host name, and of nothing of the host's.
    assert_eq!(scene.sh(&main, "hostname; ip -o addr show lo | grep -c 127.0.0.1").await?, "userns-root\n1");
    let status = scene.cri.pod(&scene.id).await?;
    let options = status.linux.and_then(|l| l.namespaces).and_then(|n| n.options).context("no options")?;
    assert_eq!(options.userns_options, Some(users()), "a kubelet makes a pod anew that lacks them");
    // A user other than root is one of the pod's, too.
    let mut config = with_users(idle("user"));
    security(&mut config).run_as_user = Some(v1::Int64Value { value: 1000 });
    security(&mut config).run_as_group = Some(v1::Int64Value { value: 1001 });
    let user = scene.run(&config).await?;
    assert_eq!(ids(scene.pid(&user).await?)?, (ROOT + 1000, ROOT + 1001));
    assert_eq!(scene.sh(&user, "id -u; id -g").await?, "1000\n1001");
    // The network works as any pod's.
    assert!(scene.sh(&main, "ip -o -4 addr show eth0").await?.contains("inet "));
    scene.end().await
}

#[tokio::test]
async fn the_images_files_are_roots_and_changes_are_the_pods() -> Result<()> {
    let scene = scene("userns-rootfs").await?;
    let layer = Layer::gzip(Tree::new().dirs(["data"]).file("data/kept", 0o644, "from the image"))?;
    let image =
        scene.image("userns", |image| image.layer(layer).set("Volumes", serde_json::json!({ "/data": {} }))).await?;
    let mut config = with_users(cri::container("main", &image, &[]));
    config.command = idle("x").command;
    let main = scene.run(&config).await?;
    let owners =
        "stat -c %u:%g / /bin /bin/sh /etc /data /data/kept /dev/shm /etc/hosts /etc/resolv.conf /etc/hostname";
    let seen = scene.sh(&main, owners).await?;
    assert!(seen.lines().all(|line| line == "0:0") && seen.lines().count() == 10, "{seen}");
    scene
        .sh(&main, "echo x >> /etc/hosts; echo x > /dev/shm/x; echo x > /new; echo x >> /data/kept; chown 7:8 /new")
        .await?;
    let root = PathBuf::from(format!("/proc/{}/root", scene.pid(&main).await?));
    assert_eq!(owner(&root.join("new"))?, (ROOT + 7, ROOT + 8));
    assert_eq!(owner(&root.join("data/kept"))?, (ROOT, ROOT));
    // Another pod of the host's users reads the same layers unchanged.
    let plain = Scene::host("userns-rootfs-plain").await?;
    let other = plain.idle("main").await?;
    assert_eq!(plain.sh(&other, "stat -c %u /bin/sh; ls /new 2>/dev/null | wc -l").await?, "0\n0");
    assert_eq!(owner(&PathBuf::from(format!("/proc/{}/root/bin", plain.pid(&other).await?)))?, (0, 0));
    plain.end().await?;
    scene.end().await
}

#[tokio::test]
async fn volumes_keep_their_owners() -> Result<()> {
    let scene = scene("userns-volumes").await?;
    let (idmapped, plain) = (volume(&scene, "mapped")?, volume(&scene, "plain")?);
    for dir in [&idmapped, &plain] {
        std::fs::write(dir.join("roots"), "")?;
        std::fs::write(dir.join("users"), "")?;
        chown(dir.join("users"), Some(1000), Some(1000))?;
    }
    let mut config = with_users(idle("main"));
    config.mounts = vec![mapped(mount(&idmapped, "/mapped")), mount(&plain, "/plain")];
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "stat -c %u:%g /mapped/roots /mapped/users").await?, "0:0\n1000:1000");
    scene.sh(&main, "echo x > /mapped/made; echo x > /mapped/given; chown 5:6 /mapped/given").await?;
    assert_eq!((owner(&idmapped.join("made"))?, owner(&idmapped.join("given"))?), ((0, 0), (5, 6)));
    // A volume without mappings is the host's, whose IDs are nobody's in there.
    assert_eq!(scene.sh(&main, "stat -c %u /plain/roots").await?, "65534");
    assert_ne!(scene.cri.exec(&main, &["touch", "/plain/file"], 5).await?.exit_code, 0);
    // Read-only with all below it, and mapped: both.
    let mut config = with_users(idle("both"));
    let both = v1::Mount { readonly: true, recursive_read_only: true, ..mapped(mount(&idmapped, "/both")) };
    config.mounts = vec![both];
    let second = scene.run(&config).await?;
    assert_eq!(scene.sh(&second, "stat -c %u /both/users").await?, "1000");
    assert_ne!(scene.cri.exec(&second, &["touch", "/both/file"], 5).await?.exit_code, 0);
    scene.end().await
}

#[tokio::test]
async fn a_container_runs_logs_and_ends_as_any() -> Result<()> {
    let scene = scene("userns-logs").await?;
    let lines =
        scene.output(&with_users(shell("main", "id -u; echo out > /dev/stdout; mount | grep -c cgroup"))).await?;
    assert_eq!(lines[..2], ["0".to_owned(), "out".to_owned()], "{lines:?}");
    let mut failing = with_users(shell("failing", "exit 3"));
    failing.tty = true;
    let failing = scene.run(&failing).await?;
    assert_eq!(scene.cri.wait_exit(&failing, SOON).await?.exit_code, 3);
    let missing = with_users(cri::container("missing", cricket_integration::BUSYBOX, &["/no/such"]));
    let id = scene.cri.create(&scene.id, &missing, &scene.pod).await?;
    assert!(scene.cri.start(&id).await.expect_err("no such command").message().contains("/no/such"));
    scene.end().await
}

#[tokio::test]
async fn pids_and_parameters_of_the_pods_own() -> Result<()> {
    let node = node().await?;
    let mut pod = of_pod(&node, "userns-shared");
    pod_security(&mut pod).namespace_options.get_or_insert_default().set_pid(v1::NamespaceMode::Pod);
    let linux = pod.linux.get_or_insert_default();
    linux.sysctls = [("kernel.shm_rmid_forced", "1"), ("net.ipv4.tcp_syncookies", "0"), ("fs.mqueue.msg_max", "11")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let scene = Scene::with(node, pod).await?;
    let container = |name: &str| {
        let mut config = with_users(idle(name));
        security(&mut config).namespace_options.get_or_insert_default().set_pid(v1::NamespaceMode::Pod);
        config
    };
    let (one, two) = (scene.run(&container("one")).await?, scene.run(&container("two")).await?);
    assert_eq!(scene.sh(&one, "pgrep -f '[w]hile :; do sleep 1000' | wc -l").await?, "2");
    let links = "for n in pid user ipc net uts; do readlink /proc/self/ns/$n; done";
    assert_eq!(scene.sh(&one, links).await?, scene.sh(&two, links).await?);
    let read = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/tcp_syncookies /proc/sys/fs/mqueue/msg_max";
    assert_eq!(scene.sh(&one, read).await?, "1\n0\n11");
    // The PID namespace's first process is one of the pod's users: the last one, which owns nothing.
    assert_eq!(scene.sh(&one, "awk '/^Uid:/ {print $3}' /proc/1/status").await?, "65535");
    scene.end().await
}

#[tokio::test]
async fn what_contradicts_itself_is_refused() -> Result<()> {
    let scene = scene("userns-refused").await?;
    let code = |result: std::result::Result<String, tonic::Status>, what: &str| {
        let error = result.expect_err(what);
        assert!(error.message().contains("userns") || error.message().contains("user namespace"), "{what}: {error}");
        error.code()
    };
    let plain = scene.cri.create(&scene.id, &idle("plain"), &scene.pod).await;
    assert_eq!(code(plain, "the host's users in such a pod"), Code::InvalidArgument);
    let other = scene.node.daemon.pod("userns-refused");
    let answer = scene.cri.create(&scene.id, &idle("other"), &other).await;
    assert_eq!(code(answer, "another sandbox's configuration"), Code::InvalidArgument);
    let mut strange = with_users(idle("strange"));
    security(&mut strange).run_as_user = Some(v1::Int64Value { value: 70_000 });
    let answer = scene.cri.create(&scene.id, &strange, &scene.pod).await;
    assert_eq!(code(answer, "a user without an ID"), Code::InvalidArgument);

    let mut privileged = of_pod(&scene.node, "userns-privileged");
    pod_security(&mut privileged).privileged = true;
    assert_eq!(code(scene.cri.run_pod(&privileged).await, "privileged"), Code::InvalidArgument);
    let status = scene.cri.runtime().status(v1::StatusRequest::default()).await?.into_inner();
    let able = |name: &str| status.runtime_handlers.iter().find(|h| h.name == name).and_then(|h| h.features);
    assert!(["", "youki"].into_iter().all(|name| able(name).is_some_and(|f| f.user_namespaces)), "{status:?}");
    scene.end().await
}

#[tokio::test]
async fn the_hosts_network_with_users_of_its_own() -> Result<()> {
    let node = node().await?;
    let pod = cri::host_network(of_pod(&node, "userns-host"));
    let scene = Scene::with(node, pod).await?;
    let status = scene.cri.runtime().status(v1::StatusRequest::default()).await?.into_inner();
    assert!(status.features.is_some_and(|f| f.user_namespaces_host_network), "as it is shown here");
    let main = scene.run(&with_users(idle("main"))).await?;
    assert_eq!(ids(scene.pid(&main).await?)?, (ROOT, ROOT));
    // Network and host name are the host's; the users and all else are the pod's.
    let own = |kind: &str| -> Result<String> {
        Ok(std::fs::read_link(format!("/proc/self/ns/{kind}"))?.display().to_string())
    };
    let seen = scene.sh(&main, "for n in net uts user ipc; do readlink /proc/self/ns/$n; done").await?;
    let seen: Vec<&str> = seen.lines().collect();
    assert_eq!((seen[0], seen[1]), (&*own("net")?, &*own("uts")?));
    assert!(seen[2] != own("user")? && seen[3] != own("ipc")?, "{seen:?}");
    // It sees the host's devices, and nothing of the host's can be changed by it.
    let names = |path: &str| -> Result<Vec<String>> {
        let mut names: Vec<_> =
            std::fs::read_dir(path)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    };
    assert!(scene.sh(&main, "ls /sys/class/net").await?.contains("lo"));
    assert_eq!(names(&format!("/proc/{}/root/sys/class/net", scene.pid(&main).await?))?, names("/sys/class/net")?);
    let refused = [
        "mkdir /sys/fs/cgroup/x",
        "mount -t sysfs none /mnt",
        "ip link add veth-x type dummy",
        "mount -o remount,rw /sys",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    ];
    for script in refused {
        assert_ne!(scene.cri.exec(&main, &["sh", "-c", script], 5).await?.exit_code, 0, "{script}");
    }
    assert!(scene.sh(&main, "grep ' /sys ' /proc/mounts").await?.contains(" ro,"));
    // Its servers are the host's.
    let mut server = with_users(shell("server", "echo hello | nc -l -p 18471"));
    security(&mut server).run_as_user = Some(v1::Int64Value { value: 1000 });
    let server = scene.run(&server).await?;
    let said = scene
        .sh(&main, "for i in $(seq 50); do nc 127.0.0.1 18471 </dev/null && exit; sleep 0.1; done; exit 1")
        .await?;
    assert_eq!(said, "hello");
    scene.cri.wait_exit(&server, SOON).await?;
    // A shared PID namespace goes with it as well, and what is executed in a terminal.
    let mut other = of_pod(&scene.node, "userns-host-shared");
    pod_security(&mut other).namespace_options.get_or_insert_default().set_pid(v1::NamespaceMode::Pod);
    let other = Scene::with(scene.node.clone(), cri::host_network(other)).await?;
    let mut config = with_users(idle("main"));
    security(&mut config).namespace_options.get_or_insert_default().set_pid(v1::NamespaceMode::Pod);
    let main = other.run(&config).await?;
    assert_eq!(other.sh(&main, "awk '/^Uid:/ {print $3}' /proc/1/status").await?, "65535");
    other.end().await?;
    scene.end().await
}

#[tokio::test]
async fn devices_and_terminals_are_the_pods() -> Result<()> {
    let scene = scene("userns-devices").await?;
    let mut config = with_users(idle("main"));
    let device = |host: &str, container: &str| v1::Device {
        host_path: host.to_owned(),
        container_path: container.to_owned(),
        permissions: "rwm".to_owned(),
    };
    config.devices = vec![device("/dev/zero", "/dev/zero"), device("/dev/full", "/dev/sub/other")];
    security(&mut config).run_as_user = Some(v1::Int64Value { value: 1000 });
    security(&mut config).run_as_group = Some(v1::Int64Value { value: 1000 });
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "head -c 3 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c").await?, "3\n2");
    assert_eq!(scene.sh(&main, "stat -c '%t %T' /dev/zero /dev/sub/other").await?, "1 5\n1 7");
    let full = scene.cri.exec(&main, &["sh", "-c", "echo x > /dev/sub/other"], 5).await?;
    assert!(full.exit_code != 0 && String::from_utf8_lossy(&full.stderr).contains("No space left"), "{full:?}");
    // A node of its own could be anything: only the host's root makes one.
    assert_ne!(scene.cri.exec(&main, &["mknod", "/tmp/zero", "c", "1", "5"], 5).await?.exit_code, 0);

    let terminal = "tty; stat -c '%u %t' $(tty); stat -c %F /dev/console; echo x > /dev/tty && echo x > /dev/console";
    let mut config = with_users(shell("tty", terminal));
    config.tty = true;
    security(&mut config).run_as_user = Some(v1::Int64Value { value: 1000 });
    let lines = scene.output(&config).await?;
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    assert_eq!(lines, ["/dev/pts/0", "1000 88", "character special file", "x", "x"], "in a terminal");
    scene.end().await
}

/// Namespaces of a container's init.
fn namespaces(pid: u32) -> Result<Vec<PathBuf>> {
    ["user", "net", "ipc", "uts"].iter().map(|n| Ok(std::fs::read_link(format!("/proc/{pid}/ns/{n}"))?)).collect()
}

async fn pid(cri: &Cri, container: &str) -> Result<u32> {
    let request = v1::ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
    let answer = cri.runtime().container_status(request).await?.into_inner();
    let info: serde_json::Value = serde_json::from_str(answer.info.get("info").context("no key `info`")?)?;
    Ok(u32::try_from(info["pid"].as_u64().context("no pid")?)?)
}

#[tokio::test]
async fn pods_outlive_daemon_and_monitor_and_leave_nothing() -> Result<()> {
    let mut node = Node::start().await?;
    let pod = of_pod(&node, "userns-restart");
    let cri = node.daemon.cri().await?;
    let sandbox = cri.run_pod(&pod).await?;
    let first = cri.run(&sandbox, &with_users(idle("first")), &pod).await?;
    let before = namespaces(pid(&cri, &first).await?)?;

    node.daemon.kill_and_launch()?;
    let cri = node.daemon.cri().await?;
    ensure!(cri.pod(&sandbox).await?.state() == v1::PodSandboxState::SandboxReady);
    ensure!(cri.exec_text(&first, &["id", "-u"]).await? == "0\n");
    let second = cri.run(&sandbox, &with_users(idle("second")), &pod).await?;
    ensure!(namespaces(pid(&cri, &second).await?)? == before, "the same namespaces after the daemon's restart");

    // Monitor and daemon at once: what still runs is all that has the namespaces.
    let monitor = cricket_testkit::leaks::processes(node.daemon.mark())?;
    let monitor = monitor.iter().find(|p| p.command.contains("cricket-monitor")).context("no monitor")?.pid;
    node.daemon.kill()?;
    cricket_testkit::host::run("kill", ["-KILL", &monitor.to_string()])?;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    ensure!(cri.pod(&sandbox).await?.state() == v1::PodSandboxState::SandboxReady);
    let third = cri.run(&sandbox, &with_users(idle("third")), &pod).await?;
    ensure!(namespaces(pid(&cri, &third).await?)? == before, "the same namespaces under another monitor");
    ensure!(ids(pid(&cri, &third).await?)? == (ROOT, ROOT));
    cri.stop_pod(&sandbox).await?;
    cri.remove_pod(&sandbox).await?;
    node.daemon.assert_no_leaks(SOON)
}
