//! The daemon's own metrics, for Prometheus: `GET /v1/metrics` as in containerd, or `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cricket_metrics::States;
use cricket_pod::{ContainerState, Pods, SandboxState};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once; others wait.
const MOST: usize = 8;
/// How long a request may take to arrive, and an idle connection lasts.
const IDLE: Duration = Duration::from_secs(120);

/// Serves there for as long as the daemon runs. That the address cannot be had costs metrics only.
pub(super) async fn serve(address: SocketAddr, pods: Pods) {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(e) => {
            tracing::error!(%address, error = %e, "no metrics are served");
            return;
        }
    };
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "metrics are served to whoever reaches this address, without credentials");
    }
    let shown = listener.local_addr().map_or_else(|_| address.to_string(), |a| a.to_string());
    tracing::info!(address = shown, "metrics are served");
    tokio::spawn(accept(listener, pods));
}

async fn accept(listener: TcpListener, pods: Pods) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pods = pods.clone();
                tokio::spawn(async move {
                    connection(stream, pods).await;
                    drop(place);
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "a connection for metrics failed");
                // Out of descriptors: give others the time to close some.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, pods: Pods) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, &pods);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(16 << 10);
    if let Err(e) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(error = %e, "a connection for metrics ended");
    }
}

fn answer<B>(request: &Request<B>, pods: &Pods) -> Response<Full<Bytes>> {
    match refusal(request.method(), request.uri().path()) {
        Some(status) => {
            let mut response = Response::new(Full::new(Bytes::new()));
            *response.status_mut() = status;
            response
        }
        None => {
            let text = cricket_metrics::encode(env!("CARGO_PKG_VERSION"), &states(pods));
            let mut response = Response::new(Full::new(Bytes::from(text)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(cricket_metrics::CONTENT_TYPE));
            response
        }
    }
}

fn refusal(method: &Method, path: &str) -> Option<StatusCode> {
    match (method, path) {
        (&Method::GET | &Method::HEAD, "/v1/metrics" | "/metrics") => None,
        (_, "/v1/metrics" | "/metrics") => Some(StatusCode::METHOD_NOT_ALLOWED),
        _ => Some(StatusCode::NOT_FOUND),
    }
}

/// Of what lists show.
fn states(pods: &Pods) -> States {
    let mut states = States::default();
    for pod in pods.list() {
        match pod.record.sandbox.state {
            SandboxState::Ready => states.pods_ready += 1,
            _ => states.pods_not_ready += 1,
        }
        for container in pod.containers() {
            match container.state {
                ContainerState::Running(_) => states.containers_running += 1,
                ContainerState::Exited(_) => states.containers_exited += 1,
                _ => states.containers_created += 1,
            }
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metrics_are_served() {
        assert_eq!(refusal(&Method::GET, "/v1/metrics"), None);
        assert_eq!(refusal(&Method::GET, "/metrics"), None);
        assert_eq!(refusal(&Method::POST, "/metrics"), Some(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(refusal(&Method::GET, "/"), Some(StatusCode::NOT_FOUND));
        assert_eq!(refusal(&Method::GET, "/v1/metrics/../x"), Some(StatusCode::NOT_FOUND));
    }
}
