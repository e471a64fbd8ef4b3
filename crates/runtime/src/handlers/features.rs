//! What OCI binaries say that they can do (runtime-spec, features.md): `BINARY features`, asked once, all at the same time.
//!
//! A binary that is not there, does not know the command, hangs or says something else can do nothing of it: that never
//! keeps the daemon from starting.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cricket_process::Pidfd;
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::Features;

/// A binary that has not answered by then is killed.
const LIMIT: Duration = Duration::from_secs(5);
/// Most of an answer that is read.
const MAX_ANSWER: u64 = 1 << 20;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    mount_options: Vec<String>,
    linux: Linux,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Linux {
    namespaces: Vec<String>,
    mount_extensions: MountExtensions,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MountExtensions {
    idmap: Switch,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Switch {
    enabled: bool,
}

/// Asks these binaries; waits for the slowest of them. Blocks.
pub(super) fn ask(binaries: impl Iterator<Item = std::path::PathBuf>) -> BTreeMap<std::path::PathBuf, Features> {
    let mut asked: Vec<_> = binaries.collect();
    asked.sort();
    asked.dedup();
    std::thread::scope(|scope| {
        let threads: Vec<_> = asked.into_iter().map(|path| scope.spawn(move || (features(&path), path))).collect();
        let answers = threads.into_iter().filter_map(|thread| thread.join().ok());
        answers.map(|(features, path)| (path, features)).collect()
    })
}

fn features(binary: &Path) -> Features {
    match answer(binary, LIMIT) {
        Ok(answer) => answer,
        Err(reason) => {
            tracing::warn!(binary = %binary.display(), reason, "an OCI runtime does not say what it can do");
            Features::default()
        }
    }
}

fn answer(binary: &Path, limit: Duration) -> Result<Features, String> {
    let failed = |e: &dyn std::error::Error| e.to_string();
    let out = rustix::fs::memfd_create("features", MemfdFlags::CLOEXEC).map_err(|e| failed(&e))?;
    let mut out = File::from(out);
    let stdout = out.try_clone().map_err(|e| failed(&e))?;
    let mut command = Command::new(binary);
    command.arg("features").env_clear().env("PATH", super::system_path()).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
    let mut attempts = 0u32;
    let mut child = loop {
        match command.spawn() {
            // The binary is being installed, or a fork elsewhere still holds it open for writing.
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy && attempts < 6 => {
                std::thread::sleep(Duration::from_millis(10 << attempts));
                attempts += 1;
            }
            other => break other.map_err(|e| failed(&e))?,
        }
    };
    let pid = child.id().cast_signed();
    let ended = Pidfd::open(pid).and_then(|pidfd| pidfd.wait(Some(limit))).map_err(|e| failed(&e));
    if ended != Ok(true) {
        // Not reaped yet: the number is its own till then.
        let _ = Pid::from_raw(pid).map(|group| kill_process_group(group, Signal::KILL));
    }
    let status = child.wait().map_err(|e| failed(&e))?;
    if !ended? {
        return Err(format!("features: not done in {} s, killed", limit.as_secs_f32()));
    }
    if !status.success() {
        return Err(format!("features: {status}"));
    }
    let mut text = String::new();
    out.rewind().and_then(|()| out.take(MAX_ANSWER).read_to_string(&mut text)).map_err(|e| failed(&e))?;
    parse(&text).map_err(|e| format!("features: {e}"))
}

/// User namespaces need mounts with mapped IDs, too: volumes have the host's.
fn parse(text: &str) -> serde_json::Result<Features> {
    let answer: Answer = serde_json::from_str(text)?;
    let users = answer.linux.namespaces.iter().any(|name| name == "user");
    Ok(Features {
        user_namespaces: users && answer.linux.mount_extensions.idmap.enabled,
        recursive_read_only_mounts: answer.mount_options.iter().any(|option| option == "rro"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn script(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    #[test]
    fn what_a_runtime_says_counts() {
        let all = r#"{"ociVersionMin":"1.0.0","mountOptions":["ro","rro"],"linux":{"namespaces":["pid","user"],
                      "mountExtensions":{"idmap":{"enabled":true}}}}"#;
        assert_eq!(parse(all).expect("JSON"), Features { user_namespaces: true, recursive_read_only_mounts: true });
        let no_map = all.replace("true", "false").replace("\"rro\"", "\"rw\"");
        assert_eq!(parse(&no_map).expect("JSON"), Features::default());
        assert_eq!(parse("{}").expect("JSON"), Features::default());
        assert!(parse("NAME: runc").is_err());
    }

    #[test]
    fn a_runtime_that_hangs_or_knows_no_features_can_do_nothing() {
        let dir = tempfile::tempdir().expect("directory");
        let good = script(dir.path(), "good", r#"[ "$1" = features ] && echo '{"mountOptions":["rro"]}'"#);
        let bad = script(dir.path(), "bad", "exit 1");
        let hangs = script(dir.path(), "hangs", "sleep 1000");
        let late = answer(&hangs, Duration::from_millis(200)).expect_err("late");
        assert!(late.contains("killed"), "{late}");
        let asked = ask([good.clone(), bad.clone(), good.clone(), dir.path().join("absent")].into_iter());
        assert_eq!(asked.len(), 3);
        assert!(asked[&good].recursive_read_only_mounts && !asked[&good].user_namespaces);
        assert_eq!(asked[&bad], Features::default());
    }
}
