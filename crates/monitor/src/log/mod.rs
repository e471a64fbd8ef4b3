//! Containers' output: read, cut into entries, written, by one thread of its own; it also serves the sessions that are
//! attached to their stdio.
//!
//! A write that blocks in the kernel must not delay exits or kills, so nothing here runs on the main thread: it gives
//! [`Command`]s and takes [`Note`]s. What is between reader and writer is bounded (256 KiB a container); while a log
//! cannot be written its pipes are not read, and the application waits as at any full pipe.

pub(crate) mod file;
mod input;
mod outlet;
mod poll;
mod sessions;
mod sink;
pub(crate) mod split;
mod thread;
pub(crate) mod time;

pub(crate) use sessions::NewSession;
pub(crate) use thread::{Command, LogThread, Note};
