//! Starts a program with an exact descriptor table, out of a process that has threads.
//!
//! The child shares the parent's memory until it executes (`CLONE_VM | CLONE_VFORK`), so starting costs the same
//! however large the parent is. Between clone and execve it does nothing but system calls on data made before.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::error::{Doing, Error, Result, check};
use crate::pidfd::{ExitStatus, Pidfd};

/// A program to start.
#[derive(Debug)]
pub struct Spawn<'fd> {
    program: BorrowedFd<'fd>,
    argv: Vec<CString>,
    envp: Vec<CString>,
    fds: Vec<(c_int, BorrowedFd<'fd>)>,
    session: bool,
    invalid: Option<String>,
}

/// A started child; its exit signal is `SIGCHLD`. Dropping it neither kills nor reaps it.
#[derive(Debug)]
pub struct Child {
    /// Its PID.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: Pidfd,
}

impl Child {
    /// Waits for its end and reaps it.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        wait_reap(self.pid).doing(|| format!("wait for process {}", self.pid))
    }
}

impl<'fd> Spawn<'fd> {
    /// The program in the file `program` with these arguments, the first of which is its name; an empty environment;
    /// no descriptors; working directory `/`; default signal dispositions, empty signal mask.
    pub fn new(program: &'fd impl AsFd, argv: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut spawn = Self {
            program: program.as_fd(),
            argv: Vec::new(),
            envp: Vec::new(),
            fds: Vec::new(),
            session: false,
            invalid: None,
        };
        spawn.argv = argv.into_iter().filter_map(|arg| spawn.string(arg.as_ref())).collect();
        spawn
    }

    /// Adds `NAME=value`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        if let Some(entry) = self.string(&format!("{name}={value}")) {
            self.envp.push(entry);
        }
        self
    }

    /// Gives the child `fd` under `number`. A later one of the same number replaces an earlier one.
    pub fn fd(mut self, number: i32, fd: &'fd impl AsFd) -> Self {
        if !(0..1024).contains(&number) {
            self.invalid = Some(format!("descriptor number {number}"));
        }
        self.fds.retain(|(taken, _)| *taken != number);
        self.fds.push((number, fd.as_fd()));
        self
    }

    /// Makes the child the leader of a new session.
    pub fn session(mut self) -> Self {
        self.session = true;
        self
    }

    fn string(&mut self, text: &str) -> Option<CString> {
        CString::new(text).inspect_err(|_| self.invalid = Some("a string with a NUL byte".into())).ok()
    }

    /// Starts it. When this returns, the program is executing, or it never did.
    pub fn spawn(self) -> Result<Child> {
        let action = || match self.argv.first() {
            Some(name) => format!("start {}", name.to_string_lossy()),
            None => "start a program".to_owned(),
        };
        if let Some(reason) = &self.invalid {
            return Err(Error::invalid(action(), reason.clone()));
        }
        if self.argv.is_empty() {
            return Err(Error::invalid(action(), "no argv[0]"));
        }
        if self.fds.len() > MAX_FDS {
            return Err(Error::invalid(action(), format!("more than {MAX_FDS} descriptors")));
        }
        let mut sources: Vec<_> = self.fds.iter().map(|(number, fd)| (*number, fd.as_raw_fd())).collect();
        sources.sort_unstable();
        let plan = Plan {
            program: self.program.as_raw_fd(),
            argv: pointers(&self.argv),
            envp: pointers(&self.envp),
            above: sources.last().map_or(0, |(number, _)| number + 1),
            sources,
            session: self.session,
            error: 0,
        };
        run(plan).doing(action)
    }
}

/// Everything the child needs, made before the clone.
struct Plan {
    program: c_int,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// (number in the child, descriptor of ours), by number.
    sources: Vec<(c_int, c_int)>,
    /// First number after those.
    above: c_int,
    session: bool,
    /// Written by the child when it fails: an errno.
    error: c_int,
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Most descriptors that a child can be given.
const MAX_FDS: usize = 128;
/// The child calls nothing but the kernel.
const STACK: usize = 16 * 1024;

fn run(mut plan: Plan) -> io::Result<Child> {
    // A part of this thread's own stack, not zeroed: memory that is mapped for it would cost faults, and other processors
    // an interrupt when it goes.
    let mut stack = [const { MaybeUninit::<u128>::uninit() }; STACK / 16];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: signal sets are plain data that sigfillset and pthread_sigmask initialise.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // No handler of ours may run in the child while it shares our memory.
    // SAFETY: both sets are valid; only this thread's mask changes, and it is restored below.
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
    }
    // SAFETY: `child` gets a stack of its own whose end is `top` (the stack grows down, 16-byte aligned), and the plan.
    // Both outlive it: CLONE_VFORK holds this thread until the child has executed or ended.
    let pid = unsafe { libc::clone(child, top, flags, (&raw mut plan).cast(), &raw mut pidfd) };
    let cloned = check(pid.into());
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    cloned?;
    // SAFETY: clone succeeded, so it stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: the child wrote it, if at all, before this thread went on; volatile because the compiler cannot see that.
    let error = unsafe { ptr::read_volatile(&raw const plan.error) };
    if error != 0 {
        // A parent that reaps all its children may have taken this one as well.
        let _ = wait_reap(pid);
        return Err(io::Error::from_raw_os_error(error));
    }
    Ok(Child { pid, pidfd: Pidfd::from_clone(pidfd) })
}

/// The child. Only async-signal-safe calls: other threads of the parent may hold any lock.
extern "C" fn child(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan>();
    // SAFETY: `run` passes its plan, and its thread waits as long as this function runs.
    unsafe {
        let error = prepare_and_execute(&*plan);
        ptr::write_volatile(&raw mut (*plan).error, error);
        libc::_exit(127)
    }
}

