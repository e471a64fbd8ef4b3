//! Sending reports over the socket that the parent gave.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cricket_wire::helper::{Failure, Report};
use prost::Message;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::error::Error;

/// The report socket, and the PID that was reported on it.
#[derive(Debug)]
pub(crate) struct Reporter {
    socket: OwnedFd,
    pid: i32,
}

impl Reporter {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, pid: 0 }
    }

    /// Reports the process that was made, and its terminal.
    pub(crate) fn made(&mut self, pid: i32, terminal: Option<OwnedFd>) -> Result<(), Error> {
        let report = Report { pid, error: None, terminal: terminal.is_some() };
        let fds: Vec<BorrowedFd<'_>> = terminal.iter().map(AsFd::as_fd).collect();
        self.send(&report, &fds).map_err(|e| Error::io("send the report", e))?;
        self.pid = pid;
        Ok(())
    }

    /// Reports a failure, with the PID if one was reported. A parent that has gone needs no report.
    pub(crate) fn failure(&mut self, failure: Failure) {
        let report = Report { pid: self.pid, error: Some(failure), terminal: false };
        let _ = self.send(&report, &[]);
    }

    fn send(&self, report: &Report, fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let bytes = report.encode_to_vec();
        sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
    }
}
