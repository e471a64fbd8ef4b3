//! overlayfs mounts.
//!
//! Writable ones are `volatile` (a container's writable layer does not outlive the machine's crash), all are `index=off`,
//! `metacopy=off`, `redirect_dir=nofollow`, whatever the module's defaults: layers come from others.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use crate::{Error, Result};

/// fsconfig(2) takes strings of 255 bytes.
const MAX_VALUE: usize = 255;
const OPTIONS: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow")];

/// What a root filesystem is made of; the topmost lower directory first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overlay<'a> {
    pub(crate) lowers: &'a [PathBuf],
    /// Where writes go; read-only without one, and then of two lower directories at least.
    pub(crate) upper: Option<Upper<'a>>,
    /// The SELinux label of every file in it.
    pub(crate) label: Option<&'a str>,
}

/// The directories of a writable overlay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upper<'a> {
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
}

/// Which system calls mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The newest that the kernel has.
    Best,
    /// mount(2), with its page of options.
    #[cfg_attr(not(test), allow(dead_code, reason = "chosen by tests; others get there by Best"))]
    Classic,
}

/// Mounts it at `target`.
pub(crate) fn mount_at(overlay: &Overlay<'_>, target: &Path, way: Way) -> Result<()> {
    if way == Way::Best {
        match modern(overlay, target) {
            Ok(()) => return Ok(()),
            // No fsopen, or no `lowerdir+` (before Linux 6.8).
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {}
            Err(e) => return Err(Error::io("mount the overlay at", target, e)),
        }
    }
    classic(overlay, target)
}

fn modern(overlay: &Overlay<'_>, target: &Path) -> rustix::io::Result<()> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", "cricket")?;
    // Holds what is named by descriptor until the mount is made.
    let mut open = Vec::new();
    let mut add = |key: &str, path: &Path| -> rustix::io::Result<()> {
        let plain = path.as_os_str().as_bytes();
        if plain.len() <= MAX_VALUE && !plain.iter().any(|b| matches!(b, b':' | b',' | b'\\')) {
            return fsconfig_set_string(&fs, key, path);
        }
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        fsconfig_set_string(&fs, key, short(&fd))?;
        open.push(fd);
        Ok(())
    };
    for lower in overlay.lowers {
        add("lowerdir+", lower)?;
    }
    if let Some(Upper { upper, work }) = overlay.upper {
        add("upperdir", upper)?;
        add("workdir", work)?;
    }
    for (key, value) in OPTIONS {
        fsconfig_set_string(&fs, key, value)?;
    }
    if let Some(label) = overlay.label {
        fsconfig_set_string(&fs, "context", label)?;
    }
    let attributes = match overlay.upper {
        Some(_) => {
            fsconfig_set_flag(&fs, "volatile")?;
            MountAttrFlags::empty()
        }
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    fsconfig_create(&fs)?;
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// mount(2) takes one page of options: names of open descriptors are short enough for 200 layers, and need no change
/// of the working directory, which all threads share.
fn classic(overlay: &Overlay<'_>, target: &Path) -> Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e))
    };
    let lowers = overlay.lowers.iter().map(|p| open(p)).collect::<Result<Vec<_>>>()?;
    let upper = overlay.upper.map(|Upper { upper, work }| Ok::<_, Error>((open(upper)?, open(work)?))).transpose()?;
    let names: Vec<String> = lowers.iter().map(short).collect();
    let mut options = format!("lowerdir={}", names.join(":"));
    let mut flags = MountFlags::RDONLY;
    if let Some((upper, work)) = &upper {
        options.push_str(&format!(",upperdir={},workdir={},volatile", short(upper), short(work)));
        flags = MountFlags::empty();
    }
    for (key, value) in OPTIONS {
        options.push_str(&format!(",{key}={value}"));
    }
    if let Some(label) = overlay.label {
        // Quoted for its commas.
        options.push_str(&format!(",context=\"{label}\""));
    }
    if options.len() >= 4096 {
        let what = format!("overlay at {} of {} layers", target.display(), lowers.len());
        return Err(Error::TooLarge { what, bound: "4095 bytes of mount options".to_owned() });
    }
    let data = std::ffi::CString::new(options).map_err(|e| Error::io("mount the overlay at", target, e))?;
    mount("cricket", target, "overlay", flags, data.as_c_str())
        .map_err(|e| Error::io("mount the overlay at", target, e))
}

fn short(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Unmounts everything that is mounted at `target`; what is busy is detached. Nothing mounted is no error.
pub(crate) fn unmount_all(target: &Path) -> Result<()> {
    // More than one only if someone mounted over it.
    for _ in 0..16 {
        match unmount(target, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                .map_err(|e| Error::io("unmount", target, e))?,
            Err(e) => return Err(Error::io("unmount", target, e)),
        }
    }
    Ok(())
}

/// Opens a directory for its descriptor alone.
pub(crate) fn open_dir(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e))?.into())
}
