//! Streamed exec: streams, terminals, exit codes, what a command may, and what a client that goes leaves.

use std::time::{Duration, Instant};

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_integration::SOON;
use tonic::Code;

use crate::client::{STDOUT, Session, in_terminal, order};
use crate::scene::{Descriptors, Scene, shell, until};

#[tokio::test]
async fn streams_are_apart_and_the_code_is_told() -> Result<()> {
    let scene = Scene::host("exec-streams").await?;
    let main = scene.idle().await?;
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        let mut session = Session::exec(&scene.cri, order(&main, script)).await?;
        assert_eq!(session.finish().await?.code()?, code, "{script}");
    }
    let mut session = Session::exec(&scene.cri, order(&main, "printf err >&2; cat; printf end; exit 7")).await?;
    session.write("some ").await?;
    session.expect(STDOUT, "some ").await?;
    session.write("words ").await?;
    session.close_stdin().await?;
    let outcome = session.finish().await?;
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("some words end", "err"));
    assert_eq!(outcome.code()?, 7);
    // Without standard input it is empty, as it is for ExecSync.
    let request = v1::ExecRequest { stdin: false, ..order(&main, "cat; readlink /proc/self/fd/0") };
    assert_eq!(Session::exec(&scene.cri, request).await?.finish().await?.stdout, "/dev/null\n");
    scene.end().await
}

#[tokio::test]
async fn a_command_that_cannot_be_executed_answers_as_a_shell() -> Result<()> {
    let scene = Scene::host("exec-missing").await?;
    let main = scene.idle().await?;
    for (command, code, text) in [("/no/such/command", 127, "no such file"), ("/etc/passwd", 126, "permission denied")]
    {
        let request = v1::ExecRequest { cmd: vec![command.into()], ..order(&main, "") };
        let outcome = Session::exec(&scene.cri, request.clone()).await?.finish().await?;
        assert_eq!(outcome.code()?, code, "{outcome:?}");
        assert!(outcome.stderr.contains(command) && outcome.stderr.to_lowercase().contains(text), "{outcome:?}");
        let request = v1::ExecRequest { tty: true, stderr: false, ..request };
        let outcome = Session::exec(&scene.cri, request).await?.finish().await?;
        assert!(outcome.code()? == code && outcome.stdout.contains(command), "{outcome:?}");
    }
    scene.end().await
}

#[tokio::test]
async fn a_terminal_has_a_size_and_controls_its_session() -> Result<()> {
    let scene = Scene::host("exec-terminal").await?;
    let main = scene.idle().await?;
    let script = "echo $TERM; tty; : </dev/tty && echo controlled; \
                  trap 'stty size' WINCH; echo ready; while :; do if read line; then echo got $line; fi; done";
    let mut session = Session::exec(&scene.cri, in_terminal(&main, script)).await?;
    session.expect(STDOUT, "ready\r\n").await?;
    let text = session.text(STDOUT);
    assert!(text.contains("xterm\r\n") && text.contains("/dev/pts/") && text.contains("controlled\r\n"), "{text}");
    session.resize(101, 33).await?;
    session.expect(STDOUT, "33 101\r\n").await?;
    session.write("one\n").await?;
    session.expect(STDOUT, "got one\r\n").await?;
    // The interrupt character reaches the foreground of the terminal.
    session.write([3]).await?;
    assert_eq!(session.finish().await?.code()?, 130);
    scene.end().await
}

#[tokio::test]
async fn a_streamed_command_may_what_a_synchronous_one_may() -> Result<()> {
    let scene = Scene::host("exec-rights").await?;
    let mut config = shell("main", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done");
    let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    security.run_as_user = Some(v1::Int64Value { value: 1234 });
    security.supplemental_groups = vec![77];
    security.no_new_privs = true;
    security.capabilities = Some(v1::Capability {
        drop_capabilities: vec!["CHOWN".into()],
        add_ambient_capabilities: vec!["NET_BIND_SERVICE".into()],
        ..v1::Capability::default()
    });
    security.seccomp = Some(v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
        localhost_ref: String::new(),
    });
    let main = scene.run(&config).await?;
    let script = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status; umask; pwd; \
                  sed 's/exec-[0-9a-f]*/EXEC/' /proc/self/cgroup; env | grep -v TERM | sort";
    let plain = scene.cri.exec_text(&main, &["sh", "-c", script]).await?;
    assert!(plain.contains("Seccomp:\t2") && plain.contains("1234"), "{plain}");
    for set in ["Inh", "Prm", "Eff", "Amb"] {
        assert!(plain.contains(&format!("Cap{set}:\t0000000000000400\n")), "{plain}");
    }
    let streamed = Session::exec(&scene.cri, order(&main, script)).await?.finish().await?;
    assert_eq!(streamed.stdout, plain, "{streamed:?}");
    let terminal = Session::exec(&scene.cri, in_terminal(&main, script)).await?.finish().await?;
    assert_eq!(terminal.stdout.replace("\r\n", "\n"), plain);
    scene.end().await
}

/// What is open after a session of each kind: what is opened with the first of them stays.
async fn settled(scene: &Scene, main: &str) -> Result<Descriptors> {
    for request in [order(main, "true"), in_terminal(main, "true")] {
        Session::exec(&scene.cri, request).await?.finish().await?;
    }
    scene.descriptors()
}

