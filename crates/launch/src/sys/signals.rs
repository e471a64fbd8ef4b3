//! Signals that are waited for instead of being handled.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;

/// Signals that interrupt nobody: each stays pending until somebody waits for it.
#[derive(Clone, Copy)]
pub(crate) struct Awaited(libc::sigset_t);

impl Awaited {
    /// Blocks these for this thread and those that it starts from now on.
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset(3) initialises the set.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            &mut set.assume_init()
        };
        for &signal in signals {
            // SAFETY: an initialised set.
            if unsafe { libc::sigaddset(set, signal) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: an initialised set, and nothing is asked back.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set, std::ptr::null_mut()) } {
            0 => Ok(Self(*set)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Waits for one, and tells which.
    pub(crate) fn next(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: an initialised set, and an integer to write to.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } {
            0 => Ok(signal),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}
