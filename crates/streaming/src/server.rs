//! The listener: URLs for those whom an RPC allowed a session, and the sessions.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::Activity;
use crate::backend::{AttachOrder, Backend, ExecOrder, ForwardOrder};
use crate::http::answer;
use crate::link::Limits;
use crate::socket::{Hangup, Socket, prepare};
use crate::tls::{self, Tls, TlsError};
use crate::token::{IssueError, Order, Tokens};

/// How long a client may take for TLS, and then for its request.
const REQUEST: Duration = Duration::from_secs(10);
/// Clients that are connected and have not been answered.
const UNANSWERED: usize = 256;
/// When fewer than so many more may be, those that are slow make room.
const SCARCE: usize = UNANSWERED / 4;
/// How long each client may take at least, also when places are scarce: others may wait for its place as long.
const HURRIED: Duration = Duration::from_secs(1);
/// Sessions at once. A node has room for some hundred containers; each session is two descriptors and some tasks.
const SESSIONS: usize = 4096;
/// After a client could not be accepted: descriptors are short, and some come back with every session.
const PAUSE: Duration = Duration::from_millis(100);

/// How the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where; port 0 is any.
    pub address: SocketAddr,
    /// A session without frames in either direction for this long is ended; zero: never.
    pub idle_timeout: Duration,
    /// How long a SPDY client may take to open the streams of its session.
    pub creation_timeout: Duration,
    /// Whether with TLS.
    pub tls: Option<Tls>,
    /// Sessions at once; whoever wants one more is answered 503.
    pub sessions: usize,
}

impl Default for Config {
    /// Loopback only, any port, four hours, half a minute, no TLS: as in containerd. 4,096 sessions.
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            idle_timeout: Duration::from_secs(4 * 3600),
            creation_timeout: Duration::from_secs(30),
            tls: None,
            sessions: SESSIONS,
        }
    }
}

/// Why the server does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be used.
    #[error("listen on {0} for streaming clients")]
    Listen(SocketAddr, #[source] io::Error),
    /// No certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Shared<B> {
    pub(crate) backend: Arc<B>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) tasks: TaskTracker,
    pub(crate) creation: Duration,
    /// A permit for each session that may be.
    pub(crate) sessions: Arc<Semaphore>,
    idle: Duration,
    shutdown: CancellationToken,
}

impl<B> Shared<B> {
    /// The bounds of a new session.
    pub(crate) fn limits(&self) -> Limits {
        Limits { activity: Activity::new(), idle: self.idle, shutdown: self.shutdown.clone() }
    }
}

/// A server that listens. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Server {
    tokens: Arc<Tokens>,
    base: Arc<str>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Server {
    /// Listens, and serves clients until [`Server::shutdown`].
    ///
    /// # Errors
    /// An address that cannot be listened on, a certificate that cannot be used.
    pub async fn start<B: Backend>(config: Config, backend: Arc<B>) -> Result<Self, ServeError> {
        let failed = |e| ServeError::Listen(config.address, e);
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let told = told(listener.local_addr().map_err(failed)?);
        let acceptor = config.tls.as_ref().map(|tls| tls::acceptor(tls, &told.ip().to_string())).transpose()?;
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{told}").into();
        let (tokens, tasks, shutdown) = (Arc::new(Tokens::default()), TaskTracker::new(), CancellationToken::new());
        let shared = Shared {
            backend,
            tokens: tokens.clone(),
            tasks: tasks.clone(),
            creation: config.creation_timeout,
            sessions: Arc::new(Semaphore::new(config.sessions.min(Semaphore::MAX_PERMITS))),
            idle: config.idle_timeout,
            shutdown: shutdown.clone(),
        };
        let server = Self { tokens, base, tasks, shutdown };
        server.tasks.spawn(listen(listener, acceptor, Arc::new(shared)));
        Ok(server)
    }

    /// Where it listens, as a URL without a path.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The URL of a command.
    ///
    /// # Errors
    /// Too many URLs wait for their clients.
    pub fn exec(&self, order: ExecOrder) -> Result<String, IssueError> {
        self.url(Order::Exec(order))
    }

    /// The URL of an attachment.
    ///
    /// # Errors
    /// Too many URLs wait for their clients.
    pub fn attach(&self, order: AttachOrder) -> Result<String, IssueError> {
        self.url(Order::Attach(order))
    }

    /// The URL of connections into a pod.
    ///
    /// # Errors
    /// Too many URLs wait for their clients.
    pub fn port_forward(&self, order: ForwardOrder) -> Result<String, IssueError> {
        self.url(Order::Forward(order))
    }

    fn url(&self, order: Order) -> Result<String, IssueError> {
        let verb = order.verb();
        let token = self.tokens.issue(order)?;
        Ok(format!("{}/{verb}/{token}", self.base))
    }

    /// Connections that are open, the listener included.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Listens no longer and ends all sessions; answers when they have ended.
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The address for clients: kubelets are on this machine, so one for all interfaces is told as loopback.
fn told(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn listen<B: Backend>(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared<B>>) {
    let unanswered = Arc::new(Semaphore::new(UNANSWERED));
    let scarce = watch::Sender::new(false);
    let accept = async || -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let permit = unanswered.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        Ok((stream, permit))
    };
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = shared.shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, permit)) => {
                scarce.send_replace(unanswered.available_permits() < SCARCE);
                let (served, scarce) = (connection(stream, acceptor.clone(), shared.clone()), scarce.subscribe());
                shared.tasks.spawn(async move {
                    let _permit = permit;
                    tokio::select! {
                        () = served => {}
                        () = hurry(scarce) => tracing::debug!("a slow streaming client makes room for others"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept a streaming client");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Ends when a client has had its time and places are scarce.
async fn hurry(mut scarce: watch::Receiver<bool>) {
    tokio::time::sleep(HURRIED).await;
    if scarce.wait_for(|scarce| *scarce).await.is_err() {
        // The listener has ended, and with it all that wait.
        std::future::pending().await
    }
}

/// One request; its session is a task of its own.
async fn connection<B: Backend>(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared<B>>) {
    let hangup = prepare(&stream).and_then(|()| Hangup::of(&stream));
    let hangup = match hangup {
        Ok(hangup) => hangup,
        Err(error) => return tracing::warn!(%error, "prepare a streaming client's connection"),
    };
    let socket = match acceptor {
        None => Socket::Plain(stream),
        Some(acceptor) => match tokio::time::timeout(REQUEST, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Socket::Tls(Box::new(stream)),
            Ok(Err(error)) => return tracing::debug!(%error, "streaming client's TLS"),
            Err(_) => return tracing::debug!("streaming client's TLS takes too long"),
        },
    };
    let shutdown = shared.shutdown.clone();
    let service = service_fn(move |request| answer(shared.clone(), Some(hangup.clone()), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::debug!(%error, "streaming client's request");
        },
        () = shutdown.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_are_told_an_address_of_this_machine() {
        for (listened, want) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3"), ("[::1]:4", "[::1]:4")]
        {
            assert_eq!(told(listened.parse().expect(listened)).to_string(), want);
        }
    }
}
