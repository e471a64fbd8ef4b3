//! In the init: device nodes and links of a `/dev` that is the container's own.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cricket_process::detached;
use libcontainer::oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, makedev, mknodat, openat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::inside::{self, Kind};
use crate::error::Error;

/// What every container has (runtime-spec, config-linux.md, "Default Devices").
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
/// Links (runtime-spec, runtime-linux.md, "File descriptors" and "Dev symbolic links").
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// A device of the container.
#[derive(Debug)]
pub(super) struct Node {
    path: PathBuf,
    file_type: FileType,
    number: u64,
    mode: u32,
    owner: (u32, u32),
    /// The host's node, where the container may not make one of its own: in a user namespace.
    host: Option<OwnedFd>,
}

impl Node {
    /// The default ones, then those of the specification, which take the place of a default one at the same path.
    /// `bound`: the host's nodes are taken.
    pub(super) fn all(devices: &[LinuxDevice], bound: bool) -> Result<Vec<Self>, Error> {
        let asked = |path: &str| devices.iter().any(|d| d.path() == Path::new(path));
        let node = |(path, major, minor): (&str, u32, u32)| Self {
            path: path.into(),
            file_type: FileType::CharacterDevice,
            number: makedev(major, minor),
            mode: 0o666,
            owner: (0, 0),
            host: None,
        };
        let mut nodes: Vec<_> = DEFAULT.into_iter().filter(|(path, ..)| !asked(path)).map(node).collect();
        for device in devices {
            // Made by the terminal's module, with devpts.
            if device.path() != Path::new("/dev/ptmx") {
                nodes.push(Self::of(device)?);
            }
        }
        if bound {
            for node in &mut nodes {
                node.host = Some(node.clone_from_host()?);
            }
        }
        Ok(nodes)
    }

    fn of(device: &LinuxDevice) -> Result<Self, Error> {
        let path = device.path().clone();
        let invalid = |what: &str| Error::content(format!("the device {} has the {what}", path.display()));
        let file_type = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => return Err(invalid("type of all devices")),
        };
        let number = |n: i64| u32::try_from(n).map_err(|_| invalid("wrong number"));
        let number = match file_type {
            FileType::Fifo => 0,
            _ => makedev(number(device.major())?, number(device.minor())?),
        };
        let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
        let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        Ok(Self { path, file_type, number, mode, owner, host: None })
    }

    /// The host's node of the same path; nothing but that device.
    fn clone_from_host(&self) -> Result<OwnedFd, Error> {
        let failed = |e: cricket_process::Error| {
            Error::host(format!("take the host's {}: {}", self.path.display(), e.to_line()))
        };
        let place = detached::open_place(&self.path).map_err(failed)?;
        if !self.is(&place)? {
            return Err(Error::host(format!("the host's {} is another device", self.path.display())));
        }
        detached::clone_at(place, false).map_err(failed)
    }

    fn is(&self, fd: impl AsFd) -> Result<bool, Error> {
        let stat = fstat(fd).map_err(|e| Error::io(format!("look at {}", self.path.display()), e))?;
        Ok(FileType::from_raw_mode(stat.st_mode) == self.file_type && stat.st_rdev == self.number)
    }

    /// Makes it. The umask is 0.
    fn make(&self, root: BorrowedFd<'_>) -> Result<(), Error> {
        let failed = |e: std::io::Error| Error::content(format!("make the device {}: {e}", self.path.display()));
        if let Some(host) = &self.host {
            let place = inside::make(root, &self.path, Kind::File).map_err(failed)?;
            return detached::attach(host, place).map_err(|e| Error::host(e.to_line()));
        }
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(failed(std::io::ErrorKind::InvalidInput.into()));
        };
        let dir = inside::make(root, parent, Kind::Directory).map_err(failed)?;
        match mknodat(&dir, name, self.file_type, Mode::from_raw_mode(self.mode), self.number) {
            Ok(()) => {}
            Err(Errno::EXIST) => self.check_there(&dir, name)?,
            Err(e) => return Err(failed(e.into())),
        }
        let (uid, gid) = self.owner;
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| failed(e.into()))?;
        // A change of owner takes bits away.
        chmodat(&dir, name, Mode::from_raw_mode(self.mode), AtFlags::empty()).map_err(|e| failed(e.into()))
    }

    /// What is there already has to be that device.
    fn check_there(&self, dir: &OwnedFd, name: &OsStr) -> Result<(), Error> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let there = openat(dir, name, flags, Mode::empty());
        let there = there.map_err(|e| Error::io(format!("look at {}", self.path.display()), e))?;
        match self.is(there)? {
            true => Ok(()),
            false => Err(Error::content(format!("{} is there already and something else", self.path.display()))),
        }
    }
}

