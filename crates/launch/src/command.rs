//! Commands that have a deadline. Each leads a process group of its own, which is killed when the command is not done in
//! time, and the command is killed when the helper is.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use cricket_process::Pidfd;

/// A killed process that has not ended by then is in an uninterruptible sleep.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a command; `None` when it was not done within `limit` and its process group was killed.
///
/// # Errors
/// When it cannot be executed or waited for.
pub(crate) fn wait(mut command: Command, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let mut child = crate::sys::end_with_this_process(command.process_group(0)).spawn()?;
    let ended = Pidfd::open(child.id().cast_signed()).and_then(|pidfd| {
        if pidfd.wait(Some(limit))? {
            return Ok((true, true));
        }
        // Before it is reaped: its PID, which is the group's, is nobody else's till then.
        if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        Ok((false, pidfd.wait(Some(KILL_TIMEOUT))?))
    });
    let (in_time, reap) = ended.map_err(std::io::Error::other)?;
    let status = if reap { Some(child.wait()?) } else { None };
    Ok(status.filter(|_| in_time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_command_that_hangs_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().expect("directory");
        let pids = dir.path().join("pids");
        let mut hangs = Command::new("/bin/sh");
        hangs.arg("-c").arg(format!("sleep 1000 & echo $$ $! > {}; wait", pids.display()));
        let (begin, limit) = (std::time::Instant::now(), Duration::from_secs(2));
        assert!(wait(hangs, limit).expect("run").is_none());
        assert!(begin.elapsed() < limit + KILL_TIMEOUT, "{:?}", begin.elapsed());
        let pids = fs::read_to_string(pids).expect("it ran");
        assert_eq!(pids.split_whitespace().count(), 2);
        for pid in pids.split_whitespace() {
            let ended = Pidfd::open(pid.parse().expect("pid")).map_or(Ok(true), |p| p.wait(Some(KILL_TIMEOUT)));
            assert!(ended.expect("wait"), "{pid} lives");
        }
        let status = wait(Command::new("/bin/false"), Duration::from_secs(30)).expect("run").expect("in time");
        assert_eq!(status.code(), Some(1));
    }
}
