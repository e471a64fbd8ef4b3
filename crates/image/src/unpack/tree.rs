//! The directory being filled. Every path is resolved by the kernel with the layer's directory as root, so neither
//! `..`, nor links, nor someone who renames things meanwhile leads out of it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::limits::Fault;

/// overlayfs' mark of a directory that hides what is below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";
/// Links in a path that are followed while directories are made.
const MAX_LINKS: usize = 16;
/// Deepest path; deeper ones cannot be named by anyone.
const MAX_DEPTH: usize = 2048;

/// What [`Tree::parent`] had to do.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Directories that were made though the archive has no entry for them (yet).
    pub(crate) implied: Vec<Vec<u8>>,
    /// Whiteouts that became directories, since something is below them; nothing of lower layers shows through.
    pub(crate) uncovered: Vec<Vec<u8>>,
}

/// The root of a layer, and the parent that was used last.
pub(crate) struct Tree {
    root: OwnedFd,
    shown: PathBuf,
    cached: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    pub(crate) fn open(path: &Path) -> Result<Self, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Fault::io("open", path, e))?;
        Ok(Self { root, shown: path.to_owned(), cached: None })
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    pub(crate) fn show(&self, path: &[u8]) -> PathBuf {
        self.shown.join(OsStr::from_bytes(path))
    }

    /// The directory `path` (clean, relative; empty for the root), made with its parents if it is missing.
    pub(crate) fn parent(&mut self, path: &[u8], made: &mut Made) -> Result<OwnedFd, Fault> {
        if let Some((cached, fd)) = &self.cached
            && cached == path
        {
            return fd.try_clone().map_err(|e| Fault::io("duplicate", self.show(path), e));
        }
        let fd = match self.lookup(path, true) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.make(path, MAX_LINKS, made)?,
            found => found.map_err(|e| Fault::io("open", self.show(path), e))?,
        };
        let kept = fd.try_clone().map_err(|e| Fault::io("duplicate", self.show(path), e))?;
        self.cached = Some((path.to_vec(), kept));
        Ok(fd)
    }

    /// Something was replaced: directories that were open may be no longer part of the tree.
    pub(crate) fn forget(&mut self) {
        self.cached = None;
    }

    /// Opens a directory below the root; links are refused or followed inside.
    pub(crate) fn lookup(&self, path: &[u8], refuse_links: bool) -> rustix::io::Result<OwnedFd> {
        let name = if path.is_empty() { b".".as_slice() } else { path };
        let links = if refuse_links { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        resolve(&self.root, OsStr::from_bytes(name), flags, ResolveFlags::IN_ROOT | links)
    }

    /// Makes `path` one component after the other, following links that the layer itself has.
    fn make(&self, path: &[u8], links: usize, made: &mut Made) -> Result<OwnedFd, Fault> {
        let components: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|c| !c.is_empty()).collect();
        if components.len() > MAX_DEPTH {
            return Err(Fault::bound("depth of a path", MAX_DEPTH.to_string()));
        }
        let mut prefix: Vec<u8> = Vec::new();
        let mut fd = self.lookup(b"", true).map_err(|e| Fault::io("open", &self.shown, e))?;
        for (i, component) in components.iter().enumerate() {
            let name = OsStr::from_bytes(component);
            let below: Vec<u8> =
                if prefix.is_empty() { component.to_vec() } else { [prefix.as_slice(), b"/", component].concat() };
            match file_type(&fd, name) {
                Ok(FileType::Directory) => {}
                Ok(FileType::Symlink) => {
                    let links = links
                        .checked_sub(1)
                        .ok_or_else(|| Fault::Bad(format!("{}: too many links", path.escape_ascii())))?;
                    let target = rustix::fs::readlinkat(&fd, name, Vec::new())
                        .map_err(|e| Fault::io("read the link", self.show(&below), e))?;
                    let rest = components[i + 1..].join(&b'/');
                    let next = follow(&prefix, target.as_bytes(), &rest);
                    return self.make(&next, links, made);
                }
                Ok(FileType::CharacterDevice) if whiteout_at(&fd, name) => {
                    rustix::fs::unlinkat(&fd, name, AtFlags::empty())
                        .map_err(|e| Fault::io("remove", self.show(&below), e))?;
                    self.mkdir(&fd, name, &below)?;
                    made.uncovered.push(below.clone());
                    let dir = open_dir(&fd, name).map_err(|e| Fault::io("open", self.show(&below), e))?;
                    mark_opaque(&dir).map_err(|e| Fault::io("mark as opaque", self.show(&below), e))?;
                }
                Err(Errno::NOENT) => {
                    self.mkdir(&fd, name, &below)?;
                    made.implied.push(below.clone());
                }
                Ok(_) => {
                    return Err(Fault::Bad(format!("{}: a parent is no directory", path.escape_ascii())));
                }
                Err(e) => return Err(Fault::io("look up", self.show(&below), e)),
            }
            fd = open_dir(&fd, name).map_err(|e| Fault::io("open", self.show(&below), e))?;
            prefix = below;
        }
        Ok(fd)
    }

    fn mkdir(&self, dir: &OwnedFd, name: &OsStr, shown: &[u8]) -> Result<(), Fault> {
        let made = match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
            // The umask may have taken bits; what is opened here is no link, whatever was put there since.
            Ok(()) => open_dir(dir, name).and_then(|fd| rustix::fs::fchmod(fd, Mode::from_raw_mode(0o755))),
            Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e),
        };
        made.map_err(|e| Fault::io("make the directory", self.show(shown), e))
    }
}

