//! What the configuration file changes.

use std::path::Path;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::Node;
use cricket_testkit::cri;
use cricket_testkit::daemon::Options;

use crate::support::{SOON, Scene, idle, security, shell, until};

async fn with_keys(keys: &str) -> Result<Node> {
    Node::with(Options { runtime_keys: keys.to_owned(), ..Options::default() }).await
}

/// A pod on a node of its own.
async fn scene(node: Node, name: &str) -> Result<Scene> {
    let pod = cri::host_network(node.daemon.pod(name));
    Scene::with(node.into(), pod).await
}

#[tokio::test]
async fn namespaces_are_pinned_where_other_programs_look_for_them() -> Result<()> {
    let node = Node::with(Options { shared_netns: true, ..Options::default() }).await?;
    let pod = node.daemon.pod("config-netns");
    let scene = Scene::with(node.into(), pod).await?;
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: scene.id.clone(), verbose: true };
    let answer = scene.cri.runtime().pod_sandbox_status(request).await?.into_inner();
    let info: serde_json::Value = serde_json::from_str(answer.info.get("info").context("info")?)?;
    let path = info["networkNamespace"].as_str().context("a path")?.to_owned();
    let name = path.strip_prefix("/run/netns/cni-").with_context(|| path.clone())?;
    assert_eq!((name.len(), name.matches('-').count()), (36, 4), "a UUID: {name}");
    let ip = scene.cri.pod(&scene.id).await?.network.context("a network")?.ip;
    let inside = cricket_testkit::host::run("ip", ["netns", "exec", &format!("cni-{name}"), "ip", "-o", "addr"])?;
    assert!(inside.contains(&ip), "{inside}");
    scene.end().await?;
    assert!(!Path::new(&path).exists());
    Ok(())
}

#[tokio::test]
async fn namespaces_are_pinned_below_the_state_directory_where_that_is_asked_for() -> Result<()> {
    let scene = Scene::networked("config-netns-state").await?;
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: scene.id.clone(), verbose: true };
    let answer = scene.cri.runtime().pod_sandbox_status(request).await?.into_inner();
    let info: serde_json::Value = serde_json::from_str(answer.info.get("info").context("info")?)?;
    let path = std::path::PathBuf::from(info["networkNamespace"].as_str().context("a path")?);
    assert_eq!(path.parent(), Some(scene.node.daemon.state().join("netns").as_path()));
    let name = path.file_name().context("a name")?.to_owned();
    assert!(!Path::new("/run/netns").join(&name).exists(), "it is in both places");
    // The very namespace that the pod's containers are in.
    let main = scene.idle("main").await?;
    let pinned = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path)?);
    let inside = scene.sh(&main, "readlink /proc/self/ns/net").await?;
    assert_eq!(inside, format!("net:[{pinned}]"));
    scene.end().await?;
    assert!(!path.exists());
    Ok(())
}

#[tokio::test]
async fn low_ports_and_pings_are_for_everybody_unless_the_node_says_otherwise() -> Result<()> {
    let read = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; tr '\\t' ' ' </proc/sys/net/ipv4/ping_group_range";
    // Nobody listens for long: the port is what is asked for.
    let script = format!("{read}; timeout 1 nc -l -p 81 2>&1 | grep -v Terminated; true");
    let try_it = async |scene: Scene| {
        let mut config = shell("main", &script);
        security(&mut config).run_as_user = Some(v1::Int64Value { value: 1000 });
        let lines = scene.output(&config).await?;
        scene.end().await?;
        anyhow::Ok(lines)
    };
    let lines = try_it(Scene::networked("config-ports").await?).await?;
    assert_eq!(lines, ["0", "0 2147483647"]);
    let node = with_keys("enable_unprivileged_ports = false\nenable_unprivileged_icmp = false").await?;
    let pod = node.daemon.pod("config-no-ports");
    let scene = Scene::with(node.into(), pod).await?;
    let node = scene.node.clone();
    let lines = try_it(scene).await?;
    assert_eq!(lines[..2], ["1024", "1 0"], "as the kernel has it");
    assert!(lines.len() == 3 && lines[2].contains("ermission denied"), "{lines:?}");
    // What the pod itself asks for counts in any case.
    let mut pod = node.daemon.pod("config-asked");
    let asked = ("net.ipv4.ip_unprivileged_port_start".to_owned(), "80".to_owned());
    pod.linux.get_or_insert_default().sysctls.extend([asked]);
    let lines = try_it(Scene::with(node, pod).await?).await?;
    assert_eq!(lines, ["80", "1 0"]);
    Ok(())
}

