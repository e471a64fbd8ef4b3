//! Terminals of containers of a containerd shim: the shim makes them, and has to be told of their sizes.

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_integration::{Node, SOON, shim_table};
use cricket_testkit::cri;
use cricket_testkit::daemon::Options;
use cricket_testkit::host::tool_dir;

use crate::attach::{order, with_stdin};
use crate::client::{STDOUT, Session, in_terminal};

/// Tells its terminal's size whenever that changes.
const TELLS: &str = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done";

async fn resized(session: &mut Session, sizes: [(u16, u16); 2]) -> Result<()> {
    for (width, height) in sizes {
        session.resize(width, height).await?;
        session.expect(STDOUT, &format!("{height} {width}\r\n")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn terminals_of_a_shim_are_resized() -> Result<()> {
    let tables = shim_table("shim", &tool_dir("runc")?.join("runc"))?;
    let mut node = Node::with(Options { tables, ..Options::default() }).await?;
    let mut cri = node.daemon.cri().await?;
    let pod = cri::host_network(node.daemon.pod("shim-sizes"));
    let id = cri.run_pod_with(&pod, "shim").await?;
    let main = cri.run(&id, &v1::ContainerConfig { tty: true, ..with_stdin(TELLS, false) }, &pod).await?;

    let mut session = Session::exec(&cri, in_terminal(&main, TELLS)).await?;
    session.expect(STDOUT, "ready\r\n").await?;
    resized(&mut session, [(101, 33), (80, 24)]).await?;
    drop(session);

    let request = || v1::AttachRequest { tty: true, stderr: false, ..order(&main, true) };
    let mut session = Session::attach(&cri, request()).await?;
    resized(&mut session, [(102, 34), (81, 25)]).await?;
    drop(session);

    // Whoever resizes it: the container's is handed on from daemon to daemon.
    node.daemon.kill_and_launch()?;
    cri = node.daemon.cri().await?;
    let mut session = Session::attach(&cri, request()).await?;
    resized(&mut session, [(103, 35), (82, 26)]).await?;
    drop(session);
    assert_eq!(cri.container(&main).await?.state(), v1::ContainerState::ContainerRunning);
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    node.daemon.assert_no_leaks(SOON)
}