/// openat2(2), again when a rename raced it (EAGAIN).
pub(crate) fn resolve(root: impl AsFd, path: &OsStr, flags: OFlags, how: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let how = how | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..1000 {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Where a link found in `prefix` leads, with `rest` behind it; `..` stops at the root.
fn follow(prefix: &[u8], target: &[u8], rest: &[u8]) -> Vec<u8> {
    let start: &[u8] = if target.starts_with(b"/") { b"" } else { prefix };
    let mut out: Vec<&[u8]> = Vec::new();
    for component in [start, target, rest].into_iter().flat_map(|p| p.split(|b| *b == b'/')) {
        match component {
            b"" | b"." => {}
            b".." => drop(out.pop()),
            other => out.push(other),
        }
    }
    out.join(&b'/')
}

pub(crate) fn open_dir(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

pub(crate) fn mark_opaque(dir: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
}

pub(crate) fn file_type(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<FileType> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Whether this is overlayfs' whiteout: a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn whiteout_at(dir: impl AsFd, name: &OsStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|s| is_whiteout(&s))
}

/// Removes whatever `name` is in `dir`, with all that is below, without following links and without recursion: the
/// depth is an image's choice. Nothing there is no error.
pub(crate) fn remove_tree(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    // Each level is emptied of all but its directories; one directory at a time is entered by moving it up to the
    // top level, so that at most two are open.
    let top = open_dir(&dir, name)?;
    let mut pending = subdirs(&top)?;
    let mut serial = 0u64;
    while let Some(child) = pending.pop() {
        let fd = open_dir(&top, &child)?;
        for grandchild in subdirs(&fd)? {
            let fresh = loop {
                serial += 1;
                let fresh = OsString::from(format!("{serial}"));
                match rustix::fs::renameat_with(&fd, &grandchild, &top, &fresh, rustix::fs::RenameFlags::NOREPLACE) {
                    Err(Errno::EXIST) => {}
                    done => break done.map(|()| fresh)?,
                }
            };
            pending.push(fresh);
        }
        rustix::fs::unlinkat(&top, &child, AtFlags::REMOVEDIR)?;
    }
    drop(top);
    rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)
}

/// Removes everything in a directory that is no directory, and names the directories.
fn subdirs(dir: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut found = Vec::new();
    let mut buf = Vec::with_capacity(32 << 10);
    let mut iter = RawDir::new(dir, buf.spare_capacity_mut());
    while let Some(entry) = iter.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let name = OsString::from_vec(name.to_vec());
        match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => found.push(name),
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}
