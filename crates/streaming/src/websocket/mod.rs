//! WebSocket (RFC 6455) as Kubernetes' clients speak it: one channel's bytes in each message, or SPDY inside of them.

mod connection;
mod protocol;
mod tunnel;

pub(crate) use connection::{open, serve};
pub(crate) use protocol::{Channels, Codec, Forwarding, read};
pub(crate) use tunnel::Tunnel;
