//! The operators' service: how `cricket image`, `cricket explain` and `cricket doctor` talk to the daemon.
//!
//! One request and one answer for each connection, each a length (four bytes, the highest first) and that many bytes of
//! JSON. The version is the protocol's; a daemon refuses those it does not know. The socket is root's alone.

pub(crate) mod client;
mod explain;
mod operations;
pub(crate) mod server;

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::doctor::Repair;

pub(crate) use explain::page;
pub(crate) use operations::Operators;

/// The protocol's version.
const VERSION: u32 = 1;
/// Largest message, in bytes.
const MAX_MESSAGE: u32 = 16 << 20;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// [`VERSION`].
    version: u32,
    /// What to do.
    operation: Operation,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// Adds the images of an archive or directory, by its absolute path.
    LoadImages {
        /// The path.
        path: String,
    },
    /// Keeps an image from being collected.
    PinImage {
        /// Name or ID.
        image: String,
    },
    /// Undoes that.
    UnpinImage {
        /// Name or ID.
        image: String,
    },
    /// All images.
    ListImages,
    /// Removes images without a pin that no container uses.
    PruneImages {
        /// Those with a tag as well.
        all: bool,
        /// Only says which.
        dry_run: bool,
    },
    /// Compares every layer with its digest and fetches damaged ones again.
    VerifyLayers,
    /// Whether pods can be attached to their network.
    Network,
    /// Everything that is known of a pod or container.
    Explain {
        /// Its ID, or the beginning of it.
        id: String,
    },
    /// Takes away what is left over of pods.
    Repair,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Done.
    Done,
    /// Images.
    Images(Vec<ImageLine>),
    /// Images that were removed, or would be.
    Pruned {
        /// The images.
        images: Vec<ImageLine>,
        /// How many layers nothing names without them.
        layers: usize,
        /// Bytes of those layers.
        bytes: u64,
    },
    /// Damage that was found.
    Layers(Vec<LayerDamage>),
    /// What keeps the network from being ready.
    Network(Option<String>),
    /// What is known.
    Explained(serde_json::Value),
    /// What became of what was left over.
    Repaired(Vec<Repair>),
    /// It did not work.
    Failed(String),
}

/// An image in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageLine {
    /// Its ID.
    pub(crate) id: String,
    /// Its names: tags, or digests where it has none.
    pub(crate) names: Vec<String>,
    /// Bytes.
    pub(crate) size: u64,
    /// Whether it is pinned.
    pub(crate) pinned: bool,
}

/// A layer that is not what it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerDamage {
    /// Its diff ID.
    pub(crate) layer: String,
    /// What is wrong.
    pub(crate) details: Vec<String>,
    /// Why it could not be fetched again; `None` where it was.
    pub(crate) failure: Option<String>,
}

async fn send<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok().filter(|l| *l <= MAX_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other("the message is too long"))?;
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(&text).await?;
    to.flush().await
}

async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = from.read_u32().await?;
    if length > MAX_MESSAGE {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut text = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut text).await?;
    if text.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests;
