//! The life of a pod, as its containers, hooks and probes write it down in one
//! file of a shared volume.

use crate::support::{LONG, lines, ordered, sh, until};
use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::{IMAGE, Node, Pod};
use cricket_testkit::logs;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The pod's grace period. One container ignores TERM and is killed at its end.
const GRACE: i64 = 6;

/// What probes write.
const PROBED: [&str; 6] = ["READINESS", "LIVENESS", "SIDECAR-READY", "SIDECAR-LIVE", "HTTP-READINESS", "HTTP-LIVENESS"];

/// Takes a line from its query; the web server runs it.
const MARK: &str = r#"#!/bin/sh
echo "$QUERY_STRING" >>/shared/timeline
printf 'Content-Type: text/plain\r\n\r\nmarked\n'
"#;

/// Waits for a line of the timeline, at most 30 seconds.
const UNTIL: &str = r#"until_line() { n=0; until grep -qx "$1" /shared/timeline; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || exit 20; done; }"#;

#[tokio::test]
async fn the_life_of_a_pod() -> Result<()> {
    let node = Node::start().await?;
    let shared = node.shared();
    node.kubelet.add("life", &spec(&shared))?;
    let pod = node.kubelet.wait_ready("life", LONG).await?;
    // Probes go on after they have made it ready.
    until("every probe's second time", LONG, || {
        let timeline = lines(&shared.join("timeline"));
        PROBED.iter().all(|probed| timeline.iter().filter(|line| line == probed).count() > 1)
    })
    .await?;
    started(&node, &pod, &shared)?;
    environment(&node, &pod, &shared)?;
    usage(&node).await?;
    ends(&node, &pod, &shared).await?;
    node.finish().await
}

