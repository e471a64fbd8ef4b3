//! Session keyrings, see session-keyring(7).

use std::ptr;

use crate::error::{Doing, Result, check};

/// Gives the calling process a new, empty session keyring, so that it does not see its parent's keys.
///
/// Returns false where the kernel has no keyrings.
pub fn new_session() -> Result<bool> {
    // SAFETY: the null pointer asks for an anonymous keyring.
    let made = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<u8>()) };
    match check(made) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(false),
        Err(error) => Err(error).doing(|| "make a session keyring"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn keyrings_differ() {
        let session = || {
            super::new_session().expect("keyring");
            // SAFETY: integers only; -3 is KEY_SPEC_SESSION_KEYRING.
            unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_GET_KEYRING_ID, -3, 0) }
        };
        let (first, second) = std::thread::spawn(move || (session(), session())).join().expect("join");
        assert!(first == -1 || first != second, "{first} {second}");
    }
}
