//! SELinux labels, on hosts that have it (`hack/vm-test --selinux`): elsewhere there is nothing to see.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::Node;
use cricket_testkit::daemon::Options;
use cricket_testkit::{cri, host};
use tonic::Code;

use crate::support::{SOON, Scene, idle, mount, pod_security, security, shell};

/// Whether the kernel has SELinux; says so where it has not.
fn available() -> bool {
    let there = Path::new("/sys/fs/selinux/enforce").exists();
    if !there {
        host::skip("the kernel has no SELinux");
    }
    there
}

/// A pod on a daemon of its own with labels; `None` on hosts without SELinux.
async fn scene(name: &str, change: impl FnOnce(&mut v1::PodSandboxConfig)) -> Result<Option<Scene>> {
    if !available() {
        return Ok(None);
    }
    let options = Options { runtime_keys: "enable_selinux = true\n".to_owned(), ..Options::default() };
    let node = Node::with(options).await?;
    let mut pod = cri::host_network(node.daemon.pod(name));
    change(&mut pod);
    Ok(Some(Scene::with(node.into(), pod).await?))
}

fn options(kind: &str, level: &str) -> Option<v1::SeLinuxOption> {
    Some(v1::SeLinuxOption { r#type: kind.to_owned(), level: level.to_owned(), ..Default::default() })
}

/// The label of a process.
fn of_process(pid: impl std::fmt::Display) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/attr/current"))?;
    Ok(text.trim_end_matches(['\0', '\n']).to_owned())
}

/// The label of a file, links not followed.
fn of_file(path: &Path) -> Result<String> {
    let listed = host::run("stat", ["-c", "%C", &path.display().to_string()])?;
    Ok(listed.trim().to_owned())
}

/// The level of a label.
fn level(label: &str) -> Result<&str> {
    label.splitn(4, ':').nth(3).with_context(|| format!("no level in {label}"))
}

fn volume(scene: &Scene, name: &str) -> Result<PathBuf> {
    let dir = scene.node.daemon.home().join("selinux").join(name);
    std::fs::create_dir_all(dir.join("below"))?;
    std::fs::write(dir.join("below/file"), "content")?;
    Ok(dir)
}

fn relabelled(host: &Path) -> v1::Mount {
    v1::Mount { selinux_relabel: true, ..mount(host, "/volume") }
}

#[tokio::test]
async fn processes_files_and_execs_have_the_pods_level() -> Result<()> {
    let Some(scene) = scene("selinux-labels", |_| {}).await? else { return Ok(()) };
    let first = scene.run(&idle("first")).await?;
    let label = of_process(scene.pid(&first).await?)?;
    ensure!(label.starts_with("system_u:system_r:container_t:s0:c"), "{label}");
    let root = PathBuf::from(format!("/proc/{}/root", scene.pid(&first).await?));
    let files = format!("system_u:object_r:container_file_t:{}", level(&label)?);
    for path in ["", "bin/sh", "etc/hosts", "etc/resolv.conf", "dev", "dev/pts", "dev/shm", "dev/mqueue"] {
        assert_eq!(of_file(&root.join(path))?, files, "/{path}");
    }
    // What is executed is no more than the container, and the files that it makes are the container's.
    let seen =
        scene.sh(&first, "cat /proc/self/attr/current | tr -d '\\0'; echo x > /new; echo x > /dev/shm/x").await?;
    assert_eq!(seen.trim(), label);
    assert_eq!(of_file(&root.join("new"))?, files);
    assert_eq!(level(&of_file(&root.join("dev/shm/x"))?)?, level(&label)?);
    // All containers of a pod have one level.
    let second = scene.run(&idle("second")).await?;
    assert_eq!(of_process(scene.pid(&second).await?)?, label);
    assert_eq!(scene.sh(&second, "cat /dev/shm/x").await?, "x");
    let mut tty = shell("tty", "id -u");
    tty.tty = true;
    let tty = scene.run(&tty).await?;
    assert_eq!(scene.cri.wait_exit(&tty, SOON).await?.exit_code, 0);
    scene.end().await
}

#[tokio::test]
async fn pods_are_kept_apart() -> Result<()> {
    let Some(scene) = scene("selinux-one", |_| {}).await? else { return Ok(()) };
    let dir = volume(&scene, "apart")?;
    let mut config = idle("main");
    config.mounts = vec![relabelled(&dir)];
    let one = scene.run(&config).await?;
    let label = of_process(scene.pid(&one).await?)?;
    for path in [dir.clone(), dir.join("below"), dir.join("below/file")] {
        assert_eq!(of_file(&path)?, format!("system_u:object_r:container_file_t:{}", level(&label)?));
    }
    assert_eq!(scene.sh(&one, "cat /volume/below/file && echo more > /volume/more").await?, "content");

    let pod = cri::host_network(scene.node.daemon.pod("selinux-two"));
    let other = scene.cri.run_pod(&pod).await?;
    let mut config = idle("main");
    config.mounts = vec![mount(&dir, "/volume")];
    let two = scene.cri.run(&other, &config, &pod).await?;
    let answer = scene.cri.exec(&two, &["cat", "/proc/self/attr/current"], 20).await?;
    let its = String::from_utf8_lossy(&answer.stdout).trim_end_matches('\0').to_owned();
    assert_ne!(level(&its)?, level(&label)?, "a pair of categories for each pod");
    // With a policy in force that keeps levels apart.
    if std::fs::read_to_string("/sys/fs/selinux/enforce")? == "1" {
        assert_ne!(scene.cri.exec(&two, &["cat", "/volume/below/file"], 20).await?.exit_code, 0);
    }
    scene.cri.stop_pod(&other).await?;
    scene.cri.remove_pod(&other).await?;
    scene.end().await
}

#[tokio::test]
async fn a_request_changes_the_label() -> Result<()> {
    let asked = |pod: &mut v1::PodSandboxConfig| {
        let context = pod_security(pod);
        (context.selinux_options, context.privileged) = (options("container_t", "s0:c7,c9"), true);
    };
    let Some(scene) = scene("selinux-asked", asked).await? else { return Ok(()) };
    let plain = scene.idle("plain").await?;
    assert_eq!(of_process(scene.pid(&plain).await?)?, "system_u:system_r:container_t:s0:c7,c9");
    let mut config = idle("own");
    security(&mut config).selinux_options = options("container_init_t", "");
    let own = scene.run(&config).await?;
    assert_eq!(of_process(scene.pid(&own).await?)?, "system_u:system_r:container_init_t:s0:c7,c9");
    // One with another level has volumes of its own, and what the pod gives all of them stays the pod's.
    let dir = volume(&scene, "other")?;
    let mut config = idle("other");
    security(&mut config).selinux_options = options("", "s0:c1,c5");
    config.mounts = vec![relabelled(&dir)];
    let other = scene.run(&config).await?;
    assert_eq!(of_process(scene.pid(&other).await?)?, "system_u:system_r:container_t:s0:c1,c5");
    assert_eq!(of_file(&dir.join("below/file"))?, "system_u:object_r:container_file_t:s0:c1,c5");
    let root = PathBuf::from(format!("/proc/{}/root", scene.pid(&plain).await?));
    for path in ["etc/hosts", "etc/resolv.conf", "dev/shm"] {
        assert_eq!(of_file(&root.join(path))?, "system_u:object_r:container_file_t:s0:c7,c9", "/{path}");
    }
    // A privileged container is what the policy makes of what the runtime executes.
    let mut config = idle("privileged");
    security(&mut config).privileged = true;
    let privileged = scene.run(&config).await?;
    let label = of_process(scene.pid(&privileged).await?)?;
    assert!(label.starts_with("system_u:system_r:spc_t:s0"), "{label}");

    for (kind, level) in [("no_such_type_t", ""), ("a:b", ""), ("", "s0:c1,x"), ("", "s0:c1024")] {
        let mut config = idle("wrong");
        security(&mut config).selinux_options = options(kind, level);
        let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("no such label");
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
    let mut config = idle("host");
    config.mounts = vec![relabelled(Path::new("/etc"))];
    let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("the host's");
    assert!(error.message().contains("belongs to the host"), "{error}");
    scene.end().await
}

#[tokio::test]
async fn levels_survive_the_daemon() -> Result<()> {
    if !available() {
        return Ok(());
    }
    // Six pairs there are: a pod's, another one that a container of it names, and those of whoever comes next.
    let keys = "enable_selinux = true\nselinux_category_range = 4\n".to_owned();
    let mut node = Node::with(Options { runtime_keys: keys, ..Options::default() }).await?;
    let pods: Vec<_> = (1..=6).map(|n| cri::host_network(node.daemon.pod(&format!("levels-{n}")))).collect();
    let (first, last) = (&pods[0], &pods[5]);
    let cri = node.daemon.cri().await?;
    let id = cri.run_pod(first).await?;
    let container = cri.run(&id, &idle("main"), first).await?;
    let label = |cri: &cri::Cri, id: &str| {
        let (cri, id) = (cri.clone(), id.to_owned());
        async move { cri.exec_text(&id, &["cat", "/proc/self/attr/current"]).await }
    };
    let before = label(&cri, &container).await?;
    let other = ["s0:c0,c1", "s0:c2,c3"].into_iter().find(|other| !before.trim_end_matches('\0').ends_with(other));
    let other = other.context("a pair that is not the pod's")?;
    let mut config = idle("other");
    security(&mut config).selinux_options = options("", other);
    let named = cri.run(&id, &config, first).await?;
    assert_eq!(level(label(&cri, &named).await?.trim_end_matches('\0'))?, other);
    node.daemon.kill_and_launch()?;
    let cri = node.daemon.cri().await?;
    assert_eq!(label(&cri, &container).await?, before);
    let again = cri.run(&id, &idle("again"), first).await?;
    assert_eq!(label(&cri, &again).await?, before);
    let mut ids = vec![id];
    for pod in &pods[1..5] {
        let id = cri.run_pod(pod).await?;
        let container = cri.run(&id, &idle("main"), pod).await?;
        let its = label(&cri, &container).await?;
        assert_ne!(its, before);
        assert_ne!(level(its.trim_end_matches('\0'))?, other);
        ids.push(id);
    }
    let error = cri.run_pod(last).await.expect_err("no pair is left");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    for id in ids.drain(..) {
        cri.stop_pod(&id).await?;
        cri.remove_pod(&id).await?;
    }
    let id = cri.run_pod(last).await?;
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    node.daemon.assert_no_leaks(SOON)
}
