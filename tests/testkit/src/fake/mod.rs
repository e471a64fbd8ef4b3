//! A registry on loopback that counts requests and misbehaves by rule.
//!
//! It serves what is put into it as the distribution specification says; the
//! first [`Rule`] that matches a request decides what goes wrong. It runs on a
//! thread of its own, so that synchronous tests can use it too.

mod connection;
mod content;
mod rule;

pub use content::Access;
pub use rule::{Fault, Rule};

use crate::image::{Blob, Image, Index};
use anyhow::Result;
use content::{Answer, Content};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD` and so on.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without the question mark.
    pub query: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A running fake registry; it ends when it is dropped.
pub struct FakeRegistry {
    shared: Arc<Shared>,
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    url: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    content: Content,
    rules: Vec<Rule>,
    requests: Vec<Request>,
    connections: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The honest answer, and the fault to do to it.
    fn decide(&self, request: &Request) -> (Answer, Option<Fault>) {
        let state = &mut *self.lock();
        state.requests.push(request.clone());
        let fault = state.rules.iter_mut().find_map(|rule| rule.take(request));
        let mut request = request.clone();
        if matches!(fault, Some(Fault::IgnoreRange)) {
            request.headers.retain(|(name, _)| name != "range");
        }
        (state.content.answer(&request, &self.url), fault)
    }
}

impl FakeRegistry {
    /// Starts one on a free port of 127.0.0.1, empty and open to everybody.
    pub fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { url: format!("http://{address}"), state: Mutex::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let server = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, server) => {}
                    // Also when the sender is dropped.
                    _ = ended => {}
                }
            });
        });
        Ok(Self { shared, address, end: Some(end), thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Host and port, as the first part of an image name.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Serves an image under a tag and its digest.
    pub fn put(&self, repository: &str, tag: &str, image: &Image) {
        let content = &mut self.shared.lock().content;
        content.image(repository, image);
        content.manifest(repository, tag, image.manifest.clone());
    }

    /// Serves an index and its images.
    pub fn put_index(&self, repository: &str, tag: &str, index: &Index) {
        self.shared.lock().content.index(repository, tag, index);
    }

    /// Serves these bytes under a tag or digest, whatever their own digest is.
    pub fn put_manifest(&self, repository: &str, reference: &str, manifest: Blob) {
        self.shared.lock().content.manifest(repository, reference, manifest);
    }

    /// Serves these bytes under the digest that the blob claims.
    pub fn put_blob(&self, repository: &str, blob: Blob) {
        self.shared.lock().content.blob(repository, blob);
    }

    /// From now on only these may read.
    pub fn set_access(&self, access: Access) {
        self.shared.lock().content.access = access;
    }

    /// Adds a rule; earlier ones come first.
    pub fn rule(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// Forgets all rules.
    pub fn behave(&self) {
        self.shared.lock().rules.clear();
    }

    /// The requests so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.lock().requests.clear();
    }

    /// How many requests had this method and this in their path.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let matches = |request: &&Request| request.method == method && request.path.contains(part);
        self.shared.lock().requests.iter().filter(matches).count()
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // Nobody receives if the thread has ended already.
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.lock().connections += 1;
            // A client that goes away in the middle is what many tests are about.
            let _ = connection::serve(stream, &shared).await;
            shared.lock().connections -= 1;
        });
    }
}
