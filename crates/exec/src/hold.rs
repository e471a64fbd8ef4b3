//! A process that only lives, as `cricket-hold`: systemd makes a scope around a process that is there, and removes it with
//! the last one. It ends when its standard input does, so that it never outlives the daemon that started it.

use std::ffi::CStr;

use crate::descriptor;

/// `argv[0]` that selects it.
pub(crate) const NAME_C: &CStr = c"cricket-hold";

/// Returns at the end; true: that was asked for.
pub(crate) fn run() -> bool {
    let Ok(input) = descriptor::borrow(0) else { return false };
    loop {
        match rustix::io::read(input, &mut [0; 8]) {
            Ok(0) => return true,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
