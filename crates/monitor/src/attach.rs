//! Sessions on containers' stdio: begun here, served by the log thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cricket_wire::{Attach, Code, DetachReason, Detached, Empty, ResponseKind, Stream};

use crate::containers::{Container, State};
use crate::log::{Command, NewSession};
use crate::requests::{Answer, Refusal, host, invalid};
use crate::supervisor::Supervisor;

/// Sessions of one container at the same time: each has up to three descriptors here.
const MAX_SESSIONS: u32 = 64;

impl Supervisor {
    pub(crate) fn attach(&mut self, client: u64, request: u64, attach: &Attach, fds: Vec<OwnedFd>) -> Answer {
        let key = self.find(&attach.container_id)?;
        let ticket = self.next();
        let container = self.containers.get_mut(&key).filter(|c| matches!(c.state, State::Running { .. }));
        let Some(container) = container.filter(|container| container.has_output) else {
            return Err((Code::Conflict, format!("container {} is not running", attach.container_id)));
        };
        if container.sessions >= MAX_SESSIONS {
            return Err((Code::Exhausted, format!("container {} has {MAX_SESSIONS} sessions", attach.container_id)));
        }
        let mut session = streams(attach, fds)?;
        session.ticket = ticket;
        if session.stdin.is_some() {
            session.target = container.input().map_err(host("use the container's standard input"))?;
        }
        let once = session.target.as_ref().is_some_and(|(_, once)| *once);
        self.logs.send(Command::Attach { key, session: Box::new(session) }).map_err(host("wake the log thread"))?;
        container.sessions += 1;
        container.stdin_claimed |= once;
        self.tickets.insert(ticket, (client, request));
        Ok(Some((ResponseKind::Attached(Empty {}), vec![])))
    }

    /// A session is over.
    pub(crate) fn detached(&mut self, key: u64, ticket: u64, reason: DetachReason) {
        if let Some(container) = self.containers.get_mut(&key) {
            container.sessions = container.sessions.saturating_sub(1);
        }
        if let Some((client, request)) = self.tickets.remove(&ticket) {
            let detached = Detached { reason: reason.into() };
            self.answer(client, request, ResponseKind::Detached(detached), vec![]);
        }
    }

    /// A container's standard input has ended. A terminal is kept: it is the output as well.
    pub(crate) fn input_ended(&mut self, key: u64) {
        if let Some(container) = self.containers.get_mut(&key) {
            container.stdio.retain(|(stream, _)| *stream != Stream::Stdin);
        }
    }
}

impl Container {
    /// What sessions write to, and whether it ends with one of them. A terminal never does: it has no end but the
    /// container's.
    fn input(&self) -> std::io::Result<Option<(Arc<OwnedFd>, bool)>> {
        let wanted = if self.run.tty { Stream::Terminal } else { Stream::Stdin };
        let found = self.stdio.iter().find(|(stream, _)| *stream == wanted && self.run.stdin);
        let Some((_, fd)) = found else { return Ok(None) };
        if self.run.tty {
            // A descriptor of its own, for it is waited for apart from the output.
            return Ok(Some((Arc::new(fd.try_clone()?), false)));
        }
        Ok(Some((fd.clone(), self.run.stdin_once)))
    }
}

/// The descriptors of a session, none of which blocks.
fn streams(attach: &Attach, fds: Vec<OwnedFd>) -> Result<NewSession, Refusal> {
    let wanted: Vec<Stream> = attach.streams().collect();
    if wanted.is_empty() || wanted.len() != fds.len() {
        return Err(invalid(format!("{} streams for {} descriptors", wanted.len(), fds.len())));
    }
    let mut session = NewSession { ticket: 0, stdin: None, outputs: [None, None], target: None };
    for (stream, fd) in wanted.into_iter().zip(fds) {
        rustix::io::ioctl_fionbio(&fd, true).map_err(|error| host("use a session's streams")(error.into()))?;
        let [stdout, stderr] = &mut session.outputs;
        let slot = match stream {
            Stream::Stdin => &mut session.stdin,
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
            Stream::Terminal => return Err(invalid("a session has no terminal of its own")),
        };
        if slot.replace(fd).is_some() {
            return Err(invalid("a stream is given twice"));
        }
    }
    Ok(session)
}