/// Makes nodes and links in the `/dev` of the root.
pub(super) fn populate(root: BorrowedFd<'_>, nodes: &[Node]) -> Result<(), Error> {
    nodes.iter().try_for_each(|node| node.make(root))?;
    let failed = |e: std::io::Error| Error::content(format!("make links in /dev: {e}"));
    let dev = inside::plain_dir(root, Path::new("/dev")).map_err(failed)?;
    for (name, target) in LINKS {
        match symlinkat(target, &dev, name) {
            Ok(()) => {}
            // One that leads to another devpts than the container's own would be of no use.
            Err(Errno::EXIST) if name == "ptmx" => {
                unlinkat(&dev, name, AtFlags::empty()).map_err(|e| failed(e.into()))?;
                symlinkat(target, &dev, name).map_err(|e| failed(e.into()))?;
            }
            Err(Errno::EXIST) => {}
            Err(e) => return Err(failed(e.into())),
        }
    }
    Ok(())
}

/// Opens `/dev/null`, and nothing that only says so: what is masked by another file is not masked (CVE-2025-31133).
pub(super) fn open_null() -> Result<OwnedFd, Error> {
    let null = detached::open_place(Path::new("/dev/null")).map_err(|e| Error::host(e.to_line()))?;
    let stat = fstat(&null).map_err(|e| Error::io("look at /dev/null", e))?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    match is_device && stat.st_rdev == makedev(1, 3) {
        true => Ok(null),
        false => Err(Error::host("/dev/null is not the null device")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cricket_process::rooted::open_root;
    use rustix::fs::statat;

    fn exists(dir: &OwnedFd, name: &str) -> bool {
        statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn device(text: &str) -> LinuxDevice {
        serde_json::from_str(text).expect("device")
    }

    #[test]
    fn nodes_links_and_what_is_there_already() {
        let root = tempfile::tempdir().expect("root");
        let fd = open_root(root.path()).expect("open");
        let fuse =
            device(r#"{"path":"/dev/sub/fuse","type":"c","major":10,"minor":229,"fileMode":432,"uid":3,"gid":4}"#);
        let nodes = Node::all(&[fuse], false).expect("nodes");
        for _ in 0..2 {
            populate(fd.as_fd(), &nodes).expect("populate");
        }
        let dev = open_root(&root.path().join("dev")).expect("dev");
        assert!(["null", "tty", "ptmx", "fd", "sub/fuse"].iter().all(|name| exists(&dev, name)));
        let stat = statat(&dev, "sub/fuse", AtFlags::empty()).expect("stat");
        assert_eq!((stat.st_rdev, stat.st_mode & 0o777, stat.st_uid, stat.st_gid), (makedev(10, 229), 0o660, 3, 4));
        std::fs::remove_file(root.path().join("dev/null")).expect("rm");
        std::fs::write(root.path().join("dev/null"), "").expect("write");
        let error = populate(fd.as_fd(), &nodes).expect_err("a file").to_string();
        assert!(error.contains("/dev/null is there already"), "{error}");
    }

    #[test]
    fn the_hosts_nodes_are_taken_only_if_they_are_those_devices() {
        assert!(Node::all(&[], true).expect("nodes").iter().all(|node| node.host.is_some()));
        let wrong = device(r#"{"path":"/dev/zero","type":"c","major":1,"minor":3}"#);
        let error = Node::all(&[wrong], true).expect_err("another").to_string();
        assert!(error.contains("the host's /dev/zero is another device"), "{error}");
        open_null().expect("null");
    }
}
