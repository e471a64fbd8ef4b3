//! Commands with streams: as ExecSync executes them, with a caller who reads and writes meanwhile.

use std::os::fd::OwnedFd;

use cricket_runtime::monitor::{ExecExit, ExecRequest, ExecStart, MonitorClient};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use super::io::{Input, Output, Over, Terminal};
use crate::error::{Error, Result};
use crate::exec::{DRAIN, Leaf, Stdio, not_executed, null, prepare};
use crate::pods::Pods;
use crate::shared::brief;

/// A command to execute with streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSession {
    /// Program and arguments.
    pub command: Vec<String>,
    /// In a terminal: standard output and error are one stream.
    pub tty: bool,
    /// With standard input; else it is empty.
    pub stdin: bool,
    /// With standard output; else it is discarded.
    pub stdout: bool,
    /// With standard error; else it is discarded. Not with a terminal.
    pub stderr: bool,
}

/// A command that runs. What the caller did not ask for is `None`.
#[derive(Debug)]
pub struct ExecProcess {
    /// Its standard input, or its terminal.
    pub stdin: Option<Input>,
    /// Its standard output, or its terminal. It ends soon after the command, also when a background child holds it.
    pub stdout: Option<Output>,
    /// Its standard error.
    pub stderr: Option<Output>,
    /// Its terminal, to be resized.
    pub terminal: Option<Terminal>,
    /// The command itself: dropped before its end, it is killed with all its children.
    pub exit: Exit,
}

/// How the command ends. Dropping this kills the command, and everything in its cgroup.
#[derive(Debug)]
pub struct Exit {
    outcome: Outcome,
    _task: Abort,
}

type Outcome = watch::Receiver<Option<Result<ExecExit>>>;

#[derive(Debug)]
struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Exit {
    /// Waits for the command's own end and answers its exit code: the status, or 128 + the signal. What it left in the
    /// background is not waited for. Can be called again.
    ///
    /// # Errors
    /// `FailedPrecondition` when the container ended before the command was started, `Internal` when the monitor
    /// was lost; the command is killed then.
    pub async fn wait(&mut self) -> Result<i32> {
        let exit = outcome(&mut self.outcome).await?;
        match &exit.failure {
            None => Ok(exit.exit_code),
            Some(failure) => not_executed(failure).map(|_| failure.shell_status),
        }
    }
}

async fn outcome(outcome: &mut Outcome) -> Result<ExecExit> {
    match outcome.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone().unwrap_or_else(|| Err(gone())),
        Err(_) => Err(gone()),
    }
}

fn gone() -> Error {
    Error::new(cricket_model::ErrorKind::Internal, "the exec was given up")
}

impl Pods {
    /// Executes a command in a running container with streams, and returns when it executes. It has no time limit.
    ///
    /// A command that cannot be executed is no error: it "ends" with 126 or 127, and the cause is on standard error
    /// (or the terminal), as a shell gives it.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition` when the container does not run, `InvalidArgument` for a session without command
    /// or streams, or with a terminal and standard error.
    pub async fn exec_session(&self, id: &str, session: ExecSession) -> Result<ExecProcess> {
        check(&session)?;
        let (pod, record) = self.container(id)?;
        let (_, live) = pod.running(&record.id)?;
        let monitor = self.monitor_of(&pod).await?;
        let shared = self.shared().clone();
        let short = record.id.short().to_owned();
        let (pipes, stdio) = Pipes::make(&session)?;
        let (command, record) = (session.command.clone(), record.clone());
        let (request, leaf) = brief("prepare the exec", move || {
            prepare(&shared, &pod.record.sandbox, &record, &live, &command, None, stdio)
        })
        .await?;
        let started = start(monitor, request, leaf).await;
        let wrap =
            |e: Error| Error::new(cricket_model::Kinded::kind(&e), format_args!("exec in container {short}: {e}"));
        started.and_then(|(started, exit)| pipes.process(&session, started, exit)).map_err(wrap)
    }
}

fn check(session: &ExecSession) -> Result<()> {
    if session.command.is_empty() {
        return Err(Error::invalid("cmd is empty"));
    }
    check_streams(session.tty, session.stdin, session.stdout, session.stderr)
}

