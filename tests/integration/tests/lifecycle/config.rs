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
