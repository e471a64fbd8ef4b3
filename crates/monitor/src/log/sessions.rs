//! Sessions that are attached to one container: its output goes to each, what each sends goes to its standard input.
//!
//! A session ends when both its input and its outputs have: when the container's output has ended and was taken, when
//! the session's own side is closed, when it is stuck, or with its input where that is not for one session only
//! (as in other runtimes: a client whose input has ended has nothing more to say and leaves).
//!
//! Nothing is allocated here while nobody is attached.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use cricket_wire::DetachReason;
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::input::Input;
use super::outlet::{Lost, Outlet};
use super::poll::Polled;

/// Reads from sessions in one go before others have their turn.
const ROUNDS: usize = 8;

/// A session that begins.
#[derive(Debug)]
pub(crate) struct NewSession {
    /// Names it in notes.
    pub(crate) ticket: u64,
    /// Reading end of the session's input.
    pub(crate) stdin: Option<OwnedFd>,
    /// Writing ends for standard output and standard error.
    pub(crate) outputs: [Option<OwnedFd>; 2],
    /// The container's standard input, if it has one, and whether it ends with this session.
    pub(crate) target: Option<(Arc<OwnedFd>, bool)>,
}

struct Session {
    ticket: u64,
    stdin: Option<Polled>,
    outlets: [Option<Outlet>; 2],
    /// It ends when it has taken what is kept for it.
    leaving: Option<DetachReason>,
}

impl Session {
    fn is_over(&self) -> bool {
        self.stdin.is_none() && self.outlets.iter().all(Option::is_none)
    }

    fn lose(&mut self, index: usize, lost: &Lost) {
        self.outlets[index] = None;
        if let Lost::Stuck = lost {
            self.leaving = Some(DetachReason::Stuck);
            self.outlets = [None, None];
        }
    }
}

/// What the main thread has to be told of.
#[derive(Default)]
pub(super) struct Told {
    /// Sessions that are over, and why.
    pub(super) detached: Vec<(u64, DetachReason)>,
    /// The container's standard input is to be closed.
    pub(super) input_ended: bool,
}

/// All sessions of a container.
#[derive(Default)]
pub(super) struct Sessions {
    list: Vec<Session>,
    input: Option<Box<Input>>,
    /// The container's standard input is closed, for whoever comes later as well.
    input_ended: bool,
}

impl Sessions {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Attaches one more. `token` names the container in the epoll set.
    pub(super) fn add(&mut self, new: NewSession, epoll: &Arc<OwnedFd>, token: u64, now: Instant) {
        let polled = |fd: OwnedFd| Polled::new(Arc::new(fd), epoll.clone(), token);
        // Where there is no input to be given, the session's is closed, which its writer sees.
        let target = new.target.filter(|_| !self.input_ended);
        let stdin = new.stdin.filter(|_| target.is_some()).map(polled);
        if let (Some((fd, once)), None) = (target, &self.input) {
            self.input = Some(Box::new(Input::new(fd, once, epoll.clone(), token)));
        }
        let outlets = new.outputs.map(|fd| fd.map(|fd| Outlet::new(polled(fd), now)));
        self.list.push(Session { ticket: new.ticket, stdin, outlets, leaving: None });
    }

    /// A session has still to take output of this stream: the container waits.
    pub(super) fn hold(&self, stderr: bool) -> bool {
        let waits = |session: &Session| session.outlets[usize::from(stderr)].as_ref().is_some_and(Outlet::is_behind);
        self.list.iter().any(|session| session.leaving.is_none() && waits(session))
    }

    /// Passes output of the container on.
    pub(super) fn share(&mut self, stderr: bool, bytes: &[u8], now: Instant) {
        let index = usize::from(stderr);
        for session in &mut self.list {
            if let Some(outlet) = session.outlets[index].as_mut().filter(|_| session.leaving.is_none())
                && let Err(lost) = outlet.push(bytes, now)
            {
                session.lose(index, &lost);
            }
        }
    }

    /// The container has ended, and all of its output was shared.
    pub(super) fn end(&mut self) {
        self.close_input();
        for session in &mut self.list {
            session.leaving = session.leaving.or(Some(DetachReason::Ended));
        }
    }

    /// No session can write any more; their outputs go on.
    pub(super) fn close_input(&mut self) {
        self.input = None;
        self.input_ended = true;
        for session in &mut self.list {
            session.stdin = None;
        }
    }

