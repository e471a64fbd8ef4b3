//! An HTTP server on loopback that answers exactly what a test scripts, and keeps what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path with query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// One step of sending a body.
pub enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    /// Repeats these bytes as often.
    Repeat(Vec<u8>, usize),
}

/// A scripted answer. Its length is that of the body unless a header says otherwise.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub steps: Vec<Step>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), steps: Vec::new() }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200).send(body)
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_lowercase(), value.to_string()));
        self
    }

    pub fn send(self, body: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Send(body.into()))
    }

    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub fn redirect(to: impl ToString) -> Self {
        Self::new(307).header("location", to)
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A running server; dropping it ends it and its connections.
pub struct Server {
    pub addr: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_inner(None, Arc::new(handler)).await
    }

    pub async fn start_tls(tls: TlsAcceptor, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_inner(Some(tls), Arc::new(handler)).await
    }

    async fn start_inner(tls: Option<TlsAcceptor>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        let task = tokio::spawn(async move {
            // Aborts the connections when this task is.
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (handler, log, tls) = (handler.clone(), kept.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection(socket, &*handler, &log).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                connection(socket, &*handler, &log).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, log, task: task.abort_handle() }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// The same server by another name, which is another origin.
    pub fn alias(&self) -> String {
        format!("localhost:{}", self.addr.port())
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// How many requests had a path that ends like this.
    pub fn count(&self, end: &str) -> usize {
        self.requests().iter().filter(|r| r.path().ends_with(end)).count()
    }
}

/// One request, one answer, end of connection.
async fn connection<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S, handler: &Handler, log: &Mutex<Vec<Request>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.unwrap();
    let request = Request { method, target, headers, body: String::from_utf8(body).unwrap() };
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    let _ = answer(&mut socket, &request, reply).await;
    let _ = socket.shutdown().await;
}

async fn answer<S: AsyncWrite + Unpin>(socket: &mut S, request: &Request, reply: Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    let has = |name: &str| reply.headers.iter().any(|(n, _)| n == name);
    if !has("content-length") && !has("transfer-encoding") {
        let length: usize = reply
            .steps
            .iter()
            .map(|step| match step {
                Step::Send(bytes) => bytes.len(),
                Step::Repeat(bytes, times) => bytes.len() * times,
                Step::Pause(_) => 0,
            })
            .sum();
        head += &format!("content-length: {length}\r\n");
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    socket.write_all(format!("{head}\r\n").as_bytes()).await?;
    if request.method == "HEAD" {
        return Ok(());
    }
    for step in &reply.steps {
        match step {
            Step::Send(bytes) => socket.write_all(bytes).await?,
            Step::Repeat(bytes, times) => {
                for _ in 0..*times {
                    socket.write_all(bytes).await?;
                }
            }
            Step::Pause(time) => {
                socket.flush().await?;
                tokio::time::sleep(*time).await;
            }
        }
    }
    socket.flush().await
}
