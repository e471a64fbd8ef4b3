//! Files inside a container's root file system, which is hostile: its links must not lead out of it, and its FIFOs
//! and devices must neither block nor act.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2};
use rustix::io::Errno;

/// Links resolve as if `root` were `/`; magic links of a `/proc` inside are refused.
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens the directory `root` for the functions here.
pub fn open_root(root: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` inside `root`. openat2 answers `EAGAIN` when somebody renames directories meanwhile.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    for _ in 0..64 {
        match openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT) {
            Err(Errno::AGAIN) => {}
            opened => return Ok(opened?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Reads the regular file `path` inside `root`. `FileTooLarge` above `limit` bytes; `InvalidData` when it is anything
/// but a regular file.
pub fn read_in_root(root: &Path, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let root = open_root(root)?;
    // First without opening it really: opening some devices has effects. Non-blocking for whatever takes its place.
    let found = open_in_root(&root, path, OFlags::PATH)?;
    regular(&found)?;
    let file = open_in_root(&root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    regular(&file)?;
    let mut content = Vec::new();
    File::from(file).take(limit + 1).read_to_end(&mut content)?;
    match content.len() as u64 > limit {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes"))),
        false => Ok(content),
    }
}

fn regular(fd: &OwnedFd) -> io::Result<()> {
    match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::RegularFile => Ok(()),
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a regular file: {other:?}"))),
    }
}

/// Makes the directory `path` inside `root` with whatever is missing above it, mode 0755. Existing ones, and links to
/// directories inside the root, are used as they are.
pub fn mkdir_in_root(root: &Path, path: &Path) -> io::Result<()> {
    let root = open_root(root)?;
    let mut made = std::path::PathBuf::new();
    for component in path.components() {
        let name = match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => name,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path with `..`")),
        };
        let parent = match made.as_os_str().is_empty() {
            true => root.try_clone()?,
            false => open_in_root(&root, &made, OFlags::PATH | OFlags::DIRECTORY)?,
        };
        match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => made.push(name),
            Err(error) => return Err(error.into()),
        }
    }
    if !made.as_os_str().is_empty() {
        open_in_root(&root, &made, OFlags::PATH | OFlags::DIRECTORY)?;
    }
    Ok(())
}

/// Checks that each of `names` in `root` is a directory and no link, or absent: what is mounted on these must not end
/// up elsewhere. `NotADirectory` otherwise, naming it.
pub fn check_plain_dirs(root: &Path, names: &[&str]) -> io::Result<()> {
    let root = open_root(root)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for name in names {
        match openat2(&root, *name, flags, Mode::empty(), resolve) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("/{name} is not a plain directory")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let root = tempfile::tempdir().expect("directory");
        fs::create_dir(root.path().join("etc")).expect("mkdir");
        fs::write(root.path().join("etc/passwd"), "inside").expect("write");
        symlink("/etc/passwd", root.path().join("absolute")).expect("link");
        symlink("../../../../etc/passwd", root.path().join("etc/up")).expect("link");
        symlink("/proc/self/root/etc/passwd", root.path().join("magic")).expect("link");
        for path in ["etc/passwd", "/etc/passwd", "absolute", "etc/up", "../etc/passwd"] {
            assert_eq!(read_in_root(root.path(), Path::new(path), 100).expect(path), b"inside", "{path}");
        }
        assert!(read_in_root(root.path(), Path::new("magic"), 100).is_err());
        let large = read_in_root(root.path(), Path::new("etc/passwd"), 5).expect_err("limit");
        assert_eq!(large.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn fifos_devices_and_directories_are_refused_at_once() {
        let root = tempfile::tempdir().expect("directory");
        let fifo = root.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("fifo");
        rustix::fs::mknodat(
            CWD,
            root.path().join("zero"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o644),
            rustix::fs::makedev(1, 5),
        )
        .expect("device");
        for path in ["fifo", "zero", "."] {
            let error = read_in_root(root.path(), Path::new(path), 100).expect_err(path);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{path}");
        }
    }

    #[test]
    fn directories_are_made_inside() {
        let outside = tempfile::tempdir().expect("directory");
        let root = tempfile::tempdir().expect("directory");
        symlink(outside.path(), root.path().join("out")).expect("link");
        assert!(mkdir_in_root(root.path(), Path::new("/out/new")).is_err());
        assert_eq!(fs::read_dir(outside.path()).expect("list").count(), 0);
        fs::create_dir(root.path().join("real")).expect("mkdir");
        symlink("/real", root.path().join("link")).expect("link");
        mkdir_in_root(root.path(), Path::new("/link/a/b")).expect("mkdir");
        assert!(root.path().join("real/a/b").is_dir());
        mkdir_in_root(root.path(), Path::new("/link/a/b")).expect("again");
        assert!(mkdir_in_root(root.path(), Path::new("/a/../b")).is_err());
        fs::write(root.path().join("file"), "").expect("write");
        assert!(mkdir_in_root(root.path(), Path::new("/file")).is_err());
        mkdir_in_root(root.path(), Path::new("/")).expect("the root itself");
    }

    #[test]
    fn plain_directories() {
        let root = tempfile::tempdir().expect("directory");
        fs::create_dir(root.path().join("proc")).expect("mkdir");
        check_plain_dirs(root.path(), &["dev", "proc", "sys"]).expect("plain or absent");
        symlink("/tmp", root.path().join("dev")).expect("link");
        let error = check_plain_dirs(root.path(), &["dev", "proc", "sys"]).expect_err("link");
        assert!(error.to_string().contains("/dev"), "{error}");
        fs::write(root.path().join("sys"), "").expect("write");
        assert!(check_plain_dirs(root.path(), &["sys"]).is_err());
    }
}