    /// Moves what there is; `scratch` is for reading.
    pub(super) fn pump(&mut self, scratch: &mut [u8], now: Instant) -> Told {
        let mut told = Told::default();
        if self.list.is_empty() {
            return told;
        }
        self.drop_closed();
        for session in &mut self.list {
            for index in 0..2 {
                if let Some(Err(lost)) = session.outlets[index].as_mut().map(|outlet| outlet.flush(now)) {
                    session.lose(index, &lost);
                }
            }
        }
        self.pump_input(scratch, &mut told);
        self.remove_over(&mut told);
        told
    }

    /// Lets the outlets go whose readers are gone, which a pipe tells without being written to.
    fn drop_closed(&mut self) {
        let slots: Vec<(usize, usize)> = (0..self.list.len()).flat_map(|n| [(n, 0), (n, 1)]).collect();
        let open = |(n, index): &(usize, usize)| self.list[*n].outlets[*index].as_ref();
        let slots: Vec<_> = slots.iter().filter(|slot| open(slot).is_some()).copied().collect();
        let fds = slots.iter().filter_map(open);
        let mut fds: Vec<PollFd<'_>> = fds.map(|outlet| PollFd::new(outlet.pipe().fd(), PollFlags::empty())).collect();
        if poll(&mut fds, Some(&Timespec::default())).is_err() {
            return;
        }
        let gone: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        for ((n, index), _) in slots.into_iter().zip(gone).filter(|(_, gone)| *gone) {
            self.list[n].outlets[index] = None;
        }
    }

    fn pump_input(&mut self, scratch: &mut [u8], told: &mut Told) {
        for _ in 0..ROUNDS {
            let Some(input) = &mut self.input else { return };
            if input.flush().is_err() {
                return self.input_refused(told);
            }
            let mut idle = true;
            for n in 0..self.list.len() {
                let Some(input) = self.input.as_mut().filter(|input| !input.is_full()) else { return };
                let Some(stdin) = &self.list[n].stdin else { continue };
                match rustix::io::read(stdin.fd(), &mut *scratch) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Ok(count @ 1..) => {
                        idle = false;
                        if input.push(&scratch[..count]).is_err() {
                            return self.input_refused(told);
                        }
                    }
                    Ok(_) | Err(_) => self.session_input_ended(n, told),
                }
            }
            if idle {
                return;
            }
        }
    }

    fn session_input_ended(&mut self, n: usize, told: &mut Told) {
        self.list[n].stdin = None;
        if self.input.as_ref().is_some_and(|input| input.once) {
            self.close_input();
            told.input_ended = true;
        } else {
            self.list[n].leaving.get_or_insert(DetachReason::InputEnded);
        }
    }

    /// The container has closed its standard input, or its terminal is gone.
    fn input_refused(&mut self, told: &mut Told) {
        self.close_input();
        told.input_ended = true;
    }

    fn remove_over(&mut self, told: &mut Told) {
        for n in 0..self.list.len() {
            let session = &mut self.list[n];
            let Some(reason) = session.leaving else { continue };
            for outlet in &mut session.outlets {
                if !outlet.as_ref().is_some_and(Outlet::is_behind) {
                    *outlet = None;
                }
            }
            let had_input = session.stdin.take().is_some();
            if reason == DetachReason::Stuck && had_input && self.input.as_ref().is_some_and(|input| input.once) {
                self.close_input();
                told.input_ended = true;
            }
        }
        let detached = self.list.extract_if(.., |session| session.is_over());
        told.detached.extend(detached.map(|s| (s.ticket, s.leaving.unwrap_or(DetachReason::Closed))));
        if self.list.is_empty() {
            *self = Self { input_ended: self.input_ended, ..Self::default() };
        }
    }

    /// Waits for exactly what can be gone on with.
    pub(super) fn watch(&mut self) {
        let full = self.input.as_ref().is_none_or(|input| input.is_full());
        for session in &mut self.list {
            if let Some(stdin) = &mut session.stdin {
                stdin.wait_for((!full).then_some(EventFlags::IN));
            }
            session.outlets.iter_mut().flatten().for_each(Outlet::watch);
        }
        if let Some(input) = &mut self.input {
            input.watch();
        }
    }

    /// When a session will have been too slow.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.list.iter().flat_map(|session| session.outlets.iter().flatten()).filter_map(Outlet::deadline).min()
    }
}
