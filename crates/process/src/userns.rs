//! User namespaces and their ID maps.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::error::{Doing, Error, Result, check};
use crate::namespaces::Kinds;

pub use cricket_model::IdRange as Range;

/// Makes a user namespace that maps these users and groups, and returns its descriptor. No process stays in it. Wants
/// `CAP_SETUID`, `CAP_SETGID`, and `CAP_SYS_ADMIN` where root is mapped; the caller may have threads.
///
/// A child that shares the caller's memory makes it and waits; it ends with the caller's pipe, so also with the caller.
pub fn make(users: &[Range], groups: &[Range]) -> Result<OwnedFd> {
    Ok(make_with(users, groups, Kinds::NONE)?.0)
}

/// The same with other namespaces (any of network, IPC, UTS, cgroup) that it owns, in the order of [`Kinds::each`].
pub fn make_with(users: &[Range], groups: &[Range], kinds: Kinds) -> Result<(OwnedFd, Vec<(Kinds, OwnedFd)>)> {
    let action = || "make a user namespace";
    let possible = Kinds::NET.with(Kinds::IPC).with(Kinds::UTS).with(Kinds::CGROUP);
    if !possible.contains(kinds) {
        return Err(Error::invalid(action(), format!("it cannot be made together with these: {kinds}")));
    }
    let (wait, end) = io::pipe().doing(action)?;
    let mut waits: c_int = wait.as_raw_fd();
    let mut stack = vec![0_u128; STACK / 16];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    // No exit signal: nobody else is told of this child, and only `__WALL` waits for it.
    // The kernel makes the user namespace before the others, which so belong to it (clone(2)).
    let flags = libc::CLONE_VM | libc::CLONE_NEWUSER | kinds.bits();
    // SAFETY: signal sets are plain data that sigfillset and pthread_sigmask initialise.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
    // SAFETY: both sets are valid. The child inherits the mask, so that no handler of ours runs in it.
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
    }
    // SAFETY: the child has a stack of its own, which like the number outlives it: it is waited for below.
    let pid = check(unsafe { libc::clone(wait_for_end, top, flags, (&raw mut waits).cast()) }.into());
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    let pid = pid.doing(action)? as i32;
    let made = (|| {
        write_map(pid, "uid_map", users)?;
        write_map(pid, "gid_map", groups)?;
        let open = |name: &str| -> Result<OwnedFd> {
            let path = format!("/proc/{pid}/ns/{name}");
            Ok(File::open(&path).doing(|| format!("open {path}"))?.into())
        };
        let others = kinds.each().map(|(kind, name)| Ok((kind, open(name)?))).collect::<Result<_>>()?;
        Ok((open("user")?, others))
    })();
    drop(end);
    // SAFETY: no status is asked for. Whoever reaps all children may have taken it: then it has ended as well.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
    drop((stack, wait));
    made
}

const STACK: usize = 16 * 1024;

/// The child: only system calls, on descriptors of its own copy of the table. It keeps one: with the end of another
/// thread's pipe it would hold that one's child, and that child perhaps this one.
extern "C" fn wait_for_end(waits: *mut c_void) -> c_int {
    let mut byte = 0_u8;
    // SAFETY: `make_with` passes a number, an open descriptor, and waits for this child before it goes; the byte is this
    // function's own, and nobody else uses this table of descriptors.
    unsafe {
        let wait = *waits.cast::<c_int>();
        let kept = wait as libc::c_uint;
        if kept > 0 {
            libc::syscall(libc::SYS_close_range, 0, kept - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, kept + 1, libc::c_uint::MAX, 0);
        libc::read(wait, (&raw mut byte).cast(), 1);
        libc::_exit(0)
    }
}

fn write_map(pid: i32, name: &str, ranges: &[Range]) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    let lines: Vec<_> = ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.length)).collect();
    std::fs::write(&path, lines.concat()).doing(|| format!("write {path}"))
}

/// A line as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    inside: u64,
    outside: u64,
    length: u64,
}

