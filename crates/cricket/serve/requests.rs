//! The CRI server, and how many requests are in flight: the end of the daemon waits for those, not for connections and
//! event streams, which kubelets keep open for ever.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cricket_cri_api::v1::image_service_server::ImageServiceServer;
use cricket_cri_api::v1::runtime_service_server::RuntimeServiceServer;
use cricket_server::Service as Cri;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;

use super::deadline;

/// How long requests in flight have at the end.
const LAST: Duration = Duration::from_secs(5);
/// For the answer that is on its way out.
const FLUSH: Duration = Duration::from_millis(50);

/// Counts requests whose answer is not there yet. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    running: AtomicUsize,
    changed: Notify,
    ending: Notify,
}

/// One request in flight.
pub(crate) struct Running(Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

impl Requests {
    /// Counts one until it is dropped.
    pub(crate) fn begin(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        Running(self.0.clone())
    }

    /// How many there are.
    pub(crate) fn running(&self) -> usize {
        self.0.running.load(Ordering::Acquire)
    }

    /// Ends the servers and waits for what is in flight, five seconds at most.
    pub(super) async fn drain(&self) {
        self.drain_within(LAST).await;
    }

    async fn drain_within(&self, limit: Duration) {
        self.0.ending.notify_waiters();
        let none = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.running() == 0 {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(limit, none).await.is_err() {
            tracing::warn!(requests = self.running(), "requests are given up");
        }
        tokio::time::sleep(FLUSH).await;
    }
}

/// Serves both CRI services on one socket until [`Requests::drain`].
pub(super) async fn serve(socket: UnixListener, cri: Cri, requests: Requests) -> Result<(), tonic::transport::Error> {
    let ending = requests.0.clone();
    let services = Services { runtime: cri.runtime(), image: cri.image(), requests };
    Server::builder()
        .serve_with_incoming_shutdown(services, UnixListenerStream::new(socket), async move {
            ending.ending.notified().await;
        })
        .await
}

/// Both services by their path; every call is counted.
#[derive(Clone)]
struct Services {
    runtime: RuntimeServiceServer<Cri>,
    image: ImageServiceServer<Cri>,
    requests: Requests,
}

impl tower::Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let running = self.requests.begin();
        let deadline = deadline::of(request.headers());
        let path = request.uri().path().to_owned();
        let began = Instant::now();
        let service = request.uri().path().split('/').nth(1);
        let known =
            [<RuntimeServiceServer<Cri> as NamedService>::NAME, <ImageServiceServer<Cri> as NamedService>::NAME];
        let known = known.into_iter().find(|name| service == Some(*name));
        let answer = match service {
            Some(<RuntimeServiceServer<Cri> as NamedService>::NAME) => self.runtime.call(request),
            Some(<ImageServiceServer<Cri> as NamedService>::NAME) => self.image.call(request),
            other => {
                let status = Status::unimplemented(format!("cricket has no service {:?}", other.unwrap_or_default()));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        };
        Box::pin(async move {
            let rpc = path.rsplit('/').next().unwrap_or_default();
            let answer = deadline::within(deadline, rpc, answer).await;
            if let (Some(service), Ok(answer)) = (known, &answer) {
                cricket_metrics::rpc(service, rpc, code(answer), began.elapsed());
            }
            drop(running);
            answer
        })
    }
}

/// The gRPC code of an answer: in its headers where there is no message.
fn code(answer: &Response<Body>) -> i32 {
    Status::from_header_map(answer.headers()).map_or(0, |status| status.code().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn draining_waits_for_answers_but_not_for_ever() {
        let requests = Requests::default();
        let running = requests.begin();
        let limit = Duration::from_millis(200);
        let started = Instant::now();
        requests.drain_within(limit).await;
        assert!(started.elapsed() >= limit && requests.running() == 1);
        let drain = tokio::spawn({
            let requests = requests.clone();
            async move { requests.drain_within(Duration::from_secs(3600)).await }
        });
        tokio::time::sleep(FLUSH * 2).await;
        assert!(!drain.is_finished());
        drop(running);
        drain.await.expect("ends");
        assert_eq!(requests.running(), 0);
    }
}
