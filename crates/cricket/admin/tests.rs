use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cricket_cni::{Cni, CniConfig};
use cricket_image::ImageStore;
use cricket_store::Store;
use tokio::net::UnixStream;

use super::*;
use crate::config::{Config, Flags};
use crate::layout;
use crate::serve::{self, Lock};

/// Directories of a node without a daemon.
fn node(dir: &tempfile::TempDir) -> Config {
    let (file, root, state) = (dir.path().join("c.toml"), dir.path().join("root"), dir.path().join("state"));
    fs::write(&file, "").expect("write");
    let flags = Flags { root: Some(root), state: Some(state), ..Flags::default() };
    Config::load(Some(&file), &flags).expect("valid")
}

fn alone(config: &Config, images: ImageStore, cni: Option<Cni>) -> Operators {
    Operators { images, cni, pods: None, config: Arc::new(config.clone()), store: None, left_before: 0 }
}

#[tokio::test]
async fn messages_survive_and_are_bounded() {
    let (mut a, mut b) = tokio::io::duplex(4096);
    let request = Request { version: VERSION, operation: Operation::PinImage { image: "x:1".into() } };
    send(&mut a, &request).await.expect("sent");
    assert_eq!(receive::<Request>(&mut b).await.expect("received"), request);
    a.write_all(&(MAX_MESSAGE + 1).to_be_bytes()).await.expect("sent");
    assert!(receive::<Request>(&mut b).await.expect_err("too long").to_string().contains("bytes"));
    a.write_all(&[0, 0, 0, 9, b'{']).await.expect("sent");
    drop(a);
    assert_eq!(receive::<Request>(&mut b).await.expect_err("torn").kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn the_format_is_kept() {
    let request = Request { version: 1, operation: Operation::LoadImages { path: "/x.tar".into() } };
    let text = serde_json::to_string(&request).expect("serialise");
    assert_eq!(text, r#"{"version":1,"operation":{"load_images":{"path":"/x.tar"}}}"#);
    assert_eq!(serde_json::to_string(&Answer::Done).expect("serialise"), r#""done""#);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_answers_and_refuses_what_it_does_not_know() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = node(&dir);
    serve::directories(&config.own).expect("directories");
    let store = Store::open(layout::records(&config.own.root)).expect("store");
    let images = ImageStore::open(serve::image_config(&config), store).await.expect("images");
    let operators = alone(&config, images, None);
    let raw = async |request: serde_json::Value| {
        let (mut client, server) = UnixStream::pair().expect("pair");
        let operators = operators.clone();
        let served = tokio::spawn(async move { server::answer(server, &operators).await });
        send(&mut client, &request).await.expect("sent");
        let answer: Answer = receive(&mut client).await.expect("answered");
        served.await.expect("no panic").expect("served");
        answer
    };
    let ask = async |version: u32, operation: Operation| {
        raw(serde_json::to_value(Request { version, operation }).expect("JSON")).await
    };
    assert_eq!(ask(VERSION, Operation::ListImages).await, Answer::Images(Vec::new()));
    let Answer::Failed(text) = ask(9, Operation::ListImages).await else { panic!("served") };
    assert!(text.contains("version 9"), "{text}");
    let Answer::Failed(text) = raw(serde_json::json!({ "version": VERSION, "operation": "dance" })).await else {
        panic!("served")
    };
    assert!(text.contains("does not know this command") && text.contains("dance"), "{text}");
    let prune = Operation::PruneImages { all: true, dry_run: false };
    let nothing = Answer::Pruned { images: Vec::new(), layers: 0, bytes: 0 };
    assert_eq!(ask(VERSION, prune).await, nothing);
    let Answer::Failed(text) = ask(VERSION, Operation::Explain { id: "a".into() }).await else { panic!("explained") };
    assert!(text.contains("no daemon runs"), "{text}");
    let pin = Operation::PinImage { image: "registry.example/none:1".into() };
    let Answer::Failed(text) = ask(VERSION, pin).await else { panic!("pinned") };
    assert!(text.contains("registry.example/none:1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_ends_with_whoever_asked_for_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = node(&dir);
    serve::directories(&config.own).expect("directories");
    let store = Store::open(layout::records(&config.own.root)).expect("store");
    let images = ImageStore::open(serve::image_config(&config), store).await.expect("images");
    // It waits for a network that never comes.
    let nowhere = CniConfig { conf_dir: dir.path().join("none"), ..serve::cni_config(&config) };
    let operators = alone(&config, images, Some(Cni::open(nowhere).expect("networks")));
    let (mut client, server) = UnixStream::pair().expect("pair");
    send(&mut client, &Request { version: VERSION, operation: Operation::Network }).await.expect("sent");
    let started = Instant::now();
    drop(client);
    let ended = server::answer(server, &operators).await;
    assert_eq!(ended.expect_err("nobody there").kind(), io::ErrorKind::ConnectionAborted);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn without_a_daemon_the_command_does_it_but_never_beside_one() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = node(&dir);
    let error = client::ask(&config, Operation::ListImages).expect_err("no root").to_string();
    assert!(error.contains("there is no cricket here"), "{error}");
    fs::create_dir(&config.own.root).expect("root");
    assert_eq!(client::ask(&config, Operation::ListImages).expect("listed"), Answer::Images(Vec::new()));
    let _daemon = Lock::take(&config.own.root.join(layout::LOCK)).expect("free");
    let error = client::ask(&config, Operation::ListImages).expect_err("held").to_string();
    assert!(error.contains("give the --state it was started with"), "{error}");
}

#[test]
fn a_daemon_that_is_older_is_told_from_one_that_is_broken() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = node(&dir);
    fs::create_dir_all(&config.own.state).expect("state");
    let listener = std::os::unix::net::UnixListener::bind(&config.own.admin_address).expect("socket");
    // As the daemon was that knew no Repair: it hangs up on what it cannot read.
    let older = std::thread::spawn(move || {
        for answers in [false, true, false, false] {
            let (mut stream, _) = listener.accept().expect("a command");
            let mut length = [0; 4];
            std::io::Read::read_exact(&mut stream, &mut length).expect("a length");
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            std::io::Read::read_exact(&mut stream, &mut request).expect("a request");
            if answers {
                let text = br#"{"images":[]}"#;
                let length = u32::try_from(text.len()).expect("short").to_be_bytes();
                std::io::Write::write_all(&mut stream, &[&length[..], &text[..]].concat()).expect("answered");
            }
        }
    });
    let error = client::ask(&config, Operation::Repair).expect_err("older").to_string();
    assert!(error.contains("does not know this command") && error.contains("restart it"), "{error}");
    let error = client::ask(&config, Operation::Repair).expect_err("broken").to_string();
    assert!(error.contains("gave no answer"), "{error}");
    older.join().expect("no panic");
}