/// The rules of the CRI for ExecRequest and AttachRequest.
pub(super) fn check_streams(tty: bool, stdin: bool, stdout: bool, stderr: bool) -> Result<()> {
    match (tty && stderr, stdin || stdout || stderr) {
        (true, _) => Err(Error::invalid("tty and stderr cannot both be true")),
        (_, false) => Err(Error::invalid("one of stdin, stdout and stderr must be true")),
        _ => Ok(()),
    }
}

/// A command under way, or one that could not be executed and what there is to say of it.
enum Start {
    Running(Option<OwnedFd>),
    Never(String),
}

async fn start(monitor: MonitorClient, mut request: ExecRequest, leaf: Leaf) -> Result<(Start, Exit)> {
    let (tell, started) = oneshot::channel::<ExecStart>();
    request.started = Some(tell);
    let (send, receive) = watch::channel(None);
    let task = tokio::spawn(async move {
        let ended = monitor.exec(request).await.map_err(|e| Error::monitor(&e));
        if ended.is_ok() {
            // What the command left in the background lives on, as after any shell, and ends with the container.
            leaf.leave();
        }
        let _ = send.send(Some(ended));
    });
    let mut exit = Exit { outcome: receive, _task: Abort(task.abort_handle()) };
    if let Ok(started) = started.await {
        return Ok((Start::Running(started.terminal), exit));
    }
    match outcome(&mut exit.outcome).await?.failure {
        Some(failure) => Ok((Start::Never(not_executed(&failure)?), exit)),
        // Killed before it was started.
        None => Ok((Start::Never(String::new()), exit)),
    }
}

/// The caller's ends.
struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Pipes {
    fn make(session: &ExecSession) -> Result<(Self, Stdio)> {
        let plain = !session.tty;
        let output = |wanted: bool| -> Result<(Option<OwnedFd>, OwnedFd)> {
            if wanted && plain {
                let (ours, theirs) = crate::pipe::pair()?;
                return Ok((Some(ours), theirs));
            }
            Ok((None, null()?))
        };
        let (stdin, their_stdin) = match session.stdin && plain {
            true => super::attach::input_pair().map(|(theirs, ours)| (Some(ours), theirs))?,
            false => (None, null()?),
        };
        let (stdout, their_stdout) = output(session.stdout)?;
        let (stderr, their_stderr) = output(session.stderr)?;
        let stdio = Stdio { tty: session.tty, stdin: their_stdin, stdout: their_stdout, stderr: their_stderr };
        Ok((Self { stdin, stdout, stderr }, stdio))
    }

    fn process(self, session: &ExecSession, start: Start, exit: Exit) -> Result<ExecProcess> {
        let mut process = ExecProcess { stdin: None, stdout: None, stderr: None, terminal: None, exit };
        let over = || drained(process.exit.outcome.clone());
        match start {
            Start::Never(mut text) => {
                process.stdin = self.stdin.map(Input::new).transpose()?;
                if session.tty {
                    text = text.replace('\n', "\r\n");
                }
                process.stdout = session.stdout.then(String::new).map(Output::text);
                let place = if session.tty { &mut process.stdout } else { &mut process.stderr };
                if session.tty && session.stdout || session.stderr {
                    *place = Some(Output::text(text));
                }
            }
            Start::Running(None) if session.tty => {
                return Err(Error::new(cricket_model::ErrorKind::Internal, "the command's terminal did not arrive"));
            }
            Start::Running(Some(master)) if session.tty => {
                let duplicate = || master.try_clone().map_err(|e| Error::internal("duplicate the terminal", &e));
                process.stdin = session.stdin.then(|| Input::new(duplicate()?)).transpose()?;
                process.stdout = session.stdout.then(|| Output::terminal(duplicate()?, over())).transpose()?;
                process.terminal = Some(Terminal::new(master));
            }
            Start::Running(_) => {
                process.stdin = self.stdin.map(Input::new).transpose()?;
                process.stdout = self.stdout.map(|fd| Output::pipe(fd, Some(over()))).transpose()?;
                process.stderr = self.stderr.map(|fd| Output::pipe(fd, Some(over()))).transpose()?;
            }
        }
        Ok(process)
    }
}

/// Completes a while after the command's end: background children may hold its output for ever.
fn drained(mut outcome: Outcome) -> Over {
    Box::pin(async move {
        // An error: the command was given up, which is an end as well.
        let _ = outcome.wait_for(Option::is_some).await;
        tokio::time::sleep(DRAIN).await;
    })
}