#[tokio::test]
async fn old_kernels_are_refused_before_anything_is_touched() -> Result<()> {
    let home = std::env::temp_dir().join(format!("cricket-kernel-{}", cricket_testkit::host::unique()));
    let cricket = match std::env::var_os("CRICKET_BIN") {
        Some(path) => path.into(),
        None => std::env::current_exe()?.ancestors().nth(2).context("no target directory")?.join("cricket"),
    };
    let mut command = std::process::Command::new("setarch");
    command.arg(std::env::consts::ARCH).arg("--uname-2.6").arg(cricket).arg("serve");
    for (flag, name) in [("--root", "root"), ("--state", "state"), ("--address", "state/cricket.sock")] {
        command.arg(flag).arg(home.join(name));
    }
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("kernel 2.6.") && text.contains("cricket needs 5.14 or newer"), "{text}");
    assert!(!home.exists(), "something was made");
    Ok(())
}

#[tokio::test]
async fn the_kubelets_range_renders_the_template() -> Result<()> {
    let template = std::env::temp_dir().join(format!("cricket-template-{}", cricket_testkit::host::unique()));
    std::fs::write(
        &template,
        r#"{"cniVersion": "1.0.0", "name": "rendered", "plugins": [{"type": "bridge", "ipam": {"type": "host-local",
            "ranges": [{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$range}}"}]{{end}}]}}]}"#,
    )?;
    // The harness writes the table of the plugins itself: it gets one key more.
    let mut node = Node::start().await?;
    node.daemon.stop()?;
    let text = std::fs::read_to_string(node.daemon.config())?;
    let key = format!("conf_template = {:?}\nconf_dir = ", template.display().to_string());
    std::fs::write(node.daemon.config(), text.replacen("conf_dir = ", &key, 1))?;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    let conf = node.daemon.network().conf_path();
    std::fs::remove_file(&conf)?;
    let update = |cidr: &str| {
        let config = v1::RuntimeConfig { network_config: Some(v1::NetworkConfig { pod_cidr: cidr.to_owned() }) };
        let mut client = cri.runtime();
        async move { client.update_runtime_config(v1::UpdateRuntimeConfigRequest { runtime_config: Some(config) }).await }
    };
    update("10.250.0.0/24,fd00:1::/64").await?;
    let dir = node.daemon.network().conf_dir().to_owned();
    until("the rendered network to count", || async {
        let status = cri.runtime().status(v1::StatusRequest { verbose: true }).await?.into_inner();
        Ok(status.info.get("cniconfig").is_some_and(|text| text.contains("rendered")))
    })
    .await?;
    let texts: Vec<String> =
        std::fs::read_dir(&dir)?.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
    assert!(texts.iter().any(|t| t.contains("10.250.0.0/24") && t.contains("fd00:1::/64")), "{texts:?}");
    std::fs::remove_file(template)?;
    Ok(())
}

#[tokio::test]
async fn without_a_template_the_kubelets_range_is_accepted() -> Result<()> {
    let node = crate::support::node().await?;
    let cri = node.daemon.cri().await?;
    let config = v1::RuntimeConfig { network_config: Some(v1::NetworkConfig { pod_cidr: "10.1.0.0/24".into() }) };
    let request = v1::UpdateRuntimeConfigRequest { runtime_config: Some(config) };
    cri.runtime().update_runtime_config(request).await?;
    Ok(())
}

