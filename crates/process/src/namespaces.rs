//! Namespaces: making them on a thread of their own, and what is set inside them.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::error::{Doing, Error, Result, check};

/// Kinds of namespaces, a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Kinds(i32);

/// One kind with its name in `/proc/PID/ns`.
const KINDS: [(Kinds, &str); 7] = [
    (Kinds::USER, "user"),
    (Kinds::CGROUP, "cgroup"),
    (Kinds::IPC, "ipc"),
    (Kinds::UTS, "uts"),
    (Kinds::NET, "net"),
    (Kinds::PID, "pid"),
    (Kinds::MOUNT, "mnt"),
];

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);
    /// cgroup_namespaces(7).
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP);
    /// ipc_namespaces(7).
    pub const IPC: Self = Self(libc::CLONE_NEWIPC);
    /// mount_namespaces(7).
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS);
    /// network_namespaces(7).
    pub const NET: Self = Self(libc::CLONE_NEWNET);
    /// pid_namespaces(7).
    pub const PID: Self = Self(libc::CLONE_NEWPID);
    /// user_namespaces(7).
    pub const USER: Self = Self(libc::CLONE_NEWUSER);
    /// uts_namespaces(7).
    pub const UTS: Self = Self(libc::CLONE_NEWUTS);

    /// The `CLONE_NEW*` bits.
    pub fn bits(self) -> i32 {
        self.0
    }

    /// From `CLONE_NEW*` bits; others are left out.
    pub fn from_bits(bits: i32) -> Self {
        KINDS.into_iter().filter(|(kind, _)| bits & kind.0 != 0).fold(Self::NONE, |all, (kind, _)| all.with(kind))
    }

    /// Those of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` are among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them with its file's name in `/proc/PID/ns`, user namespaces first.
    pub fn each(self) -> impl Iterator<Item = (Self, &'static str)> {
        KINDS.into_iter().filter(move |(kind, _)| self.contains(*kind))
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.each().map(|(_, name)| name).collect();
        f.write_str(&names.join(", "))
    }
}

/// Makes new namespaces of `kinds` (any of network, IPC, UTS, cgroup) and returns a descriptor of each, in the order
/// of [`Kinds::each`]. `setup` runs inside them, on the thread that is made for this; its error is this one's.
///
/// The caller's thread blocks meanwhile (a network namespace takes the kernel about half a millisecond).
pub fn make<T: Send>(kinds: Kinds, setup: impl FnOnce() -> Result<T> + Send) -> Result<(Vec<(Kinds, OwnedFd)>, T)> {
    let action = || format!("make namespaces ({kinds})");
    let possible = Kinds::NET.with(Kinds::IPC).with(Kinds::UTS).with(Kinds::CGROUP);
    if !possible.contains(kinds) {
        return Err(Error::invalid(action(), "a thread cannot make these"));
    }
    let inside = || {
        // SAFETY: none of the possible kinds affects memory or the descriptor table; the thread ends right after.
        unsafe { unshare_unsafe(UnshareFlags::from_bits_retain(kinds.bits() as u32)) }.doing(action)?;
        let value = setup()?;
        let open = |(kind, name)| {
            let path = format!("/proc/thread-self/ns/{name}");
            Ok((kind, File::open(&path).doing(|| format!("open {path}"))?.into()))
        };
        Ok((kinds.each().map(open).collect::<Result<_>>()?, value))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespaces".into()).spawn_scoped(scope, inside).doing(action)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `work` on a thread that has joined the namespace `fd` (network, IPC, UTS or cgroup); the thread ends with it.
pub fn inside<T: Send>(fd: impl AsFd + Sync, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    inside_all([fd], work)
}

/// Runs `work` on a thread that has joined all of these, in their order; the thread ends with it.
pub fn inside_all<T: Send, F: AsFd + Sync>(
    fds: impl IntoIterator<Item = F>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let fds: Vec<F> = fds.into_iter().collect();
    std::thread::scope(|scope| {
        let fds = &fds;
        let run = move || {
            fds.iter().try_for_each(join)?;
            work()
        };
        let thread = std::thread::Builder::new().name("namespace".into()).spawn_scoped(scope, run);
        let thread = thread.doing(|| "start a thread")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `work` on a thread with a mount namespace of its own, a copy of the caller's: what it mounts by path nobody else
/// sees, and all of that is gone with the thread. Detached mounts that it returns stay.
pub fn with_private_mounts<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let action = || "make a mount namespace";
    let run = || {
        // SAFETY: the thread gets a copy of root and working directory, and ends right after.
        unsafe { unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }.doing(action)?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).doing(action)?;
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounts".into()).spawn_scoped(scope, run).doing(action)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread into the namespace that `fd` is a file of.
pub fn join(fd: impl AsFd) -> Result<()> {
    move_into_link_name_space(fd.as_fd(), None).doing(|| "join a namespace")
}

/// Sets the host name of the calling thread's UTS namespace, at most 64 bytes.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).doing(|| format!("set the host name {name:?}"))
}

/// Sets the domain name of the calling thread's UTS namespace.
pub fn set_domainname(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes()).doing(|| format!("set the domain name {name:?}"))
}

/// Brings the loopback interface of the calling thread's network namespace up; the kernel gives it its addresses.
pub fn loopback_up() -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let action = || "bring the loopback interface up";
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).doing(action)?;
    // SAFETY: a structure of integers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = CString::from(c"lo");
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    // SAFETY: both requests take an `ifreq`, which is valid and names an interface.
    unsafe {
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request).into()).doing(action)?;
        request.ifr_ifru.ifru_flags |= (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request).into()).doing(action)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_a_set() {
        let kinds = Kinds::NET.with(Kinds::USER).with(Kinds::MOUNT);
        assert_eq!(kinds.to_string(), "user, net, mnt");
        assert_eq!(kinds.without(Kinds::NET).to_string(), "user, mnt");
        assert!(kinds.contains(Kinds::USER) && !kinds.contains(Kinds::UTS));
        assert!(make(Kinds::PID, || Ok(())).is_err());
    }

    #[test]
    fn setup_runs_inside_and_the_caller_stays_outside() {
        let before = std::fs::read_link("/proc/thread-self/ns/uts").expect("own");
        let (fds, flags) = make(Kinds::NET.with(Kinds::UTS), || {
            set_hostname("inside-of-it")?;
            loopback_up()?;
            Ok(std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default())
        })
        .expect("make");
        assert_eq!(fds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Kinds::UTS, Kinds::NET]);
        assert!(flags.is_empty() || flags.contains("lo"), "{flags}");
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/uts").expect("own"), before);
        let name = inside(&fds[0].1, || Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()));
        assert_eq!(name.expect("inside"), "inside-of-it");
        let reached = inside(&fds[1].1, || {
            let server = std::net::UdpSocket::bind("127.0.0.1:0").doing(|| "bind")?;
            let address = server.local_addr().doing(|| "address")?;
            std::net::UdpSocket::bind("127.0.0.1:0").doing(|| "bind")?.send_to(b"x", address).doing(|| "send")
        });
        assert_eq!(reached.expect("loopback"), 1);
    }

    #[test]
    fn a_failing_setup_fails_the_whole() {
        let error = make(Kinds::UTS, || set_hostname(&"x".repeat(100))).expect_err("too long");
        assert_eq!(error.errno(), Some(libc::EINVAL));
    }
}
