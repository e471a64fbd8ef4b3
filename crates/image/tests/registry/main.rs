//! The registry client against servers that misbehave in every way the protocol allows, and in some it does not.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test panics to fail, and nobody links it")]

mod auth;
mod blobs;
mod content;
mod credentials;
mod documents;
mod endpoints;
mod proxies;
mod server;
mod tls;
