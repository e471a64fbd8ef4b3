//! Finds the command in the container and executes it, as execvp(3) does, with the command's own `PATH`.

use std::ffi::{CString, c_char};
use std::io;
use std::ptr;

use crate::failure::Failure;

/// Where execvp looks without a `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Everything execve takes, made before the clone.
pub(crate) struct Command {
    name: String,
    by_path: bool,
    candidates: Vec<CString>,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Command {
    pub(crate) fn new(args: &[String], env: &[String]) -> Result<Self, Failure> {
        let name = args.first().ok_or_else(|| Failure::command("exec: no command was given", 127))?;
        let by_path = name.contains('/');
        let candidates = match by_path {
            true => vec![c_string(name)?],
            false if name.is_empty() => Vec::new(),
            false => search_path(env)
                .split(':')
                .map(|directory| c_string(&format!("{}/{name}", if directory.is_empty() { "." } else { directory })))
                .collect::<Result<_, _>>()?,
        };
        let strings = |list: &[String]| list.iter().map(|text| c_string(text)).collect::<Result<Vec<_>, _>>();
        Ok(Self { name: name.clone(), by_path, candidates, argv: strings(args)?, envp: strings(env)? })
    }

    /// Executes it. Returns only why that failed.
    pub(crate) fn execute(&self) -> Failure {
        let (argv, envp) = (pointers(&self.argv), pointers(&self.envp));
        let mut denied = false;
        for candidate in &self.candidates {
            // SAFETY: C strings, and arrays of them that end with a null pointer.
            unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                // A shell goes on looking, and says at the end that it was not allowed.
                Some(libc::EACCES) => denied = true,
                _ => return self.failed(reason(&error), 126),
            }
        }
        match (denied, self.by_path) {
            (true, _) => self.failed("permission denied", 126),
            (false, true) => self.failed("no such file or directory", 127),
            (false, false) => self.failed("executable file not found in $PATH", 127),
        }
    }

    fn failed(&self, reason: &str, shell_status: i32) -> Failure {
        Failure::command(format!("exec: {:?}: {reason}", self.name), shell_status)
    }
}

fn reason(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => "exec format error",
        Some(libc::E2BIG) => "argument list too long",
        Some(libc::ELOOP) => "too many levels of symbolic links",
        Some(libc::ENAMETOOLONG) => "file name too long",
        Some(libc::ETXTBSY) => "text file busy",
        Some(libc::EPERM) => "operation not permitted",
        Some(libc::ENOMEM) => "cannot allocate memory",
        Some(libc::EISDIR) => "is a directory",
        Some(libc::EINVAL | libc::ELIBBAD) => "invalid executable",
        _ => "cannot be executed",
    }
}

/// The last `PATH` counts, as the last one given to env(1) does.
fn search_path(env: &[String]) -> &str {
    env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
}

fn c_string(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure::command(format!("exec: {text:?}: a NUL byte in a string"), 126))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(args: &[&str], env: &[&str]) -> Result<Command, Failure> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Command::new(&owned(args), &owned(env))
    }

    fn candidates(name: &str, env: &[&str]) -> Vec<String> {
        let command = command(&[name], env).expect("command");
        command.candidates.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn candidates_are_those_of_execvp() {
        assert_eq!(candidates("ls", &["PATH=/a::/b"]), ["/a/ls", "./ls", "/b/ls"]);
        assert_eq!(candidates("ls", &[]), ["/bin/ls", "/usr/bin/ls"]);
        assert_eq!(candidates("./ls", &["PATH=/a"]), ["./ls"]);
        assert_eq!(candidates("ls", &["PATH=/a", "PATH=/b"]), ["/b/ls"]);
        assert!(candidates("", &["PATH=/a"]).is_empty());
        assert!(command(&["a\0b"], &[]).is_err());
        assert!(command(&[], &[]).is_err());
    }

    #[test]
    fn failures_are_a_shells() {
        let failure = |name: &str, env: &[&str]| command(&[name], env).expect("command").execute().into_wire();
        let missing = failure("no-such-command", &["PATH=/bin"]);
        assert_eq!(missing.message, "exec: \"no-such-command\": executable file not found in $PATH");
        assert_eq!(missing.shell_status, 127);
        assert_eq!(failure("/no/such", &[]).shell_status, 127);
        let denied = failure("passwd", &["PATH=/etc:/no/such"]);
        assert_eq!((denied.message.as_str(), denied.shell_status), ("exec: \"passwd\": permission denied", 126));
        assert_eq!(failure("/etc", &[]).shell_status, 126);
        assert_eq!(failure("", &[]).shell_status, 127);
    }
}
