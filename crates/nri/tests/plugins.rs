//! Plugins on NRI's own stub, connected and started from a directory.

mod node;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cricket_nri::Config;
use cricket_nri::api::{Container, LinuxResources, PodSandbox};
use node::{Node, container, limit, pod};
use serde_json::json;

#[tokio::test]
async fn a_life_is_told_in_order() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    node.plugin("10", "a", json!({})).await;
    let (plugins, pod, c) = (node.plugins.clone(), pod(), container("c"));
    plugins.run_pod_sandbox(&pod).await.expect("run");
    plugins.create_container(&pod, &c).await.expect("create");
    plugins.post_create_container(&pod, &c).await.expect("created");
    plugins.start_container(&pod, &c).await.expect("start");
    plugins.post_start_container(&pod, &c).await.expect("started");
    plugins.update_pod_sandbox(&pod, LinuxResources::default(), LinuxResources::default()).await.expect("update");
    plugins.post_update_pod_sandbox(&pod).await.expect("updated");
    let own = plugins.update_container(&pod, &c, LinuxResources::default()).await.expect("update");
    assert_eq!(own, None);
    plugins.post_update_container(&pod, &c).await.expect("updated");
    plugins.stop_container(&pod, &c).await.expect("stop");
    plugins.stop_container(&pod, &c).await.expect("told once");
    plugins.remove_container(&pod, &c).await.expect("remove");
    plugins.stop_pod_sandbox(&pod).await.expect("stop");
    plugins.remove_pod_sandbox(&pod).await.expect("remove");
    let expected = [
        "Configure",
        "Synchronize",
        "RunPodSandbox",
        "CreateContainer",
        "ValidateContainerAdjustment",
        "PostCreateContainer",
        "StartContainer",
        "PostStartContainer",
        "UpdatePodSandbox",
        "PostUpdatePodSandbox",
        "UpdateContainer",
        "PostUpdateContainer",
        "StopContainer",
        "RemoveContainer",
        "StopPodSandbox",
        "RemovePodSandbox",
    ];
    assert_eq!(node.events("a"), expected);
    assert_eq!(node.lines("a")[0]["text"], "cricket v0");
    assert_eq!(node.lines("a")[1]["pods"], json!(["p"]));
}

#[tokio::test]
async fn only_subscribed_events_arrive() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    node.plugin("10", "a", json!({ "events": "StopPodSandbox,RemoveContainer" })).await;
    node.plugins.run_pod_sandbox(&pod()).await.expect("run");
    node.plugins.create_container(&pod(), &container("c")).await.expect("create");
    node.plugins.remove_container(&pod(), &container("c")).await.expect("remove");
    node.plugins.stop_pod_sandbox(&pod()).await.expect("stop");
    assert_eq!(node.events("a"), ["Configure", "Synchronize", "RemoveContainer", "StopPodSandbox"]);
}

#[tokio::test]
async fn adjustments_are_merged_by_index_and_each_sees_the_former() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    let env = |key: &str| json!({ "adjust": { "env": [{ "key": key, "value": "v" }] } });
    node.plugin("20", "later", env("B")).await;
    node.plugin("10", "first", env("A")).await;
    let adjust = node.plugins.create_container(&pod(), &container("c")).await.expect("create");
    let keys: Vec<_> = adjust.env.iter().map(|variable| variable.key.as_str()).collect();
    assert_eq!(keys, ["A", "B"]);
    let seen = node.wait("later", "CreateContainer").await;
    assert_eq!(seen["container"]["env"], json!(["A=v"]));
    let validated = node.wait("later", "ValidateContainerAdjustment").await;
    assert!(validated["text"].as_str().is_some_and(|owners| owners.contains("10-first")), "{validated}");
}

#[tokio::test]
async fn plugins_in_conflict_fail_the_create_and_learn_that_it_is_gone() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    let mount = json!({ "adjust": { "mounts": [{ "destination": "/x", "source": "/tmp", "type": "bind" }] } });
    node.plugin("10", "a", mount.clone()).await;
    node.plugin("20", "b", mount).await;
    let error = node.plugins.create_container(&pod(), &container("c")).await.expect_err("conflict");
    assert_eq!(error.to_string(), "plugins 20-b and 10-a both set Mounts /x");
    assert_eq!(node.events("a")[2..], ["CreateContainer", "StopContainer", "RemoveContainer"]);
    // Both are still there.
    node.plugins.run_pod_sandbox(&pod()).await.expect("run");
    assert!(node.events("b").contains(&"RunPodSandbox".to_owned()));
}

#[tokio::test]
async fn a_refusal_fails_the_request() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    node.plugin("10", "a", json!({ "fail": "CreateContainer" })).await;
    let error = node.plugins.create_container(&pod(), &container("c")).await.expect_err("refused").to_string();
    assert!(error.starts_with("plugin 10-a: CreateContainer: ") && error.contains("as I was told"), "{error}");
    node.plugin("20", "b", json!({ "fail": "RunPodSandbox" })).await;
    node.plugins.run_pod_sandbox(&pod()).await.expect_err("refused");
    assert_eq!(node.events("b")[2..], ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"]);
}

