//! Sessions of containers whose runtime executes commands itself: those of a containerd shim.

use anyhow::Result;
use cricket_integration::{Node, SOON, shim_table};
use cricket_testkit::cri;
use cricket_testkit::daemon::Options;
use cricket_testkit::host::tool_dir;

use crate::attach::{order as attach_order, with_stdin};
use crate::client::{STDOUT, Session, in_terminal, order};

#[tokio::test]
async fn input_reaches_what_a_shim_runs_and_ends() -> Result<()> {
    let tables = shim_table("shim", &tool_dir("runc")?.join("runc"))?;
    let node = Node::with(Options { tables, ..Options::default() }).await?;
    let cri = node.daemon.cri().await?;
    let pod = cri::host_network(node.daemon.pod("shim-input"));
    let id = cri.run_pod_with(&pod, "shim").await?;
    let main = cri.run(&id, &with_stdin("while read line; do echo got $line; done; exit 6", true), &pod).await?;

    let mut session = Session::exec(&cri, order(&main, "cat; printf end; exit 7")).await?;
    session.write("some ").await?;
    session.expect(STDOUT, "some ").await?;
    session.write("words ").await?;
    session.close_stdin().await?;
    let outcome = session.finish().await?;
    assert_eq!((outcome.stdout.as_str(), outcome.code()?), ("some words end", 7));

    let mut session = Session::exec(&cri, in_terminal(&main, "echo ready; read line; echo got $line; exit 3")).await?;
    session.expect(STDOUT, "ready").await?;
    session.write("one\n").await?;
    let outcome = session.finish().await?;
    assert!(outcome.stdout.contains("got one") && outcome.code()? == 3, "{outcome:?}");

    // The container's own, which ends with the one client that it is for.
    let mut session = Session::attach(&cri, attach_order(&main, true)).await?;
    session.write("two\n").await?;
    session.expect(STDOUT, "got two\n").await?;
    session.close_stdin().await?;
    session.finish().await?;
    assert_eq!(cri.wait_exit(&main, SOON).await?.exit_code, 6);
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    node.daemon.assert_no_leaks(SOON)
}
