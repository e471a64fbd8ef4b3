//! Whole sessions: a server with a runtime of this test's own, and clients that speak the protocols byte by byte.

mod backend;
mod exec;
mod forward;
mod requests;
mod spdy;
mod vanish;
mod websocket;
