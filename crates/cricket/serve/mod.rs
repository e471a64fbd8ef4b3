//! The daemon.
//!
//! ```text
//! configuration ─▶ locks ─▶ log, limits ─▶ host, records, images, networks, handlers ─▶ pods restored ─▶ sockets ─▶ READY
//!      SIGTERM, SIGINT ─▶ STOPPING ─▶ no new requests, those in flight ≤ 5 s ─▶ exit 0, every pod runs on
//! ```
//!
//! Invariants: nothing below root and state is touched without the locks; a socket answers only when the pods are
//! restored.

mod assemble;
mod cadvisor;
mod deadline;
mod lock;
mod log;
mod metrics;
mod netns;
mod process;
mod requests;
mod socket;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use cricket_pod::Pods;
use cricket_server::{Service, Sessions};
use cricket_streaming::Server;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Unsupported};
use crate::{admin, kernel, layout};

pub(crate) use assemble::{cni_config, handlers, helpers_dir, image_config};
pub(crate) use lock::{Lock, LockError};
pub(crate) use process::directories;
pub(crate) use requests::Requests;

/// How long streaming sessions may take to end with the daemon.
const SESSIONS: Duration = Duration::from_secs(4);

/// How long a thread for blocking work waits for more of it.
const THREADS_REST: Duration = Duration::from_secs(2);

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Runs until a signal ends it.
///
/// # Errors
/// Whatever keeps the daemon from serving.
pub(crate) fn run(config: Config) -> Fallible<()> {
    log::start(&config.own)?;
    kernel::check(&kernel::release())?;
    process::directories(&config.own)?;
    let _root = Lock::take(&config.own.root.join(layout::LOCK))?;
    let _state = Lock::take(&config.own.state.join(layout::LOCK))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), root = %config.own.root.display(), state = %config.own.state.display(), "cricket starts");
    process::prepare();
    tell(&config.unsupported);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.own.workers)
        .thread_name("cricket")
        // Each thread for blocking work keeps some 100 KiB of stack. One that ends had nothing to do for a while.
        .thread_keep_alive(THREADS_REST)
        .on_thread_stop(cricket_process::memory::trim)
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(config));
    // Blocking work that is still under way (a layer, a plugin) is taken up again at the next start.
    runtime.shutdown_background();
    if let Err(e) = &served {
        tracing::error!(error = %e, "cricket cannot go on");
    }
    served
}

/// What is set and not used, once.
fn tell(unsupported: &[Unsupported]) {
    if unsupported.is_empty() {
        return;
    }
    tracing::warn!(keys = unsupported.len(), "the configuration sets keys that cricket does not use");
    for key in unsupported {
        let reason = key.reason.unwrap_or("unknown to cricket");
        tracing::info!(key = %key.place.key, value = %key.value, at = %key.place, reason, "not used");
    }
}

/// Ends the streaming sessions.
async fn ended(streaming: &Server) {
    if tokio::time::timeout(SESSIONS, streaming.shutdown()).await.is_err() {
        tracing::warn!(sessions = streaming.tasks(), "streaming sessions do not end, and are cut off");
    }
}

async fn serve(config: Config) -> Fallible<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    // Nothing is read again, but a hang-up must not end the daemon either.
    let _hangup = signal(SignalKind::hangup())?;
    let (shared, service_config) = assemble::shared(&config).await?;
    let records = shared.store.clone();
    let shared = Arc::new(shared);
    let images = shared.images.clone();
    let pods = Pods::restore(shared).await?;
    tracing::info!(pods = pods.list().len(), "pods restored");
    // Before anything can be created: plugins may have to adjust it.
    pods.shared().nri.start(&pods).await;
    netns::watch(config.netns_dir(), pods.clone());
    pods.follow_reloads();
    let streaming = Server::start(config.streaming.clone(), Arc::new(Sessions::new(pods.clone()))).await?;
    let service = Service::new(pods.clone(), images, streaming.clone(), service_config);
    let requests = Requests::default();
    let operators = socket::listen(&config.own.admin_address, 0o600)?;
    // The last thing that is made: who can connect finds all of it.
    let cri = socket::listen(&config.own.address, 0o660)?;
    let cadvisor = config.own.cadvisor_socket.as_deref().and_then(|path| cadvisor::serve(path, pods.clone()));
    if let Some(address) = config.metrics {
        metrics::serve(address, pods.clone()).await;
    }
    let admin = tokio::spawn(admin::server::serve(operators, pods, requests.clone(), Arc::new(config.clone())));
    let server = tokio::spawn(requests::serve(cri, service, requests.clone()));
    process::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(address = %config.own.address.display(), streaming = streaming.base(), "cricket serves");
    let asked = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
        ended = server => return Err(format!("the CRI server ended: {ended:?}").into()),
    };
    tracing::info!(signal = asked, requests = requests.running(), "cricket ends, pods run on");
    process::notify(&[sd_notify::NotifyState::Stopping]);
    admin.abort();
    // Sessions end with the daemon, and the commands of execs with them.
    tokio::join!(requests.drain(), ended(&streaming));
    if let Err(e) = records.flush().await {
        tracing::warn!(error = %e, "the last changes are in the pods' journals only");
    }
    if let Some(cadvisor) = cadvisor {
        cadvisor.end();
    }
    socket::remove(&config.own.address);
    socket::remove(&config.own.admin_address);
    Ok(())
}