/// Returns an errno: success does not return.
///
/// # Safety
/// Only in a child that shares nothing but memory with its parent.
unsafe fn prepare_and_execute(plan: &Plan) -> c_int {
    // SAFETY: system calls on integers and on memory of the plan.
    unsafe {
        if plan.session && libc::setsid() == -1 {
            return errno();
        }
        if libc::chdir(c"/".as_ptr()) == -1 {
            return errno();
        }
        // First out of the way of the target numbers, then into place: sources may be targets of others.
        let program = libc::fcntl(plan.program, libc::F_DUPFD_CLOEXEC, plan.above);
        if program == -1 {
            return errno();
        }
        let mut spare = [-1; MAX_FDS];
        for (slot, (_, source)) in spare.iter_mut().zip(&plan.sources) {
            *slot =
                if *source < plan.above { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, plan.above) } else { *source };
            if *slot == -1 {
                return errno();
            }
        }
        let mut next = 0;
        for (slot, (number, _)) in spare.iter().zip(&plan.sources) {
            if *number > next {
                close_range(next, *number - 1, 0);
            }
            if libc::dup2(*slot, *number) == -1 {
                return errno();
            }
            next = number + 1;
        }
        // The rest stays for the moment of execve: `program` is among them.
        if close_range(next, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC as c_int) == -1 {
            return errno();
        }
        // Only now, with nothing left to do: handlers of the parent would run on this stack.
        if crate::signals::reset().is_err() {
            return errno();
        }
        let empty = c"".as_ptr();
        libc::syscall(libc::SYS_execveat, program, empty, plan.argv.as_ptr(), plan.envp.as_ptr(), libc::AT_EMPTY_PATH);
        errno()
    }
}

unsafe fn close_range(first: c_int, last: c_int, flags: c_int) -> libc::c_long {
    // SAFETY: the caller owns the descriptor table.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }
}

fn errno() -> c_int {
    // SAFETY: the calling thread's own errno; the child shares its parent's, which waits meanwhile.
    unsafe { *libc::__errno_location() }
}

fn wait_reap(pid: i32) -> io::Result<ExitStatus> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the status word.
        match check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }.into()) {
            Ok(_) => return Ok(ExitStatus::from_wait_status(status)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    fn shell() -> File {
        File::open("/bin/sh").expect("open the shell")
    }

    fn output(script: &str, arrange: impl for<'a> FnOnce(Spawn<'a>) -> Spawn<'a>) -> (String, i32) {
        let (mut reader, writer) = io::pipe().expect("pipe");
        let (shell, null) = (shell(), File::open("/dev/null").expect("null"));
        let spawn = Spawn::new(&shell, ["sh", "-c", script]).fd(0, &null).fd(1, &writer).fd(2, &writer);
        let mut child = arrange(spawn).spawn().expect("spawn");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        (text, child.wait().expect("wait").shell_code())
    }

    #[test]
    fn descriptors_are_exact() {
        let _noise: Vec<_> = (0..20).map(|_| File::open("/dev/null").expect("open").into_raw()).collect();
        let (text, code) = output(
            "n=0; while [ $n -lt 64 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n + 1)); done; exit 3",
            |spawn| spawn,
        );
        assert_eq!(text, "0\n1\n2\n");
        assert_eq!(code, 3);
    }

    trait Leak {
        fn into_raw(self) -> OwnedFd;
    }

    impl Leak for File {
        /// Without close-on-exec, as a careless library would open it.
        fn into_raw(self) -> OwnedFd {
            let fd = OwnedFd::from(self);
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).expect("flags");
            fd
        }
    }

    #[test]
    fn numbers_may_be_each_others_sources() {
        let (first, second) = (io::pipe().expect("pipe"), io::pipe().expect("pipe"));
        let (shell, null) = (shell(), File::open("/dev/null").expect("null"));
        let (a, b) = (first.1.as_raw_fd(), second.1.as_raw_fd());
        let mut child = Spawn::new(&shell, ["sh", "-c", &format!("echo b >&{a}; echo a >&{b}")])
            .fd(0, &null)
            .fd(1, &null)
            .fd(2, &null)
            .fd(a, &second.1)
            .fd(b, &first.1)
            .spawn()
            .expect("spawn");
        assert_eq!(child.wait().expect("wait").shell_code(), if a < 10 && b < 10 { 0 } else { 2 });
    }

    #[test]
    fn signals_are_reset() {
        // SIGPIPE is ignored in every Rust program; the child must not inherit that.
        let (text, _) = output("grep -E '^Sig(Ign|Blk)' /proc/self/status", |spawn| spawn);
        let values: Vec<_> = text.split_whitespace().skip(1).step_by(2).collect();
        assert_eq!(values, ["0000000000000000"; 2]);
    }

    #[test]
    fn environment_session_and_directory() {
        let (text, code) =
            output("echo $A; pwd; [ $$ = $(cut -d' ' -f6 /proc/$$/stat) ]", |spawn| spawn.env("A", "b c").session());
        assert_eq!((text.as_str(), code), ("b c\n/\n", 0));
    }

    #[test]
    fn failure_to_execute_is_an_error() {
        let file = File::open("/etc/passwd").expect("open");
        let error = Spawn::new(&file, ["passwd"]).spawn().expect_err("not a program");
        assert_eq!(error.errno(), Some(libc::EACCES));
        assert!(Spawn::new(&file, ["a\0b"]).spawn().is_err());
    }

    #[test]
    fn works_while_other_threads_allocate_and_spawn() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..25 {
                        assert_eq!(output("echo x", |spawn| spawn), ("x\n".to_owned(), 0));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("join");
        }
    }
}
