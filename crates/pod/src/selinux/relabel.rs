//! Gives a volume the label of a container's files. What is in it is hostile: no link is followed, nothing is opened but
//! directories, and every file is labelled by its descriptor.

use std::ffi::CStr;
use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, XattrFlags, fstat, getxattr, openat, setxattr, stat};
use rustix::io::Errno;

use crate::error::{Error, Result};

const ATTRIBUTE: &str = "security.selinux";
/// Directories below each other; each takes a descriptor.
const MAX_DEPTH: usize = 512;

/// What is never relabelled, by itself or as a mount of it elsewhere: the host would not work any more.
const HOSTS: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Whether a path leads to one of the directories that hosts are made of.
pub(crate) fn is_of_the_host(path: &Path) -> bool {
    stat(path).is_ok_and(|found| is_host(found.st_dev, found.st_ino))
}

fn is_host(device: u64, inode: u64) -> bool {
    HOSTS.iter().any(|host| stat(*host).is_ok_and(|s| (s.st_dev, s.st_ino) == (device, inode)))
}

/// Labels `path` and everything below it. A file system without labels is left as it is; what is removed meanwhile is
/// no error, and neither is a path that is missing. Blocks for as long as the volume is large, or until `cancelled` says
/// so, which it is asked before every file.
///
/// # Errors
/// `InvalidArgument` for a directory of the host; `ECANCELED`; otherwise what the kernel says.
pub(super) fn relabel(path: &Path, label: &str, cancelled: &dyn Fn() -> bool) -> Result<()> {
    let Some((top, kind)) = labelled(path, label)? else { return Ok(()) };
    match kind {
        FileType::Directory => below(&top, &Walk { label, cancelled }, 0).map_err(|(what, e)| {
            Error::internal(format_args!("relabel {what} in {}", path.display()), &std::io::Error::from(e))
        }),
        _ => Ok(()),
    }
}

/// Labels `path` and nothing below it.
///
/// # Errors
/// As [`relabel`].
pub(super) fn relabel_alone(path: &Path, label: &str) -> Result<()> {
    labelled(path, label).map(drop)
}

/// The file that was labelled, unless there is none or it has no labels.
fn labelled(path: &Path, label: &str) -> Result<Option<(OwnedFd, FileType)>> {
    let failed = |e: Errno| Error::internal(format_args!("relabel {}", path.display()), &std::io::Error::from(e));
    // What a mount names may be a link; what is found then is what is mounted.
    let top = match openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        top => top.map_err(failed)?,
    };
    let found = fstat(&top).map_err(failed)?;
    if is_host(found.st_dev, found.st_ino) {
        return Err(Error::invalid(format_args!("{} belongs to the host and is not relabelled", path.display())));
    }
    match set(top.as_fd(), label) {
        Err(Errno::OPNOTSUPP) => Ok(None),
        done => done.map(|()| Some((top, FileType::from_raw_mode(found.st_mode)))).map_err(failed),
    }
}

/// By the name that the descriptor has in `/proc`: no call sets an attribute of what was opened for its place only.
fn set(file: BorrowedFd<'_>, label: &str) -> std::result::Result<(), Errno> {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut now = [0; 256];
    let length = getxattr(&name, ATTRIBUTE, &mut now[..]).unwrap_or(0);
    if now.get(..length).is_some_and(|now| now.strip_suffix(&[0]).unwrap_or(now) == label.as_bytes()) {
        return Ok(());
    }
    setxattr(&name, ATTRIBUTE, label.as_bytes(), XattrFlags::empty())
}

/// What could not be done, and where.
type Failed = (String, Errno);

/// What is done to all that is below a directory.
struct Walk<'w> {
    label: &'w str,
    cancelled: &'w dyn Fn() -> bool,
}

