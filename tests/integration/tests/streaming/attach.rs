//! Attach: a container's stdio for any number of clients, beside its log.

use std::time::Duration;

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_integration::SOON;
use tonic::Code;

use crate::client::{STDERR, STDOUT, Session};
use crate::scene::{Scene, shell, until};

pub(crate) fn order(container: &str, stdin: bool) -> v1::AttachRequest {
    v1::AttachRequest { container_id: container.to_owned(), stdin, stdout: true, stderr: true, tty: false }
}

pub(crate) fn with_stdin(script: &str, once: bool) -> v1::ContainerConfig {
    v1::ContainerConfig { stdin: true, stdin_once: once, ..shell("main", script) }
}

#[tokio::test]
async fn several_clients_and_the_log_see_the_same() -> Result<()> {
    let scene = Scene::host("attach-several").await?;
    let config = with_stdin("while read line; do echo got $line; echo err $line >&2; done; echo end", false);
    let main = scene.run(&config).await?;
    let mut first = Session::attach(&scene.cri, order(&main, true)).await?;
    let mut second = Session::attach(&scene.cri, order(&main, true)).await?;
    let mut watcher = Session::attach(&scene.cri, order(&main, false)).await?;
    // That a session is attached is told to nobody: only what is written from then on tells.
    for session in [&mut second, &mut watcher] {
        while session.text(STDOUT).is_empty() {
            first.write("zero\n").await?;
            session.hears().await?;
        }
    }
    first.write("one\n").await?;
    for session in [&mut first, &mut second, &mut watcher] {
        session.expect(STDOUT, "got one\n").await?;
        session.expect(STDERR, "err one\n").await?;
    }
    // Input that is there for several clients survives each.
    drop(first);
    second.write("two\n").await?;
    watcher.expect(STDOUT, "got two\n").await?;
    second.close_stdin().await?;
    second.finish().await?;
    let mut third = Session::attach(&scene.cri, order(&main, true)).await?;
    third.write("three\n").await?;
    watcher.expect(STDOUT, "got three\n").await?;
    scene.cri.stop(&main, 0).await?;
    let heard = watcher.finish().await?.stdout;
    assert_eq!(heard.trim_start_matches("got zero\n"), "got one\ngot two\ngot three\n");
    third.finish().await?;
    let records = scene.node.daemon.logs(&scene.pod, &config)?;
    let mut written = cricket_testkit::logs::lines(&records, "stdout");
    written.retain(|line| line != "got zero");
    assert_eq!(written, ["got one", "got two", "got three"]);
    scene.end().await
}

#[tokio::test]
async fn input_for_one_client_ends_with_it_and_output_goes_on() -> Result<()> {
    let scene = Scene::host("attach-once").await?;
    let main = scene.run(&with_stdin("cat; echo end; sleep 1; echo late", true)).await?;
    // Reading does not claim the input.
    drop(Session::attach(&scene.cri, order(&main, false)).await?);
    let mut session = Session::attach(&scene.cri, order(&main, true)).await?;
    session.write("some words\n").await?;
    session.expect(STDOUT, "some words\n").await?;
    session.close_stdin().await?;
    let outcome = session.finish().await?;
    assert_eq!(outcome.stdout, "some words\nend\nlate\n");
    assert_eq!(scene.cri.wait_exit(&main, SOON).await?.exit_code, 0);
    scene.end().await
}

#[tokio::test]
async fn input_ends_with_a_client_that_vanishes() -> Result<()> {
    let scene = Scene::host("attach-vanish").await?;
    let main = scene.run(&with_stdin("cat; exit 9", true)).await?;
    let mut session = Session::attach(&scene.cri, order(&main, true)).await?;
    session.write("x\n").await?;
    session.expect(STDOUT, "x\n").await?;
    drop(session);
    assert_eq!(scene.cri.wait_exit(&main, SOON).await?.exit_code, 9);
    scene.end().await
}

