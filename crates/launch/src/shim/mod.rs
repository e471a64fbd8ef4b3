//! Containers of a containerd shim: the binary's `start` and `delete`, and calls of the server that it leaves behind.
//!
//! The server is the pod's. It opens the container's stdio through this helper (`/proc/PID/fd`): pipes whose other ends
//! the monitor has. Where it listens is written into the bundle of the pod's first container before any container is made.
//! It publishes no events: what [`keep`] waits for and the cgroup's own counters say what is to be known.

pub(crate) mod keep;
mod resize;
mod stdio;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cricket_process::Pidfd;
use cricket_shim::messages::{Any, RuncOptions, RuntimeOptions};
use cricket_shim::{Bootstrap, MAX_ANSWER, Place, Task};
use cricket_wire::helper::NO_PROCESS;
use cricket_wire::launch_config::{SYSTEM_PATH, ShimAction, ShimConfig, ShimOptions};

use crate::command::wait;
use crate::error::Error;
use crate::oci_cli::{blame, find_binary};
use crate::report::Reporter;
use keep::Duty;
use stdio::Streams;

/// containerd's namespace of all that Kubernetes runs; shims know it by this name.
const NAMESPACE: &str = "k8s.io";
/// Where the shim listens, in the bundle of the pod's first container.
const BOOTSTRAP: &str = "shim.json";
/// Newest version of the task service that is spoken.
const MAX_VERSION: &str = "3";
/// `start` boots what a sandbox is.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Everything else.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A shim that was told to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// SIGKILL.
const KILL: i32 = 9;

