//! A monitor of an earlier build under this build's client.

use std::os::fd::OwnedFd;

use cricket_model::SandboxId;
use cricket_runtime::monitor::{AttachRequest, MonitorClient, MonitorError};
use cricket_wire::{Code, Empty, Failed, HelloReply, Request, RequestKind, Response, ResponseKind, packet};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::support::Pod;

/// Answers as a monitor that knows version `version` and no sessions.
fn old_monitor(listener: &OwnedFd, sandbox: &str, version: u32) {
    let socket = rustix::net::accept_with(listener, SocketFlags::CLOEXEC).expect("accept");
    while let Ok((request, _)) = packet::receive_sized::<Request>(&socket, packet::MAX_BYTES) {
        let kind = match request.kind {
            Some(RequestKind::Hello(hello)) => ResponseKind::Hello(HelloReply {
                version: hello.version.min(version),
                pid: std::process::id().cast_signed(),
                sandbox_id: sandbox.to_owned(),
                started_at: 1,
            }),
            Some(RequestKind::CloseStdin(_)) => ResponseKind::Done(Empty {}),
            _ => {
                let message = "a request that this monitor does not know".to_owned();
                ResponseKind::Failed(Failed { code: Code::Unknown.into(), message, failure: None })
            }
        };
        packet::send(&socket, &Response { id: request.id, kind: Some(kind) }, &[]).expect("answer");
    }
}

#[tokio::test]
async fn one_that_knows_no_sessions_says_so() {
    // The second one says that it knows the version, and not the request.
    for version in [1, cricket_wire::VERSION] {
        let dir = tempfile::tempdir().expect("directory");
        let sandbox = SandboxId::generate();
        let address = SocketAddrUnix::new(dir.path().join("monitor.sock")).expect("address");
        let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("socket");
        rustix::net::bind(&listener, &address).expect("bind");
        rustix::net::listen(&listener, 4).expect("listen");
        let name = sandbox.to_string();
        let monitor = std::thread::spawn(move || old_monitor(&listener, &name, version));
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        let client = MonitorClient::connect(dir.path(), &sandbox, events).await.expect("connect");
        assert_eq!(client.version(), version);
        let request = || AttachRequest { container: "a".into(), stdin: None, stdout: None, stderr: None };
        let failed = client.attach(request()).await.err().expect("not known");
        assert!(matches!(failed, MonitorError::Unsupported { request: "attach" }), "{failed}");
        // What it knows goes on.
        client.close_stdin("a").await.expect("known since the first version");
        drop(client);
        let joined = tokio::task::spawn_blocking(move || monitor.join());
        joined.await.expect("join").expect("it ends with the connection");
    }
}

#[tokio::test]
async fn this_build_speaks_its_own() {
    assert_eq!(Pod::start().await.client.version(), cricket_wire::VERSION);
}
