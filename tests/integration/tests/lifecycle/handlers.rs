//! Runtime handlers: the default one, an OCI binary by path, and one that nobody has configured.

mod suite;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::{Node, shim_table};
use cricket_testkit::daemon::Options;
use cricket_testkit::host::tool_dir;
use cricket_testkit::logs::lines;
use cricket_testkit::{cri, leaks};

use crate::support::{SOON, Scene, idle, mount, node, security, shell, until};
use crate::userns;

/// A node with runc as a handler of that name.
async fn with_runc() -> Result<Node> {
    let runc = tool_dir("runc")?.join("runc");
    let table = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc";
    let tables = format!(
        "[{table}]\nruntime_type = 'io.containerd.runc.v2'\n[{table}.options]\nBinaryName = {:?}\n",
        runc.display().to_string()
    );
    Node::with(Options { tables, ..Options::default() }).await
}

#[tokio::test]
async fn an_unknown_handler_is_refused_with_the_names_that_exist() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let error = cri.run_pod_with(&node.daemon.pod("handler"), "no-such-handler").await.expect_err("it is unknown");
    assert!(error.message().contains("no-such-handler"), "{error}");
    let status = cri.runtime().status(v1::StatusRequest { verbose: false }).await?.into_inner();
    for handler in status.runtime_handlers.iter().filter(|h| !h.name.is_empty()) {
        assert!(error.message().contains(&handler.name), "{} is not named: {error}", handler.name);
    }
    Ok(())
}

#[tokio::test]
async fn runc_by_path_runs_pods() -> Result<()> {
    let node = with_runc().await?;
    let cri = node.daemon.cri().await?;
    let status = cri.runtime().status(v1::StatusRequest { verbose: false }).await?.into_inner();
    let handler = status.runtime_handlers.iter().find(|h| h.name == "runc").context("runc is listed")?;
    // What it says of itself, and this host can.
    let own = status.runtime_handlers.iter().find(|h| h.name == "youki").context("youki is listed")?;
    assert_eq!(handler.features, own.features);
    let pod = node.daemon.pod("runc");
    let id = cri.run_pod_with(&pod, "runc").await?;
    assert_eq!(cri.pod(&id).await?.runtime_handler, "runc");
    let scene = Scene { cri: cri.clone(), pod, id, node: node.into() };

    let mut config = shell("main", "trap 'exit 7' TERM; echo out; echo err >&2; while :; do sleep 0.05; done");
    let context = security(&mut config);
    context.run_as_user = Some(v1::Int64Value { value: 1234 });
    context.seccomp = Some(v1::SecurityProfile::default());
    config.linux.get_or_insert_default().resources =
        Some(v1::LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() });
    let main = scene.run(&config).await?;
    // The same namespaces and confinement as with the handler that is built in.
    assert!(scene.sh(&main, "id").await?.starts_with("uid=1234"));
    assert_eq!(scene.sh(&main, "grep ^Seccomp: /proc/1/status | cut -f 2").await?, "2");
    assert_eq!(scene.sh(&main, "hostname").await?, "runc");
    let second = scene.run(&idle("second")).await?;
    for kind in ["net", "ipc", "uts"] {
        let link = format!("readlink /proc/self/ns/{kind}");
        assert_eq!(scene.sh(&main, &link).await?, scene.sh(&second, &link).await?, "{kind}");
    }
    let timed_out = scene.cri.exec(&main, &["sleep", "30"], 1).await.expect_err("times out");
    assert_eq!(timed_out.code(), tonic::Code::DeadlineExceeded);
    scene.cri.stop(&main, 10).await?;
    let ended = scene.cri.container(&main).await?;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
    let logs = scene.node.daemon.logs(&scene.pod, &config)?;
    assert_eq!((lines(&logs, "stdout"), lines(&logs, "stderr")), (vec!["out".to_owned()], vec!["err".to_owned()]));
    let missing = cri::container("missing", cricket_integration::BUSYBOX, &["/no/such/command"]);
    let third = scene.cri.create(&scene.id, &missing, &scene.pod).await?;
    let error = scene.cri.start(&third).await.expect_err("there is no such command");
    assert!(error.message().contains("/no/such/command"), "{error}");
    let node = scene.node.clone();
    scene.end().await?;
    node.daemon.assert_no_leaks(Duration::from_secs(5))
}

