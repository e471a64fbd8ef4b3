//! A running container's stdio as this daemon holds it, in duplicate of the monitor's.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cricket_runtime::monitor::Stream;

/// Duplicates of a container's stdio, for the monitor that replaces a lost one.
#[derive(Debug, Default)]
pub struct Stdio(Mutex<Vec<(Stream, OwnedFd)>>);

impl From<Vec<(Stream, OwnedFd)>> for Stdio {
    fn from(streams: Vec<(Stream, OwnedFd)>) -> Self {
        Self(Mutex::new(streams))
    }
}

impl Stdio {
    fn streams(&self) -> MutexGuard<'_, Vec<(Stream, OwnedFd)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Further duplicates of all of it.
    ///
    /// # Errors
    /// dup(2)'s.
    pub fn duplicate(&self) -> io::Result<Vec<(Stream, OwnedFd)>> {
        self.streams().iter().map(|(stream, fd)| Ok((*stream, fd.try_clone()?))).collect()
    }

    /// A further duplicate of the terminal's master, if the container has a terminal.
    pub(super) fn terminal(&self) -> io::Result<Option<OwnedFd>> {
        let streams = self.streams();
        streams.iter().find(|(stream, _)| *stream == Stream::Terminal).map(|(_, fd)| fd.try_clone()).transpose()
    }

    /// Closes the writing end of standard input: from now on it ends when the monitor closes its own.
    pub(super) fn release_stdin(&self) {
        self.streams().retain(|(stream, _)| *stream != Stream::Stdin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_standard_input_is_released() {
        let (reader, writer) = std::io::pipe().expect("pipe");
        let (other, _) = std::io::pipe().expect("pipe");
        let stdio = Stdio::from(vec![(Stream::Stdin, writer.into()), (Stream::Stdout, other.into())]);
        assert!(stdio.terminal().expect("dup").is_none());
        assert_eq!(stdio.duplicate().expect("dup").len(), 2);
        stdio.release_stdin();
        assert_eq!(stdio.duplicate().expect("dup").len(), 1);
        let mut bytes = Vec::new();
        assert_eq!(std::io::Read::read_to_end(&mut { reader }, &mut bytes).expect("ended"), 0);
    }
}
