//! What stands in for a process of a shim's: this program under the name `cricket-keep-shim`. It waits for the process
//! and ends with its status, and passes its input on where it has any. One that waits for an executed command has a
//! second one beside it, which kills the command when the first is killed; and it kills the command itself where the
//! helper ends before it has told of it, which a byte from descriptor 2 says: nobody would wait for it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use cricket_shim::{Bootstrap, Result, Task};

/// `argv[0]` that selects it.
const NAME: &str = "cricket-keep-shim";
/// The status where the shim cannot tell: it was killed, and what it ran with it.
const KILLED: u8 = 137;
/// SIGKILL.
const KILL: u32 = 9;
/// How long the shim may take to tell of an end that it has answered already. gVisor's ends by itself, with a panic,
/// where nobody hears an event of its.
const LAST_EVENT: Duration = Duration::from_secs(1);

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// Wait.
    Wait,
    /// Wait, and pass on what comes from descriptor 0 to descriptor 1.
    Input,
    /// Wait, and pass on each size of the terminal at descriptor 0.
    Terminal,
    /// Wait, and hear what the pod's shim tells, see [`told`](super::told).
    Pod,
    /// Kill the process unless a byte comes from descriptor 0.
    Guard,
}

impl Duty {
    fn word(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Input => "input",
            Self::Terminal => "terminal",
            Self::Pod => "pod",
            Self::Guard => "guard",
        }
    }
}

/// The program, to be started.
pub(super) fn command(shim: &Bootstrap, id: &str, exec_id: &str, duty: Duty) -> Command {
    let mut keeper = Command::new("/proc/self/exe");
    keeper.arg0(NAME).args([&shim.to_json(), id, exec_id, duty.word()]);
    keeper.env_clear().current_dir("/");
    if duty != Duty::Terminal {
        // That one makes a session, and with it a group.
        keeper.process_group(0);
    }
    keeper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    keeper
}

/// Whether this program was started under that name.
pub(crate) fn is_meant() -> bool {
    std::env::args_os().next().is_some_and(|name| name.as_bytes() == NAME.as_bytes())
}

/// Does its duty; gives the process's status.
pub(crate) fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).collect();
    let [shim, id, exec_id, duty] = arguments.as_slice() else { return ExitCode::from(KILLED) };
    let Ok(shim) = Bootstrap::parse(shim.as_bytes()) else { return ExitCode::from(KILLED) };
    if duty == Duty::Guard.word() {
        if std::io::stdin().read_exact(&mut [0]).is_err() {
            let _ = end(&shim, id, exec_id);
        }
        return ExitCode::SUCCESS;
    }
    let heard = (duty == Duty::Pod.word()).then(|| super::told::hear(id));
    if duty == Duty::Terminal.word() {
        super::resize::follow(&shim, id, exec_id);
    }
    if duty == Duty::Input.word() {
        let (shim, id, exec_id) = (shim.clone(), id.clone(), exec_id.clone());
        // It ends with this process.
        std::thread::spawn(move || pass_on(&shim, &id, &exec_id));
    }
    let guard = (!exec_id.is_empty()).then(|| guard(&shim, id, exec_id));
    if guard.is_some() {
        let (shim, id, exec_id) = (shim.clone(), id.clone(), exec_id.clone());
        std::thread::spawn(move || {
            let told = crate::sys::stdio(2).try_clone_to_owned();
            if !told.is_ok_and(|fd| File::from(fd).read_exact(&mut [0]).is_ok()) {
                let _ = end(&shim, &id, &exec_id);
                std::process::exit(KILLED.into());
            }
        });
    }
    let status = Task::connect(&shim).and_then(|mut task| {
        let status = task.wait(id, exec_id, None)?;
        if !exec_id.is_empty() {
            let _ = task.delete(id, exec_id);
        }
        Ok(status)
    });
    if let (Some(heard), Ok(_)) = (heard, &status) {
        let _ = heard.recv_timeout(LAST_EVENT);
    }
    if let Some(Ok(mut guard)) = guard {
        let _ = guard.stdin.take().map(|mut stdin| stdin.write_all(&[1]));
        let _ = guard.wait();
    }
    ExitCode::from(status.ok().map_or(KILLED, |status| u8::try_from(status).unwrap_or(KILLED)))
}

fn guard(shim: &Bootstrap, id: &str, exec_id: &str) -> std::io::Result<Child> {
    command(shim, id, exec_id, Duty::Guard).stdin(Stdio::piped()).spawn()
}

fn end(shim: &Bootstrap, id: &str, exec_id: &str) -> Result<()> {
    let mut task = Task::connect(shim)?;
    if task.kill(id, exec_id, KILL, false).is_err() {
        // It has ended, or was not started and then cannot be any more; or it was just being started.
        match task.delete(id, exec_id) {
            Err(e) if !e.is_not_found() => task.kill(id, exec_id, KILL, false)?,
            _ => return Ok(()),
        }
    }
    task.wait(id, exec_id, Some(super::TIMEOUT))?;
    task.delete(id, exec_id).map(drop)
}

/// The shim holds the input open for others: its end has to be told.
fn pass_on(shim: &Bootstrap, id: &str, exec_id: &str) {
    let _ = copy();
    let _ = Task::connect(shim).and_then(|mut task| task.close_stdin(id, exec_id));
}

/// From descriptor 0 to descriptor 1, which is nobody's afterwards: it, too, would hold the input open.
fn copy() -> std::io::Result<()> {
    let from = crate::sys::stdio(0).try_clone_to_owned()?;
    let to = crate::sys::stdio(1).try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    std::io::copy(&mut File::from(from), &mut File::from(to)).map(drop)
}
