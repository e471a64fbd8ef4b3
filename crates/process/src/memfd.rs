//! Files that exist in memory only: programs that nobody can write to, and data for a child.
//!
//! A container that gets hold of `/proc/PID/exe` of a helper must neither change the program (CVE-2019-5736) nor keep
//! others from executing it: a descriptor open for writing makes execve fail with `ETXTBSY`, and a sealed memfd can
//! still be opened for writing. So a program is copied to a file system of its own that is read-only before anybody
//! sees it; where that cannot be made, to a sealed memfd.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::error::{Doing, Result};

/// A copy of a program that cannot be written to, open for reading and executing with [`crate::Spawn`].
///
/// `name` is what `/proc/PID/exe` shows. The memory is freed with the last descriptor and the last process.
pub fn seal(program: impl Read, name: &str) -> Result<OwnedFd> {
    let mut bytes = Vec::new();
    let mut program = program;
    program.read_to_end(&mut bytes).doing(|| format!("read the program {name}"))?;
    match read_only_file(&bytes, name) {
        Ok(file) => Ok(file),
        Err(_) => sealed_program(&bytes, name).doing(|| format!("seal the program {name}")),
    }
}

/// Data for a child, sealed and at offset 0.
pub fn config(bytes: &[u8]) -> Result<OwnedFd> {
    let noexec = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    let make = || -> io::Result<OwnedFd> {
        let fd = create("cricket-config", noexec)?;
        fill(&fd, bytes)?;
        Ok(fd)
    };
    make().doing(|| "make a memory file of a configuration")
}

/// A file on a detached tmpfs that has become read-only.
fn read_only_file(bytes: &[u8], name: &str) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "0755")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(&root, name, create, Mode::from_raw_mode(0o555))?;
    File::from(file).write_all(bytes)?;
    // No descriptor is open for writing any more, so the whole file system can turn read-only.
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_reconfigure(context.as_fd())?;
    // The descriptor keeps the mount when `root` is closed, in no mount namespace.
    Ok(openat(&root, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

fn sealed_program(bytes: &[u8], name: &str) -> io::Result<OwnedFd> {
    let fd = create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::EXEC)?;
    fill(&fd, bytes)?;
    Ok(fd)
}

/// Kernels before 6.3 know neither `MFD_EXEC` nor `MFD_NOEXEC_SEAL` and make executable files.
fn create(name: &str, flags: MemfdFlags) -> io::Result<OwnedFd> {
    match memfd_create(name, flags) {
        Err(rustix::io::Errno::INVAL) => Ok(memfd_create(name, flags - MemfdFlags::EXEC - MemfdFlags::NOEXEC_SEAL)?),
        made => Ok(made?),
    }
}

fn fill(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::from(fd.try_clone()?);
    file.write_all(bytes)?;
    rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(0))?;
    fcntl_add_seals(fd, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(())
}

/// Whether an executable memory file can be made without the mount interface (`vm.memfd_noexec` below 2).
pub(crate) fn executable_memfd() -> bool {
    create("cricket-probe", MemfdFlags::CLOEXEC | MemfdFlags::EXEC).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn data_is_read_back_and_sealed() {
        let fd = config(b"{}").expect("config");
        assert!(rustix::io::write(&fd, b"x").is_err());
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).expect("read");
        assert_eq!(text, "{}");
    }

    fn cannot_be_changed(fd: &OwnedFd) {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let mut options = File::options();
        if let Ok(mut file) = options.write(true).open(&path) {
            assert!(file.write_all(b"x").is_err());
            assert!(file.set_len(0).is_err());
        }
        assert!(options.write(true).truncate(true).open(&path).is_err());
    }

    #[test]
    fn programs_cannot_be_changed() {
        let source = std::fs::read("/bin/true").expect("read");
        for fd in [
            read_only_file(&source, "true").expect("mount"),
            sealed_program(&source, "true").expect("memfd"),
            seal(source.as_slice(), "true").expect("seal"),
        ] {
            cannot_be_changed(&fd);
            let mut child = crate::Spawn::new(&fd, ["true"]).spawn().expect("spawn");
            assert_eq!(child.wait().expect("wait").shell_code(), 0);
        }
    }

    #[test]
    fn a_program_cannot_be_kept_busy() {
        let fd = seal(std::fs::File::open("/bin/true").expect("open"), "true").expect("seal");
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let refused = File::options().write(true).open(path).expect_err("no writer");
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    }
}