#[tokio::test]
async fn a_plugin_that_hangs_is_left_out() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    node.plugin("10", "a", json!({ "hang": "CreateContainer" })).await;
    let begin = Instant::now();
    node.plugins.create_container(&pod(), &container("c")).await.expect("goes on without it");
    assert!((500..3000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    node.wait("a", "closed").await;
    let begin = Instant::now();
    node.plugins.create_container(&pod(), &container("d")).await.expect("it is gone");
    assert!(begin.elapsed() < Duration::from_millis(400));
}

#[tokio::test]
async fn a_failure_policy_counts() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    let policy = json!({ "hang": "CreateContainer", "fail_request": true, "keep_connected": true });
    node.plugin("10", "a", policy).await;
    let error = node.plugins.create_container(&pod(), &container("c")).await.expect_err("its policy").to_string();
    assert!(error.contains("no answer within"), "{error}");
    node.plugins.run_pod_sandbox(&pod()).await.expect("run");
    assert_eq!(node.events("a").last().map(String::as_str), Some("RunPodSandbox"));
}

#[tokio::test]
async fn a_crash_is_a_disconnection() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    node.plugin("10", "a", json!({ "crash": "CreateContainer" })).await;
    node.plugins.create_container(&pod(), &container("c")).await.expect("goes on without it");
    let ended = node.processes[0].wait().expect("wait");
    assert_eq!(ended.code(), Some(3));
    node.plugins.run_pod_sandbox(&pod()).await.expect("run");
    assert!(!node.events("a").contains(&"RunPodSandbox".to_owned()));
}

#[tokio::test]
async fn updates_come_from_answers_and_unasked() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    let update = |id: &str, bytes| json!([{ "container_id": id, "linux": limit(bytes) }]);
    let behaviour = json!({
        "on_sync": update("synced", 1),
        "update": update("other", 2),
        "on_stop": update("stopped", 3),
        "on_update": [{ "linux": limit(4) }, { "container_id": "beside", "linux": limit(5) }],
        "unsolicited": [{ "container_id": "missing", "linux": limit(6) }, { "linux": limit(7) }],
    });
    node.plugin("10", "a", behaviour).await;
    let (plugins, pod, c) = (node.plugins.clone(), pod(), container("c"));
    plugins.create_container(&pod, &c).await.expect("create");
    node.updated(2).await;
    plugins.post_start_container(&pod, &c).await.expect("started");
    let asked = node.wait("a", "UpdateContainers").await;
    assert_eq!(asked["failed"], json!(["missing"]), "{asked}");
    let own = plugins.update_container(&pod, &c, LinuxResources::default()).await.expect("update").expect("changed");
    assert_eq!(own.memory.and_then(|m| m.limit).map(|l| l.value), Some(4));
    plugins.stop_container(&pod, &c).await.expect("stop");
    let ids: Vec<_> = node.updated(6).await.into_iter().map(|update| update.container_id).collect();
    assert_eq!(ids, ["synced", "other", "missing", "c", "beside", "stopped"]);
}

#[tokio::test]
async fn a_validator_rejects() {
    let Some(mut node) = Node::start(|_, _, config| config.validator.enable = true).await else { return };
    node.plugin("10", "a", json!({ "reject": "not on my node", "container": "c" })).await;
    let error = node.plugins.create_container(&pod(), &container("c")).await.expect_err("rejected").to_string();
    assert!(error.contains("validator 10-a") && error.contains("not on my node"), "{error}");
    node.plugins.create_container(&pod(), &container("d")).await.expect("create");
}

#[tokio::test]
async fn the_built_in_validator_rejects() {
    let prepare = |_: &Path, _: &Path, config: &mut Config| {
        config.validator.enable = true;
        config.validator.reject_namespace_adjustment = true;
    };
    let Some(mut node) = Node::start(prepare).await else { return };
    let adjust = json!({ "adjust": { "linux": { "namespaces": [{ "type": "cgroup" }] } } });
    node.plugin("10", "a", adjust).await;
    let error = node.plugins.create_container(&pod(), &container("c")).await.expect_err("rejected").to_string();
    assert_eq!(
        error,
        "validator default-validator rejected the adjustments: namespaces may not be adjusted: cgroup by 10-a"
    );
}

