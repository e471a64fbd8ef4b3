//! The size of a process's terminal: there are two, cricket's and behind it the one that the shim made for the process.
//! What waits for the process has the first one as its controlling terminal, so that the kernel tells it of each change
//! (SIGWINCH, ioctl_tty(2)), whoever changed it.

use cricket_shim::{Bootstrap, Result, Task};
use rustix::termios::{Winsize, tcgetwinsize};

use crate::sys::Awaited;

/// Has a thread pass on each size of the terminal at descriptor 0. To be called before any other thread is started, by
/// a process that leads no process group. Where that fails the terminal keeps the size it has.
pub(super) fn follow(shim: &Bootstrap, id: &str, exec_id: &str) {
    // SIGHUP says that nobody has the other side of the terminal any more; what is waited for goes on.
    let Ok(changes) = Awaited::new(&[libc::SIGWINCH, libc::SIGHUP]) else { return };
    let taken = rustix::process::setsid().and_then(|_| rustix::process::ioctl_tiocsctty(crate::sys::stdio(0)));
    if taken.is_err() {
        return;
    }
    let (shim, id, exec_id) = (shim.clone(), id.to_owned(), exec_id.to_owned());
    // It ends with this process.
    std::thread::spawn(move || {
        let mut told = (0, 0);
        loop {
            // There may have been changes already.
            if let Ok(Winsize { ws_col, ws_row, .. }) = tcgetwinsize(crate::sys::stdio(0))
                && (ws_col, ws_row) != told
                && resize(&shim, &id, &exec_id, ws_col, ws_row).is_ok()
            {
                told = (ws_col, ws_row);
            }
            if !matches!(changes.next(), Ok(libc::SIGWINCH)) {
                return;
            }
        }
    });
}

fn resize(shim: &Bootstrap, id: &str, exec_id: &str, width: u16, height: u16) -> Result<()> {
    Task::connect(shim)?.resize(id, exec_id, width, height)
}
