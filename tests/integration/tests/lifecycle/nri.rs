//! Plugins of the Node Resource Interface, on its official Go stub.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cricket_cri_api::v1;
use cricket_integration::Node;
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::daemon::Options;
use cricket_testkit::{host, leaks};
use serde_json::{Value, json};

use crate::cdi::Directories;
use crate::support::{SOON, idle, shell};

mod evict;

/// A daemon of its own, with plugins.
struct Stage {
    node: Node,
    cri: Cri,
    plugins: Vec<Child>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.dismiss();
    }
}

impl Stage {
    async fn start(nri_keys: &str) -> Result<Self> {
        Self::with(Options { nri_keys: nri_keys.to_owned(), ..Options::default() }).await
    }

    async fn with(options: Options) -> Result<Self> {
        let node = Node::with(options).await?;
        let cri = node.daemon.cri().await?;
        Ok(Self { node, cri, plugins: Vec::new() })
    }

    /// Ends the plugins.
    fn dismiss(&mut self) {
        for mut plugin in self.plugins.drain(..) {
            let _ = plugin.kill();
            let _ = plugin.wait();
        }
    }

    /// Nothing is left, of the plugins' doing or otherwise.
    fn assert_no_leaks(&mut self) -> Result<()> {
        self.dismiss();
        self.node.daemon.assert_no_leaks(SOON)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.node.daemon.home().join(format!("nri-{name}.log"))
    }

    /// Connects a plugin; it is synchronised when this returns.
    async fn plugin(&mut self, index: &str, name: &str, mut behaviour: Value) -> Result<()> {
        behaviour["log"] = json!(self.log(name));
        let file = self.node.daemon.home().join(format!("nri-{name}.json"));
        std::fs::write(&file, behaviour.to_string())?;
        let mut command = host::bound(host::tool_dir("nri")?.join("nri-plugin"));
        command.args(["-name", name, "-index", index, "-behaviour"]).arg(&file);
        command.arg("-socket").arg(self.node.daemon.nri().join("nri.sock"));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        self.plugins.push(host::spawn(command)?);
        self.event(name, "Synchronize").await.map(drop)
    }

