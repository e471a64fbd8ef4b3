//! Containers of a containerd shim: the binary's `start` and `delete`, and calls of the server that it leaves behind.
//!
//! The server is the pod's. It opens the container's stdio through this helper (`/proc/PID/fd`): pipes whose other ends
//! the monitor has. Where it listens is written into the bundle of the pod's first container before any container is made.
//! What [`keep`] waits for and the cgroup's own counters say what is to be known of a container; of the shim's events only
//! a container's want of memory is listened to ([`told`]).

pub(crate) mod keep;
mod resize;
mod start;
mod stdio;
mod told;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cricket_process::Pidfd;
use cricket_shim::{Bootstrap, Task};
use cricket_wire::helper::NO_PROCESS;
use cricket_wire::launch_config::{ShimAction, ShimConfig};

use crate::error::Error;
use crate::oci_cli::{blame, find_binary};
use crate::report::Reporter;
use keep::Duty;
use stdio::Streams;
use told::Told;

/// Everything else.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A shim that was told to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// SIGKILL.
const KILL: i32 = 9;

pub(crate) fn run(config: &ShimConfig, reporter: &mut Reporter) -> Result<(), Error> {
    let shim = Shim { config, binary: find_binary(&config.binary)?, events: told::events_path(&config.sandbox) };
    match &config.action {
        ShimAction::Run { terminal } => shim.create_and_start(*terminal, reporter),
        ShimAction::Exec { process, terminal } => shim.exec(process, *terminal, reporter),
        ShimAction::Kill { signal } => {
            let (_, mut task) = shim.connect()?;
            task.kill(&config.id, "", signal.unsigned_abs(), false).map_err(failed)?;
            reporter.made(NO_PROCESS, None)
        }
        ShimAction::Update { resources } => {
            let (_, mut task) = shim.connect()?;
            task.update(&config.id, resources).map_err(failed)?;
            reporter.made(NO_PROCESS, None)
        }
        ShimAction::Delete => {
            shim.delete()?;
            reporter.made(NO_PROCESS, None)
        }
    }
}

/// One container and its pod's shim.
struct Shim<'a> {
    config: &'a ShimConfig,
    binary: PathBuf,
    /// Where the shim's events are taken.
    events: Option<PathBuf>,
}

impl Shim<'_> {
    fn is_first(&self) -> bool {
        self.config.bundle == self.config.sandbox
    }

    fn create_and_start(&self, terminal: bool, reporter: &mut Reporter) -> Result<(), Error> {
        let made = (|| {
            let (shim, told) = if self.is_first() {
                self.start().map(|(shim, told)| (shim, Some(told)))?
            } else {
                (self.bootstrap()?, None)
            };
            let mut task = Task::connect(&shim).map_err(failed)?;
            let streams = Streams::of_this_process(terminal)?;
            task.create(&self.config.id, &self.config.bundle, streams.paths(), self.options()).map_err(failed)?;
            let duty = if told.is_some() { Duty::Pod } else { duty(&streams) };
            let mut keeper = self.keeper(keep::command(&shim, &self.config.id, "", duty), &streams, told.as_ref())?;
            let started = reporter
                .made(keeper.id().cast_signed(), streams.into_terminal())
                .and_then(|()| task.start(&self.config.id, "").map(drop).map_err(failed));
            if started.is_err() {
                let _ = keeper.kill();
            }
            started
        })();
        if made.is_err() {
            // The reason of the failure is worth more than that of this one.
            let _ = self.delete();
        }
        made
    }

    fn exec(&self, process: &str, terminal: bool, reporter: &mut Reporter) -> Result<(), Error> {
        let (shim, mut task) = self.connect()?;
        let streams = Streams::of_this_process(terminal)?;
        let (id, exec_id) = (&self.config.id, format!("exec-{}", token()?));
        task.exec(id, &exec_id, process, streams.paths()).map_err(failed)?;
        // Before the start: a command whose keeper is not there would be nobody's.
        let (told, mut tell) = std::io::pipe().map_err(|e| Error::io("make a pipe", e))?;
        let mut command = keep::command(&shim, id, &exec_id, duty(&streams));
        command.stderr(told);
        let mut keeper = self.keeper(command, &streams, None)?;
        let started = task.start(id, &exec_id).map_err(failed);
        if let Err(error) = started {
            let _ = keeper.kill();
            let _ = task.delete(id, &exec_id);
            return Err(error);
        }
        reporter.made(keeper.id().cast_signed(), streams.into_terminal())?;
        // What waits for it may have ended already.
        let _ = tell.write_all(&[1]);
        Ok(())
    }

    fn keeper(&self, mut keeper: Command, streams: &Streams, told: Option<&Told>) -> Result<Child, Error> {
        let failed = |e| Error::io("start what waits for the process", e);
        if let Some(told) = told {
            told.give_to(&mut keeper).map_err(failed)?;
        } else if let Some(input) = streams.input() {
            keeper.stdin(Stdio::inherit()).stdout(input.try_clone().map_err(failed)?);
        } else if let Some(terminal) = streams.terminal() {
            keeper.stdin(terminal.try_clone().map_err(failed)?);
        }
        keeper.spawn().map_err(failed)
    }

    fn connect(&self) -> Result<(Bootstrap, Task), Error> {
        let shim = self.bootstrap()?;
        let task = Task::connect(&shim).map_err(failed)?;
        Ok((shim, task))
    }

    fn delete(&self) -> Result<(), Error> {
        let id = &self.config.id;
        told::forget(&self.config.sandbox, id);
        let _log = told::hold_log(&self.config.sandbox);
        let connected = self.find().and_then(|shim| Ok((Task::connect(&shim).map_err(failed)?, shim)));
        let (mut task, shim) = match connected {
            Ok(connected) => connected,
            Err(_) => return self.clean_up(),
        };
        // Asked before the container is gone.
        let server = self.is_first().then(|| task.shim_pid(id).ok()).flatten();
        let server = server.and_then(|pid| Pidfd::open(i32::try_from(pid).ok()?).ok());
        let _ = task.kill(id, "", KILL.unsigned_abs(), true);
        let _ = task.wait(id, "", Some(TIMEOUT));
        match task.delete(id, "") {
            Err(e) if e.is_gone() => return self.clean_up(),
            Err(e) if !e.is_not_found() => return Err(failed(e)),
            _ => {}
        }
        if !self.is_first() {
            return Ok(());
        }
        let told = task.shutdown(id);
        match server {
            Some(server) if !server.wait(Some(END_TIMEOUT)).unwrap_or(true) => {
                let _ = server.send_signal(KILL);
            }
            Some(_) => {}
            None => told.map_err(failed)?,
        }
        remove_socket(&shim);
        Ok(())
    }
}

fn duty(streams: &Streams) -> Duty {
    match (streams.input(), streams.terminal()) {
        (Some(_), _) => Duty::Input,
        (None, Some(_)) => Duty::Terminal,
        (None, None) => Duty::Wait,
    }
}

/// Whose fault it is, as far as the runtime behind the shim says so.
fn failed(error: cricket_shim::Error) -> Error {
    match error {
        cricket_shim::Error::Status { .. } => blame(&error.to_string()),
        other => Error::host(other.to_string()),
    }
}

/// Shims that were killed leave it.
fn remove_socket(shim: &Bootstrap) {
    let path = shim.address.path();
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        let _ = fs::remove_file(path);
    }
}

/// A name that no other process of the container has.
fn token() -> Result<String, Error> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("make a name", e))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
