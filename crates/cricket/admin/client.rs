//! The commands' side: asks the daemon, and does the work itself only where none runs.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cricket_cni::{Cni, CniConfig};
use cricket_image::ImageStore;
use cricket_store::Store;
use tokio::net::UnixStream;

use super::{Answer, Operation, Operators, Request, VERSION, operations, receive, send};
use crate::config::Config;
use crate::serve::{self, Lock, LockError};
use crate::{doctor, layout};

/// Has an operation carried out.
///
/// # Errors
/// When it failed, or when a daemon holds the directories and does not answer.
pub(crate) fn ask(config: &Config, operation: Operation) -> Result<Answer, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let answer = runtime.block_on(async {
        match remote(config, &operation).await? {
            Some(answer) => Ok(answer),
            None => local(config, operation).await,
        }
    });
    runtime.shutdown_background();
    match answer? {
        Answer::Failed(text) => Err(text.into()),
        answer => Ok(answer),
    }
}

/// What keeps pods from being attached to their network; looked at here where no daemon runs, which leaves nothing.
///
/// # Errors
/// When the daemon gives no answer, or the directories cannot be followed.
pub(crate) fn network(config: &Config) -> Result<Option<String>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match remote(config, &Operation::Network).await? {
            Some(Answer::Network(problem)) => Ok(problem),
            Some(other) => Err(format!("unexpected answer {other:?}").into()),
            None => {
                // Records are none of its business.
                let cache_dir = std::env::temp_dir().join(format!("cricket-doctor-{}", std::process::id()));
                let cni = Cni::open(CniConfig { cache_dir: cache_dir.clone(), ..serve::cni_config(config) })?;
                let problem = operations::network(&cni).await;
                std::fs::remove_dir_all(cache_dir)?;
                Ok(problem)
            }
        }
    })
}

/// Asks the daemon; `None` where nobody listens.
async fn remote(config: &Config, operation: &Operation) -> Result<Option<Answer>, Box<dyn Error>> {
    let path = &config.own.admin_address;
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(e) => return Err(format!("{}: {e}", path.display()).into()),
    };
    match exchange(&mut stream, operation).await {
        Ok(answer) => Ok(Some(answer)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && answers_others(path).await => Err(format!(
            "{}: the daemon that runs does not know this command: it is older than {} {}; restart it",
            path.display(),
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
        )
        .into()),
        Err(e) => Err(format!("{}: the daemon gave no answer: {e}", path.display()).into()),
    }
}

async fn exchange(stream: &mut UnixStream, operation: &Operation) -> io::Result<Answer> {
    send(stream, &Request { version: VERSION, operation: operation.clone() }).await?;
    receive(stream).await
}

/// Whether the daemon answers what every one of its versions knows: the older ones hang up on what they do not.
async fn answers_others(path: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(path).await else { return false };
    exchange(&mut stream, &Operation::ListImages).await.is_ok()
}

/// Does it without a daemon, which may not be started meanwhile.
async fn local(config: &Config, operation: Operation) -> Result<Answer, Box<dyn Error>> {
    let root = &config.own.root;
    if !root.is_dir() && !matches!(operation, Operation::LoadImages { .. }) {
        return Err(format!("{}: there is no cricket here; --root names its directory", root.display()).into());
    }
    serve::directories(&config.own)?;
    let _lock = Lock::take(&root.join(layout::LOCK)).map_err(|e| match e {
        LockError::Held { .. } => format!(
            "a daemon runs on {} but does not listen at {}: give the --state it was started with",
            root.display(),
            config.own.admin_address.display()
        ),
        other => other.to_string(),
    })?;
    let store = Store::open(layout::records(root))?;
    let left_before = doctor::to_collect(root, &store);
    let images = ImageStore::open(serve::image_config(config), store.clone()).await?;
    let config = Arc::new(config.clone());
    Ok(Operators { images, cni: None, pods: None, config, store: Some(store), left_before }.run(operation).await)
}
