//! A container by an OCI runtime's binary (runc, crun, youki and others with runc's command line).
//!
//! `create` gets descriptors 0–2 of the helper, which become the container's. The init that it leaves is adopted by
//! the helper's parent, a subreaper, once the runtime has ended. Every command leads a process group of its own, which
//! is killed when the command is not done by its deadline, and the command is killed when the helper is.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use cricket_process::Pidfd;
use cricket_wire::helper::NO_PROCESS;
use cricket_wire::launch_config::{OciAction, OciCliConfig, SYSTEM_PATH};

use crate::command::wait;
use crate::console::Console;
use crate::error::Error;
use crate::keep;
use crate::report::Reporter;

/// Most of a runtime's log that is read.
const MAX_LOG: u64 = 64 * 1024;
/// SIGKILL.
const KILL: i32 = 9;
/// Making and starting mounts things and runs hooks.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);
/// Everything else.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn run(config: &OciCliConfig, reporter: &mut Reporter) -> Result<(), Error> {
    // Several at once may be executed.
    let files = match config.action {
        OciAction::Exec { .. } | OciAction::Kill { .. } => format!(".launch-{}", std::process::id()),
        _ => ".launch".to_owned(),
    };
    let runtime = Runtime { config, binary: find_binary(&config.binary)?, files: config.bundle.join(files) };
    match &config.action {
        OciAction::Run { terminal, keeper } => runtime.create_and_start(*terminal, *keeper, reporter),
        OciAction::Exec { process, terminal } => runtime.exec(process, *terminal, reporter),
        OciAction::Kill { signal } => {
            runtime.simple(&["kill", &config.id, &signal.to_string()])?;
            reporter.made(NO_PROCESS, None)
        }
        OciAction::Delete => {
            runtime.delete()?;
            reporter.made(NO_PROCESS, None)
        }
    }
}

/// The binary's path; an error names where it was looked for.
pub(crate) fn find_binary(name: &str) -> Result<PathBuf, Error> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        return if path.is_file() { Ok(path) } else { Err(Error::host(format!("the runtime {name} is not there"))) };
    }
    let found = SYSTEM_PATH.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Error::host(format!("the runtime {name:?} is in none of {}", SYSTEM_PATH.join(", "))))
}

/// One runtime and one container; its files are removed when dropped.
struct Runtime<'a> {
    config: &'a OciCliConfig,
    binary: PathBuf,
    files: PathBuf,
}

