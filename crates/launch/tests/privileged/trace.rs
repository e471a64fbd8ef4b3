//! Who may look into an init before it executes: the init is stopped in the middle, by ptrace(2).

use std::io::{Write as _, pipe};
use std::os::fd::AsRawFd;
use std::process::{Command, Output};

use cricket_process::userns::{self, Range};
use cricket_wire::launch_config::LaunchConfig;

use crate::harness::Fixture;
use crate::userns::{FIRST, LENGTH, fixture};

/// What marks stops at system calls (`PTRACE_O_TRACESYSGOOD`).
const AT_CALL: i32 = libc::SIGTRAP | 0x80;

/// One request without data to read back; the process is stopped, but for `PTRACE_SEIZE`.
fn request(request: libc::c_uint, pid: i32, data: i32) {
    // SAFETY: these requests take numbers only.
    let done = unsafe { libc::ptrace(request, pid, 0_usize, data as usize) };
    assert_eq!(done, 0, "ptrace request {request} of {pid}: {}", std::io::Error::last_os_error());
}

/// The next stop among this thread's tracees: which one, the signal, and the event.
fn stop() -> (i32, i32, i32) {
    let mut status = 0;
    // SAFETY: an integer to write to. Children of other threads, which are other tests, are not waited for.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
    assert!(pid > 0 && libc::WIFSTOPPED(status), "{pid} ended early: {status:#x}");
    (pid, libc::WSTOPSIG(status), status >> 16)
}

/// Whether the process is at a call of setns(2) with a user namespace; `None` at the end of some call.
fn joins_users(pid: i32) -> Option<bool> {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: room for as many bytes as are said.
    let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info) };
    assert!(got > 0, "look at a system call: {}", std::io::Error::last_os_error());
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: of an entry, as was asked.
    let entry = unsafe { info.u.entry };
    Some(entry.nr == libc::SYS_setns as u64 && entry.args[1] == libc::CLONE_NEWUSER as u64)
}

/// Follows a helper, which has not cloned yet, up to where its child has just joined a user namespace; that child's PID.
/// It stays stopped, the helper runs on.
fn stop_in_user_namespace(helper: i32) -> i32 {
    let mut joining = false;
    loop {
        let (pid, signal, event) = stop();
        if pid == helper {
            assert_eq!(event, libc::PTRACE_EVENT_CLONE, "signal {signal}");
            request(libc::PTRACE_DETACH, pid, 0);
            continue;
        }
        if signal == AT_CALL {
            match joins_users(pid) {
                None if joining => return pid,
                None => {}
                Some(begins) => joining = begins,
            }
        }
        request(libc::PTRACE_SYSCALL, pid, 0);
    }
}

/// Looks into a process as the root of the user namespace, with all capabilities there.
fn look(user: &impl AsRawFd, pid: i32) -> Output {
    let namespace = format!("--user=/proc/{}/fd/{}", std::process::id(), user.as_raw_fd());
    let mut look = Command::new("nsenter");
    look.args([&namespace, "--setuid=0", "--setgid=0", "readlink", "--verbose", &format!("/proc/{pid}/root")]);
    look.output().expect("nsenter")
}

#[test]
fn the_root_of_the_user_namespace_cannot_look_into_an_init_that_has_the_hosts_root() {
    let range = [Range { inside: 0, outside: FIRST, length: LENGTH }];
    let user = userns::make(&range, &range).expect("user namespace");
    let mut fixture: Fixture = fixture("echo runs; sleep 1000");
    fixture.descriptors.push(user.try_clone().expect("descriptor"));
    let LaunchConfig::Youki(mut config) = fixture.youki() else { panic!("kind") };
    config.user_namespace_fd = Some(5);

    // The helper waits for the rest of its configuration until it is traced.
    let (configuration, mut rest) = pipe().expect("pipe");
    let started = fixture.start(&configuration);
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
    request(libc::PTRACE_SEIZE, started.pid(), options);
    let text = serde_json::to_vec(&LaunchConfig::Youki(config)).expect("json");
    rest.write_all(&text).expect("configuration");
    drop(rest);
    let init = stop_in_user_namespace(started.pid());
    let link = |name: &str| std::fs::read_link(format!("/proc/{init}/{name}")).expect("link");
    let users = rustix::fs::fstat(&user).expect("stat").st_ino;
    assert_eq!(link("ns/user").display().to_string(), format!("user:[{users}]"), "it has joined");
    let seen = look(&user, init);
    request(libc::PTRACE_DETACH, init, 0);
    let denied = String::from_utf8_lossy(&seen.stderr).contains("Permission denied");
    assert!(!seen.status.success() && denied, "{seen:?}");

    // The command is the container's own, and there for its root to be looked into.
    let mut launched = started.hear();
    assert_eq!(launched.read_until("runs\n"), "runs\n");
    let seen = look(&user, launched.pid());
    assert!(seen.status.success(), "{seen:?}");
    fixture.cgroup.kill_all().expect("kill");
    launched.finish();
}
