//! What stands in for the init of a container that is no process of this kernel: this program under the name
//! `cricket-keep`, with the runtime's binary, its state directory and the container's ID as arguments. It runs the runtime's
//! `wait` and ends with the status that this tells, so that its parent sees the container end. Killing it ends nothing
//! else: such containers are signalled by their runtime.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, ExitCode, Stdio};

use cricket_wire::launch_config::SYSTEM_PATH;

/// `argv[0]` that selects it.
pub(crate) const NAME: &str = "cricket-keep";
/// The container's status where the runtime cannot tell: what it ran in was killed, and it with that.
const KILLED: u8 = 137;

/// Whether this program was started under that name.
pub(crate) fn is_meant() -> bool {
    std::env::args_os().next().is_some_and(|name| name.as_bytes() == NAME.as_bytes())
}

/// Waits, and gives the container's status.
pub(crate) fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [binary, root, id] = arguments.as_slice() else { return ExitCode::from(KILLED) };
    // The runtime waits for containers that were started only.
    if std::io::stdin().read_exact(&mut [0]).is_err() {
        return ExitCode::from(KILLED);
    }
    let mut wait = Command::new(binary);
    wait.arg("--root").arg(root).arg("wait").arg(id).env_clear().env("PATH", SYSTEM_PATH.join(":"));
    wait.stdin(Stdio::null()).stderr(Stdio::null());
    let answer = crate::sys::end_with_this_process(&mut wait).output();
    ExitCode::from(answer.ok().and_then(|answer| status(&answer.stdout)).unwrap_or(KILLED))
}

/// The last line is the answer.
fn status(answer: &[u8]) -> Option<u8> {
    let line = answer.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty())?;
    let answer: serde_json::Value = serde_json::from_slice(line).ok()?;
    u8::try_from(answer.get("exitStatus")?.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn the_status_that_a_runtime_tells() {
        assert_eq!(status(b"{\"id\":\"a\",\"exitStatus\":7}\n"), Some(7));
        assert_eq!(status(b"a warning\n{\"id\":\"a\",\"exitStatus\":137}"), Some(137));
        assert_eq!((status(b""), status(b"{\"exitStatus\":700}")), (None, None));
    }
}
