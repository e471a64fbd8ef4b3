//! How the init tells the helper what became of the command: a pipe that execve closes.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};

use cricket_wire::helper::Failure;
use prost::Message;

use crate::error::Error;

/// Most that is read; a failure is shorter.
const MAX: u64 = 16 * 1024;

/// The helper's end.
#[derive(Debug)]
pub(super) struct Outcome(PipeReader);

/// The init's end; close-on-exec, so that a successful execve is the end of the file.
#[derive(Debug)]
pub(super) struct Teller(PipeWriter);

pub(super) fn pair() -> Result<(Outcome, Teller), Error> {
    let (reader, writer) = pipe().map_err(|e| Error::io("make a pipe", e))?;
    Ok((Outcome(reader), Teller(writer)))
}

impl Teller {
    /// Says why the command cannot be executed.
    pub(super) fn tell(&self, error: Error) {
        // A helper that has gone is not told.
        let _ = (&self.0).write_all(&error.into_failure().encode_to_vec());
    }
}

impl Outcome {
    /// Waits until the command is executed, or until the init says why it is not. An init that is killed before looks
    /// like the former: its exit status, which its parent gets, tells.
    pub(super) fn wait(self) -> Result<(), Error> {
        self.read().map_or(Ok(()), Err)
    }

    /// What the init has said before its making failed; waits for nothing.
    pub(super) fn failure(self) -> Option<Error> {
        rustix::io::ioctl_fionbio(&self.0, true).ok()?;
        self.read()
    }

    /// The message, up to the end of the file or of what is there.
    fn read(self) -> Option<Error> {
        let mut bytes = Vec::new();
        // What was read before an error stays in the buffer.
        let _ = self.0.take(MAX).read_to_end(&mut bytes);
        if bytes.is_empty() {
            return None;
        }
        Failure::decode(bytes.as_slice()).ok().map(Error::from)
    }
}