impl Runtime<'_> {
    fn create_and_start(&self, terminal: bool, keeper: bool, reporter: &mut Reporter) -> Result<(), Error> {
        self.make_files()?;
        let console = terminal.then(|| Console::listen(&self.files)).transpose()?;
        let pid_file = self.files.join("pid");
        let mut create = self.command()?;
        create.arg("create").arg("--bundle").arg(&self.config.bundle).arg("--pid-file").arg(&pid_file);
        if let Some(console) = &console {
            create.arg("--console-socket").arg(console.path());
            // A runtime refuses a terminal for a container whose own stdio is used.
            create.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        create.arg(&self.config.id);
        if let Ended::Late(error) = self.check(create, "create")? {
            // It was killed in the middle: what it has made is taken back, as far as that can be.
            let _ = self.delete();
            return Err(error);
        }
        let made = (|| {
            let (pid, gate) = if keeper { self.keeper()? } else { (read_pid(&pid_file)?, None) };
            let init = Pidfd::open(pid).map_err(|e| Error::host(e.to_line()))?;
            reporter.made(pid, console.map(Console::receive).transpose()?)?;
            let started = self.start(keeper);
            match (&started, gate) {
                (Err(_), _) => drop(init.send_signal(KILL)),
                (Ok(()), Some(mut gate)) => gate.write_all(&[1]).map_err(|e| Error::io("have it waited for", e))?,
                (Ok(()), None) => {}
            }
            started
        })();
        if made.is_err() {
            // The reason of the failure is worth more than that of this one.
            let _ = self.delete();
        }
        made
    }

    /// gVisor takes the stdio of containers of a pod from this command.
    fn start(&self, inherit: bool) -> Result<(), Error> {
        if !inherit {
            return self.simple(&["start", &self.config.id]);
        }
        let mut start = self.command()?;
        start.args(["start", &self.config.id]);
        match self.check(start, "start")? {
            Ended::Done => Ok(()),
            Ended::Late(error) => Err(error),
        }
    }

    /// A process that ends as the container does; it begins to wait for that when it is written to.
    fn keeper(&self) -> Result<(i32, Option<ChildStdin>), Error> {
        let mut keeper = Command::new("/proc/self/exe");
        keeper.arg0(keep::NAME).arg(&self.binary).arg(&self.config.root).arg(&self.config.id);
        keeper.env_clear().current_dir("/").process_group(0);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = keeper.spawn().map_err(|e| Error::io("start what waits for the container", e))?;
        Ok((child.id().cast_signed(), child.stdin.take()))
    }

    /// The runtime's process stays; it is adopted as an init is.
    fn exec(&self, process: &str, terminal: bool, reporter: &mut Reporter) -> Result<(), Error> {
        // Inherited, and named by its number: nobody has to remove it.
        let file = rustix::fs::memfd_create("process", rustix::fs::MemfdFlags::empty());
        let mut file = fs::File::from(file.map_err(|e| Error::io("make a file", e))?);
        file.write_all(process.as_bytes()).map_err(|e| Error::io("write the process", e))?;
        self.make_files()?;
        let console = terminal.then(|| Console::listen(&self.files)).transpose()?;
        let mut exec = self.command()?;
        exec.arg("exec").arg("--process").arg(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if let Some(console) = &console {
            exec.arg("--console-socket").arg(console.path());
            exec.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        exec.arg(&self.config.id).process_group(0);
        let child = exec.spawn().map_err(|e| Error::io(format!("run {}", self.binary.display()), e))?;
        let master = console.map(|console| console.wait(TIMEOUT).and_then(Console::receive)).transpose()?;
        reporter.made(child.id().cast_signed(), master)
    }

    fn delete(&self) -> Result<(), Error> {
        match self.simple(&["delete", "--force", &self.config.id]) {
            Err(e) if e.to_string().contains("does not exist") => Ok(()),
            // What it ran in is gone, and it with that; its files go with the pod's.
            Err(e) if e.to_string().contains("connecting to control server") => Ok(()),
            done => done,
        }
    }

    /// A command that starts no process of the container's.
    fn simple(&self, args: &[&str]) -> Result<(), Error> {
        self.make_files()?;
        let mut command = self.command()?;
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match self.check(command, args[0])? {
            Ended::Done => Ok(()),
            Ended::Late(error) => Err(error),
        }
    }

    fn command(&self) -> Result<Command, Error> {
        let root = &self.config.root;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|e| Error::io(format!("make {}", root.display()), e))?;
        let mut command = Command::new(&self.binary);
        // Hooks and the runtime's own helpers look programs up.
        command.env_clear().env("PATH", SYSTEM_PATH.join(":")).current_dir("/");
        command.arg("--root").arg(root);
        // What stays has no log: that file goes with this helper.
        if !matches!(self.config.action, OciAction::Exec { .. }) {
            command.arg("--log").arg(self.log()).arg("--log-format").arg("json");
        }
        if self.config.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        Ok(command)
    }

    fn check(&self, command: Command, verb: &str) -> Result<Ended, Error> {
        let _ = fs::remove_file(self.log());
        let name = self.binary.display();
        let limit = if ["create", "start"].contains(&verb) { RUN_TIMEOUT } else { TIMEOUT };
        let status = match wait(command, limit).map_err(|e| Error::io(format!("run {name}"), e))? {
            Some(status) if status.success() => return Ok(Ended::Done),
            Some(status) => status,
            None => {
                let seconds = limit.as_secs();
                return Ok(Ended::Late(Error::host(format!("{name} {verb}: not done in {seconds} s, killed"))));
            }
        };
        Err(blame(&match last_error(&self.log()) {
            Some(message) => format!("{name} {verb}: {message}"),
            None => format!("{name} {verb}: {status}"),
        }))
    }

    fn log(&self) -> PathBuf {
        self.files.join("log.json")
    }

    fn make_files(&self) -> Result<(), Error> {
        let dir = &self.files;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| Error::io(format!("make {}", dir.display()), e))
    }
}

