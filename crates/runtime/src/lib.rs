//! The handler registry, the handlers and the client of a pod's monitor.

#![forbid(unsafe_code)]

pub mod handlers;
pub mod monitor;
