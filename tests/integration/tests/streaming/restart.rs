//! Sessions end with the daemon or the monitor; the container and what belongs to it go on.

use anyhow::{Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{Node, SOON};
use cricket_testkit::cri::{self, Cri};

use crate::attach::{order as attach_order, with_stdin};
use crate::client::{STDOUT, Session, order};
use crate::scene::{monitor, processes, until};

struct Running {
    node: Node,
    cri: Cri,
    pod: String,
    container: String,
}

async fn run(name: &str, config: v1::ContainerConfig) -> Result<Running> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let sandbox = cri::host_network(node.daemon.pod(name));
    let pod = cri.run_pod(&sandbox).await?;
    let container = cri.run(&pod, &config, &sandbox).await?;
    Ok(Running { node, cri, pod, container })
}

impl Running {
    async fn restart(&mut self) -> Result<()> {
        self.node.daemon.kill_and_launch()?;
        self.cri = self.node.daemon.cri().await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_killed_daemon_takes_its_execs_and_leaves_the_containers_input() -> Result<()> {
    let script = "while read line; do echo got $line; done; exit 6";
    let mut scene = run("restart-stdin", with_stdin(script, false)).await?;
    let mut attached = Session::attach(&scene.cri, attach_order(&scene.container, true)).await?;
    attached.write("one\n").await?;
    attached.expect(STDOUT, "got one\n").await?;
    let exec = "setsid sleep 4721 & echo ready; sleep 4722; :";
    let mut session = Session::exec(&scene.cri, order(&scene.container, exec)).await?;
    session.expect(STDOUT, "ready").await?;
    scene.restart().await?;
    until("the exec to be killed", || Ok(processes(&scene.node, "sleep 472")?.is_empty())).await?;
    let mut again = Session::attach(&scene.cri, attach_order(&scene.container, true)).await?;
    again.write("two\n").await?;
    again.expect(STDOUT, "got two\n").await?;
    drop(again);
    let mut third = Session::attach(&scene.cri, attach_order(&scene.container, true)).await?;
    third.write("three\n").await?;
    third.expect(STDOUT, "got three\n").await?;
    Ok(scene.cri.remove_pod(&scene.pod).await?)
}

#[tokio::test]
async fn input_for_one_client_is_still_there_after_a_restart_and_ends_with_a_daemon_that_has_given_it() -> Result<()> {
    let mut scene = run("restart-once", with_stdin("cat; exit 6", true)).await?;
    // Nobody was attached: it waits for the first client.
    scene.restart().await?;
    let status = scene.cri.container(&scene.container).await?;
    ensure!(status.state() == v1::ContainerState::ContainerRunning, "{status:?}");
    let mut session = Session::attach(&scene.cri, attach_order(&scene.container, true)).await?;
    session.write("x\n").await?;
    session.expect(STDOUT, "x\n").await?;
    // The one client's session ends with the daemon, and the input with it.
    scene.restart().await?;
    assert_eq!(scene.cri.wait_exit(&scene.container, SOON).await?.exit_code, 6);
    Ok(scene.cri.remove_pod(&scene.pod).await?)
}

#[tokio::test]
async fn a_monitor_that_is_replaced_serves_sessions_again() -> Result<()> {
    let script = "while read line; do echo got $line; done; exit 6";
    let scene = run("restart-monitor", with_stdin(script, false)).await?;
    let mut session = Session::attach(&scene.cri, attach_order(&scene.container, true)).await?;
    session.write("one\n").await?;
    session.expect(STDOUT, "got one\n").await?;
    let old = monitor(&scene.node, &scene.pod)?;
    let killed = std::process::Command::new("kill").args(["-9", &old.to_string()]).status()?;
    ensure!(killed.success(), "kill {old}");
    // The session ends and says so; the container does not.
    let outcome = session.finish().await?;
    ensure!(outcome.status["status"] != "Success", "{outcome:?}");
    until("another monitor", || Ok(monitor(&scene.node, &scene.pod).is_ok_and(|pid| pid != old))).await?;
    let mut again = loop {
        match Session::attach(&scene.cri, attach_order(&scene.container, true)).await {
            Ok(mut session) => {
                session.write("two\n").await?;
                if session.expect(STDOUT, "got two\n").await.is_ok() {
                    break session;
                }
            }
            Err(error) => ensure!(error.to_string().contains("monitor"), "{error}"),
        }
    };
    again.write("three\n").await?;
    again.expect(STDOUT, "got three\n").await?;
    Ok(scene.cri.remove_pod(&scene.pod).await?)
}
