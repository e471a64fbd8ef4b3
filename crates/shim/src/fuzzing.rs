//! The reading of what shims send, for fuzzing; not an interface.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::events::{Event, Events};
use crate::messages::{Any, ProcessRequest, StateResponse};
use crate::ttrpc::Client;
use crate::usage::Usage;

/// What a call makes of bytes that come in answer to it, followed by the shim's end.
///
/// # Errors
/// When they are no answer; when they do not fit the socket.
pub fn answer(bytes: &[u8]) -> Result<StateResponse> {
    let (ours, _shim) = shim(bytes)?;
    // With a limit, so that nothing waits whatever is wrong; the shim's end is there to be read.
    Client::new(ours, "fuzzed").call("State", &ProcessRequest::default(), Some(Duration::from_secs(10)))
}

/// The events in bytes that a shim sends before its end, and whether that came after a whole one.
///
/// # Errors
/// When they do not fit the socket.
pub fn events(bytes: &[u8]) -> Result<(Vec<Event>, bool)> {
    let (ours, _shim) = shim(bytes)?;
    let (mut events, mut told) = (Events::new(ours), Vec::new());
    loop {
        match events.next_event() {
            Ok(Some(event)) => told.push(event),
            Ok(None) => return Ok((told, true)),
            Err(_) => return Ok((told, false)),
        }
    }
}

/// Figures of either version.
///
/// # Errors
/// When they are none.
pub fn usage(version: u8, bytes: &[u8]) -> Result<Usage> {
    let type_url = format!("io.containerd.cgroups.v{version}.Metrics");
    Usage::of(Some(&Any { type_url, value: bytes.to_vec() }))
}

/// What is spoken with, and what has to live till then.
fn shim(bytes: &[u8]) -> Result<(UnixStream, UnixStream)> {
    let failed = |e| Error::io("make the shim", e);
    let (ours, mut shim) = UnixStream::pair().map_err(failed)?;
    shim.set_nonblocking(true).and_then(|()| shim.write_all(bytes)).map_err(failed)?;
    shim.shutdown(Shutdown::Write).map_err(failed)?;
    Ok((ours, shim))
}
