//! Log files: opened below the kubelet's directory without following anything there.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use cricket_wire::Log;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::Errno;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Opens a log for appending, 0640, and makes it and the directories that are missing.
///
/// The directory is the kubelet's and may be named through links (`/var/log/pods` is one on many nodes); below it a
/// container's volume may reach, so no link and no `..` is followed there (CRI-O CVE-2025-0750).
pub(crate) fn open(log: &Log) -> io::Result<OwnedFd> {
    let path = Path::new(&log.path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let Some(name) = path.file_name().filter(|_| plain && Path::new(&log.directory).is_absolute()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name below the log directory"));
    };
    let mut directory = directory(&log.directory)?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        directory = below(&directory, part.as_os_str())?;
    }
    // NONBLOCK: somebody may have put a FIFO there; regular files do not mind.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat2(&directory, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o640), BENEATH)?;
    let kind = FileType::from_raw_mode(fstat(&file)?.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Fifo) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a regular file nor a FIFO"));
    }
    end_line(&file, directory, name)?;
    Ok(file)
}

fn directory(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(path)?;
            Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

fn below(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat2(parent, name, flags, Mode::empty(), BENEATH);
    match open() {
        Err(Errno::NOENT) => {
            match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            Ok(open()?)
        }
        opened => Ok(opened?),
    }
}

/// A monitor that was killed within a write may have left half an entry: the next one begins on a line of its own.
fn end_line(file: &OwnedFd, directory: OwnedFd, name: &OsStr) -> io::Result<()> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size == 0 {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let reader = openat2(&directory, name, flags, Mode::empty(), BENEATH)?;
    let mut last = [b'\n'];
    rustix::io::pread(&reader, &mut last, stat.st_size.unsigned_abs() - 1)?;
    if last != [b'\n'] {
        // A full disk is met again, and waited for, by the first entry.
        let _ = rustix::io::write(file, b"\n");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn log(directory: &Path, path: &str) -> Log {
        Log { directory: directory.to_str().expect("UTF-8").to_owned(), path: path.to_owned(), max_line: 0 }
    }

    #[test]
    fn makes_what_is_missing() {
        let root = tempfile::tempdir().expect("directory");
        let directory = root.path().join("pods/a_b_c");
        let file = open(&log(&directory, "main/0.log")).expect("open");
        rustix::io::write(&file, b"half").expect("write");
        let mode = std::fs::metadata(directory.join("main/0.log")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let again = open(&log(&directory, "main/0.log")).expect("open");
        rustix::io::write(&again, b"next\n").expect("write");
        open(&log(&directory, "main/0.log")).expect("open");
        assert_eq!(std::fs::read(directory.join("main/0.log")).expect("read"), b"half\nnext\n");
    }

    #[test]
    fn the_directory_may_be_a_link_and_nothing_below() {
        let root = tempfile::tempdir().expect("directory");
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        std::fs::create_dir(&real).expect("mkdir");
        symlink(&real, &link).expect("link");
        open(&log(&link, "0.log")).expect("through a link to the directory");
        let outside = root.path().join("outside");
        std::fs::write(&outside, b"").expect("write");
        symlink(&outside, real.join("file")).expect("link");
        symlink(root.path(), real.join("dir")).expect("link");
        symlink(".", real.join("here")).expect("link");
        for bad in ["file", "dir/0.log", "here/0.log", "../outside", "a/../../outside", "/outside", "", "."] {
            assert!(open(&log(&link, bad)).is_err(), "{bad}");
        }
        assert!(open(&log(Path::new("relative"), "0.log")).is_err());
        assert_eq!(std::fs::read(outside).expect("read"), b"");
    }

    #[test]
    fn a_fifo_without_reader_does_not_block() {
        let root = tempfile::tempdir().expect("directory");
        let fifo = root.path().join("0.log");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("mkfifo");
        assert_eq!(open(&log(root.path(), "0.log")).expect_err("nobody reads").raw_os_error(), Some(libc::ENXIO));
    }
}
