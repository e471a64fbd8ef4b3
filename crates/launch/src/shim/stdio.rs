//! A process's stdio as paths for a shim: descriptors of this helper, which has to live until they are opened.

use std::os::fd::{AsRawFd as _, OwnedFd};

use cricket_shim::Stdio;
use rustix::fs::{FileType, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;

use crate::error::Error;

/// What a shim is given, and the ends that are not the shim's.
pub(super) struct Streams {
    paths: Stdio,
    /// Both ends of the pipe for the input: the shim's is opened through this process.
    input: Option<(OwnedFd, OwnedFd)>,
    /// The master, and the other end, which would be gone before the shim opens it.
    terminal: Option<(OwnedFd, OwnedFd)>,
}

impl Streams {
    /// Out of descriptors 0–2: those that are pipes. With a terminal a second one is put before the container's: it passes
    /// everything on as it comes.
    pub(super) fn of_this_process(terminal: bool) -> Result<Self, Error> {
        if terminal {
            return Self::with_terminal().map_err(|e| Error::io("make a terminal", e));
        }
        let path = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
        let is_pipe = |fd: i32| {
            let meta = rustix::fs::stat(path(fd));
            meta.is_ok_and(|meta| FileType::from_raw_mode(meta.st_mode) == FileType::Fifo)
        };
        let output = |fd: i32| if is_pipe(fd) { path(fd) } else { String::new() };
        let input = is_pipe(0).then(|| pipe_with(PipeFlags::CLOEXEC)).transpose();
        let input = input.map_err(|e| Error::io("make a pipe", e))?;
        let stdin = input.as_ref().map(|(shims, _)| path(shims.as_raw_fd())).unwrap_or_default();
        let paths = Stdio { terminal, stdin, stdout: output(1), stderr: output(2) };
        Ok(Self { paths, input, terminal: None })
    }

    fn with_terminal() -> rustix::io::Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&name, flags, rustix::fs::Mode::empty())?;
        let mut settings = rustix::termios::tcgetattr(&slave)?;
        settings.make_raw();
        rustix::termios::tcsetattr(&slave, OptionalActions::Now, &settings)?;
        let name = name.to_string_lossy().into_owned();
        let paths = Stdio { terminal: true, stdin: name.clone(), stdout: name, stderr: String::new() };
        Ok(Self { paths, input: None, terminal: Some((master, slave)) })
    }

    pub(super) fn paths(&self) -> Stdio {
        self.paths.clone()
    }

    /// Where what comes from descriptor 0 is to be passed on to.
    pub(super) fn input(&self) -> Option<&OwnedFd> {
        self.input.as_ref().map(|(_, ours)| ours)
    }

    /// The shim's side of the terminal.
    pub(super) fn terminal(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref().map(|(_, shims)| shims)
    }

    /// The terminal's master; nothing is kept open for the shim any more.
    pub(super) fn into_terminal(self) -> Option<OwnedFd> {
        self.terminal.map(|(master, _)| master)
    }
}
