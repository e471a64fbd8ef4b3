//! How much one client may take from the others, and from the node.

use std::time::{Duration, Instant};

use cricket_streaming::Config;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::backend::{Node, stdout};
use super::forward::{PROTOCOL, dial};
use super::spdy::{End, connect, request};

const V4: &str = "v4.channel.k8s.io";
const FRAME: usize = 32 << 10;

#[tokio::test]
async fn what_nobody_takes_is_bounded_for_the_connection() {
    let node = Node::start().await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    // The kernel's buffers are no part of what is measured.
    rustix::net::sockopt::set_socket_send_buffer_size(&client.io, 64 << 10).expect("set");
    let mut stuck = Vec::new();
    for id in 0..400 {
        stuck.push(dial(&mut client, 11, &id.to_string()).await.1);
    }
    let mut taken = 0;
    for stream in stuck.iter().cycle() {
        let sent = tokio::time::timeout(Duration::from_secs(1), client.send(*stream, &[7; FRAME], false)).await;
        let Ok(sent) = sent else { break };
        sent.expect("sent");
        taken += FRAME;
    }
    // The budget, of which pieces count as the blocks that they were read into; what the pods' own pipes hold; and the
    // kernel's buffers. The queues alone would hold 100 MiB.
    assert!((1 << 20..12 << 20).contains(&taken), "{taken}");
    // It goes as every other client that hangs.
    rustix::net::sockopt::set_socket_linger(&client.io, Some(Duration::ZERO)).expect("set");
    drop(client);
    node.quiet().await;
}

#[tokio::test]
async fn streams_that_are_stuck_do_not_hold_up_the_others() {
    let node = Node::start().await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    let (_, live) = dial(&mut client, 9, "live").await;
    // 4,074 KiB of the budget's 4,096, and of each stream less than its queue holds.
    for id in 0..97 {
        let (_, stuck) = dial(&mut client, 11, &id.to_string()).await;
        for _ in 0..6 {
            client.send(stuck, &[7; 7 << 10], false).await.expect("sent");
        }
    }
    let all = async {
        for _ in 0..64 {
            client.send(live, &[8; FRAME], false).await.expect("sent");
        }
        client.send(live, &[], true).await.expect("sent");
        client.until_ended(live).await
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), all).await.expect("the others hold it up");
    assert_eq!((ended, client.text(live)), (End::Fin, (64 * FRAME).to_string()));
    drop(client);
    node.quiet().await;
}

#[tokio::test]
async fn sessions_are_bounded() {
    let node = Node::with(Config { sessions: 2, ..Config::default() }).await;
    let first = connect(&node.exec(&["hang"], stdout()), V4).await;
    let second = connect(&node.exec(&["hang"], stdout()), V4).await;
    let url = node.exec(&["hang"], stdout());
    let spdy = format!("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {V4}\r\n");
    let (_, refused) = request(&url, &spdy).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    // The end of one makes room, and the token is still good.
    drop(first);
    let begin = Instant::now();
    loop {
        let (_third, answer) = request(&url, &spdy).await;
        if answer.starts_with("HTTP/1.1 101 ") {
            break;
        }
        assert!(answer.starts_with("HTTP/1.1 503 ") && begin.elapsed() < Duration::from_secs(10), "{answer}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What is no session takes no place.
    drop(second);
    node.quiet().await;
    for _ in 0..5 {
        let (_, missing) = request(&format!("{}/exec/AAAAAAAAAAAAAAAAAAAAAA", node.server.base()), &spdy).await;
        assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    }
}

#[tokio::test]
async fn clients_that_dawdle_make_room() {
    let node = Node::start().await;
    let host = node.server.base().strip_prefix("http://").expect("http");
    let slow = async || {
        let mut stream = TcpStream::connect(host).await.expect("connects");
        stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.expect("sent");
        stream
    };
    // Few are left alone for their ten seconds.
    let alone = slow().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(alone.try_read(&mut [0]).expect_err("open").kind(), std::io::ErrorKind::WouldBlock);
    let mut all = Vec::new();
    for _ in 0..300 {
        all.push(slow().await);
    }
    let begin = Instant::now();
    let mut client = connect(&node.exec(&["say", "0"], stdout()), V4).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    for kind in ["error", "stdout"] {
        client.open(&[("streamtype", kind)]).await;
    }
    client.finish().await;
    drop((alone, all, client));
    node.quiet().await;
}