#[tokio::test]
async fn who_is_being_made_is_in_what_a_plugin_is_synchronised_with() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    let new = PodSandbox { id: "new".into(), ..PodSandbox::default() };
    node.plugins.run_pod_sandbox(&new).await.expect("run");
    for id in ["making", "shown", "undone"] {
        node.plugins.create_container(&pod(), &container(id)).await.expect("create");
    }
    node.runtime.snapshot.lock().expect("lock").containers.push(container("shown"));
    node.plugins.container_shown("shown");
    node.plugins.undo_create_container(&pod(), &container("undone")).await;
    node.plugin("10", "a", json!({})).await;
    let told = node.wait("a", "Synchronize").await;
    assert_eq!((&told["pods"], &told["containers"]), (&json!(["p", "new"]), &json!(["shown", "making"])));
}

#[tokio::test]
async fn creates_while_plugins_connect_are_lost_to_none() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    let (plugins, runtime) = (node.plugins.clone(), node.runtime.clone());
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let creating = tokio::spawn(async move {
        let mut ids = Vec::new();
        while stopped.try_recv().is_err() {
            let c = container(&format!("c{}", ids.len()));
            plugins.create_container(&pod(), &c).await.expect("create");
            tokio::time::sleep(Duration::from_micros(300)).await;
            runtime.snapshot.lock().expect("lock").containers.push(c.clone());
            plugins.container_shown(&c.id);
            ids.push(c.id);
        }
        ids
    });
    for n in 0..4 {
        node.plugin(&format!("1{n}"), &format!("p{n}"), json!({ "events": "CreateContainer" })).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send(()).expect("stop");
    let mut ids = creating.await.expect("creates");
    ids.sort();
    for n in 0..4 {
        let mut known: Vec<String> = Vec::new();
        for line in node.lines(&format!("p{n}")) {
            known.extend(
                line["containers"].as_array().into_iter().flatten().filter_map(|id| id.as_str().map(Into::into)),
            );
            known.extend(line["container"]["id"].as_str().map(Into::into));
        }
        let told = known.len();
        known.sort();
        known.dedup();
        assert_eq!(known.len(), told, "p{n} was told of a container twice");
        assert_eq!(known, ids, "p{n}");
    }
}

#[tokio::test]
async fn a_synchronisation_may_take_several_messages() {
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    let large = |n: usize| Container { args: vec!["x".repeat(100_000)], ..container(&format!("c{n}")) };
    node.runtime.snapshot.lock().expect("lock").containers = (0..100).map(large).collect();
    node.plugin("10", "a", json!({})).await;
    let told = node.wait("a", "Synchronize").await;
    assert_eq!(told["containers"].as_array().map(Vec::len), Some(100));
}

#[tokio::test]
async fn plugins_of_the_directory_are_started_with_their_configuration() {
    let prepare = |dir: &Path, tools: &Path, config: &mut Config| {
        std::fs::create_dir(&config.plugin_path).expect("directory");
        std::fs::create_dir(&config.plugin_config_path).expect("directory");
        for name in ["10-good", "20-silent", "30-broken"] {
            let program = if name == "20-silent" { PathBuf::from("/bin/true") } else { tools.join("nri-plugin") };
            std::os::unix::fs::symlink(program, config.plugin_path.join(name)).expect("link");
        }
        let good = json!({ "log": dir.join("good.log"), "adjust": { "annotations": { "k": "v" } } });
        std::fs::write(config.plugin_config_path.join("good.conf"), good.to_string()).expect("write");
        std::fs::write(config.plugin_config_path.join("30-broken.conf"), "no JSON").expect("write");
        config.disable_connections = true;
    };
    let Some(node) = Node::start(prepare).await else { return };
    assert!(!node.dir.path().join("run/nri.sock").exists());
    let adjust = node.plugins.create_container(&pod(), &container("c")).await.expect("create");
    assert_eq!(adjust.annotations["k"], "v");
    assert_eq!(node.events("good")[..3], ["Configure", "Synchronize", "CreateContainer"]);
}

#[tokio::test]
async fn names_and_bytes_that_are_no_plugins_are_dropped() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let Some(mut node) = Node::start(|_, _, _| {}).await else { return };
    let socket = node.dir.path().join("run/nri.sock");
    for noise in [&b"\0\0\0\x02\xff\xff\xff\xff"[..], b"\0\0\0\x02\0\0\0\x0a\0\x40\0\x01\0\0\0\x01\x01\0"] {
        let mut peer = tokio::net::UnixStream::connect(&socket).await.expect("connect");
        peer.write_all(noise).await.expect("write");
        assert_eq!(peer.read(&mut [0]).await.expect("read"), 0);
    }
    let mut command = Command::new(node.tools.join("nri-plugin"));
    let odd = command.args(["-name", "a/b", "-index", "10", "-socket"]).arg(&socket).stderr(Stdio::null()).status();
    assert!(!odd.expect("run").success());
    node.plugin("10", "a", json!({})).await;
    node.plugins.run_pod_sandbox(&pod()).await.expect("run");
    assert_eq!(node.events("a").last().map(String::as_str), Some("RunPodSandbox"));
}
