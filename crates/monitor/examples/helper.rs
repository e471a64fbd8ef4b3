//! A helper for the tests: follows the protocol of `cricket_wire::helper` and makes no container.
//!
//! `helper [early] [late] [own] [tty] [fail] [crash] [hang] [nothing] [refuse] [abort] [status]`; the configuration is a
//! shell script, which becomes the "init". The last three happen after the report: a second one, a crash, a bad exit status.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use cricket_wire::helper::{Blame, CONFIG_FD, Failure, NO_PROCESS, REPORT_FD, Report};
use cricket_wire::packet;

fn main() {
    let has = |word: &str| std::env::args().skip(1).any(|arg| arg == word);
    // SAFETY: the protocol says what these numbers are, and nothing else here owns them.
    let (report, config) = unsafe { (OwnedFd::from_raw_fd(REPORT_FD), File::from_raw_fd(CONFIG_FD)) };
    rustix::io::fcntl_setfd(&report, rustix::io::FdFlags::CLOEXEC).expect("cloexec");
    rustix::io::fcntl_setfd(&config, rustix::io::FdFlags::CLOEXEC).expect("cloexec");
    let mut script = String::new();
    { config }.read_to_string(&mut script).expect("read the script");
    if has("hang") {
        std::thread::sleep(Duration::from_secs(600));
    }
    if has("crash") {
        std::process::abort();
    }
    if has("fail") {
        let blame = Blame::Command.into();
        let error = Some(Failure { message: format!("no such command: {script}"), blame, shell_status: 127 });
        return send(&report, &Report { error, ..Report::default() }, &[]);
    }
    if has("nothing") {
        return send(&report, &Report { pid: NO_PROCESS, ..Report::default() }, &[]);
    }
    let terminal = has("tty").then(terminal);
    let pid = start(&script, terminal.as_ref().map(|(_, slave)| slave), has("own"));
    if has("late") {
        // The init may have ended long before anybody hears of it.
        std::thread::sleep(Duration::from_millis(200));
    }
    let master: Vec<BorrowedFd<'_>> = terminal.iter().map(|(master, _)| master.as_fd()).collect();
    send(&report, &Report { pid, error: None, terminal: !master.is_empty() }, &master);
    if has("early") {
        // The report comes before this helper's end.
        std::thread::sleep(Duration::from_millis(200));
    }
    if has("refuse") {
        let blame = Blame::Command.into();
        let error = Some(Failure { message: "exec format error".to_owned(), blame, shell_status: 126 });
        send(&report, &Report { pid, error, terminal: false }, &[]);
        std::process::exit(1);
    }
    if has("abort") {
        std::process::abort();
    }
    if has("status") {
        std::process::exit(3);
    }
}

fn send(report: &OwnedFd, message: &Report, fds: &[BorrowedFd<'_>]) {
    packet::send(report, message, fds).expect("send the report");
}

fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: openpty stores two new descriptors, which nobody else owns; the other arguments may be null.
    unsafe {
        assert_eq!(libc::openpty(&raw mut master, &raw mut slave, null, null.cast(), null.cast()), 0);
        (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}

/// Makes a child of this process's parent, as launch and exec do; or one of its own, which the parent inherits.
fn start(script: &str, terminal: Option<&OwnedFd>, own: bool) -> i32 {
    let argv = ["sh", "-c", script].map(|arg| CString::new(arg).expect("no NUL"));
    let pointers = [argv[0].as_ptr(), argv[1].as_ptr(), argv[2].as_ptr(), std::ptr::null()];
    let environment = [c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".as_ptr(), std::ptr::null()];
    let parent = if own { 0 } else { libc::CLONE_PARENT };
    // SAFETY: this process has one thread; without CLONE_VM the child has a copy of everything.
    let pid = unsafe { libc::syscall(libc::SYS_clone, parent | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        if let Some(slave) = terminal {
            rustix::stdio::dup2_stdin(slave).expect("dup2");
            rustix::stdio::dup2_stdout(slave).expect("dup2");
            rustix::stdio::dup2_stderr(slave).expect("dup2");
        }
        // SAFETY: SIGPIPE is ignored in Rust programs; the arrays live until execve, and end with a null pointer.
        unsafe {
            libc::setsid();
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::execve(c"/bin/sh".as_ptr(), pointers.as_ptr(), environment.as_ptr());
            libc::_exit(126)
        }
    }
    i32::try_from(pid).expect("a PID")
}
