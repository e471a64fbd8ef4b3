//! Starting a monitor, and its socket.
//!
//! The daemon binds the socket and passes it on: it exists, with its mode, before the monitor runs, so that there is
//! nothing to wait for.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use cricket_model::SandboxId;
use cricket_process::{Child, Spawn};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use super::connection::register;
use super::stuck::ARGV0;
use super::{Helpers, MonitorError, SOCKET_NAME};

/// The monitor's own messages, in the pod's directory.
const LOG_NAME: &str = "monitor.log";
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// Starts a monitor that listens in `pod_dir`; gives its pidfd.
pub(super) async fn start(helpers: &Helpers, pod_dir: &Path, sandbox: &SandboxId) -> Result<OwnedFd, MonitorError> {
    let directory = open_directory(pod_dir)?;
    let listener = listen(&directory).map_err(MonitorError::io(format!("listen on {}", socket_path(pod_dir))))?;
    let messages =
        open_log(&directory).map_err(MonitorError::io(format!("open {LOG_NAME} in {}", pod_dir.display())))?;
    let null = File::open("/dev/null").map_err(MonitorError::io("open /dev/null"))?;
    let child = Spawn::new(&helpers.monitor, [ARGV0, sandbox.as_str()])
        .fd(0, &null)
        .fd(1, &messages)
        .fd(2, &messages)
        .fd(3, &listener)
        .session()
        .spawn()
        .map_err(|error| MonitorError::io("start the pod's monitor")(io::Error::other(error)))?;
    let pidfd = child.pidfd.try_clone();
    tokio::spawn(reap(child));
    Ok(pidfd.map_err(|error| MonitorError::io("start the pod's monitor")(io::Error::other(error)))?.into())
}

/// A monitor that outlives its daemon is reaped by the host's init, one that does not by this.
async fn reap(mut child: Child) {
    let ended = async {
        let pidfd = register(OwnedFd::from(child.pidfd.try_clone().map_err(io::Error::other)?))?;
        pidfd.readable().await?.retain_ready();
        io::Result::Ok(())
    };
    match ended.await {
        Ok(()) => match child.wait() {
            Ok(status) => tracing::debug!(pid = child.pid, ?status, "a monitor ended"),
            Err(error) => tracing::warn!(pid = child.pid, %error, "cannot reap a monitor"),
        },
        Err(error) => tracing::warn!(pid = child.pid, %error, "cannot wait for a monitor"),
    }
}

/// A connection to the monitor that listens in `pod_dir`.
pub(super) fn connect(pod_dir: &Path) -> Result<OwnedFd, MonitorError> {
    let directory = match open_directory(pod_dir) {
        Err(MonitorError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(MonitorError::NotRunning);
        }
        opened => opened?,
    };
    let failed = |errno: Errno| match errno {
        // Refused: a socket that nobody listens on any more.
        Errno::NOENT | Errno::CONNREFUSED => MonitorError::NotRunning,
        errno => MonitorError::io(format!("connect to {}", socket_path(pod_dir)))(errno.into()),
    };
    let socket = new_socket().map_err(failed)?;
    rustix::net::connect(&socket, &address(&directory).map_err(failed)?).map_err(failed)?;
    Ok(socket)
}

fn open_directory(path: &Path) -> Result<OwnedFd, MonitorError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| MonitorError::io(format!("open {}", path.display()))(errno.into()))
}

fn socket_path(pod_dir: &Path) -> String {
    pod_dir.join(SOCKET_NAME).display().to_string()
}

/// The socket's name through the directory's descriptor: pod directories are longer than the 107 bytes of
/// `sun_path` (unix(7)).
fn address(directory: &OwnedFd) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET_NAME}", directory.as_raw_fd()))
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

fn listen(directory: &OwnedFd) -> io::Result<OwnedFd> {
    match rustix::fs::unlinkat(directory, SOCKET_NAME, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let socket = new_socket()?;
    // The mode of the socket's file is that of the unbound socket, less the umask (as Linux does it): it is never
    // there with a wider one.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &address(directory)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn open_log(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, LOG_NAME, flags, Mode::RUSR | Mode::WUSR)?)
}