/// How a user namespace's IDs are those of another (the reader's).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap(Vec<Extent>);

impl IdMap {
    /// The map that [`make`] gives a namespace.
    pub fn of(ranges: &[Range]) -> Self {
        let extent = |r: &Range| Extent { inside: r.inside.into(), outside: r.outside.into(), length: r.length.into() };
        Self(ranges.iter().map(extent).collect())
    }

    /// From the text of `/proc/PID/uid_map` or `gid_map`.
    pub fn parse(text: &str) -> Result<Self> {
        let extent = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            Some(Extent {
                inside: numbers.next()?.ok()?,
                outside: numbers.next()?.ok()?,
                length: numbers.next()?.ok()?,
            })
        };
        let extents: Option<_> = text.lines().map(extent).collect();
        extents.map(Self).ok_or_else(|| Error::invalid("read an ID map", "a line that is not three numbers"))
    }

    /// The reader's ID of an ID inside the namespace; `None` when it is not mapped.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        let inside = u64::from(inside);
        let extent = self.0.iter().find(|e| (e.inside..e.inside + e.length).contains(&inside))?;
        (extent.outside + (inside - extent.inside)).try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_without_a_process() {
        use std::os::unix::fs::MetadataExt;
        let range = Range { inside: 0, outside: 200_000, length: 65_536 };
        let at_once = || {
            let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(move || make(&[range], &[range]))).collect();
            threads.into_iter().map(|t| t.join().expect("join").expect("make")).collect::<Vec<_>>()
        };
        // Often: none holds the pipe of another.
        for _ in 1..50 {
            at_once();
        }
        let made = at_once();
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("stat").st_ino;
        assert_ne!(inode(&made[0]), inode(&made[1]));
        assert_ne!(inode(&made[0]), std::fs::metadata("/proc/self/ns/user").expect("own").ino());
        let bad = Range { inside: 0, outside: 0, length: 0 };
        assert!(make(&[bad], &[bad]).is_err());
    }

    #[test]
    fn others_belong_to_it() {
        let range = Range { inside: 0, outside: 200_000, length: 65_536 };
        let kinds = Kinds::NET.with(Kinds::UTS).with(Kinds::IPC);
        let (user, others) = make_with(&[range], &[range], kinds).expect("make");
        let made: Vec<_> = others.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(made, [Kinds::IPC, Kinds::UTS, Kinds::NET]);
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("stat").st_ino;
        for (kind, fd) in &others {
            // SAFETY: an open descriptor; the request takes no argument and returns a new descriptor (ioctl_nsfs(2)).
            let owner = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_USERNS) };
            assert!(owner >= 0, "{kind}: {}", io::Error::last_os_error());
            // SAFETY: it is new and nobody else's.
            let owner = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(owner) };
            assert_eq!(inode(&owner), inode(&user), "{kind}");
        }
        crate::namespaces::inside_all(others.iter().map(|(_, fd)| fd), || {
            crate::namespaces::set_hostname("owned")?;
            crate::namespaces::loopback_up()
        })
        .expect("set up");
        assert!(make_with(&[range], &[range], Kinds::PID).is_err());
    }

    /// `_IO(0xb7, 1)` of linux/nsfs.h.
    const NS_GET_USERNS: libc::Ioctl = 0xb701;

    #[test]
    fn maps() {
        let made = IdMap::of(&[Range { inside: 0, outside: 9, length: 2 }]);
        assert_eq!((made.outside(1), made.outside(2)), (Some(10), None));
        let map = IdMap::parse("         0     100000      65536\n     70000          5          1\n").expect("parse");
        assert_eq!(map.outside(0), Some(100_000));
        assert_eq!(map.outside(65_535), Some(165_535));
        assert_eq!(map.outside(65_536), None);
        assert_eq!(map.outside(70_000), Some(5));
        assert!(IdMap::parse("0 1").is_err());
        let own = std::fs::read_to_string("/proc/self/uid_map").expect("own map");
        assert_eq!(IdMap::parse(&own).expect("parse").outside(0), Some(0));
    }
}
