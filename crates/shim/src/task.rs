//! The task service of a shim.

use std::path::Path;
use std::time::Duration;

use crate::bootstrap::Bootstrap;
use crate::error::{Error, Result};
use crate::messages::{
    Any, CloseIoRequest, ConnectRequest, ConnectResponse, CreateRequest, DeleteResponse, Empty, ExecRequest,
    KillRequest, PidResponse, ProcessRequest, ResizeRequest, ShutdownRequest, StateResponse, StatsRequest,
    StatsResponse, UpdateRequest, WaitResponse,
};
use crate::ttrpc::Client;
use crate::usage::Usage;

/// Making and starting mounts things, runs hooks, boots machines.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);
/// Everything else.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A shim that does not even accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a process reads and writes: paths of FIFOs that the shim opens; empty ones are not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// It has a terminal: stdin and stdout are its, and there is no stderr.
    pub terminal: bool,
    /// Path that is read.
    pub stdin: String,
    /// Path that is written.
    pub stdout: String,
    /// Path that is written.
    pub stderr: String,
}

/// A connection to a shim's task service; one call at a time. Processes are named by the container's ID and their own,
/// which is empty for the container's init.
#[derive(Debug)]
pub struct Task(Client);

impl Task {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there; when nobody accepts within five seconds, which is not to be gone.
    pub fn connect(bootstrap: &Bootstrap) -> Result<Self> {
        Self::connect_within(bootstrap, CONNECT_TIMEOUT)
    }

    /// The same with another limit.
    ///
    /// # Errors
    /// As for [`Self::connect`].
    pub fn connect_within(bootstrap: &Bootstrap, limit: Duration) -> Result<Self> {
        let service = if bootstrap.version == 3 { "containerd.task.v3.Task" } else { "containerd.task.v2.Task" };
        Ok(Self(Client::connect(&bootstrap.address, service, limit)?))
    }

    /// Makes a container, and tells its PID.
    ///
    /// # Errors
    /// What the shim says.
    pub fn create(&mut self, id: &str, bundle: &Path, stdio: Stdio, options: Option<Any>) -> Result<u32> {
        let bundle = bundle.to_str().ok_or_else(|| Error::Protocol(format!("{}: not text", bundle.display())))?;
        let Stdio { terminal, stdin, stdout, stderr } = stdio;
        let (id, bundle) = (id.to_owned(), bundle.to_owned());
        let request = CreateRequest { id, bundle, terminal, stdin, stdout, stderr, options };
        Ok(self.0.call::<PidResponse>("Create", &request, Some(RUN_TIMEOUT))?.pid)
    }

    /// Adds a process, given as JSON, to a running container.
    ///
    /// # Errors
    /// What the shim says.
    pub fn exec(&mut self, id: &str, exec_id: &str, process: &str, stdio: Stdio) -> Result<()> {
        let Stdio { terminal, stdin, stdout, stderr } = stdio;
        let (id, exec_id, spec) = (id.to_owned(), exec_id.to_owned(), Some(Any::process(process)));
        let request = ExecRequest { id, exec_id, terminal, stdin, stdout, stderr, spec };
        self.0.call::<Empty>("Exec", &request, Some(TIMEOUT)).map(drop)
    }

    /// Starts what was made, and tells its PID.
    ///
    /// # Errors
    /// What the shim says.
    pub fn start(&mut self, id: &str, exec_id: &str) -> Result<u32> {
        Ok(self.0.call::<PidResponse>("Start", &process(id, exec_id), Some(RUN_TIMEOUT))?.pid)
    }

    /// Tells how far a process is.
    ///
    /// # Errors
    /// What the shim says.
    pub fn state(&mut self, id: &str, exec_id: &str) -> Result<StateResponse> {
        self.0.call("State", &process(id, exec_id), Some(TIMEOUT))
    }

    /// Waits for a process to end, without a limit unless there is one, and tells its status.
    ///
    /// # Errors
    /// What the shim says; its end.
    pub fn wait(&mut self, id: &str, exec_id: &str, limit: Option<Duration>) -> Result<u32> {
        Ok(self.0.call::<WaitResponse>("Wait", &process(id, exec_id), limit)?.exit_status)
    }

    /// Signals a process, or with `all` every one of the container.
    ///
    /// # Errors
    /// What the shim says.
    pub fn kill(&mut self, id: &str, exec_id: &str, signal: u32, all: bool) -> Result<()> {
        let request = KillRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), signal, all };
        self.0.call::<Empty>("Kill", &request, Some(TIMEOUT)).map(drop)
    }

    /// Deletes a process that has ended, and tells its status.
    ///
    /// # Errors
    /// What the shim says.
    pub fn delete(&mut self, id: &str, exec_id: &str) -> Result<u32> {
        Ok(self.0.call::<DeleteResponse>("Delete", &process(id, exec_id), Some(TIMEOUT))?.exit_status)
    }

    /// Ends a process's input.
    ///
    /// # Errors
    /// What the shim says.
    pub fn close_stdin(&mut self, id: &str, exec_id: &str) -> Result<()> {
        let request = CloseIoRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), stdin: true };
        self.0.call::<Empty>("CloseIO", &request, Some(TIMEOUT)).map(drop)
    }

    /// Resizes a process's terminal.
    ///
    /// # Errors
    /// What the shim says.
    pub fn resize(&mut self, id: &str, exec_id: &str, width: u16, height: u16) -> Result<()> {
        let (width, height) = (u32::from(width), u32::from(height));
        let request = ResizeRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), width, height };
        self.0.call::<Empty>("ResizePty", &request, Some(TIMEOUT)).map(drop)
    }

    /// Changes a container's limits, given as JSON.
    ///
    /// # Errors
    /// What the shim says.
    pub fn update(&mut self, id: &str, resources: &str) -> Result<()> {
        let request = UpdateRequest { id: id.to_owned(), resources: Some(Any::resources(resources)) };
        self.0.call::<Empty>("Update", &request, Some(TIMEOUT)).map(drop)
    }

    /// Tells what a container has used.
    ///
    /// # Errors
    /// What the shim says; when its figures are of a kind that is not known.
    pub fn usage(&mut self, id: &str, limit: Duration) -> Result<Usage> {
        let request = StatsRequest { id: id.to_owned() };
        let answer: StatsResponse = self.0.call("Stats", &request, Some(limit))?;
        Usage::of(answer.stats.as_ref())
    }

    /// Tells who serves the container: the shim's PID.
    ///
    /// # Errors
    /// What the shim says.
    pub fn shim_pid(&mut self, id: &str) -> Result<u32> {
        let request = ConnectRequest { id: id.to_owned() };
        Ok(self.0.call::<ConnectResponse>("Connect", &request, Some(TIMEOUT))?.shim_pid)
    }

    /// Ends the shim, if it has no container any more: it may end without an answer.
    ///
    /// # Errors
    /// What the shim says.
    pub fn shutdown(&mut self, id: &str) -> Result<()> {
        let request = ShutdownRequest { id: id.to_owned(), now: true };
        match self.0.call::<Empty>("Shutdown", &request, Some(TIMEOUT)) {
            Err(e) if e.is_gone() => Ok(()),
            answer => answer.map(drop),
        }
    }
}

fn process(id: &str, exec_id: &str) -> ProcessRequest {
    ProcessRequest { id: id.to_owned(), exec_id: exec_id.to_owned() }
}
