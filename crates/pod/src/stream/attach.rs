//! Sessions on a running container's stdio. The monitor copies; here are the other ends of its pipes.

use std::os::fd::OwnedFd;

use cricket_model::ErrorKind;
use cricket_runtime::monitor::{AttachRequest, DetachReason, MonitorError, Session};
use rustix::pipe::PipeFlags;

use super::exec::check_streams;
use super::io::{Input, Output, Terminal};
use crate::error::{Error, Result, unanswered};
use crate::pods::Pods;
use crate::view::Live;

/// What a session wants of a container's stdio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachSession {
    /// The caller expects a terminal. Whether there is one is the container's to say.
    pub tty: bool,
    /// Standard input, if the container keeps one.
    pub stdin: bool,
    /// Standard output, or the terminal.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// An attached session. Dropping all of it detaches; the container goes on.
#[derive(Debug)]
pub struct Attachment {
    /// Goes to the container's standard input. Where it has none, writing fails with `BrokenPipe`. Shutting it down, or
    /// dropping it, ends the container's input if that is for one session only (`stdin_once`, no terminal), and the
    /// session otherwise.
    pub stdin: Option<Input>,
    /// Everything that the container writes from now on, until its end.
    pub stdout: Option<Output>,
    /// The same for standard error; `None` for a container with a terminal.
    pub stderr: Option<Output>,
    /// The container's terminal, to be resized.
    pub terminal: Option<Terminal>,
    /// The end of the session.
    pub closed: Closed,
}

/// The end of a session.
pub struct Closed(Session);

impl std::fmt::Debug for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Closed")
    }
}

impl Closed {
    /// Waits until the monitor has let the session go: the container has ended and its output was delivered, or
    /// the session's streams were closed.
    ///
    /// # Errors
    /// `Unavailable` when the session was ended for it: it did not take the output, or the monitor was lost.
    pub async fn wait(self) -> Result<()> {
        match self.0.ended().await {
            Ok(DetachReason::Stuck) => {
                Err(Error::new(ErrorKind::Unavailable, "the session did not take the container's output in time"))
            }
            Ok(_) => Ok(()),
            Err(e) => Err(Error::caused(ErrorKind::Unavailable, "the session ended", &e)),
        }
    }
}

impl Pods {
    /// Attaches to a running container's stdio.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition` when the container does not run, `InvalidArgument` for a session without
    /// streams, or with a terminal and standard error; `Unimplemented` when the pod's monitor is older than sessions.
    pub async fn attach(&self, id: &str, session: AttachSession) -> Result<Attachment> {
        check_streams(session.tty, session.stdin, session.stdout, session.stderr)?;
        let (pod, record) = self.container(id)?;
        let (_, live) = pod.running(&record.id)?;
        let monitor = self.monitor_of(&pod).await?;
        let config = &record.config.0;
        let (stdin, their_stdin) = match session.stdin {
            true => input_pair().map(|(theirs, ours)| (Some(ours), Some(theirs)))?,
            false => (None, None),
        };
        let (stdout, their_stdout) = output(session.stdout)?;
        let (stderr, their_stderr) = output(session.stderr && !config.tty)?;
        let request = AttachRequest {
            container: record.id.to_string(),
            stdin: their_stdin,
            stdout: their_stdout,
            stderr: their_stderr,
        };
        let (once, kept) = (session.stdin && config.stdin_once, live.clone());
        // The session's end is to be the input's end, and this daemon's writing end would outlive it. One that could
        // not be attached leaves it for the next.
        let release = move || {
            if once {
                kept.stdio.release_stdin()
            }
        };
        let attached = to_the_end(async move { monitor.attach(request).await.inspect(|_| release()) });
        let closed = attached
            .await?
            .map_err(|e| Error::caused(kind(&e), format_args!("attach to container {}", record.id.short()), &e))?;
        Ok(Attachment {
            stdin: stdin.map(Input::new).transpose()?,
            stdout: stdout.map(|fd| Output::pipe(fd, None)).transpose()?,
            stderr: stderr.map(|fd| Output::pipe(fd, None)).transpose()?,
            terminal: terminal(&live)?,
            closed: Closed(closed),
        })
    }
}

/// Goes on also when nobody waits for it any more: what the monitor has done has consequences here.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(|e| Error::internal("attach", &e))
}

fn kind(error: &MonitorError) -> ErrorKind {
    use cricket_wire::Code;
    match error {
        MonitorError::Unsupported { .. } => ErrorKind::Unimplemented,
        MonitorError::Refused { code: Code::NotFound | Code::Conflict, .. } => ErrorKind::FailedPrecondition,
        MonitorError::Refused { code: Code::Exhausted, .. } => ErrorKind::ResourceExhausted,
        other => unanswered(other),
    }
}

fn terminal(live: &Live) -> Result<Option<Terminal>> {
    let master = live.stdio.terminal().map_err(|e| Error::internal("duplicate the terminal", &e))?;
    Ok(master.map(Terminal::new))
}

fn output(wanted: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    match wanted {
        true => crate::pipe::pair().map(|(ours, theirs)| (Some(ours), Some(theirs))),
        false => Ok((None, None)),
    }
}

/// A pipe towards a command: the reading end, which blocks as commands expect, and ours, which does not.
pub(super) fn input_pair() -> Result<(OwnedFd, OwnedFd)> {
    let failed = |e: rustix::io::Errno| Error::internal("make a pipe", &e);
    let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(failed)?;
    Ok((theirs, ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cricket_wire::Code;

    #[test]
    fn an_old_monitor_is_not_a_failure_of_the_host() {
        assert_eq!(kind(&MonitorError::Unsupported { request: "attach" }), ErrorKind::Unimplemented);
        let refused = |code| MonitorError::Refused { code, message: String::new() };
        // The container ended between the look at its record and the monitor's.
        assert_eq!(kind(&refused(Code::Conflict)), ErrorKind::FailedPrecondition);
        assert_eq!(kind(&refused(Code::NotFound)), ErrorKind::FailedPrecondition);
        assert_eq!(kind(&refused(Code::Exhausted)), ErrorKind::ResourceExhausted);
        assert_eq!(kind(&refused(Code::Host)), ErrorKind::Internal);
    }

    /// The monitor has taken the session and the call is given up before it hears of that.
    #[tokio::test]
    async fn input_is_released_though_the_call_is_dropped() {
        use crate::stream::Stdio;
        use cricket_runtime::monitor::Stream;
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        let stdio = std::sync::Arc::new(Stdio::from(vec![(Stream::Stdin, writer.into())]));
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        let (kept, (done, ended)) = (stdio.clone(), tokio::sync::oneshot::channel());
        let call = to_the_end(async move {
            answered.await.expect("answered");
            kept.release_stdin();
            done.send(()).expect("told");
        });
        let given_up = tokio::time::timeout(std::time::Duration::ZERO, call).await;
        assert!(given_up.is_err());
        answer.send(()).expect("it goes on");
        ended.await.expect("released");
        assert_eq!(std::io::Read::read(&mut reader, &mut [0]).expect("ended"), 0);
    }

    #[test]
    fn streams_follow_the_rules_of_the_cri() {
        let refused = |tty, stdin, stdout, stderr| check_streams(tty, stdin, stdout, stderr).is_err();
        assert!(
            refused(true, true, true, true)
                && refused(false, false, false, false)
                && refused(true, false, false, false)
        );
        assert!(!refused(true, true, true, false) && !refused(false, true, false, false));
    }
}
