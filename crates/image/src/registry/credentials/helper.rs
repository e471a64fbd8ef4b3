//! Credential helpers: `docker-credential-NAME get` reads an address from its standard input and prints a JSON object
//! (docker-credential-helpers' protocol).

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::registry::auth::Credentials;

/// How long a helper may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Most bytes of its answer.
const MAX_ANSWER: u64 = 64 << 10;
/// Longest name.
const MAX_NAME: usize = 64;
/// Where helpers are looked for if the daemon has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The user name that says: the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// A helper to be asked for one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Helper {
    name: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper {
    /// The helper of that name; none if the name could lead elsewhere than to a program in `PATH`.
    pub(super) fn new(name: &str, address: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let good = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain);
        good.then(|| Self { name: name.to_owned(), address: address.to_owned() })
    }

    /// Asks it. None if it has nothing or fails, which is logged without anything that it printed.
    pub(crate) async fn ask(&self) -> Option<Credentials> {
        let answer = tokio::time::timeout(TIMEOUT, self.run()).await;
        let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
        match answer {
            Ok(credentials) => credentials,
            Err(cause) => {
                tracing::warn!(helper = self.name, address = self.address, %cause, "credential helper failed");
                None
            }
        }
    }

    async fn run(&self) -> io::Result<Option<Credentials>> {
        let path = std::env::var_os("PATH").filter(|p| !p.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into());
        let program = find(&path, &format!("docker-credential-{}", self.name))?;
        let mut command = Command::new(program);
        // Helpers keep their own settings in the home directory.
        let home = std::env::var_os("HOME").map(|home| ("HOME", home));
        command.arg("get").env_clear().env("PATH", &path).envs(home).current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn()?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let missing = || io::Error::other("no pipe");
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut answer = Vec::new();
        // A helper need not read what it is asked.
        let write = async {
            let _ = stdin.write_all(self.address.as_bytes()).await;
            drop(stdin);
        };
        let mut bounded = stdout.take(MAX_ANSWER + 1);
        let ((), read) = tokio::join!(write, bounded.read_to_end(&mut answer));
        read?;
        if answer.len() as u64 > MAX_ANSWER {
            return Err(io::Error::other(format!("its answer is larger than {MAX_ANSWER} bytes")));
        }
        let status = child.wait().await?;
        // Its number may be another's from now on.
        group.0 = None;
        if !status.success() {
            // "Not found" looks like this as well: the registry's refusal is what counts then.
            tracing::debug!(helper = self.name, address = self.address, %status, "credential helper has nothing");
            return Ok(None);
        }
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| io::Error::other("its answer is not of the protocol"))?;
        Ok(match (answer.username.as_str(), answer.secret.is_empty()) {
            (_, true) | ("", _) => None,
            (TOKEN_USER, _) => Some(Credentials::Identity(answer.secret)),
            _ => Some(Credentials::Basic { username: answer.username, password: answer.secret }),
        })
    }
}

/// Kills a helper with what it started, unless it ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

/// The program of that name in the absolute directories of `path`.
fn find(path: &OsStr, name: &str) -> io::Result<PathBuf> {
    let mut candidates = std::env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name));
    let found = candidates.find(|file| file.is_file());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is not in PATH")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_path() {
        for bad in ["", "../sh", "a/b", "a b", "a\0", &"a".repeat(65)] {
            assert_eq!(Helper::new(bad, "h"), None, "{bad}");
        }
        assert!(Helper::new("ecr-login", "h").is_some());
    }

    #[test]
    fn programs_are_found_in_absolute_directories() {
        assert!(find(OsStr::new("bin:/bin"), "sh").is_ok_and(|p| p == std::path::Path::new("/bin/sh")));
        assert!(find(OsStr::new(".:bin"), "sh").is_err());
    }
}
