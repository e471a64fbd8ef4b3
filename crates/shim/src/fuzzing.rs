//! The reading of what shims send, for fuzzing; not an interface.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::messages::{ProcessRequest, StateResponse};
use crate::ttrpc::Client;

/// What a call makes of bytes that come in answer to it, followed by the shim's end.
///
/// # Errors
/// When they are no answer; when they do not fit the socket.
pub fn answer(bytes: &[u8]) -> Result<StateResponse> {
    let failed = |e| Error::io("make the shim", e);
    let (ours, mut shim) = UnixStream::pair().map_err(failed)?;
    shim.set_nonblocking(true).and_then(|()| shim.write_all(bytes)).map_err(failed)?;
    shim.shutdown(Shutdown::Write).map_err(failed)?;
    // With a limit, so that nothing waits whatever is wrong; the shim's end is there to be read.
    Client::new(ours, "fuzzed").call("State", &ProcessRequest::default(), Some(Duration::from_secs(10)))
}
