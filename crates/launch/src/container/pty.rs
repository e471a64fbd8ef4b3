//! In the init: a terminal in the container's own devpts, so that its path is the container's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cricket_process::detached;
use cricket_wire::exec_config::TerminalSize;
use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, fchown, fstat, makedev, openat2};
use rustix::termios::{Winsize, tcsetwinsize};

use super::inside::{self, Kind};
use crate::error::Error;
use crate::sys;

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS: u64 = 0x1cd1;

/// Makes a terminal; its slave becomes the controlling terminal and stdio of this process, which leads a session, and
/// `/dev/console` of the container where `/dev` is its own. Returns the master.
pub(super) fn make(
    root: BorrowedFd<'_>,
    size: Option<TerminalSize>,
    owner: u32,
    console: bool,
) -> Result<OwnedFd, Error> {
    let master = open_master(root)?;
    let failed = |what: &'static str| move |e: rustix::io::Errno| Error::io(what, e);
    let slave = sys::terminal_peer(&master).map_err(|e| Error::io("open the terminal", e))?;
    if let Some(size) = size {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).map_err(failed("set the terminal's size"))?;
    }
    let group = fstat(&slave).map_err(failed("look at the terminal"))?.st_gid;
    fchown(&slave, Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)))
        .map_err(failed("give the terminal to the user"))?;
    if console {
        // On the descriptor that was opened here, never on a path that may have become another (CVE-2025-52565).
        let place = inside::make(root, Path::new("/dev/console"), Kind::File)
            .map_err(|e| Error::content(format!("make /dev/console: {e}")))?;
        detached::clone_at(&slave, false)
            .and_then(|tree| detached::attach(tree, place))
            .map_err(|e| Error::host(format!("mount /dev/console: {}", e.to_line())))?;
    }
    rustix::process::ioctl_tiocsctty(&slave).map_err(failed("take the terminal as controlling terminal"))?;
    sys::become_stdio(slave.as_fd()).map_err(|e| Error::io("use the terminal as stdio", e))?;
    Ok(master)
}

fn open_master(root: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let blame = |e: rustix::io::Errno| {
        Error::content(format!("open /dev/pts/ptmx of the container: {}", std::io::Error::from(e)))
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // Looked at before it is opened really: any device may lie there.
    let found = openat2(root, "dev/pts/ptmx", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).map_err(blame)?;
    check(found.as_fd())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat2(root, "dev/pts/ptmx", flags, Mode::empty(), resolve).map_err(blame)?;
    check(master.as_fd())?;
    Ok(master)
}

fn check(fd: BorrowedFd<'_>) -> Result<(), Error> {
    let stat = fstat(fd).map_err(|e| Error::io("look at /dev/pts/ptmx", e))?;
    let magic = detached::file_system(fd).map_err(|e| Error::host(e.to_line()))?;
    match magic == DEVPTS && stat.st_rdev == makedev(5, 2) {
        true => Ok(()),
        false => Err(Error::content("/dev/pts/ptmx of the container is not a terminal multiplexer")),
    }
}
