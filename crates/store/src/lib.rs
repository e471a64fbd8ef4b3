//! Durable records and per-pod journals.
//!
//! [`Store`] owns one redb file: every change goes through one thread that writes all waiting
//! batches in a single transaction (one fsync for all of them). [`Journal`] is an append-only file
//! of JSON lines for what dies with the boot; it lives on a tmpfs and is never synced.
//!
//! Invariants: a batch is in the file whole or not at all; a record that cannot be decoded is
//! kept, reported and never in the way of opening; a failed write leaves what was committed
//! before, and later commits are tried afresh.

#![forbid(unsafe_code)]

mod batch;
mod codec;
mod error;
mod file;
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod store;
mod writer;

pub use batch::Batch;
pub use codec::{Damaged, Encoded, Record};
pub use error::{Error, Result};
pub use journal::Journal;
pub use store::Store;