#[tokio::test]
async fn the_longest_log_line_is_configurable() -> Result<()> {
    let scene = scene(with_keys("max_container_log_line_size = 100").await?, "config-line").await?;
    let config = shell("main", "head -c 250 /dev/zero | tr '\\0' y; echo");
    let main = scene.run(&config).await?;
    scene.cri.wait_exit(&main, SOON).await?;
    let records = scene.node.daemon.logs(&scene.pod, &config)?;
    let parts: Vec<(usize, bool)> = records.iter().map(|r| (r.text.len(), r.partial)).collect();
    assert_eq!(parts, [(100, true), (100, true), (50, false)]);
    scene.end().await
}

#[tokio::test]
async fn a_profile_for_those_that_ask_for_none() -> Result<()> {
    let scene = scene(with_keys("unset_seccomp_profile = 'runtime/default'").await?, "config-seccomp").await?;
    let main = scene.idle("main").await?;
    assert_eq!(scene.sh(&main, "grep ^Seccomp: /proc/1/status | cut -f 2").await?, "2");
    scene.end().await
}

#[tokio::test]
async fn devices_belong_to_the_user_where_the_node_says_so() -> Result<()> {
    let keys = "device_ownership_from_security_context = true";
    let scene = scene(with_keys(keys).await?, "config-devices").await?;
    let mut config = idle("main");
    config.devices = vec![v1::Device {
        container_path: "/dev/mine".into(),
        host_path: "/dev/zero".into(),
        permissions: "rwm".into(),
    }];
    let context = security(&mut config);
    context.run_as_user = Some(v1::Int64Value { value: 1234 });
    context.run_as_group = Some(v1::Int64Value { value: 2345 });
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "stat -c %u:%g /dev/mine").await?, "1234:2345");
    scene.end().await
}

#[tokio::test]
async fn a_base_specification_is_where_a_handlers_containers_begin() -> Result<()> {
    let base = std::env::temp_dir().join(format!("cricket-base-{}.json", cricket_testkit::host::unique()));
    std::fs::write(
        &base,
        r#"{"ociVersion": "1.1.0", "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 777}]}}"#,
    )?;
    let table = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.based";
    let tables = format!(
        "[{table}]\nruntime_type = 'io.cricket.youki.v1'\nbase_runtime_spec = {:?}\n",
        base.display().to_string()
    );
    let node = Node::with(Options { tables, ..Options::default() }).await?;
    let cri = node.daemon.cri().await?;
    let pod = cri::host_network(node.daemon.pod("config-base"));
    let id = cri.run_pod_with(&pod, "based").await?;
    let scene = Scene { cri, pod, id, node: node.into() };
    let lines = scene
        .output(&shell("main", "ulimit -Sn; ulimit -Hn; ls /proc | wc -l | xargs test 0 -lt && echo proc"))
        .await?;
    assert_eq!(lines, ["512", "777", "proc"]);
    std::fs::remove_file(base)?;
    scene.end().await
}

#[tokio::test]
async fn the_root_may_be_a_link() -> Result<()> {
    let mut node = Node::start().await?;
    node.daemon.stop()?;
    let (root, real) = (node.daemon.root().to_owned(), node.daemon.home().join("elsewhere"));
    std::fs::remove_dir_all(&root)?;
    std::fs::create_dir(&real)?;
    std::os::unix::fs::symlink(&real, &root)?;
    node.daemon.launch()?;
    node.daemon.cri().await?.pull(cricket_integration::BUSYBOX).await?;
    let scene = scene(node, "config-link").await?;
    assert_eq!(scene.output(&shell("main", "echo runs")).await?, ["runs"]);
    assert!(std::fs::read_dir(&real)?.count() > 0);
    scene.end().await
}
