//! containerd's shims, version 2 of their protocol, from the side of what uses them.
//!
//! A shim is a program `containerd-shim-NAME-v2`. Its `start` leaves a server behind and prints where that listens
//! ([`Bootstrap`]); containers are made, started, waited for and deleted by its task service ([`Task`]), which speaks
//! ttrpc over that unix socket; its `delete` cleans up after a server that has gone. The protocol is described in
//! containerd's `core/runtime/v2/README.md`, the messages in `api/runtime/task`. What a shim tells by itself comes to
//! [`Events`].
//!
//! Everything here blocks and no thread is started: it is for small helpers. What a shim answers is bounded before
//! it is kept.

#![forbid(unsafe_code)]

mod address;
mod bootstrap;
mod error;
mod events;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod messages;
mod task;
mod ttrpc;
mod usage;

pub use address::Address;
pub use bootstrap::{Bootstrap, MAX_ANSWER, Place};
pub use error::{Error, Result};
pub use events::{Event, Events};
pub use task::{Stdio, Task};
pub use usage::Usage;
