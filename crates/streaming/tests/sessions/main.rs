//! Whole sessions: a server with a runtime of this test's own, and clients that speak the protocols byte by byte.

mod backend;
mod bounds;
mod exec;
mod forward;
mod requests;
mod spdy;
mod tls;
mod vanish;
mod websocket;
