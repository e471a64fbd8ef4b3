//! A terminal in the container's devpts, so that its path is the container's own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use cricket_wire::exec_config::TerminalSize;
use rustix::fs::{CWD, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, fstat, fstatfs, openat2};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::failure::{Doing, Failure};

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS: u64 = 0x1cd1;

/// Makes a terminal; the caller's root is the container's. The slave becomes the controlling terminal of the caller,
/// which leads a session, and its descriptors 0–2. Returns the master.
pub(crate) fn make(size: TerminalSize, owner: u32) -> Result<OwnedFd, Failure> {
    let master = open_master()?;
    let slave = open_slave(&master).doing("open the terminal")?;
    if size != TerminalSize::default() {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).doing("set the terminal's size")?;
    }
    let group = fstat(&slave).doing("look at the terminal")?.st_gid;
    fchown(&slave, Some(Uid::from_raw(owner)), Some(Gid::from_raw(group))).doing("give the terminal to the user")?;
    rustix::process::ioctl_tiocsctty(&slave).doing("take the terminal as controlling terminal")?;
    become_stdio(&slave).doing("use the terminal as stdio")?;
    Ok(master)
}

fn open_master() -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // Looked at before it is opened really: any device may lie there.
    let path = "/dev/pts/ptmx";
    let action = "open /dev/pts/ptmx of the container";
    let blame = |error: rustix::io::Errno| Failure::content(format!("{action}: {}", io::Error::from(error)));
    let found = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).map_err(blame)?;
    is_devpts(found.as_fd())?;
    let master = openat2(CWD, path, flags, Mode::empty(), resolve).map_err(blame)?;
    is_devpts(master.as_fd())?;
    Ok(master)
}

/// By ioctl: the path of the slave is the container's to change.
fn open_slave(master: &OwnedFd) -> io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads an integer.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes flags by value.
    match unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor that nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

fn is_devpts(fd: std::os::fd::BorrowedFd<'_>) -> Result<(), Failure> {
    let stat = fstat(fd).doing("look at /dev/pts/ptmx")?;
    let device = rustix::fs::makedev(5, 2);
    let magic = fstatfs(fd).doing("look at /dev/pts")?.f_type as u64;
    match magic == DEVPTS && stat.st_rdev == device {
        true => Ok(()),
        false => Err(Failure::content("/dev/pts/ptmx of the container is not a terminal multiplexer")),
    }
}

fn become_stdio(slave: &OwnedFd) -> io::Result<()> {
    for number in 0..3 {
        // SAFETY: integers; this process's own stdio is not used any more.
        if unsafe { libc::dup2(slave.as_raw_fd(), number) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