/// Asks for the terminal's size until it is this: between a size and input there is no order.
async fn sized(session: &mut Session, size: &str) -> Result<()> {
    let asked = async {
        while !session.text(STDOUT).contains(size) {
            session.write("x\n").await?;
            session.hears().await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, asked).await?
}

#[tokio::test]
async fn a_terminal_is_resized_and_kept() -> Result<()> {
    let scene = Scene::host("attach-terminal").await?;
    let script = "stty -echo; echo ready; while read line; do stty size; done";
    let config = v1::ContainerConfig { tty: true, ..with_stdin(script, false) };
    let main = scene.run(&config).await?;
    let request = || v1::AttachRequest { tty: true, stderr: false, ..order(&main, true) };
    let mut first = Session::attach(&scene.cri, request()).await?;
    first.resize(101, 33).await?;
    until("the shell to be on its first line", || {
        let records = scene.node.daemon.logs(&scene.pod, &config)?;
        Ok(cricket_testkit::logs::lines(&records, "stdout").iter().any(|line| line.contains("ready")))
    })
    .await?;
    sized(&mut first, "33 101\r\n").await?;
    drop(first);
    // The size outlives the client.
    let mut second = Session::attach(&scene.cri, request()).await?;
    second.write("x\n").await?;
    second.expect(STDOUT, "33 101\r\n").await?;
    second.resize(80, 24).await?;
    sized(&mut second, "24 80\r\n").await?;
    assert_eq!(scene.cri.container(&main).await?.state(), v1::ContainerState::ContainerRunning);
    scene.end().await
}

#[tokio::test]
async fn a_container_without_log_or_input_can_be_attached_to() -> Result<()> {
    let scene = Scene::host("attach-silent").await?;
    let script = "cat; while [ ! -e /go ]; do sleep 0.1; done; echo end; exit 3";
    let config = v1::ContainerConfig { log_path: String::new(), ..shell("main", script) };
    let main = scene.run(&config).await?;
    let mut session = Session::attach(&scene.cri, order(&main, true)).await?;
    session.write("nobody reads this\n").await?;
    // Its own input has ended long ago: it gets past `cat`.
    scene.cri.exec_text(&main, &["touch", "/go"]).await?;
    assert_eq!(session.finish().await?.stdout, "end\n");
    assert_eq!(scene.cri.wait_exit(&main, SOON).await?.exit_code, 3);
    scene.end().await
}

#[tokio::test]
async fn only_running_containers_are_attached_to() -> Result<()> {
    let scene = Scene::host("attach-refused").await?;
    let code = async |request| scene.cri.runtime().attach(request).await.err().map(|status| status.code());
    assert_eq!(code(order(&"0".repeat(64), true)).await, Some(Code::NotFound));
    let config = shell("main", "sleep 1000");
    let main = scene.cri.create(&scene.id, &config, &scene.pod).await?;
    assert_eq!(code(order(&main, true)).await, Some(Code::FailedPrecondition));
    scene.end().await
}

#[tokio::test]
async fn many_clients_come_and_go() -> Result<()> {
    let scene = Scene::alone("attach-many").await?;
    let config = v1::ContainerConfig { tty: true, ..with_stdin("cat", false) };
    let main = scene.run(&config).await?;
    let request = || v1::AttachRequest { tty: true, stderr: false, ..order(&main, true) };
    let cycle = async |n: u16| -> Result<()> {
        let mut session = Session::attach(&scene.cri, request()).await?;
        session.resize(80 + n % 50, 24).await?;
        if n.is_multiple_of(5) {
            session.write("word\n").await?;
            session.expect(STDOUT, "word").await?;
        }
        Ok(())
    };
    for n in 0..20 {
        cycle(n).await?;
    }
    until("the first clients to be gone", || Ok(scene.descriptors()?.monitor.len() < 40)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = scene.descriptors()?;
    for n in 0..300 {
        cycle(n).await?;
    }
    scene.no_more_than(&before).await?;
    scene.end().await
}
