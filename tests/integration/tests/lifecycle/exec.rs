//! ExecSync: what probes and lifecycle hooks do.

use std::time::{Duration, Instant};

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_testkit::cri::MAX_MESSAGE;
use cricket_testkit::leaks;
use tonic::Code;

use crate::support::{SOON, Scene, idle, mount, security, shell, until};

#[tokio::test]
async fn answers_as_a_shell_does() -> Result<()> {
    let scene = Scene::host("exec-codes").await?;
    let main = scene.idle("main").await?;
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        assert_eq!(scene.cri.exec(&main, &["sh", "-c", script], 10).await?.exit_code, code, "{script}");
    }
    let missing = scene.cri.exec(&main, &["/no/such/command"], 10).await?;
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.exit_code, 127);
    assert!(text.contains("/no/such/command") && text.to_lowercase().contains("no such file"), "{text}");
    let refused = scene.cri.exec(&main, &["/etc/passwd"], 10).await?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.exit_code, 126);
    assert!(text.to_lowercase().contains("permission denied"), "{text}");
    scene.end().await
}

#[tokio::test]
async fn streams_are_apart_and_standard_input_is_empty() -> Result<()> {
    let scene = Scene::host("exec-streams").await?;
    let main = scene.idle("main").await?;
    let done = scene.cri.exec(&main, &["sh", "-c", "cat; printf out; printf err >&2"], 10).await?;
    assert_eq!((done.stdout.as_slice(), done.stderr.as_slice()), (&b"out"[..], &b"err"[..]));
    scene.end().await
}

#[tokio::test]
async fn a_timeout_is_an_error_of_its_own_and_kills_all_of_the_exec() -> Result<()> {
    let scene = Scene::host("exec-timeout").await?;
    let main = scene.idle("main").await?;
    // One child in a session of its own, one that was orphaned, one that ignores what can be ignored.
    let script = "setsid sleep 4242 & (sleep 4243 &) ; trap '' TERM HUP INT; sleep 4244";
    let began = Instant::now();
    let error = scene.cri.exec(&main, &["sh", "-c", script], 1).await.expect_err("times out");
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < SOON, "{:?}", began.elapsed());
    until("the exec's processes to be gone", || async {
        let left = scene.sh(&main, "pgrep -f 'sleep 424[234]' || true").await?;
        Ok(left.is_empty())
    })
    .await?;
    // The container itself goes on, and takes further execs.
    assert_eq!(scene.cri.exec(&main, &["true"], 20).await?.exit_code, 0);
    assert_eq!(scene.cri.container(&main).await?.state(), v1::ContainerState::ContainerRunning);
    scene.end().await
}