#[tokio::test]
async fn both_handlers_live_side_by_side() -> Result<()> {
    let node = with_runc().await?;
    let cri = node.daemon.cri().await?;
    let one = cri::host_network(node.daemon.pod("default"));
    let two = cri::host_network(node.daemon.pod("other"));
    let (first, second) = (cri.run_pod(&one).await?, cri.run_pod_with(&two, "runc").await?);
    let config = shell("main", "exit 5");
    for (id, pod) in [(&first, &one), (&second, &two)] {
        let main = cri.run(id, &config, pod).await?;
        assert_eq!(cri.wait_exit(&main, SOON).await?.exit_code, 5);
    }
    assert_eq!(cri.pod(&first).await?.runtime_handler, "");
    Ok(())
}

/// Its time is over while the shim still starts it: it does not run afterwards, and nothing of it waits for it.
#[tokio::test]
async fn a_command_whose_time_is_over_before_its_shim_has_started_it_is_ended() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (slow, runc) = (dir.path().join("runc"), tool_dir("runc")?.join("runc"));
    let wait = format!("for word in \"$@\"; do [ \"$word\" != exec ] || sleep 2; done; exec {} \"$@\"", runc.display());
    std::fs::write(&slow, format!("#!/bin/sh\n{wait}\n"))?;
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755))?;
    let node = Node::with(Options { tables: shim_table("shim", &slow)?, ..Options::default() }).await?;
    let cri = node.daemon.cri().await?;
    let pod = cri::host_network(node.daemon.pod("shim-slow"));
    let id = cri.run_pod_with(&pod, "shim").await?;
    let main = cri.run(&id, &idle("main"), &pod).await?;
    let left = || -> Result<Vec<_>> {
        let mine = |p: &leaks::Process| p.command == "sleep 4261" || p.command.contains(" exec-");
        Ok(leaks::processes(node.daemon.mark())?.into_iter().filter(mine).collect())
    };
    for _ in 0..2 {
        let late = cri.exec(&main, &["sleep", "4261"], 1).await.expect_err("it did not time out");
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late}");
        // Long enough for a start that goes on.
        tokio::time::sleep(Duration::from_secs(3)).await;
        until("the command and what waits for it to end", || async { Ok(left()?.is_empty()) })
            .await
            .with_context(|| format!("{:?}", left()))?;
    }
    assert_eq!(cricket_integration::sh(&cri, &main, "echo alive").await?, "alive");
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    node.daemon.assert_no_leaks(SOON)
}

#[tokio::test]
async fn pods_with_users_of_their_own_by_runc() -> Result<()> {
    let node = with_runc().await?;
    let cri = node.daemon.cri().await?;
    let pod = userns::of_pod(&node, "runc-userns");
    let id = cri.run_pod_with(&pod, "runc").await?;
    let scene = Scene { cri, pod, id, node: node.into() };
    let volume = scene.node.daemon.home().join("volume");
    std::fs::create_dir_all(&volume)?;
    std::fs::write(volume.join("file"), "kept\n")?;
    let mut config = userns::with_users(idle("main"));
    config.mounts.push(userns::mapped(mount(&volume, "/volume")));
    config.mounts.push(v1::Mount { readonly: true, recursive_read_only: true, ..mount(&volume, "/below") });
    let main = scene.run(&config).await?;
    // Mapped are the root file system and the volume that asks for it, and a read-only one is that wholly.
    let seen = "id -u; awk '{print $2}' /proc/self/uid_map; stat -c %u / /bin/sh /volume /volume/file /etc/hosts";
    assert_eq!(scene.sh(&main, seen).await?, "0\n300000\n0\n0\n0\n0\n0");
    assert_eq!(scene.sh(&main, "echo more >> /volume/file; stat -c %u /below").await?, "65534");
    assert_eq!(std::fs::read_to_string(volume.join("file"))?, "kept\nmore\n");
    let node = scene.node.clone();
    scene.end().await?;
    node.daemon.assert_no_leaks(SOON)
}
