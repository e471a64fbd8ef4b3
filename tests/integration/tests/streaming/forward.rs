//! Port forwarding into a pod's network, over the plain channels of `portforward.k8s.io`.

use anyhow::{Result, ensure};
use cricket_cri_api::v1;
use cricket_testkit::host;
use tonic::Code;

use crate::client::Session;
use crate::scene::{Scene, shell};

const DATA: u8 = 0;
const ERROR: u8 = 1;

async fn forward(scene: &Scene, port: i32) -> Result<Session> {
    let request = v1::PortForwardRequest { pod_sandbox_id: scene.id.clone(), port: vec![port] };
    let url = scene.cri.runtime().port_forward(request).await?.into_inner().url;
    Session::connect(&url, "portforward.k8s.io").await
}

/// A container with a web server on this address; `None` where the pod has no such address.
async fn serve(scene: &Scene, address: &str, port: u16) -> Result<Option<()>> {
    let script = format!("echo hello > /index.html; exec httpd -f -h / -p {address}:{port}");
    let main = scene.run(&shell("main", &script)).await?;
    // The kernel's table has the port in hexadecimal, and the state of a listener.
    let wait = format!("while ! grep -qi ':{port:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done");
    let without_v6 = "[ -s /proc/net/if_inet6 ] || exit 9; ";
    let script = if address.starts_with('[') { format!("{without_v6}{wait}") } else { wait };
    let done = scene.cri.exec(&main, &["sh", "-c", &script], 10).await?;
    ensure!(matches!(done.exit_code, 0 | 9), "{done:?}");
    Ok((done.exit_code == 0).then_some(()))
}

const GET: &[u8] = b"GET /index.html HTTP/1.0\r\n\r\n";

#[tokio::test]
async fn reaches_what_listens_on_the_loopback_of_the_pod_only() -> Result<()> {
    let scene = Scene::networked("forward-pod").await?;
    serve(&scene, "127.0.0.1", 4080).await?;
    let mut session = forward(&scene, 4080).await?;
    session.send(DATA, GET).await?;
    session.expect(DATA, "hello\n").await?;
    // Each channel begins with the port.
    ensure!(session.bytes(DATA).starts_with(&4080u16.to_le_bytes()), "{:?}", session.bytes(DATA));
    let mut refused = forward(&scene, 4081).await?;
    refused.expect(ERROR, "refused").await?;
    scene.end().await
}

#[tokio::test]
async fn reaches_the_sixth_version_of_the_loopback() -> Result<()> {
    let scene = Scene::networked("forward-v6").await?;
    if serve(&scene, "[::1]", 4082).await?.is_none() {
        host::skip("the kernel has no IPv6");
        return scene.end().await;
    }
    let mut session = forward(&scene, 4082).await?;
    session.send(DATA, GET).await?;
    session.expect(DATA, "hello\n").await?;
    scene.end().await
}

#[tokio::test]
async fn reaches_the_host_of_a_pod_that_shares_its_network() -> Result<()> {
    let scene = Scene::host("forward-host").await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = i32::from(listener.local_addr()?.port());
    let mut session = forward(&scene, port).await?;
    let (mut stream, _) = listener.accept().await?;
    session.send(DATA, b"ping").await?;
    let mut bytes = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut bytes).await?;
    assert_eq!(&bytes, b"ping");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"pong").await?;
    session.expect(DATA, "pong").await?;
    // A client that goes takes its connection with it.
    drop(session);
    assert_eq!(tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await.unwrap_or(0), 0);
    scene.end().await
}

#[tokio::test]
async fn ports_and_pods_that_are_none_are_refused() -> Result<()> {
    let scene = Scene::networked("forward-refused").await?;
    let ask = async |id: &str, port: i32| {
        let request = v1::PortForwardRequest { pod_sandbox_id: id.to_owned(), port: vec![port] };
        scene.cri.runtime().port_forward(request).await.err().map(|status| status.code())
    };
    assert_eq!(ask(&"0".repeat(64), 80).await, Some(Code::NotFound));
    for port in [-1, 65536] {
        assert_eq!(ask(&scene.id, port).await, Some(Code::InvalidArgument), "{port}");
    }
    scene.cri.stop_pod(&scene.id).await?;
    assert_eq!(ask(&scene.id, 80).await, Some(Code::FailedPrecondition));
    scene.end().await
}
