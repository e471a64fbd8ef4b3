//! Ids, names, states and error kinds shared by every crate; pure.

#![forbid(unsafe_code)]

mod digest;
mod error;
mod id;
mod idmap;

pub use digest::{Digest, InvalidDigest};
pub use error::{ErrorKind, Kinded};
pub use id::{ContainerId, InvalidId, SandboxId};
pub use idmap::{IdMaps, IdRange};