fn spec(shared: &Path) -> Value {
    let shared_mount = json!({ "name": "shared", "mountPath": "/shared" });
    let www = json!({ "name": "www", "mountPath": "/www" });
    let mark = |line: &str| json!({ "path": format!("/cgi-bin/mark?{line}"), "port": 8080 });
    let probe = |line: &str| json!({ "httpGet": mark(line), "periodSeconds": 1 });
    let append = |line: &str| json!({ "exec": { "command": sh(&format!("echo {line} >>/shared/timeline")) } });
    let exec_probe = |line: &str| {
        let mut probe = append(line);
        probe["periodSeconds"] = json!(1);
        probe
    };
    let init1 = "echo INIT1 >>/shared/timeline; mkdir /www/cgi-bin; printf %s \"$MARK\" >/www/cgi-bin/mark; \
                 chmod 755 /www/cgi-bin/mark; echo from init1; echo set up >/dev/termination-log";
    let init2 = "[ -e /www/tried ] || { touch /www/tried; echo not yet; exit 4; }; \
                 [ -x /www/cgi-bin/mark ] && echo INIT2 >>/shared/timeline && echo second try";
    let sidecar = "trap 'echo SIDECAR-TERM >>/shared/timeline; exit 0' TERM; httpd -f -p 8080 -h /www & wait";
    let main = format!(
        "{UNTIL}; echo START >>/shared/timeline; \
         trap 'echo TERM >>/shared/timeline; sleep 0.3; echo END >>/shared/timeline; exit 9' TERM; \
         until_line POST-BEGIN; cat /proc/self/cgroup >/shared/main.cgroup; \
         echo \"$POD|$NODE|$UID_|$IP|$HOST|$CPU|$MEMORY|$GREETING|$(hostname)\" >/shared/main.env; \
         grep -E ' /(cache|shared|www) ' /proc/self/mounts >/shared/main.mounts; cat /info/labels >/shared/main.labels; \
         echo ready; while :; do sleep 0.1; done"
    );
    let post_start = format!(
        "{UNTIL}; echo POST-BEGIN >>/shared/timeline; until_line START; echo POST-START >>/shared/timeline; \
         cat /proc/self/cgroup >/shared/hook.cgroup; echo \"$POD|$IP|$(hostname)\" >/shared/hook.env"
    );
    let pre_stop = "echo PRE-BEGIN >>/shared/timeline; sleep 1; echo PRE-STOP >>/shared/timeline";
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let resource = |name: &str, path: &str, divisor: &str| json!({ "name": name, "valueFrom": { "resourceFieldRef": { "resource": path, "divisor": divisor } } });
    json!({
        "terminationGracePeriodSeconds": GRACE,
        "volumes": [
            { "name": "shared", "hostPath": { "path": shared } },
            { "name": "www", "emptyDir": {} },
            { "name": "cache", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            { "name": "info", "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
        ],
        "initContainers": [
            {
                "name": "init1", "image": IMAGE, "command": sh(init1), "volumeMounts": [shared_mount, www],
                "env": [{ "name": "MARK", "value": MARK }],
            },
            { "name": "init2", "image": IMAGE, "command": sh(init2), "volumeMounts": [shared_mount, www] },
            {
                "name": "sidecar", "image": IMAGE, "command": sh(sidecar), "volumeMounts": [shared_mount, www],
                "restartPolicy": "Always",
                "startupProbe": probe("SIDECAR-STARTED"),
                "readinessProbe": probe("SIDECAR-READY"),
                "livenessProbe": probe("SIDECAR-LIVE"),
            },
        ],
        "containers": [
            {
                "name": "main", "image": IMAGE, "command": sh(&main),
                "volumeMounts": [
                    shared_mount, { "name": "www", "mountPath": "/www", "readOnly": true },
                    { "name": "cache", "mountPath": "/cache" }, { "name": "info", "mountPath": "/info" },
                ],
                "resources": { "limits": { "cpu": "500m", "memory": "64Mi" } },
                "env": [
                    field("POD", "metadata.name"), field("NODE", "spec.nodeName"), field("UID_", "metadata.uid"),
                    field("IP", "status.podIP"), field("HOST", "status.hostIP"),
                    resource("CPU", "limits.cpu", "1m"), resource("MEMORY", "limits.memory", "1"),
                    { "name": "GREETING", "value": "hello from  $(POD)" },
                ],
                "lifecycle": {
                    "postStart": { "exec": { "command": sh(&post_start) } },
                    "preStop": { "exec": { "command": sh(pre_stop) } },
                },
                "readinessProbe": exec_probe("READINESS"),
                "livenessProbe": exec_probe("LIVENESS"),
            },
            {
                "name": "stubborn", "image": IMAGE, "volumeMounts": [shared_mount],
                "command": sh("trap 'echo STUBBORN-TERM >>/shared/timeline' TERM; while :; do sleep 0.1; done"),
                "lifecycle": {
                    "postStart": { "httpGet": mark("HTTP-POST-START") },
                    "preStop": { "httpGet": mark("HTTP-PRE-STOP") },
                },
                "readinessProbe": probe("HTTP-READINESS"),
                "livenessProbe": probe("HTTP-LIVENESS"),
            },
        ],
    })
}

/// The way up: order, restart counts, exit codes, messages, logs.
fn started(node: &Node, pod: &Pod, shared: &Path) -> Result<()> {
    let timeline = lines(&shared.join("timeline"));
    ordered(&timeline, "INIT1 < INIT2 < SIDECAR-STARTED < START POST-BEGIN < POST-START < READINESS LIVENESS")?;
    ordered(&timeline, "SIDECAR-STARTED < HTTP-POST-START < HTTP-READINESS HTTP-LIVENESS")?;
    for once in ["INIT1", "INIT2", "START", "POST-START", "HTTP-POST-START"] {
        ensure!(timeline.iter().filter(|line| *line == once).count() == 1, "{once} in {timeline:#?}");
    }

    ensure!(pod.phase == "Running", "{pod:#?}");
    let restarts = pod.containers.iter().map(|(name, container)| (name.as_str(), container.restarts));
    let expected = [("init1", 0), ("init2", 1), ("main", 0), ("sidecar", 0), ("stubborn", 0)];
    ensure!(restarts.eq(expected), "{pod:#?}");
    for name in ["main", "sidecar", "stubborn"] {
        let container = pod.container(name)?;
        ensure!(container.ready && container.running.is_some() && container.last.is_none(), "{container:#?}");
    }
    let [init1, init2] = ["init1", "init2"].map(|name| pod.container(name));
    let (init1, init2) = (init1?, init2?);
    let exit = init1.ended.as_ref().context("init1 has not ended")?;
    ensure!((exit.code, exit.reason.as_str(), exit.message.as_str()) == (0, "Completed", "set up\n"), "{exit:#?}");
    let (failed, exit) = (init2.last.as_ref().context("no first end")?, init2.ended.as_ref().context("not ended")?);
    ensure!((failed.code, failed.reason.as_str()) == (4, "Error"), "{failed:#?}");
    ensure!((exit.code, exit.reason.as_str()) == (0, "Completed"), "{exit:#?}");
    let begun =
        |name: &str| -> Result<_> { pod.container(name)?.running.with_context(|| format!("{name} does not run")) };
    let times = [init1.ended.as_ref().and_then(|exit| exit.finished), failed.finished, exit.finished];
    let times: Vec<_> = times.into_iter().flatten().chain([begun("sidecar")?, begun("main")?]).collect();
    ensure!(times.len() == 5 && times.is_sorted(), "{times:?}");

    for (container, restart, text) in [("init1", 0, "from init1"), ("init2", 1, "second try"), ("main", 0, "ready")] {
        let log = logs::read(&node.kubelet.container_log(pod, container, restart))?;
        ensure!(logs::lines(&log, "stdout") == [text], "log of {container}: {log:?}");
    }
    Ok(())
}

/// What containers and hooks find inside.
fn environment(node: &Node, pod: &Pod, shared: &Path) -> Result<()> {
    // Nobody but the runtime makes what a hostPath without a type names.
    let metadata = shared.metadata()?;
    ensure!(metadata.is_dir() && metadata.mode() & 0o7777 == 0o755 && metadata.uid() == 0, "{metadata:?}");

    let (ip, host, uid) = (&pod.ip, node.kubelet.ip(), &pod.uid);
    let (name, on) = (format!("life-{}", node.kubelet.node()), node.kubelet.node());
    ensure!(ip.starts_with(node.daemon.network().gateway().trim_end_matches('1')), "{ip}");
    let expected = format!("{name}|{on}|{uid}|{ip}|{host}|500|67108864|hello from  {name}|{name}");
    ensure!(
        lines(&shared.join("main.env")) == [expected.as_str()],
        "{:?}, not {expected}",
        lines(&shared.join("main.env"))
    );
    ensure!(lines(&shared.join("hook.env")) == [format!("{name}|{ip}|{name}")]);
    ensure!(lines(&shared.join("main.labels")) == [r#"app="life""#]);

    let mounts = lines(&shared.join("main.mounts"));
    let options = |at: &str| -> Result<Vec<String>> {
        let mount = mounts
            .iter()
            .find(|line| line.split(' ').nth(1) == Some(at))
            .with_context(|| format!("{at}: {mounts:?}"))?;
        Ok(mount.split([' ', ',']).map(str::to_owned).collect())
    };
    ensure!(options("/cache")?.contains(&"tmpfs".to_owned()), "{mounts:?}");
    ensure!(options("/www")?.contains(&"ro".to_owned()), "{mounts:?}");
    ensure!(options("/shared")?.contains(&"rw".to_owned()), "{mounts:?}");

    // A hook is in its container's groups, or in one below.
    let (main, hook) = (lines(&shared.join("main.cgroup")), lines(&shared.join("hook.cgroup")));
    ensure!(!main.is_empty() && main.len() == hook.len(), "{main:?}, {hook:?}");
    for (main, hook) in main.iter().zip(&hook) {
        ensure!(hook.starts_with(main.as_str()), "hook in {hook}, container in {main}");
    }
    Ok(())
}

/// What the kubelet says that the pod uses: of its containers it asks the runtime.
async fn usage(node: &Node) -> Result<()> {
    let began = Instant::now();
    loop {
        let summary = node.kubelet.summary().await?;
        let name = format!("life-{}", node.kubelet.node());
        let named = |list: &Value, name: &str, at: &str| -> Value {
            let found =
                list.as_array().into_iter().flatten().find(|item| item.pointer(at).is_some_and(|it| it == name));
            found.cloned().unwrap_or_default()
        };
        let pod = named(&summary["pods"], &name, "/podRef/name");
        let main = named(&pod["containers"], "main", "/name");
        let number = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_u64).unwrap_or_default();
        let uses = ["/cpu/usageCoreNanoSeconds", "/memory/workingSetBytes", "/rootfs/usedBytes", "/logs/usedBytes"];
        let complete = uses.iter().all(|at| number(&main, at) > 0)
            // One that is less than its limit.
            && number(&main, "/memory/workingSetBytes") + number(&main, "/memory/availableBytes") == 64 << 20
            && number(&summary, "/node/runtime/imageFs/usedBytes") > 1 << 20;
        if complete {
            return Ok(());
        }
        // The kubelet keeps what it was told for some seconds.
        ensure!(began.elapsed() < LONG, "{main:#}\n{:#}", summary["node"]["runtime"]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The way down.
async fn ends(node: &Node, pod: &Pod, shared: &Path) -> Result<()> {
    let cri = node.cri().await?;
    // Watched from before: they are removed once the kubelet has seen their ends.
    let watch = |name: &str| -> Result<_> {
        let (cri, id) = (cri.clone(), pod.container(name)?.id.clone());
        Ok(tokio::spawn(async move { cri.wait_exit(&id, LONG).await }))
    };
    let (main, stubborn, sidecar) = (watch("main")?, watch("stubborn")?, watch("sidecar")?);
    let deleted = jiff::Timestamp::now();
    node.kubelet.delete("life")?;
    let (main, stubborn, sidecar) = (main.await??, stubborn.await??, sidecar.await??);

    let timeline = lines(&shared.join("timeline"));
    ordered(&timeline, "START POST-START < READINESS LIVENESS < PRE-BEGIN < PRE-STOP < TERM < END < SIDECAR-TERM")?;
    ordered(&timeline, "HTTP-READINESS < HTTP-PRE-STOP < STUBBORN-TERM < SIDECAR-TERM")?;
    for once in ["START", "PRE-STOP", "HTTP-PRE-STOP", "TERM", "END", "STUBBORN-TERM", "SIDECAR-TERM"] {
        ensure!(timeline.iter().filter(|line| *line == once).count() == 1, "{once} in {timeline:#?}");
    }

    ensure!((main.exit_code, main.reason.as_str()) == (9, "Error"), "{main:#?}");
    ensure!((stubborn.exit_code, stubborn.reason.as_str()) == (137, "Error"), "{stubborn:#?}");
    ensure!((sidecar.exit_code, sidecar.reason.as_str()) == (0, "Completed"), "{sidecar:#?}");
    let seconds = |nanos: i64| (i128::from(nanos) - deleted.as_nanosecond()) as f64 / 1e9;
    let (main, stubborn, sidecar) =
        (seconds(main.finished_at), seconds(stubborn.finished_at), seconds(sidecar.finished_at));
    println!("after the deletion main ended in {main:.2} s, stubborn in {stubborn:.2} s, sidecar in {sidecar:.2} s");
    let grace = GRACE as f64;
    ensure!(main > 1.0 && main < stubborn - 1.0, "main ended after {main} s, stubborn after {stubborn} s");
    // The whole grace period, and not much more; then at the latest it is the sidecar's turn.
    ensure!(stubborn > grace - 1.0 && stubborn < grace + 6.0, "{stubborn}");
    ensure!(sidecar > grace - 1.0 && sidecar < grace + 10.0, "{sidecar}");
    Ok(())
}
