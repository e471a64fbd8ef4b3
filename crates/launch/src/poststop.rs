//! Poststop hooks (OCI runtime-spec: config.md, "POSIX-platform Hooks", and runtime.md, "Lifecycle") of a container that
//! has ended.
//!
//! Each hook is run, in its order, on the host, with the container's state on standard input. One that fails or is late
//! is told of and the next one is run. The helper outlives the daemon: these hooks count as run once they have begun.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cricket_wire::launch_config::PoststopConfig;
use libcontainer::oci_spec::runtime::{Hook, Spec};
use rustix::fs::MemfdFlags;
use serde_json::json;

use crate::command::wait;
use crate::error::Error;

/// For a hook that has no timeout of its own.
const EACH: Duration = Duration::from_secs(20);
/// For all of them: half of what a kubelet waits for a removal.
const ALL: Duration = Duration::from_secs(60);
/// Most that is told of what a hook wrote to standard error.
const MAX_SAID: u64 = 1024;

pub(crate) fn run(config: &PoststopConfig) -> Result<(), Error> {
    crate::sys::outlive_parent().map_err(|e| Error::io("outlive the daemon", e))?;
    let spec = crate::container::load_spec(&config.bundle)?;
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().clone()).unwrap_or_default();
    run_all(&hooks, state(&spec, &config.id, &config.bundle).as_bytes(), ALL)
}

/// What hooks read (runtime.md, "State").
fn state(spec: &Spec, id: &str, bundle: &Path) -> String {
    let annotations = spec.annotations().clone().unwrap_or_default();
    let state = json!({
        "ociVersion": spec.version(), "id": id, "status": "stopped", "bundle": bundle, "annotations": annotations,
    });
    state.to_string()
}

fn run_all(hooks: &[Hook], state: &[u8], limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let mut failures = Vec::new();
    for hook in hooks {
        let own = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map_or(EACH, Duration::from_secs);
        let left = own.min(deadline.saturating_duration_since(Instant::now()));
        if let Err(e) = run_one(hook, state, left) {
            failures.push(format!("poststop hook {}: {e}", hook.path().display()));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::host(failures.join("; "))) }
}

fn run_one(hook: &Hook, state: &[u8], limit: Duration) -> Result<(), String> {
    if limit.is_zero() {
        return Err("not run: those before it took all the time there is".into());
    }
    // Files, not pipes: one that does not read its input must not hold the helper up.
    let (input, mut errors) = (file(state)?, file(&[])?);
    let mut command = Command::new(hook.path());
    if let Some((name, args)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(args);
    }
    let env = hook.env().iter().flatten().filter_map(|entry| entry.split_once('='));
    command.env_clear().envs(env).current_dir("/");
    let stderr = errors.try_clone().map_err(|e| e.to_string())?;
    command.stdin(Stdio::from(input)).stdout(Stdio::null()).stderr(Stdio::from(stderr));
    match wait(command, limit).map_err(|e| e.to_string())? {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let mut said = Vec::new();
            let _ = errors.rewind().and_then(|()| errors.take(MAX_SAID).read_to_end(&mut said));
            let said = String::from_utf8_lossy(&said);
            Err(if said.trim().is_empty() { status.to_string() } else { format!("{status}: {}", said.trim()) })
        }
        None => Err(format!("not done in {} s, killed", limit.as_secs_f32().round())),
    }
}

/// A file in memory, to be read from its start.
fn file(content: &[u8]) -> Result<File, String> {
    let fd = rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let mut file = File::from(fd);
    file.write_all(content).and_then(|()| file.rewind()).map_err(|e| e.to_string())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<i64>) -> Hook {
        let mut hook = Hook::default();
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        hook.set_path("/bin/sh".into()).set_args(Some(args)).set_timeout(timeout);
        hook.set_env(Some(vec!["A=b=c".into()]));
        hook
    }

    #[test]
    fn each_is_run_with_the_state_whatever_became_of_the_others() {
        let dir = tempfile::tempdir().expect("directory");
        let at = dir.path().display();
        let hooks = [
            shell("echo it is broken >&2; exit 3", None),
            shell("exec sleep 1000", Some(1)),
            shell(&format!("cat > {at}/state; echo $A > {at}/env"), Some(30)),
        ];
        let spec = Spec::default();
        let state = state(&spec, "abc", Path::new("/b"));
        let begin = Instant::now();
        let error = run_all(&hooks, state.as_bytes(), ALL).expect_err("two failed").to_string();
        assert!(begin.elapsed() < EACH, "{:?}", begin.elapsed());
        assert!(
            error.contains("exit status: 3: it is broken; ") && error.contains("not done in 1 s, killed"),
            "{error}"
        );
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
        let seen: serde_json::Value = serde_json::from_str(&read("state")).expect("JSON");
        let want = json!({ "ociVersion": spec.version(), "id": "abc", "status": "stopped", "bundle": "/b", "annotations": {} });
        assert_eq!((seen, read("env").as_str()), (want, "b=c\n"));
    }

    #[test]
    fn all_of_them_have_one_limit_and_need_not_read() {
        let hooks = [shell("exec sleep 1000", None), shell("exit 0", None)];
        let error = run_all(&hooks, &[b' '; 1 << 20], Duration::from_millis(300)).expect_err("late").to_string();
        assert!(error.contains("killed; ") && error.contains("not run"), "{error}");
        run_all(&hooks[1..], &[b' '; 1 << 20], ALL).expect("nobody waits for a reader");
    }
}
