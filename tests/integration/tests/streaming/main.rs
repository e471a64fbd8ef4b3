//! Exec, attach and port-forward as clients use them: the URL by RPC, the session over a WebSocket.

mod attach;
mod bulk;
mod client;
mod exec;
mod forward;
mod handlers;
mod restart;
mod scene;
mod shims;
