//! Seccomp filters: loading compiled programs and, with the feature `compile`, compiling OCI profiles.

#[cfg(feature = "compile")]
mod compile;
mod profile;
#[cfg(feature = "compile")]
mod prologue;

use std::io;

#[cfg(feature = "compile")]
pub use compile::compile;
pub use profile::{Arg, Profile, Syscalls};

use crate::error::{Doing, Error, Result, check};

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    bytes: Vec<u8>,
}

/// Size of `struct sock_filter`.
const INSTRUCTION: usize = 8;
/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

impl Program {
    /// From the bytes of `struct sock_filter` entries; `InvalidInput` where they cannot be a filter. The kernel checks
    /// the instructions when it is loaded.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        match bytes.len().is_multiple_of(INSTRUCTION) && (1..=MAX_INSTRUCTIONS).contains(&(bytes.len() / INSTRUCTION)) {
            true => Ok(Self { bytes }),
            false => Err(Error::invalid(format!("take {} bytes as a seccomp program", bytes.len()), "wrong size")),
        }
    }

    /// The bytes, in this machine's order.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Loads it for the calling thread, with `SECCOMP_FILTER_FLAG_*` bits. Wants `no_new_privs` or `CAP_SYS_ADMIN`.
    pub fn load(&self, flags: u32) -> Result<()> {
        let action = || "load a seccomp program";
        // A new-listener flag makes the call return a descriptor that nobody would serve.
        if u64::from(flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
            return Err(Error::invalid(action(), "notifications are not supported"));
        }
        // Instructions are four-byte aligned structures; the bytes may be anywhere.
        let filter: Vec<libc::sock_filter> = self.bytes.chunks_exact(INSTRUCTION).map(instruction).collect();
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the kernel reads `len` instructions; both structures live through the call.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        match check(result).doing(action)? {
            0 => Ok(()),
            thread => Err(Error::new(action(), io::Error::other(format!("thread {thread} cannot be synchronised")))),
        }
    }
}

fn instruction(bytes: &[u8]) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}

/// Whether the kernel has seccomp filters.
pub(crate) fn available() -> bool {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: asks about an action; loads nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert!(Program::from_bytes(Vec::new()).is_err());
        assert!(Program::from_bytes(vec![0; 12]).is_err());
        assert!(Program::from_bytes(vec![0; 4097 * 8]).is_err());
    }

    #[test]
    fn a_program_decides() {
        // ld nr; if it is getppid: errno 42; allow.
        let filter = [
            (0x20_u16, 0, 0, 0_u32),
            (0x15, 0, 1, libc::SYS_getppid as u32),
            (0x06, 0, 0, 0x0005_0000 | 42),
            (0x06, 0, 0, 0x7fff_0000),
        ];
        let mut bytes = Vec::new();
        for (code, jt, jf, k) in filter {
            bytes.extend(code.to_ne_bytes());
            bytes.extend([jt, jf]);
            bytes.extend(k.to_ne_bytes());
        }
        let program = Program::from_bytes(bytes).expect("program");
        std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).expect("no_new_privs");
            program.load(0).expect("load");
            // SAFETY: no arguments.
            assert_eq!(unsafe { libc::syscall(libc::SYS_getppid) }, -1);
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(42));
        })
        .join()
        .expect("join");
        assert!(available());
    }
}
