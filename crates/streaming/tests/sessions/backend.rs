//! A runtime that does what the command says.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cricket_streaming::{
    AttachOrder, Backend, Config, Duplex, ExecOrder, Failure, ForwardOrder, Server, SessionIo, Streams,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Counts what runs.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    running: AtomicUsize,
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    fn begin(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(&self.running)
    }

    /// Sessions and connections that have not ended.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

impl Backend for Fake {
    async fn exec(&self, order: ExecOrder, mut io: SessionIo) -> Result<i32, Failure> {
        let _running = self.begin();
        let gone = io.gone.clone();
        let run = async {
            match order.command[0].as_str() {
                // Both outputs and an exit code.
                "say" => {
                    if let Some(stdout) = &mut io.stdout {
                        stdout.write_all(b"to stdout").await.expect("client");
                    }
                    if let Some(stderr) = &mut io.stderr {
                        stderr.write_all(b"to stderr").await.expect("client");
                    }
                    Ok(order.command[1].parse().expect("code"))
                }
                "cat" => {
                    let (mut stdin, mut stdout) = (io.stdin.take().expect("stdin"), io.stdout.take().expect("stdout"));
                    tokio::io::copy(&mut stdin, &mut stdout).await.expect("client");
                    Ok(0)
                }
                // The number of bytes.
                "count" => {
                    let mut bytes = 0;
                    while let Some(chunk) = io.stdin.as_mut().expect("stdin").chunk().await.expect("client") {
                        bytes += chunk.len();
                    }
                    io.stdout.expect("stdout").write_all(bytes.to_string().as_bytes()).await.expect("client");
                    Ok(0)
                }
                "sizes" => {
                    let mut stdout = io.stdout.take().expect("stdout");
                    while let Some(size) = io.resize.recv().await {
                        let text = format!("{}x{};", size.width, size.height);
                        stdout.write_all(text.as_bytes()).await.expect("client");
                        if size.width == 9 {
                            break;
                        }
                    }
                    Ok(0)
                }
                // Reads nothing, for ever.
                "hang" => std::future::pending().await,
                "yes" => loop {
                    if io.stdout.as_mut().expect("stdout").write_all(&[b'y'; 4096]).await.is_err() {
                        break Ok(1);
                    }
                },
                other => Err(Failure::new(format_args!("no such program: {other:?}"))),
            }
        };
        tokio::select! {
            ended = run => ended,
            () = gone.cancelled() => Err(Failure::new("cancelled")),
        }
    }

    async fn attach(&self, order: AttachOrder, io: SessionIo) -> Result<(), Failure> {
        if order.container == "stopped" {
            return Err(Failure::new("container is not running"));
        }
        let exec = ExecOrder { container: order.container, command: vec!["cat".into()], streams: order.streams };
        self.exec(exec, io).await.map(|_| ())
    }

    /// Port 7 echoes, 9 reads everything and then answers the number of bytes, 11 takes nothing, 13 speaks first and
    /// closes, 19 speaks for ever.
    async fn port_forward(&self, _: &str, port: u16) -> Result<Pin<Box<dyn Duplex>>, Failure> {
        let (near, mut far) = tokio::io::duplex(4096);
        match port {
            7 => {
                tokio::spawn(async move {
                    let (mut from, mut to) = tokio::io::split(far);
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    let _ = to.shutdown().await;
                });
            }
            9 => {
                tokio::spawn(async move {
                    let mut sink = Vec::new();
                    let count = far.read_to_end(&mut sink).await.unwrap_or(0);
                    let _ = far.write_all(count.to_string().as_bytes()).await;
                });
            }
            11 => {
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(far);
                });
            }
            13 => {
                tokio::spawn(async move {
                    let _ = far.write_all(b"it is late").await;
                });
            }
            19 => {
                tokio::spawn(async move { while far.write_all(b"abcdefgh").await.is_ok() {} });
            }
            port => return Err(Failure::new(format_args!("port {port}: connection refused"))),
        }
        Ok(Box::pin(near))
    }
}

/// A server and its runtime.
pub(crate) struct Node {
    pub(crate) server: Server,
    pub(crate) fake: Arc<Fake>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let fake = Arc::new(Fake::default());
        let server = Server::start(config, fake.clone()).await.expect("listens");
        Self { server, fake }
    }

    pub(crate) fn exec(&self, command: &[&str], streams: Streams) -> String {
        let command = command.iter().map(|s| (*s).to_owned()).collect();
        self.server.exec(ExecOrder { container: "c".into(), command, streams }).expect("url")
    }

    pub(crate) fn forward(&self, ports: &[u16]) -> String {
        self.server.port_forward(ForwardOrder { pod: "p".into(), ports: ports.to_vec() }).expect("url")
    }

    /// Waits until no session runs and no connection is open: only the listener is left.
    pub(crate) async fn quiet(&self) {
        let quiet = async {
            while self.fake.running() > 0 || self.server.tasks() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let late = tokio::time::timeout(Duration::from_secs(15), quiet).await;
        assert!(late.is_ok(), "{} sessions, {} tasks", self.fake.running(), self.server.tasks());
    }
}

/// stdin, stdout and stderr.
pub(crate) fn all() -> Streams {
    Streams { stdin: true, stdout: true, stderr: true, tty: false }
}

pub(crate) fn stdout() -> Streams {
    Streams { stdout: true, ..Streams::default() }
}
