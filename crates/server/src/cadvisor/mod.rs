//! What cAdvisor, inside every kubelet, asks of containerd: enough for it to label containers' metrics and to find the
//! pods' network, and nothing else of containerd's API.
//!
//! ```text
//! kubelet's cAdvisor ─▶ containerd.services.version.v1.Version/Version           is anybody there
//!                    ─▶ containerd.services.containers.v1.Containers/Get         a cgroup's name → labels, image
//!                    ─▶ containerd.services.tasks.v1.Tasks/Get                   → PID (network), exit status
//! ```
//!
//! The calls are those of cAdvisor 0.56 (kubelet 1.36), `container/containerd`. A cgroup whose name has 64 hexadecimal
//! digits is a container or a pod's sandbox to it; a sandbox's network is read from `/proc/PID/net/dev`.
//!
//! Invariants: published pictures are read, nothing is changed; only whole IDs are looked up. cAdvisor sees a control group
//! the moment it is made and asks once: a pod that is just being made is waited for, a second at most.

mod containers_get;
mod messages;
mod tasks_get;
#[cfg(test)]
mod tests;
mod version;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use cricket_pod::{ContainerRecord, PodView, Pods};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// Who uses which of a containerd's containers says this metadata (containerd, `pkg/namespaces`).
const NAMESPACE: &str = "containerd-namespace";
/// Kubernetes' namespace, the only one there is here.
const KUBERNETES: &str = "k8s.io";
/// Characters of an ID.
const ID: usize = 64;
/// How long a control group may be there before its pod is: cAdvisor waits for two seconds.
const SOON: Duration = Duration::from_secs(1);
/// Largest request, in bytes: one ID.
const MAX_REQUEST: usize = 4096;

/// The three services over these pods. Clones share them.
#[derive(Clone)]
pub struct Cadvisor(Arc<Inner>);

struct Inner {
    pods: Pods,
    version: String,
}

/// What an ID names.
enum Found {
    Sandbox(Arc<PodView>),
    Container(Arc<PodView>, Arc<ContainerRecord>),
}

impl Cadvisor {
    /// Answers for these pods; `version` is the daemon's.
    pub fn new(pods: Pods, version: String) -> Self {
        Self(Arc::new(Inner { pods, version }))
    }

    /// The pod or container with this whole ID.
    fn find(&self, id: &str) -> Result<Found, Status> {
        let absent =
            || Status::not_found(format!("container {:?}: not found", id.chars().take(80).collect::<String>()));
        if id.len() != ID {
            return Err(absent());
        }
        if let Ok((pod, container)) = self.0.pods.container(id) {
            return Ok(Found::Container(pod, container));
        }
        self.0.pods.pod(id).map(Found::Sandbox).map_err(|_| absent())
    }

    /// The same; one that is not there may be about to be.
    async fn find_soon(&self, id: &str) -> Result<Found, Status> {
        let mut events = self.0.pods.events();
        let found = self.find(id);
        if found.is_ok() || id.len() != ID {
            return found;
        }
        let made = async {
            // Who is told that some were missed looks again.
            while events.recv().await.is_ok_and(|event| event.id != id) {}
        };
        let _ = tokio::time::timeout(SOON, made).await;
        self.find(id)
    }

    async fn route(self, request: http::Request<Body>) -> http::Response<Body> {
        match request.uri().path() {
            "/containerd.services.version.v1.Version/Version" => {
                unary(request, move |()| ready(Ok(version::handle(&self.0.version)))).await
            }
            "/containerd.services.containers.v1.Containers/Get" => {
                let handler = move |asked| {
                    let service = self.clone();
                    async move { containers_get::handle(&service, &in_namespace(asked)?).await }
                };
                unary(request, handler).await
            }
            "/containerd.services.tasks.v1.Tasks/Get" => {
                let handler = move |asked| ready(in_namespace(asked).and_then(|r| tasks_get::handle(&self, &r)));
                unary(request, handler).await
            }
            path => Status::unimplemented(format!("{path}: this is cricket, which answers cAdvisor only")).into_http(),
        }
    }
}

impl Service<http::Request<Body>> for Cadvisor {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.route(request).await) })
    }
}

/// The request of a client that works in Kubernetes' namespace.
fn in_namespace<M>(request: Request<M>) -> Result<M, Status> {
    match request.metadata().get(NAMESPACE).map(|n| n.as_bytes()) {
        Some(name) if name == KUBERNETES.as_bytes() => Ok(request.into_inner()),
        Some(_) => Err(Status::not_found("cricket has no namespace but k8s.io")),
        None => Err(Status::failed_precondition("namespace is required")),
    }
}

/// Reads one request and writes its answer.
async fn unary<A, R, Fut>(request: http::Request<Body>, handler: impl FnMut(A) -> Fut) -> http::Response<Body>
where
    A: Asked,
    R: Message + Default + 'static,
    Fut: Future<Output = Result<R, Status>> + Send + 'static,
{
    let codec = ProstCodec::<R, A::Message>::default();
    Grpc::new(codec).max_decoding_message_size(MAX_REQUEST).unary(Handler(handler, A::of), request).await
}

/// What a handler wants of a request.
trait Asked {
    /// The message that is read.
    type Message: Message + Default + 'static;
    /// Makes it of the request.
    fn of(request: Request<Self::Message>) -> Self;
}

impl Asked for () {
    type Message = ();
    fn of(_: Request<()>) {}
}

impl<M: Message + Default + 'static> Asked for Request<M> {
    type Message = M;
    fn of(request: Request<M>) -> Self {
        request
    }
}

/// A handler as tonic calls it.
struct Handler<F, T>(F, T);

impl<M, A, R, F, Fut, T> UnaryService<M> for Handler<F, T>
where
    T: Fn(Request<M>) -> A,
    F: FnMut(A) -> Fut,
    Fut: Future<Output = Result<R, Status>> + Send + 'static,
    R: 'static,
{
    type Response = R;
    type Future = BoxFuture<Response<R>, Status>;

    fn call(&mut self, request: Request<M>) -> Self::Future {
        let answer = (self.0)((self.1)(request));
        Box::pin(async move { answer.await.map(Response::new) })
    }
}