/// CVE-2026-53495: what a command leaves behind holds neither the call nor anything of it.
#[tokio::test]
async fn background_children_that_keep_the_streams_hold_nobody() -> Result<()> {
    let scene = Scene::alone("exec-background").await?;
    let main = scene.idle().await?;
    let before = settled(&scene, &main).await?;
    for tty in [false, true] {
        let script = "setsid sh -c 'trap \"\" HUP; exec sleep 4711' & echo started; exit 4";
        let request = if tty { in_terminal(&main, script) } else { order(&main, script) };
        let began = Instant::now();
        let outcome = Session::exec(&scene.cri, request).await?.finish().await?;
        assert_eq!((outcome.code()?, outcome.stdout.trim_end()), (4, "started"));
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        // It lives on, as after any shell.
        until("what it left", || Ok(!scene.processes("sleep 4711")?.is_empty())).await?;
    }
    // One that never stops writing is not listened to for ever.
    let script = "(while :; do echo x; done) & exit 5";
    let outcome = Session::exec(&scene.cri, order(&main, script)).await?.finish().await?;
    assert_eq!(outcome.code()?, 5);
    scene.no_more_than(&before).await?;
    scene.end().await
}

#[tokio::test]
async fn a_client_that_goes_leaves_nothing() -> Result<()> {
    let scene = Scene::alone("exec-gone").await?;
    let main = scene.idle().await?;
    let before = settled(&scene, &main).await?;
    for tty in [false, true] {
        let script = "trap '' HUP TERM INT PIPE; setsid sleep 4712 & (sleep 4713 &); echo ready; \
                      while :; do sleep 4714; done";
        let request = if tty { in_terminal(&main, script) } else { order(&main, script) };
        let mut session = Session::exec(&scene.cri, request).await?;
        session.expect(STDOUT, "ready").await?;
        drop(session);
        until("all of the exec to be killed", || Ok(scene.processes("sleep 471")?.is_empty())).await?;
    }
    scene.no_more_than(&before).await?;
    until("the execs' cgroups to be removed", || {
        let groups = cricket_testkit::leaks::cgroups(scene.node.daemon.mark())?;
        Ok(!groups.iter().any(|group| group.to_string_lossy().contains(&format!("{main}/exec-"))))
    })
    .await?;
    assert_eq!(scene.cri.container(&main).await?.state(), v1::ContainerState::ContainerRunning);
    scene.end().await
}

#[tokio::test]
async fn a_slow_client_slows_the_command_and_loses_nothing() -> Result<()> {
    let scene = Scene::host("exec-slow").await?;
    let main = scene.idle().await?;
    let size = 8 << 20;
    let script = format!("head -c {size} /dev/zero | tr '\\0' x; exit 2");
    let mut session = Session::exec(&scene.cri, order(&main, &script)).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let outcome = session.finish().await?;
    assert_eq!((outcome.stdout.len(), outcome.code()?), (size, 2));
    scene.end().await
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_a_url_is_given() -> Result<()> {
    let scene = Scene::host("exec-refused").await?;
    let main = scene.idle().await?;
    let code = async |request| scene.cri.runtime().exec(request).await.err().map(|status| status.code());
    assert_eq!(code(order(&"0".repeat(64), "true")).await, Some(Code::NotFound));
    assert_eq!(code(v1::ExecRequest { tty: true, ..order(&main, "true") }).await, Some(Code::InvalidArgument));
    let none = v1::ExecRequest { stdin: false, stdout: false, stderr: false, ..order(&main, "true") };
    assert_eq!(code(none).await, Some(Code::InvalidArgument));
    scene.cri.stop(&main, 0).await?;
    assert_eq!(code(order(&main, "true")).await, Some(Code::FailedPrecondition));
    scene.end().await
}

#[tokio::test]
async fn a_terminal_in_a_pod_with_users_of_its_own() -> Result<()> {
    let mut scene = Scene::host("exec-userns").await?;
    let ids = v1::IdMapping { host_id: 400_000, container_id: 0, length: 65_536 };
    let mode = v1::NamespaceMode::Pod.into();
    let users = Some(v1::UserNamespace { mode, uids: vec![ids], gids: vec![ids] });
    let mut pod = scene.pod.clone();
    pod.metadata.get_or_insert_default().name = "exec-userns-own".into();
    let context = pod.linux.get_or_insert_default().security_context.get_or_insert_default();
    context.namespace_options.get_or_insert_default().userns_options = users.clone();
    let first = std::mem::replace(&mut scene.id, scene.cri.run_pod(&pod).await?);
    scene.cri.remove_pod(&first).await?;
    scene.pod = pod;
    let mut config = shell("main", "while :; do sleep 1000; done");
    let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    context.namespace_options.get_or_insert_default().userns_options = users;
    context.run_as_user = Some(v1::Int64Value { value: 1000 });
    let main = scene.run(&config).await?;
    let script = "tty; stat -c %u:%t $(tty); : </dev/tty && echo controlled; [ -t 0 ] && echo a terminal";
    let outcome = Session::exec(&scene.cri, in_terminal(&main, script)).await?.finish().await?;
    let lines: Vec<&str> = outcome.stdout.lines().map(str::trim_end).collect();
    assert_eq!(lines, ["/dev/pts/0", "1000:88", "controlled", "a terminal"], "{outcome:?}");
    scene.end().await
}