pub(crate) fn run(config: &ShimConfig, reporter: &mut Reporter) -> Result<(), Error> {
    let shim = Shim { config, binary: find_binary(&config.binary)? };
    match &config.action {
        ShimAction::Run { terminal } => shim.create_and_start(*terminal, reporter),
        ShimAction::Exec { process, terminal } => shim.exec(process, *terminal, reporter),
        ShimAction::Kill { signal } => {
            let (_, mut task) = shim.connect()?;
            task.kill(&config.id, "", signal.unsigned_abs(), false).map_err(failed)?;
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
}

impl Shim<'_> {
    fn is_first(&self) -> bool {
        self.config.bundle == self.config.sandbox
    }

    fn create_and_start(&self, terminal: bool, reporter: &mut Reporter) -> Result<(), Error> {
        let made = (|| {
            let shim = if self.is_first() { self.start_shim()? } else { self.bootstrap()? };
            let mut task = Task::connect(&shim).map_err(failed)?;
            let streams = Streams::of_this_process(terminal)?;
            task.create(&self.config.id, &self.config.bundle, streams.paths(), self.options()).map_err(failed)?;
            let mut keeper = self.keeper(keep::command(&shim, &self.config.id, "", duty(&streams)), &streams)?;
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
        let mut keeper = self.keeper(command, &streams)?;
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

    fn keeper(&self, mut keeper: Command, streams: &Streams) -> Result<Child, Error> {
        let failed = |e| Error::io("start what waits for the process", e);
        if let Some(input) = streams.input() {
            keeper.stdin(Stdio::inherit()).stdout(input.try_clone().map_err(failed)?);
        }
        if let Some(terminal) = streams.terminal() {
            keeper.stdin(terminal.try_clone().map_err(failed)?);
        }
        keeper.spawn().map_err(failed)
    }

    /// Runs `start`, and keeps what it answers.
    fn start_shim(&self) -> Result<Bootstrap, Error> {
        let bundle = &self.config.bundle;
        let io = |e: std::io::Error| Error::io(format!("prepare {} for a shim", bundle.display()), e);
        // Shims write their log there; containerd has a FIFO in its place, which would have to be read.
        File::create(bundle.join("log")).map_err(io)?;
        let (mut answer, mut complaint) = (memory("answer").map_err(io)?, memory("complaint").map_err(io)?);
        let mut start = self.with_environment(self.place().start());
        start.stdin(self.input().map_err(io)?);
        start.stdout(answer.try_clone().map_err(io)?).stderr(complaint.try_clone().map_err(io)?);
        let name = self.binary.display();
        match wait(start, START_TIMEOUT).map_err(|e| Error::io(format!("run {name}"), e))? {
            Some(status) if status.success() => {}
            Some(status) => {
                let said = read_back(&mut complaint).map_err(io)?;
                let said = String::from_utf8_lossy(&said);
                return Err(Error::host(format!("{name} start: {status}: {}", said.trim())));
            }
            None => {
                return Err(Error::host(format!("{name} start: not done in {} s, killed", START_TIMEOUT.as_secs())));
            }
        }
        let shim = Bootstrap::parse(&read_back(&mut answer).map_err(io)?).map_err(failed)?;
        fs::write(bundle.join(BOOTSTRAP), shim.to_json()).map_err(io)?;
        Ok(shim)
    }

    fn input(&self) -> std::io::Result<Stdio> {
        let mut file = memory("input")?;
        file.write_all(&self.place().input(self.options()))?;
        std::io::Seek::rewind(&mut file)?;
        Ok(file.into())
    }

    fn bootstrap(&self) -> Result<Bootstrap, Error> {
        let path = self.config.sandbox.join(BOOTSTRAP);
        let answer = fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
        Bootstrap::parse(&answer).map_err(failed)
    }

    fn connect(&self) -> Result<(Bootstrap, Task), Error> {
        let shim = self.bootstrap()?;
        let task = Task::connect(&shim).map_err(failed)?;
        Ok((shim, task))
    }

    fn delete(&self) -> Result<(), Error> {
        let id = &self.config.id;
        let (shim, mut task) = match self.connect() {
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

    /// Runs `delete`: the shim does not answer.
    fn clean_up(&self) -> Result<(), Error> {
        let name = self.binary.display();
        let io = |e| Error::io(format!("run {name}"), e);
        let mut complaint = memory("complaint").map_err(io)?;
        let mut delete = self.with_environment(self.place().delete());
        // Shims look for the bundle beside their working directory, under the container's ID.
        let named = self.config.bundle.with_file_name(&self.config.id);
        if named != self.config.bundle {
            match std::os::unix::fs::symlink(&self.config.bundle, &named) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(e)),
                _ => delete.current_dir(&named).env("PWD", &named),
            };
        }
        delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaint.try_clone().map_err(io)?);
        let ended = wait(delete, TIMEOUT).map_err(io)?;
        let said = read_back(&mut complaint).map_err(io)?;
        let said = String::from_utf8_lossy(&said);
        match ended {
            Some(status) if status.success() => {}
            Some(status) => return Err(Error::host(format!("{name} delete: {status}: {}", said.trim()))),
            None => return Err(Error::host(format!("{name} delete: not done in {} s, killed", TIMEOUT.as_secs()))),
        }
        if self.is_first()
            && let Ok(shim) = self.bootstrap()
        {
            remove_socket(&shim);
        }
        Ok(())
    }

    fn place(&self) -> Place<'_> {
        Place {
            binary: self.binary.as_os_str(),
            namespace: NAMESPACE,
            address: &self.config.address,
            publish: "/bin/true".as_ref(),
            id: &self.config.id,
            bundle: &self.config.bundle,
        }
    }

    fn with_environment(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", SYSTEM_PATH.join(":")).env("MAX_SHIM_VERSION", MAX_VERSION);
        command
    }

    fn options(&self) -> Option<Any> {
        match &self.config.options {
            ShimOptions::None => None,
            ShimOptions::Runc { binary, root } => Some(Any::runc(&RuncOptions {
                binary_name: binary.clone(),
                root: root.display().to_string(),
                systemd_cgroup: false,
            })),
            ShimOptions::Runtime { type_url, path, body } => Some(Any::runtime(&RuntimeOptions {
                type_url: type_url.clone(),
                config_path: path.clone(),
                config_body: body.clone().into_bytes(),
            })),
        }
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

fn memory(name: &str) -> std::io::Result<File> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

/// What a command wrote, as far as it is read.
fn read_back(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Seek::rewind(file)?;
    file.take(MAX_ANSWER as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
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