#[tokio::test]
async fn background_children_hold_nobody_up() -> Result<()> {
    let scene = Scene::host("exec-background").await?;
    let main = scene.idle("main").await?;
    let before = scene.node.daemon.open_fds()?;
    let began = Instant::now();
    for _ in 0..3 {
        let done = scene.cri.exec(&main, &["sh", "-c", "sleep 4245 & echo done"], 20).await?;
        assert_eq!((done.exit_code, done.stdout.as_slice()), (0, &b"done\n"[..]));
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // Other tests use the same daemon: only growth by each exec's pipes would show.
    until("the pipes to be closed", || async { Ok(scene.node.daemon.open_fds()? < before + 40) }).await?;
    scene.end().await
}

#[tokio::test]
async fn output_of_both_streams_fits_one_message() -> Result<()> {
    let scene = Scene::host("exec-output").await?;
    let main = scene.idle("main").await?;
    let script = "dd if=/dev/zero bs=1M count=20 2>/dev/null & dd if=/dev/zero bs=1M count=20 2>/dev/null >&2; wait";
    let done = scene.cri.exec(&main, &["sh", "-c", script], 60).await?;
    let total = done.stdout.len() + done.stderr.len();
    assert_eq!(done.exit_code, 0);
    assert!(total < MAX_MESSAGE && total > MAX_MESSAGE / 2, "{total} bytes");
    scene.end().await
}

#[tokio::test]
async fn is_confined_as_its_container() -> Result<()> {
    let scene = Scene::host("exec-confined").await?;
    let mut config = idle("main");
    config.working_dir = "/tmp/work".into();
    config.envs = vec![v1::KeyValue { key: "COLOUR".into(), value: "blue".into() }];
    let context = security(&mut config);
    context.run_as_user = Some(v1::Int64Value { value: 1234 });
    context.run_as_group = Some(v1::Int64Value { value: 2345 });
    context.supplemental_groups = vec![3456];
    context.no_new_privs = true;
    context.capabilities = Some(v1::Capability {
        add_capabilities: vec!["NET_RAW".into()],
        drop_capabilities: vec!["ALL".into()],
        ..Default::default()
    });
    context.seccomp = Some(v1::SecurityProfile { profile_type: 0, localhost_ref: String::new() });
    let main = scene.run(&config).await?;
    let script = "id; pwd; echo $COLOUR; umask; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/$$/status";
    let inside = scene.sh(&main, script).await?;
    let init = scene.sh(&main, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/1/status").await?;
    assert!(inside.starts_with("uid=1234 gid=2345"), "{inside}");
    assert!(inside.contains("groups=2345,3456"), "{inside}");
    assert!(inside.contains("\n/tmp/work\nblue\n0022\n"), "{inside}");
    assert!(inside.ends_with(&init), "the exec has {inside}\nthe init has {init}");
    assert!(init.contains("NoNewPrivs:\t1") && init.contains("Seccomp:\t2"), "{init}");
    // 1 << 13 is CAP_NET_RAW, and it is all there is.
    assert!(init.contains("CapBnd:\t0000000000002000"), "{init}");
    assert!(init.contains("CapInh:\t0000000000000000"), "{init}");
    scene.end().await
}

#[tokio::test]
async fn is_in_the_containers_namespaces_and_below_its_cgroup() -> Result<()> {
    let scene = Scene::networked("exec-namespaces").await?;
    let main = scene.idle("main").await?;
    let kinds = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/PID/ns/$n; done";
    let mine = scene.sh(&main, &kinds.replace("PID", "self")).await?;
    let inits = scene.sh(&main, &kinds.replace("PID", "1")).await?;
    assert_eq!(mine, inits);
    let groups = scene.sh(&main, "cat /proc/self/cgroup; echo; cat /proc/1/cgroup").await?;
    let (exec, init) = groups.split_once("\n\n").unwrap_or_default();
    // The memory of an exec is its container's.
    let memory = |text: &str| text.lines().find(|l| l.contains(":memory:") || l.starts_with("0::/")).map(str::to_owned);
    let (exec, init) = (memory(exec).unwrap_or_default(), memory(init).unwrap_or_default());
    assert!(exec.starts_with(&init), "{exec} is not below {init}");
    // In a cgroup namespace of its own a container does not see where it is.
    assert!(init == "0::/" || init.contains(&main), "{init}");
    scene.end().await
}

#[tokio::test]
async fn needs_a_running_container() -> Result<()> {
    let scene = Scene::host("exec-stopped").await?;
    let config = shell("main", "exit 0");
    let main = scene.cri.create(&scene.id, &config, &scene.pod).await?;
    let error = scene.cri.exec(&main, &["true"], 5).await.expect_err("is not started");
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    scene.cri.start(&main).await?;
    scene.cri.wait_exit(&main, SOON).await?;
    let error = scene.cri.exec(&main, &["true"], 5).await.expect_err("has ended");
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    let unknown = "f".repeat(64);
    let error = scene.cri.exec(&unknown, &["true"], 5).await.expect_err("does not exist");
    assert_eq!(error.code(), Code::NotFound, "{error}");
    let error = scene.cri.exec(&main, &[], 5).await.expect_err("nothing to execute");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    scene.end().await
}

#[tokio::test]
async fn sees_what_its_container_sees() -> Result<()> {
    let scene = Scene::host("exec-mounts").await?;
    let dir = scene.node.daemon.home().join("exec-mounts");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("file"), "content")?;
    let mut config = idle("main");
    config.mounts = vec![mount(&dir, "/data")];
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "cat /data/file").await?, "content");
    // Nothing of the runtime's own is open in it.
    assert_eq!(scene.sh(&main, "ls /proc/self/fd | wc -l").await?, "4", "0 to 2, and the directory that ls reads");
    scene.end().await
}

#[tokio::test]
async fn what_it_leaves_in_the_background_lives_as_long_as_the_container() -> Result<()> {
    let scene = Scene::host("exec-end").await?;
    let main = scene.idle("main").await?;
    let mark = scene.pod.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default();
    let running = || -> Result<bool> { Ok(leaks::processes(&mark)?.iter().any(|p| p.command == "sleep 4246")) };
    scene.cri.exec(&main, &["sh", "-c", "setsid sleep 4246 >/dev/null 2>&1 </dev/null &"], 5).await?;
    until("the exec's child to be there", || async { running() }).await?;
    // A second exec that times out is no reason to end what the first left.
    scene.cri.exec(&main, &["sleep", "9"], 1).await.expect_err("times out");
    assert!(running()?, "lives on when its exec is over");
    scene.cri.stop(&main, 5).await?;
    until("the exec's child to be gone", || async { Ok(!running()?) }).await?;
    scene.end().await
}

#[tokio::test]
async fn ends_when_its_caller_goes_away() -> Result<()> {
    let scene = Scene::host("exec-cancel").await?;
    let main = scene.idle("main").await?;
    let given_up = {
        let (cri, main) = (scene.cri.clone(), main.clone());
        tokio::spawn(async move { cri.exec(&main, &["sh", "-c", "setsid sleep 4247 & sleep 4247"], 0).await })
    };
    let running = || scene.sh(&main, "pgrep -x -f 'sleep 4247' || true");
    until("the exec's processes to run", || async { Ok(running().await?.lines().count() == 2) }).await?;
    given_up.abort();
    assert!(given_up.await.is_err_and(|e| e.is_cancelled()), "it has no end of its own");
    until("the exec's processes to be gone", || async { Ok(running().await?.is_empty()) }).await?;
    scene.end().await
}

#[tokio::test]
async fn many_at_once() -> Result<()> {
    let scene = Scene::host("exec-many").await?;
    let main = scene.idle("main").await?;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (cri, id) = (scene.cri.clone(), main.clone());
        calls.spawn(async move { (n, cri.exec(&id, &["sh", "-c", &format!("echo {n}; exit {n}")], 60).await) });
    }
    while let Some(call) = calls.join_next().await {
        let (n, answer) = call?;
        let answer = answer?;
        assert_eq!((answer.exit_code, String::from_utf8(answer.stdout)?), (n, format!("{n}\n")));
    }
    scene.end().await
}
