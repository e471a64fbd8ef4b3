//! One run of one plugin program: bounded in time and output, in a process group of its own.
//!
//! The group is killed as long as its leader has not been reaped, so its number cannot belong to anybody else:
//! at the timeout, when output exceeds its bound, when the plugin fails, and when the caller gives up (drop).
//! What a plugin that succeeded leaves running is left alone: some start helpers. It is reaped a moment after its answer
//! has gone on its way.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::PluginError;
use crate::error::printable;

/// Most bytes a plugin may print.
const MAX_STDOUT: usize = 1 << 20;
/// How much of the end of its messages is kept.
const MAX_STDERR: usize = 64 << 10;
/// How long output is awaited after the plugin has ended, when a process it left holds the pipe open.
const LINGER: Duration = Duration::from_secs(1);
/// How long an ended plugin stays unreaped. Its end is seen while the last of its threads still takes its entries out of
/// `/proc`, and whoever reaps it then turns in circles until that thread has had a processor: tens of milliseconds on a
/// busy node, in which a thread of the daemon serves nobody.
const UNREAPED: Duration = Duration::from_millis(50);
/// How long the end of a killed plugin is awaited.
const REAP: Duration = Duration::from_secs(5);

/// Runs `program` and returns what it printed, if it succeeded.
pub(crate) async fn run(
    program: &Path,
    env: Vec<(&'static str, OsString)>,
    config: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, PluginError> {
    let mut group = Group::start(program, env).await?;
    let mut output = Output::default();
    let ended = tokio::time::timeout(timeout, group.follow(config, &mut output)).await;
    if !output.stderr.is_empty() {
        tracing::debug!(plugin = %program.display(), stderr = %printable(&String::from_utf8_lossy(&output.stderr), 2048));
    }
    match ended.unwrap_or(Err(PluginError::Timeout(timeout))) {
        Ok(status) if status.success() => {
            group.leave();
            Ok(output.stdout)
        }
        Ok(status) => {
            group.end().await;
            Err(failure(status, &output))
        }
        Err(e) => {
            group.end().await;
            Err(e)
        }
    }
}

/// The CNI error object that was printed, or else the end of what was.
fn failure(status: ExitStatus, output: &Output) -> PluginError {
    if let Some(e) = reported(&output.stdout) {
        return e;
    }
    let text = if output.stderr.iter().any(|b| !b.is_ascii_whitespace()) { &output.stderr } else { &output.stdout };
    let tail = &text[text.len().saturating_sub(2048)..];
    PluginError::Exit { status, output: printable(&String::from_utf8_lossy(tail), 2048) }
}

/// An error object (specification, section 5, "Error"): `code` is not 0.
pub(crate) fn reported(stdout: &[u8]) -> Option<PluginError> {
    let value: serde_json::Value = serde_json::from_slice(stdout).ok()?;
    let code = value.get("code")?.as_u64().filter(|c| *c != 0)?;
    let text = |key: &str| printable(value.get(key).and_then(|v| v.as_str()).unwrap_or_default(), 2048);
    Some(PluginError::Reported { code, msg: text("msg"), details: text("details") })
}

#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

struct Group {
    child: Child,
    pidfd: AsyncFd<OwnedFd>,
    /// It ended as it should: nothing is killed any more.
    left: bool,
}

impl Group {
    async fn start(program: &Path, env: Vec<(&'static str, OsString)>) -> Result<Self, PluginError> {
        let failed = |source| PluginError::Spawn { path: program.to_owned(), source };
        let mut command = Command::new(program);
        command.env_clear().envs(env).current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut attempts = 0u32;
        let child = loop {
            match command.spawn() {
                // The program is being installed, or a fork elsewhere still holds it open for writing.
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && attempts < 6 => {
                    tokio::time::sleep(Duration::from_millis(10 << attempts)).await;
                    attempts += 1;
                }
                other => break other.map_err(failed)?,
            }
        };
        let mut child = Unfollowed(Some(child));
        let pid = child.pid().ok_or_else(|| failed(io::Error::other("no process id")))?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
        #[expect(deprecated, reason = "its successor is unsafe for types less strict than OwnedFd")]
        let pidfd = AsyncFd::with_interest(pidfd, tokio::io::Interest::READABLE).map_err(failed)?;
        let child = child.0.take().ok_or_else(|| failed(io::Error::other("no child")))?;
        Ok(Self { child, pidfd, left: false })
    }

    /// Hands over the configuration and collects output until the program has ended, without reaping it.
    async fn follow(&mut self, config: &[u8], output: &mut Output) -> Result<ExitStatus, PluginError> {
        let missing = || io::Error::other("no pipe");
        let mut stdin = self.child.stdin.take().ok_or_else(missing)?;
        let stdout = self.child.stdout.take().ok_or_else(missing)?;
        let stderr = self.child.stderr.take().ok_or_else(missing)?;
        let talk = async {
            let write = async {
                // A plugin need not read its configuration: a closed pipe is no failure.
                let _ = stdin.write_all(config).await;
                drop(stdin);
                Ok(())
            };
            tokio::try_join!(write, read_all(stdout, &mut output.stdout), read_tail(stderr, &mut output.stderr))
                .map(drop)
        };
        tokio::pin!(talk);
        tokio::select! {
            biased;
            talked = &mut talk => talked?,
            exited = self.pidfd.readable() => {
                exited?.retain_ready();
                if let Ok(talked) = tokio::time::timeout(LINGER, &mut talk).await {
                    talked?;
                }
            }
        }
        let _exited = self.pidfd.readable().await?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options).map_err(io::Error::from)?;
        let raw = status.map(|s| match (s.exit_status(), s.terminating_signal()) {
            (Some(code), _) => (code & 0xff) << 8,
            (None, signal) => signal.unwrap_or(Signal::KILL.as_raw()),
        });
        Ok(ExitStatus::from_raw(raw.ok_or_else(|| io::Error::other("no exit status"))?))
    }

    /// Has the leader, which has ended, reaped in a moment.
    fn leave(mut self) {
        self.left = true;
        tokio::spawn(async move {
            tokio::time::sleep(UNREAPED).await;
            let _ = self.child.wait().await;
        });
    }

    /// Kills the group and waits for its leader, within reason; the runtime reaps what takes longer.
    async fn end(mut self) {
        kill(&self.child);
        let _ = tokio::time::timeout(REAP, self.child.wait()).await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.left {
            kill(&self.child);
        }
    }
}

/// A child between spawn and [`Group`].
struct Unfollowed(Option<Child>);

impl Unfollowed {
    fn pid(&self) -> Option<Pid> {
        pid(self.0.as_ref()?)
    }
}

impl Drop for Unfollowed {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            kill(child);
        }
    }
}

/// `None` once the child has been reaped.
fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

fn kill(child: &Child) {
    if let Some(pid) = pid(child) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

async fn read_all(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Result<(), PluginError> {
    let mut chunk = [0; 8192];
    loop {
        match from.read(&mut chunk).await? {
            0 => return Ok(()),
            n if into.len() + n > MAX_STDOUT => return Err(PluginError::TooMuchOutput(MAX_STDOUT)),
            n => into.extend_from_slice(&chunk[..n]),
        }
    }
}

async fn read_tail(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Result<(), PluginError> {
    let mut chunk = [0; 8192];
    loop {
        match from.read(&mut chunk).await? {
            0 => return Ok(()),
            n => {
                into.extend_from_slice(&chunk[..n]);
                if into.len() > MAX_STDERR {
                    into.drain(..into.len() - MAX_STDERR);
                }
            }
        }
    }
}
