//! What must not move the daemon's memory.

use std::sync::Arc;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::Node;
use cricket_testkit::fake::{FakeRegistry, Fault, Rule};
use cricket_testkit::image::{Image, Layer, Tree};

use crate::forwarder::Forwarder;
use crate::support::{Scene, assert_unharmed, busybox, idle};

/// How far it may grow, in KiB.
const GROWTH: u64 = 64 << 10;

/// The highest resident size of a process since its memory was last looked at.
struct Peak {
    status: String,
    before: u64,
}

impl Peak {
    fn of(node: &Node) -> Result<Self> {
        let pid = node.daemon.pid().context("the daemon does not run")?;
        // proc_pid_clear_refs(5): 5 resets the peak.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        let status = format!("/proc/{pid}/status");
        Ok(Self { before: field(&status, "VmRSS:")?, status })
    }

    fn assert_flat(&self, what: &str) -> Result<()> {
        let peak = field(&self.status, "VmHWM:")?;
        let grown = peak.saturating_sub(self.before);
        assert!(grown <= GROWTH, "{what}: from {} to {peak} KiB", self.before);
        Ok(())
    }
}

fn field(path: &str, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(path)?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::test]
async fn nothing_endless_is_kept() -> Result<()> {
    // One after the other on one daemon: peaks cannot be told apart otherwise.
    let node = Arc::new(Node::start().await?);
    output_of_an_exec(&node).await?;
    files_of_accounts(&node).await?;
    documents_of_a_registry(&node).await?;
    headers_in_a_layer(&node).await?;
    input_that_nobody_reads(&node).await?;
    assert_unharmed(&node).await
}

async fn output_of_an_exec(node: &Arc<Node>) -> Result<()> {
    let scene = Scene::on(node.clone(), "output").await?;
    let id = scene.idle("main").await?;
    scene.cri.exec(&id, &["true"], 10).await?;
    for script in [
        "head -c 1100000000 /dev/zero",
        "head -c 100000000 /dev/zero >&2",
        "head -c 50000000 /dev/zero & head -c 50000000 /dev/zero >&2; wait",
    ] {
        let peak = Peak::of(node)?;
        let done = scene.cri.exec(&id, &["sh", "-c", script], 120).await?;
        let bytes = done.stdout.len() + done.stderr.len();
        assert!((1 << 20..16 << 20).contains(&bytes), "{script}: {bytes} bytes in the answer");
        assert_eq!(done.exit_code, 0, "{script}: the command is not cut short");
        peak.assert_flat(script)?;
    }
    scene.end().await
}

async fn files_of_accounts(node: &Arc<Node>) -> Result<()> {
    let scene = Scene::on(node.clone(), "accounts").await?;
    // 100 MB of accounts, the one that is asked for at the end.
    let lines = |last: &str| {
        let mut text = "filler:x:1:1:a name that fills the file:/nowhere:/bin/false\n".repeat(1_700_000);
        text.push_str(last);
        text
    };
    let tree = Tree::new().dirs(["etc"]).file("etc/passwd", 0o644, lines("last:x:7:7::/:/bin/sh\n")).file(
        "etc/group",
        0o644,
        lines("last:x:7:last\n"),
    );
    let layer = Layer::gzip(tree)?;
    let image = scene.image("accounts", |image| image.layer(layer).user("last")).await?;
    let peak = Peak::of(node)?;
    let error = scene.create(&idle("main", &image)).await.expect_err("beyond what is read of the file");
    assert!(error.message().contains("passwd"), "{error}");
    peak.assert_flat("a passwd of 100 MB")?;
    scene.end().await
}

async fn documents_of_a_registry(node: &Arc<Node>) -> Result<()> {
    let fake = FakeRegistry::start()?;
    fake.put("endless", "1", &busybox()?.build()?);
    let cri = node.daemon.cri().await?;
    let name = format!("{}/endless:1", fake.host());
    let rules = [("manifest", Rule::manifests(Fault::Endless)), ("blob", Rule::blobs(Fault::Endless))];
    for (what, rule) in rules {
        fake.behave();
        fake.rule(rule);
        let peak = Peak::of(node)?;
        let error = cri.pull(&name).await.expect_err("there is no end");
        assert!(!error.message().is_empty());
        peak.assert_flat(what)?;
    }
    Ok(())
}

async fn headers_in_a_layer(node: &Arc<Node>) -> Result<()> {
    let fake = FakeRegistry::start()?;
    let zeros = vec![b'0'; 128 << 20];
    let tree = Tree::new().pax([("SCHILY.xattr.user.bomb", &zeros[..])]).file("file", 0o644, "x");
    let bomb = Layer::gzip(tree)?;
    assert!(bomb.blob.data.len() < 1 << 20, "much out of little");
    fake.put("bomb", "1", &Image::of([bomb]).build()?);
    drop(zeros);
    let cri = node.daemon.cri().await?;
    let name = format!("{}/bomb:1", fake.host());
    let peak = Peak::of(node)?;
    let error = cri.pull(&name).await.expect_err("no header is that long");
    assert!(error.message().contains("layer sha256:"), "{error}");
    peak.assert_flat("a header of 128 MiB")?;
    assert_eq!(cri.image(&name).await?, None);
    Ok(())
}

async fn input_that_nobody_reads(node: &Arc<Node>) -> Result<()> {
    let scene = Scene::on(node.clone(), "input").await?;
    let id = scene.idle("main").await?;
    let peak = Peak::of(node)?;
    let cmd = ["sleep", "1000"].map(str::to_owned).to_vec();
    let exec = v1::ExecRequest { container_id: id, cmd, stdin: true, stdout: true, ..v1::ExecRequest::default() };
    let url = scene.cri.runtime().exec(exec).await?.into_inner().url;
    let mut client = Forwarder::connect(&url, "v4.channel.k8s.io").await?;
    let mut streams = Vec::new();
    for kind in ["error", "stdin", "stdout"] {
        streams.push(client.open(&[("streamtype", kind)]).await?);
    }
    let taken = client.fill(&streams[1..2], 32 << 10, 4096).await?;
    assert!(taken < 64 << 20, "{taken} bytes of input were taken");
    peak.assert_flat("an exec that does not read")?;
    drop(client);
    // Somebody listens there, and takes nobody: connections are neither made nor refused.
    let listener = tokio::net::TcpSocket::new_v4()?;
    listener.bind("127.0.0.1:0".parse()?)?;
    let listener = listener.listen(1)?;
    let port = listener.local_addr()?.port().to_string();
    let request = v1::PortForwardRequest { pod_sandbox_id: scene.id.clone(), port: Vec::new() };
    let url = scene.cri.runtime().port_forward(request).await?.into_inner().url;
    let peak = Peak::of(node)?;
    let mut client = Forwarder::connect(&url, "portforward.k8s.io").await?;
    let mut streams = Vec::new();
    for n in 0..900 {
        let id = format!("{n}");
        for kind in ["error", "data"] {
            let stream = client.open(&[("streamtype", kind), ("port", &port), ("requestid", &id)]).await?;
            streams.extend((kind == "data").then_some(stream));
        }
    }
    client.fill(&streams, 32 << 10, 8).await?;
    peak.assert_flat("900 connections that nobody takes")?;
    drop((client, listener));
    scene.end().await
}
