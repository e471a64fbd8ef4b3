//! Session keyrings, see session-keyring(7).

use std::ptr;

use crate::attr;
use crate::error::{Doing, Result, check};

/// Gives the calling process a new, empty session keyring, so that it does not see its parent's keys; with an SELinux
/// label where one is given.
///
/// Returns false where the kernel has no keyrings.
pub fn new_session(label: Option<&str>) -> Result<bool> {
    let Some(label) = label else { return make() };
    let action = || format!("label the session keyring {label:?}");
    let file = attr::open("keycreate")?;
    rustix::io::write(&file, label.as_bytes()).doing(action)?;
    let made = make()?;
    // Keys that are made later are labelled as the policy says.
    rustix::io::write(&file, b"\n").doing(action)?;
    Ok(made)
}

fn make() -> Result<bool> {
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
            super::new_session(None).expect("keyring");
            // SAFETY: integers only; -3 is KEY_SPEC_SESSION_KEYRING.
            unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_GET_KEYRING_ID, -3, 0) }
        };
        let (first, second) = std::thread::spawn(move || (session(), session())).join().expect("join");
        assert!(first == -1 || first != second, "{first} {second}");
    }
}
