//! One run of one verifier: bounded in time and output, in a process group of its own, of which nothing stays.
//!
//! The group is killed as long as its leader has not been reaped, so its number cannot belong to anybody else.

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

/// How much is kept of what a verifier prints, on either stream; the rest is read and dropped.
const MAX_OUTPUT: usize = 32 << 10;
/// How long output is awaited after the verifier has ended, when a process it left holds the pipe open.
const LINGER: Duration = Duration::from_millis(500);

/// How a verifier decided.
#[derive(Debug)]
pub(super) struct Judgement {
    /// 0 lets the image pass.
    pub(super) status: ExitStatus,
    /// What it printed.
    pub(super) reason: String,
}

/// Runs `program` to its end.
///
/// # Errors
/// When it cannot be executed or takes longer than `timeout`.
pub(super) async fn run(program: &Path, args: &[&str], input: &[u8], timeout: Duration) -> io::Result<Judgement> {
    let mut group = Group::start(program, args).await?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = tokio::time::timeout(timeout, group.follow(input, &mut out, &mut err)).await;
    drop(group);
    if !err.is_empty() {
        let stderr = String::from_utf8_lossy(&err);
        tracing::debug!(verifier = %program.display(), stderr = stderr.trim().escape_debug().to_string(), "image verifier");
    }
    let status = ended.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("not within {} s", timeout.as_secs_f32())))
    })?;
    Ok(Judgement { status, reason: String::from_utf8_lossy(&out).trim().to_owned() })
}

/// A verifier and what it starts. Dropping it kills all of them; the runtime reaps the leader.
struct Group {
    child: Child,
    pidfd: AsyncFd<OwnedFd>,
}

impl Group {
    async fn start(program: &Path, args: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(program);
        // They may need the daemon's proxies and paths, but are not it for its service manager.
        command.args(args).current_dir("/").env_remove("NOTIFY_SOCKET").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut attempts = 0u32;
        let child = loop {
            match command.spawn() {
                // The program is being installed, or a fork elsewhere still holds it open for writing.
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && attempts < 6 => {
                    tokio::time::sleep(Duration::from_millis(10 << attempts)).await;
                    attempts += 1;
                }
                other => break other?,
            }
        };
        let pid = pid(&child).ok_or_else(|| io::Error::other("no process id"))?;
        // An error drops the child, which kills it.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        #[expect(deprecated, reason = "its successor is unsafe for types less strict than OwnedFd")]
        let pidfd = AsyncFd::with_interest(pidfd, tokio::io::Interest::READABLE)?;
        Ok(Self { child, pidfd })
    }

    /// Hands the descriptor over and collects output until the program has ended, without reaping it.
    async fn follow(&mut self, input: &[u8], out: &mut Vec<u8>, err: &mut Vec<u8>) -> io::Result<ExitStatus> {
        let missing = || io::Error::other("no pipe");
        let mut stdin = self.child.stdin.take().ok_or_else(missing)?;
        let stdout = self.child.stdout.take().ok_or_else(missing)?;
        let stderr = self.child.stderr.take().ok_or_else(missing)?;
        let talk = async {
            let write = async {
                // A verifier need not read it: a closed pipe is no failure.
                let _ = stdin.write_all(input).await;
                drop(stdin);
            };
            tokio::join!(write, read(stdout, out), read(stderr, err));
        };
        tokio::pin!(talk);
        tokio::select! {
            biased;
            () = &mut talk => {}
            exited = self.pidfd.readable() => {
                exited?.retain_ready();
                let _ = tokio::time::timeout(LINGER, &mut talk).await;
            }
        }
        let _exited = self.pidfd.readable().await?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?;
        let raw = status.map(|s| match (s.exit_status(), s.terminating_signal()) {
            (Some(code), _) => (code & 0xff) << 8,
            (None, signal) => signal.unwrap_or(Signal::KILL.as_raw()),
        });
        Ok(ExitStatus::from_raw(raw.ok_or_else(|| io::Error::other("no exit status"))?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = pid(&self.child) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

/// `None` once the child has been reaped.
fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

/// Reads to the end and keeps the beginning: a program that prints more would otherwise wait, or die of the closed pipe.
async fn read(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) {
    let mut chunk = [0; 8192];
    loop {
        match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(n) => into.extend_from_slice(&chunk[..n.min(MAX_OUTPUT - into.len())]),
        }
    }
}