/// How a command ended that did not fail.
enum Ended {
    Done,
    /// It was killed at its deadline.
    Late(Error),
}

impl Drop for Runtime<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.files);
    }
}

fn read_pid(file: &Path) -> Result<i32, Error> {
    let text = fs::read_to_string(file).map_err(|e| Error::io(format!("read {}", file.display()), e))?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| Error::host(format!("{} holds no pid: {text:?}", file.display())))
}

/// The last error of a runtime's JSON log.
fn last_error(log: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(log).ok()?.take(MAX_LOG).read_to_string(&mut text).ok()?;
    let message = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_error = ["error", "fatal"].contains(&entry["level"].as_str()?);
        is_error.then(|| entry["msg"].as_str().map(|m| m.trim().to_owned()))?
    };
    text.lines().rev().find_map(message)
}

/// Whose fault a runtime's message is: runc and crun say it in words.
pub(crate) fn blame(message: &str) -> Error {
    let lower = message.to_lowercase();
    let is_missing = ["executable file not found", "no such file or directory"].iter().any(|w| lower.contains(w));
    // The last two are gVisor's.
    let about_command = ["exec: ", "executable file", "error finding executable", "failed to load /"];
    let about_command = about_command.iter().any(|words| lower.contains(words));
    match (about_command, is_missing) {
        (true, true) => Error::command(message, 127),
        (true, false) => Error::command(message, 126),
        _ => Error::host(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log() {
        let dir = tempfile::tempdir().expect("directory");
        let log = dir.path().join("log");
        let lines = concat!(
            r#"{"level":"warning","msg":"w","time":"t"}"#,
            "\n",
            r#"{"level":"error","msg":"first"}"#,
            "\n",
            r#"{"level":"error","msg":"runc create failed: exec: \"foo\": executable file not found in $PATH\n"}"#,
            "\n",
            "garbage\n",
        );
        fs::write(&log, lines).expect("write");
        let message = last_error(&log).expect("one");
        assert_eq!(message, "runc create failed: exec: \"foo\": executable file not found in $PATH");
        let failure = blame(&message).into_failure();
        assert_eq!((failure.blame(), failure.shell_status), (cricket_wire::helper::Blame::Command, 127));
        assert_eq!(blame("mkdir /x: no such file or directory").into_failure().shell_status, 0);
        let gvisor = "OCI runtime exec failed: executing command \"/x\" in sandbox: failed to load /x: ";
        for (words, status) in [("no such file or directory", 127), ("permission denied", 126)] {
            assert_eq!(blame(&format!("{gvisor}{words}")).into_failure().shell_status, status);
        }
        let by_name = "error finding executable \"foo\" in PATH [/bin]: no such file or directory";
        assert_eq!(blame(by_name).into_failure().shell_status, 127);
        assert_eq!(last_error(dir.path()), None);
    }

    #[test]
    fn a_missing_binary_is_named() {
        let error = find_binary("no-such-runtime").expect_err("missing").to_string();
        assert!(error.contains("no-such-runtime") && error.contains("/usr/bin"), "{error}");
        assert!(find_binary("/no/runc").expect_err("missing").to_string().contains("/no/runc"));
        assert_eq!(find_binary("sh").expect("sh").file_name().expect("name"), "sh");
    }
}
