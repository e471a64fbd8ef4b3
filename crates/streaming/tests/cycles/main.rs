//! Sessions that come and go for long, alone in their process.

#[path = "../sessions/backend.rs"]
#[allow(dead_code)]
mod backend;
#[path = "../sessions/spdy.rs"]
#[allow(dead_code)]
mod spdy;

use backend::Node;
use cricket_streaming::Streams;
use spdy::connect;

/// Descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_sessions_leave_nothing() {
    let node = Node::start().await;
    let streams = Streams { stdin: true, stdout: true, tty: true, stderr: false };
    let cycle = async |n: usize| {
        let mut client = connect(&node.exec(&["sizes"], streams), "v4.channel.k8s.io").await;
        for kind in ["error", "stdin", "stdout", "resize"] {
            client.open(&[("streamtype", kind)]).await;
        }
        client.send(7, b"{\"Width\":80,\"Height\":24}{\"Width\":9,\"Height\":1}", false).await.expect("sent");
        // Every other client goes without waiting for the end.
        if n.is_multiple_of(2) {
            client.finish().await;
        }
    };
    for n in 0..10 {
        cycle(n).await;
    }
    node.quiet().await;
    let before = descriptors();
    for n in 0..5000 {
        cycle(n).await;
    }
    node.quiet().await;
    assert_eq!(node.server.tasks(), 1);
    assert_eq!(descriptors(), before);
}
