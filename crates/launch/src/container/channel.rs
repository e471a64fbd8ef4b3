//! What the helper and the init say to each other while the container is made. execve closes the init's end.
//!
//! ```text
//! init: Cloned (only when it had to be cloned twice) ─ Mounted (only with hooks) ─ Ready ─ end of file: executed
//! helper:                                                  └─ go ─┘                  └─ go ─┘
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cricket_wire::helper::{Failure, MAX_REPORT};
use cricket_wire::packet::{self, PacketError};
use prost::Message;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::error::Error;

/// One message of the init.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Word {
    #[prost(enumeration = "Step", tag = "1")]
    pub(super) step: i32,
    /// Host PID, with `Cloned`.
    #[prost(int32, tag = "2")]
    pub(super) pid: i32,
    /// With `Failed`.
    #[prost(message, optional, tag = "3")]
    pub(super) failure: Option<Failure>,
}

/// Where the init is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Step {
    /// It goes no further.
    Failed = 0,
    /// The process that was cloned first has cloned the one that stays.
    Cloned = 1,
    /// Everything is mounted, and the root is still the host's: hooks may run.
    Mounted = 2,
    /// Only the command is left to be executed. The terminal's master comes along.
    Ready = 3,
}

/// The helper's end and the init's.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| Error::io("make a channel", e))
}

/// Says where the init is.
pub(super) fn say(channel: impl AsFd, step: Step, pid: i32, fd: Option<BorrowedFd<'_>>) -> Result<(), Error> {
    let word = Word { step: step.into(), pid, failure: None };
    let fds: Vec<_> = fd.into_iter().collect();
    packet::send(channel, &word, &fds).map_err(|e| Error::chain("tell the helper", &e))
}

/// Says why the init goes no further; by write(2), which every seccomp filter allows. A helper that has gone is not told.
pub(super) fn tell(channel: BorrowedFd<'_>, error: Error) {
    let word = Word { step: Step::Failed.into(), pid: 0, failure: Some(error.into_failure()) };
    let _ = rustix::io::write(channel, &word.encode_to_vec());
}

/// The init's next word; `None` at the end.
pub(super) fn hear(channel: &OwnedFd) -> Result<Option<(Word, Option<OwnedFd>)>, Error> {
    let mut buffer = vec![0; MAX_REPORT];
    match packet::receive::<Word>(channel, &mut buffer) {
        Ok((word, fds)) => Ok(Some((word, fds.into_iter().next()))),
        Err(PacketError::Closed) => Ok(None),
        Err(e) => Err(Error::chain("hear from the container's init", &e)),
    }
}

/// Lets the init go on.
pub(super) fn go(channel: &OwnedFd) -> Result<(), Error> {
    rustix::io::write(channel, b"g").map(drop).map_err(|e| Error::io("let the container's init go on", e))
}

/// In the init: waits for that. A helper that is gone means that nobody knows this container.
pub(super) fn wait(channel: impl AsFd) -> Result<(), Error> {
    let mut byte = [0; 1];
    loop {
        match rustix::io::read(&channel, &mut byte) {
            Ok(1) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            _ => return Err(Error::host("the helper is gone")),
        }
    }
}