    fn events(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn names(&self, name: &str) -> Vec<String> {
        self.events(name).iter().filter_map(|event| event["event"].as_str().map(str::to_owned)).collect()
    }

    async fn event(&self, name: &str, event: &str) -> Result<Value> {
        let begin = Instant::now();
        loop {
            if let Some(found) = self.events(name).into_iter().find(|line| line["event"] == event) {
                return Ok(found);
            }
            if begin.elapsed() > SOON {
                bail!("plugin {name} never had {event}: {:?}\n{}", self.names(name), self.node.daemon.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn pod(&self, name: &str) -> Result<(v1::PodSandboxConfig, String)> {
        let pod = cri::host_network(self.node.daemon.pod(name));
        let id = self.cri.run_pod(&pod).await?;
        Ok((pod, id))
    }

    async fn end(mut self, pod: &str) -> Result<()> {
        self.cri.stop_pod(pod).await?;
        self.cri.remove_pod(pod).await?;
        self.assert_no_leaks()
    }
}

fn memory_limit(bytes: i64) -> Value {
    json!({ "resources": { "memory": { "limit": { "value": bytes } } } })
}

/// A container's memory limit in its cgroup, of whatever version.
fn limit_in_cgroup(pod: &v1::PodSandboxConfig, id: &str) -> Result<String> {
    let parent = pod.linux.as_ref().map(|linux| linux.cgroup_parent.clone()).unwrap_or_default();
    let folder = |root: &str| Path::new(root).join(parent.trim_start_matches('/')).join(host::container_cgroup(id));
    let v1 = folder("/sys/fs/cgroup/memory").join("memory.limit_in_bytes");
    let file = if v1.exists() { v1 } else { folder("/sys/fs/cgroup").join("memory.max") };
    Ok(std::fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim().to_owned())
}

#[tokio::test]
async fn plugins_give_cdi_devices() -> Result<()> {
    let directories = Directories::new()?;
    directories.card()?;
    let mut stage = Stage::with(Options { runtime_keys: directories.keys(), ..Options::default() }).await?;
    stage.plugin("10", "device", json!({ "adjust": { "CDI_devices": [{ "name": "vendor.com/card=one" }] } })).await?;
    let (pod, id) = stage.pod("nri-cdi").await?;
    let main = stage.cri.run(&id, &idle("main"), &pod).await?;
    let seen =
        stage.cri.exec_text(&main, &["sh", "-c", "echo $CARD; head -c 4 /dev/card | wc -c; cat /given/file"]).await?;
    assert_eq!(seen, "one\n4\nfrom a specification\n");
    let user = stage.cri.container(&main).await?.user.and_then(|user| user.linux).context("no user")?;
    assert!(user.supplemental_groups.contains(&4321), "{user:?}");
    stage.cri.stop(&main, 0).await?;
    stage.cri.remove(&main).await?;
    std::fs::remove_file(directories.path("static/card.json"))?;
    let error = stage.cri.create(&id, &idle("without"), &pod).await.err().context("created without its device")?;
    assert!(error.message().contains("unresolvable CDI devices vendor.com/card=one"), "{error}");
    stage.end(&id).await
}

#[tokio::test]
async fn a_container_is_as_plugins_adjust_it() -> Result<()> {
    let mut stage = Stage::start("").await?;
    let shared = stage.node.daemon.home().join("given");
    std::fs::create_dir(&shared)?;
    std::fs::write(shared.join("file"), "from a plugin\n")?;
    let adjust = json!({ "adjust": {
        "mounts": [{ "destination": "/given", "type": "bind", "source": shared, "options": ["rbind", "ro"] }],
        "env": [{ "key": "GIVEN", "value": "yes" }, { "key": "-TAKEN" }],
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 77, "soft": 77 }],
        "annotations": { "example.com/given": "yes" },
        "linux": {
            "devices": [{ "path": "/dev/given", "type": "c", "major": 1, "minor": 3, "file_mode": { "value": 0o666 } }],
            "resources": { "memory": { "limit": { "value": 96 << 20 } }, "pids": { "limit": 55 } },
            "oom_score_adj": { "value": 765 },
        },
    }});
    stage.plugin("10", "adjust", adjust).await?;
    stage.plugin("20", "args", json!({ "adjust": { "env": [{ "key": "SECOND", "value": "too" }] } })).await?;
    let (pod, id) = stage.pod("nri-adjust").await?;
    let mut config = idle("main");
    config.envs.push(v1::KeyValue { key: "TAKEN".into(), value: "x".into() });
    let main = stage.cri.run(&id, &config, &pod).await?;
    let script = "cat /given/file; touch /given/no 2>/dev/null && echo writable; echo $GIVEN $SECOND ${TAKEN-gone}; \
                  ulimit -n; echo x > /dev/given && echo null; cat /proc/1/oom_score_adj";
    let seen = stage.cri.exec_text(&main, &["sh", "-c", script]).await?;
    assert_eq!(seen, "from a plugin\nyes too gone\n77\nnull\n765\n");
    assert_eq!(limit_in_cgroup(&pod, &main)?, (96 << 20).to_string());
    let status = stage.cri.container(&main).await?;
    let limits = status.resources.and_then(|r| r.linux).context("no resources in the status")?;
    assert_eq!(limits.memory_limit_in_bytes, 96 << 20);
    let asked = stage.event("adjust", "CreateContainer").await?;
    assert_eq!((&asked["container"]["name"], &asked["pod"]["name"]), (&json!("main"), &json!("nri-adjust")));
    assert_eq!(asked["container"]["args"][0], "sh");
    stage.end(&id).await
}

#[tokio::test]
async fn a_life_is_told_to_plugins() -> Result<()> {
    let mut stage = Stage::start("").await?;
    stage.plugin("10", "watch", json!({})).await?;
    let pod = stage.node.daemon.pod("nri-life");
    let id = stage.cri.run_pod(&pod).await?;
    let main = stage.cri.run(&id, &shell("main", "exit 3"), &pod).await?;
    stage.cri.wait_exit(&main, SOON).await?;
    stage.cri.remove(&main).await?;
    stage.cri.stop_pod(&id).await?;
    stage.cri.remove_pod(&id).await?;
    let removed = stage.event("watch", "RemovePodSandbox").await?;
    assert_eq!(removed["pod"]["id"], id);
    let expected = [
        "Configure",
        "Synchronize",
        "RunPodSandbox",
        "CreateContainer",
        "ValidateContainerAdjustment",
        "PostCreateContainer",
        "StartContainer",
        "PostStartContainer",
        "StopContainer",
        "RemoveContainer",
        "StopPodSandbox",
        "RemovePodSandbox",
    ];
    assert_eq!(stage.names("watch"), expected);
    let run = stage.event("watch", "RunPodSandbox").await?;
    assert!(run["pod"]["ips"][0].as_str().is_some_and(|ip| !ip.is_empty()), "{run}");
    let stopped = stage.event("watch", "StopContainer").await?;
    assert_eq!((&stopped["container"]["id"], &stopped["container"]["exit_code"]), (&json!(main), &json!(3)));
    stage.assert_no_leaks()
}

#[tokio::test]
async fn what_plugins_refuse_leaves_nothing() -> Result<()> {
    let mut stage = Stage::start("").await?;
    let mount = json!({ "container": "torn", "adjust": {
        "mounts": [{ "destination": "/x", "type": "bind", "source": "/tmp" }] } });
    stage.plugin("10", "one", mount.clone()).await?;
    stage.plugin("20", "two", mount).await?;
    stage.plugin("30", "no", json!({ "container": "bad", "fail": "CreateContainer" })).await?;
    let path = json!({ "container": "path", "adjust": { "linux": { "cgroups_path": "/" } } });
    stage.plugin("35", "path", path).await?;
    stage.plugin("40", "late", json!({ "container": "unstarted", "fail": "StartContainer" })).await?;
    let (pod, id) = stage.pod("nri-refused").await?;
    let torn = stage.cri.create(&id, &idle("torn"), &pod).await.expect_err("in conflict");
    assert!(torn.message().contains("20-two") && torn.message().contains("10-one"), "{torn}");
    let bad = stage.cri.create(&id, &idle("bad"), &pod).await.expect_err("refused");
    assert!(bad.message().contains("30-no") && bad.message().contains("as I was told"), "{bad}");
    let path = stage.cri.create(&id, &idle("path"), &pod).await.expect_err("harms others");
    assert!(path.message().contains("the cgroup of a container"), "{path}");
    assert!(stage.cri.containers().await?.is_empty());
    assert_eq!(leaks::mounts(&[&stage.node.daemon.state().join("pods").join(&id).join("c")])?, Vec::<PathBuf>::new());
    let unstarted = stage.cri.create(&id, &idle("unstarted"), &pod).await?;
    let refused = stage.cri.start(&unstarted).await.expect_err("refused");
    assert!(refused.message().contains("40-late"), "{refused}");
    let status = stage.cri.container(&unstarted).await?;
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    // The names are free and the pod is whole.
    stage.cri.run(&id, &idle("good"), &pod).await?;
    stage.end(&id).await
}

#[tokio::test]
async fn a_pod_that_a_plugin_refuses_is_not_made() -> Result<()> {
    let mut stage = Stage::start("").await?;
    stage.plugin("10", "no", json!({ "fail": "RunPodSandbox" })).await?;
    let refused = stage.cri.run_pod(&stage.node.daemon.pod("nri-no-pod")).await.expect_err("refused");
    assert!(refused.message().contains("10-no"), "{refused}");
    assert!(stage.cri.pods().await?.is_empty());
    stage.event("no", "RemovePodSandbox").await?;
    stage.assert_no_leaks()
}

#[tokio::test]
async fn plugins_that_hang_or_crash_keep_nobody_waiting_for_long() -> Result<()> {
    let mut stage = Stage::start("plugin_request_timeout = '500ms'").await?;
    stage.plugin("10", "hang", json!({ "hang": "CreateContainer" })).await?;
    stage.plugin("20", "crash", json!({ "crash": "StartContainer" })).await?;
    let (pod, id) = stage.pod("nri-hang").await?;
    let begin = Instant::now();
    let main = stage.cri.run(&id, &idle("main"), &pod).await?;
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    stage.event("hang", "closed").await?;
    assert_eq!(stage.cri.container(&main).await?.state(), v1::ContainerState::ContainerRunning);
    stage.cri.run(&id, &idle("next"), &pod).await?;
    assert!(!stage.names("crash").contains(&"PostStartContainer".to_owned()));
    stage.end(&id).await
}

#[tokio::test]
async fn updates_of_plugins_reach_cgroups() -> Result<()> {
    let mut stage = Stage::start("").await?;
    let behaviour = json!({
        "container": "main",
        "on_update": [{ "linux": memory_limit(80 << 20) }],
        "unsolicited": [{ "linux": memory_limit(72 << 20) }, { "container_id": "f".repeat(64), "linux": memory_limit(1) }],
    });
    stage.plugin("10", "update", behaviour).await?;
    let (pod, id) = stage.pod("nri-update").await?;
    let main = stage.cri.run(&id, &idle("main"), &pod).await?;
    let asked = stage.event("update", "UpdateContainers").await?;
    assert_eq!(asked["failed"], json!(["f".repeat(64)]), "{asked}");
    assert_eq!(limit_in_cgroup(&pod, &main)?, (72 << 20).to_string());
    let linux = v1::LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
    let request =
        v1::UpdateContainerResourcesRequest { container_id: main.clone(), linux: Some(linux), ..Default::default() };
    stage.cri.runtime().update_container_resources(request).await?;
    assert_eq!(limit_in_cgroup(&pod, &main)?, (80 << 20).to_string());
    let told = stage.event("update", "UpdateContainer").await?;
    assert_eq!(told["resources"]["memory"]["limit"]["value"], json!(64 << 20));
    stage.event("update", "PostUpdateContainer").await?;
    stage.end(&id).await
}

#[tokio::test]
async fn what_a_pod_is_to_have_is_asked_told_and_kept() -> Result<()> {
    let mut stage = Stage::start("").await?;
    stage.plugin("10", "sizes", json!({})).await?;
    let (_, id) = stage.pod("nri-sizes").await?;
    let shares = |cpu_shares| Some(v1::LinuxContainerResources { cpu_shares, ..Default::default() });
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: id.clone(),
        overhead: shares(20),
        resources: shares(300),
    };
    stage.cri.runtime().update_pod_sandbox_resources(request).await?;
    let asked = stage.event("sizes", "UpdatePodSandbox").await?;
    assert_eq!(asked["resources"]["cpu"]["shares"]["value"], 300, "{asked}");
    let told = stage.event("sizes", "PostUpdatePodSandbox").await?;
    let linux = &told["pod"]["linux"];
    assert_eq!(linux["pod_resources"]["cpu"]["shares"]["value"], 300, "{told}");
    assert_eq!(linux["pod_overhead"]["cpu"]["shares"]["value"], 20, "{told}");
    // Another daemon still knows.
    stage.node.daemon.kill_and_launch()?;
    stage.cri = stage.node.daemon.cri().await?;
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
    let answer = stage.cri.runtime().pod_sandbox_status(request).await?.into_inner();
    let info: Value = serde_json::from_str(answer.info.get("info").context("no key `info`")?)?;
    assert_eq!(info["resources"]["linux"]["cpu_shares"], 300, "{info}");
    stage.end(&id).await
}

#[tokio::test]
async fn a_plugin_that_comes_later_is_told_what_there_is() -> Result<()> {
    let mut stage = Stage::start("").await?;
    let (pod, id) = stage.pod("nri-sync").await?;
    let running = stage.cri.run(&id, &idle("running"), &pod).await?;
    let created = stage.cri.create(&id, &idle("created"), &pod).await?;
    let ended = stage.cri.run(&id, &shell("ended", "true"), &pod).await?;
    stage.cri.wait_exit(&ended, SOON).await?;
    for name in ["before", "after"] {
        let limit = json!({ "on_sync": [{ "container_id": running, "linux": memory_limit(88 << 20) }] });
        stage.plugin("10", name, limit).await?;
        let told = stage.event(name, "Synchronize").await?;
        let mut containers: Vec<_> = told["containers"].as_array().into_iter().flatten().cloned().collect();
        containers.sort_by_key(|id| *id == json!(created));
        assert_eq!((&told["pods"], containers), (&json!([id]), vec![json!(running), json!(created)]));
        let begin = Instant::now();
        while limit_in_cgroup(&pod, &running)? != (88 << 20).to_string() {
            assert!(begin.elapsed() < SOON, "the update never came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if name == "before" {
            stage.node.daemon.kill_and_launch()?;
            stage.cri = stage.node.daemon.cri().await?;
            stage.event("before", "closed").await?;
        }
    }
    stage.end(&id).await
}

#[tokio::test]
async fn plugins_of_the_directory_start_with_the_daemon_and_end_with_it() -> Result<()> {
    let mut stage = Stage::start("").await?;
    let (nri, log) = (stage.node.daemon.nri(), stage.log("own"));
    for folder in ["plugins", "conf.d"] {
        std::fs::create_dir(nri.join(folder))?;
    }
    std::os::unix::fs::symlink(host::tool_dir("nri")?.join("nri-plugin"), nri.join("plugins/10-own"))?;
    let config = json!({ "log": log, "adjust": { "env": [{ "key": "OWN", "value": "1" }] } });
    std::fs::write(nri.join("conf.d/own.conf"), config.to_string())?;
    stage.node.daemon.kill_and_launch()?;
    stage.cri = stage.node.daemon.cri().await?;
    // It was ready before the daemon took requests.
    assert_eq!(stage.names("own"), ["Configure", "Synchronize"]);
    let (pod, id) = stage.pod("nri-own").await?;
    let main = stage.cri.run(&id, &idle("main"), &pod).await?;
    assert_eq!(stage.cri.exec_text(&main, &["sh", "-c", "echo $OWN"]).await?, "1\n");
    stage.cri.stop_pod(&id).await?;
    stage.cri.remove_pod(&id).await?;
    stage.node.daemon.stop()?;
    stage.event("own", "closed").await?;
    Ok(())
}

#[tokio::test]
async fn the_built_in_validator_counts() -> Result<()> {
    let validator = "[plugins.'io.containerd.nri.v1.nri'.default_validator]\nenable = true\n\
                     reject_oci_hook_adjustment = true\n";
    let mut stage = Stage::start(validator).await?;
    let hook = json!({ "container": "hooked", "adjust": { "hooks": { "prestart": [{ "path": "/bin/true" }] } } });
    stage.plugin("10", "hook", hook).await?;
    let (pod, id) = stage.pod("nri-validator").await?;
    let refused = stage.cri.create(&id, &idle("hooked"), &pod).await.expect_err("rejected");
    assert!(refused.message().contains("10-hook may not add OCI hooks"), "{refused}");
    stage.cri.run(&id, &idle("main"), &pod).await?;
    stage.end(&id).await
}