fn below(place: &OwnedFd, walk: &Walk<'_>, depth: usize) -> std::result::Result<(), Failed> {
    let at = |name: &dyn Display| {
        let name = name.to_string();
        move |e: Errno| (name, e)
    };
    if depth == MAX_DEPTH {
        return Err((format!("directories deeper than {MAX_DEPTH}"), Errno::NAMETOOLONG));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = openat(place, ".", flags, Mode::empty()).map_err(at(&"a directory"))?;
    let entries = Dir::new(open).map_err(at(&"a directory"))?;
    for entry in entries {
        let entry = entry.map_err(at(&"a directory"))?;
        if (walk.cancelled)() {
            return Err(("a directory".to_owned(), Errno::CANCELED));
        }
        let name: &CStr = entry.file_name();
        if [&b"."[..], b".."].contains(&name.to_bytes()) {
            continue;
        }
        let shown = name.to_string_lossy();
        let file = match openat(place, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            file => file.map_err(at(&shown))?,
        };
        match set(file.as_fd(), walk.label) {
            // Another file system is mounted here.
            Err(Errno::OPNOTSUPP) => continue,
            done => done.map_err(at(&shown))?,
        }
        let kind = fstat(&file).map_err(at(&shown))?.st_mode;
        if FileType::from_raw_mode(kind) == FileType::Directory {
            below(&file, walk, depth + 1).map_err(|(what, e)| (format!("{shown}/{what}"), e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::lgetxattr;

    use super::*;

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    fn label(path: &Path) -> Option<String> {
        let mut value = [0; 256];
        let length = lgetxattr(path, ATTRIBUTE, &mut value[..]).ok()?;
        Some(String::from_utf8_lossy(&value[..length]).trim_end_matches('\0').to_owned())
    }

    #[test]
    fn the_hosts_directories_are_refused_by_any_name() {
        let folder = tempfile::tempdir().expect("folder");
        let link = folder.path().join("link");
        symlink("/etc", &link).expect("link");
        for path in [Path::new("/"), Path::new("/usr/"), Path::new("/etc/../etc/."), &link] {
            assert!(is_of_the_host(path), "{}", path.display());
            let error = relabel(path, LABEL, &|| false).expect_err("the host's");
            assert!(error.to_string().contains("belongs to the host"), "{error}");
        }
        assert!(!is_of_the_host(folder.path()));
    }

    #[test]
    fn everything_below_and_nothing_outside() {
        let (folder, outside) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("outside"));
        // Without SELinux the attribute is one like others, for root.
        let root = folder.path().join("volume");
        let deep = root.join("a/b");
        std::fs::create_dir_all(&deep).expect("mkdir");
        std::fs::write(deep.join("file"), "").expect("write");
        std::fs::write(outside.path().join("file"), "").expect("write");
        symlink(outside.path(), deep.join("link")).expect("link");
        rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("fifo");
        relabel(&root, LABEL, &|| false).expect("relabel");
        relabel(&root, LABEL, &|| false).expect("again");
        relabel(&root.join("missing"), LABEL, &|| false).expect("missing");
        if label(&root).is_none() {
            eprintln!("no labels on {}", root.display());
            return;
        }
        for path in
            [root.clone(), root.join("a"), deep.clone(), deep.join("file"), root.join("fifo"), deep.join("link")]
        {
            assert_eq!(label(&path).as_deref(), Some(LABEL), "{}", path.display());
        }
        for path in [outside.path(), &outside.path().join("file"), folder.path()] {
            assert_ne!(label(path).as_deref(), Some(LABEL), "{}", path.display());
        }
    }

    #[test]
    fn a_walk_ends_when_it_is_cancelled() {
        let root = tempfile::tempdir().expect("folder");
        for directory in 0..8 {
            let directory = root.path().join(directory.to_string());
            std::fs::create_dir(&directory).expect("mkdir");
            (0..8).for_each(|file| std::fs::write(directory.join(file.to_string()), "").expect("write"));
        }
        let asked = std::cell::Cell::new(0);
        let cancelled = || {
            asked.set(asked.get() + 1);
            asked.get() == 20
        };
        let done = relabel(root.path(), LABEL, &cancelled);
        if label(root.path()).is_none() {
            eprintln!("no labels on {}", root.path().display());
            return;
        }
        let error = done.expect_err("cancelled").to_string();
        assert!(error.contains(&std::io::Error::from(Errno::CANCELED).to_string()), "{error}");
        assert_eq!(asked.get(), 20, "nothing comes after it");
        // Again, and now all of it.
        relabel(root.path(), LABEL, &|| false).expect("relabel");
        assert_eq!(label(&root.path().join("7/7")).as_deref(), Some(LABEL));
    }

    #[test]
    fn depth_is_bounded() {
        let folder = tempfile::tempdir().expect("folder");
        let mut place = openat(CWD, folder.path(), OFlags::PATH, Mode::empty()).expect("open");
        for _ in 0..=MAX_DEPTH {
            rustix::fs::mkdirat(&place, "d", Mode::from_raw_mode(0o700)).expect("mkdir");
            place = openat(&place, "d", OFlags::PATH, Mode::empty()).expect("open");
        }
        match relabel(folder.path(), LABEL, &|| false) {
            Err(e) => assert!(e.to_string().contains("deeper than"), "{e}"),
            Ok(()) => assert_eq!(label(folder.path()), None, "only where there are no labels"),
        }
    }
}
