//! Clones this process, which has one thread: with a copy of its memory, or with the memory itself as vfork(2) does, which
//! spares the copy of the page tables and the faults that follow it on both sides.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What makes the child differ.
#[derive(Debug, Default)]
pub(crate) struct Clone<'fd> {
    /// It is the init of a new PID namespace.
    pub(crate) new_pid_namespace: bool,
    /// It starts in this cgroup (v2).
    pub(crate) cgroup: Option<BorrowedFd<'fd>>,
}

/// On which side of the clone the caller is.
pub(crate) enum Side {
    /// The helper, with the child's PID as it sees it.
    Parent(i32),
    /// The child.
    Child,
}

impl Clone<'_> {
    /// Makes a child of this process's *parent*, with a copy of this process's memory.
    pub(crate) fn run(&self) -> io::Result<Side> {
        let args = self.arguments();
        // SAFETY: memory is copied, not shared, and this process has one thread, so that no lock is held by another;
        // both sides go on as after fork(2).
        match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) } {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(Side::Child),
            pid => Ok(Side::Parent(pid as i32)),
        }
    }

    /// Makes a child of this process's *parent* that runs `child` in this process's own memory. Returns the child's PID once
    /// it has executed a program or ended: until then this process rests.
    ///
    /// What `child` writes stays written here; descriptors and all that the kernel keeps for a process are its own.
    pub(crate) fn run_sharing<C: Fn() -> Infallible>(&self, child: &C) -> io::Result<i32> {
        #[cfg(target_arch = "x86_64")]
        {
            let mut stack = Vec::<u128>::with_capacity(STACK / size_of::<u128>());
            let mut args = self.arguments();
            args.flags |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
            (args.stack, args.stack_size) = (stack.as_mut_ptr().addr() as u64, STACK as u64);
            // SAFETY: the stack is this call's own and outlives the child's use of it, as does `child`, for the kernel holds
            // this process until the child has left the memory; `begin::<C>` is given what it expects and never returns.
            let result = unsafe { clone3(&args, begin::<C>, std::ptr::from_ref(child).cast()) };
            i32::try_from(result)
                .ok()
                .filter(|pid| *pid > 0)
                .ok_or_else(|| io::Error::from_raw_os_error(-result as i32))
        }
        #[cfg(not(target_arch = "x86_64"))]
        match self.run()? {
            Side::Child => run(child),
            Side::Parent(pid) => Ok(pid),
        }
    }

    fn arguments(&self) -> libc::clone_args {
        // SAFETY: a structure of integers, for which zero is a value.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        // The exit signal of such a child is that of this process, so it has to be given as 0.
        args.flags = libc::CLONE_PARENT as u64;
        if self.new_pid_namespace {
            args.flags |= libc::CLONE_NEWPID as u64;
        }
        if let Some(cgroup) = self.cgroup {
            // Bit 33: above what fits the flags of clone(2).
            args.flags |= 0x2_0000_0000;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        args
    }
}

/// The stack of a child that shares the memory, in bytes: pages that it does not touch take none.
#[cfg(target_arch = "x86_64")]
const STACK: usize = 256 * 1024;

/// Where such a child begins.
#[cfg(target_arch = "x86_64")]
extern "C" fn begin<C: Fn() -> Infallible>(child: *const std::ffi::c_void) -> ! {
    // SAFETY: `run_sharing` passes its `child`, and waits.
    run(unsafe { &*child.cast::<C>() })
}

fn run<C: Fn() -> Infallible>(child: &C) -> ! {
    match child() {}
}

/// clone3(2) with a stack of the child's own, on which it calls `entry` with `data`. Returns the PID, or an errno negated.
///
/// # Safety
/// `args` names a stack that nobody else uses, whose end is aligned to 16 bytes; with `CLONE_VM` this process must wait
/// (`CLONE_VFORK`), and what `data` points to is valid meanwhile.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(
    args: &libc::clone_args,
    entry: extern "C" fn(*const std::ffi::c_void) -> !,
    data: *const std::ffi::c_void,
) -> i64 {
    let result: i64;
    // SAFETY: the parent goes on behind the block, with its registers as they were but those that a system call changes.
    // The child has an empty stack and never comes back; frame pointer zero ends its chain of frames.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") data,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn wait(pid: i32) -> i32 {
        let mut status = 0;
        // SAFETY: a place for the status.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        if waited == pid { libc::WEXITSTATUS(status) } else { -1 }
    }

    #[test]
    fn a_child_in_the_same_memory_is_done_when_the_call_returns() {
        // From a process of one thread, as the helper is.
        let seen = Cell::new(0);
        let child = || -> Infallible {
            seen.set(seen.get() + 7);
            // SAFETY: ends the child.
            unsafe { libc::_exit(3) }
        };
        for round in 1..=3 {
            // SAFETY: the copy of this process calls the kernel only, and ends.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let made = Clone::default().run_sharing(&child);
                let right = made.is_ok_and(|pid| pid > 0) && seen.get() == 7;
                // SAFETY: as above.
                unsafe { libc::_exit(if right { 0 } else { 1 }) }
            }
            assert_eq!(wait(pid), 0, "round {round}");
        }
        assert_eq!(seen.get(), 0, "the copies had memory of their own");
    }
}
