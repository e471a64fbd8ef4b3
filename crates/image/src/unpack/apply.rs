//! Turns entries into files (image-spec, "Image Layer Filesystem Changeset").

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::limits::{Fault, Limits};
use super::manifest::{self, escape};
use super::names::{clean, join, split};
use super::tarball::{Entry, Kind, TarReader};
use super::times::Times;
use super::tree::{self, Made, Tree};
use super::{LayerMeta, attrs};

/// Files from here on are handed to the disk at once, so that the sync at the end finds little to do.
const EARLY_WRITE_BACK: u64 = 1 << 20;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

/// Fills `dir/fs` from the archive and writes `dir/manifest`.
pub(crate) fn apply(archive: impl Read, dir: &Path, limits: &Limits) -> Result<LayerMeta, Fault> {
    let fs = dir.join("fs");
    std::fs::create_dir(&fs).map_err(|e| Fault::io("make the directory", &fs, e))?;
    std::fs::set_permissions(&fs, std::fs::Permissions::from_mode(0o755))
        .map_err(|e| Fault::io("change the mode of", &fs, e))?;
    let mut layer = Layer {
        tree: Tree::open(&fs)?,
        manifest: manifest::Writer::create(dir.join("manifest"))?,
        times: Times::create(&dir.join("times"))?,
        limits,
        implied: BTreeSet::new(),
        noted_bytes: 0,
        meta: LayerMeta { inodes: 1, ..LayerMeta::default() },
        buf: vec![0u8; 256 << 10],
    };
    layer.note_implied(b"".to_vec())?;
    let mut reader = TarReader::new(archive, limits);
    while let Some(entry) = reader.next()? {
        layer.entry(&entry, &mut reader)?;
    }
    layer.times.replay(&layer.tree)?;
    layer.manifest.finish()?;
    layer.meta.implied = layer.implied.into_iter().map(|p| escape(&p)).collect();
    Ok(layer.meta)
}

struct Layer<'a> {
    tree: Tree,
    manifest: manifest::Writer,
    times: Times,
    limits: &'a Limits,
    implied: BTreeSet<Vec<u8>>,
    noted_bytes: usize,
    meta: LayerMeta,
    buf: Vec<u8>,
}

impl Layer<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, reader: &mut TarReader<'_, R>) -> Result<(), Fault> {
        let path = clean(&entry.path)?;
        let Some((parent, name)) = split(&path) else { return self.root(entry) };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&path, parent, name, hidden);
        }
        let dir = self.parent(parent)?;
        let name = OsStr::from_bytes(name);
        match entry.kind {
            Kind::Dir => self.dir(&dir, name, &path, entry)?,
            Kind::File => self.file(&dir, name, &path, entry, reader)?,
            Kind::Hardlink => return self.hardlink(&dir, name, &path, entry),
            Kind::Char if entry.device == (0, 0) => {
                tracing::debug!(path = %path.escape_ascii(), "a device 0:0 would hide lower files; left out");
                return Ok(());
            }
            Kind::Symlink | Kind::Char | Kind::Block | Kind::Fifo => self.special(&dir, name, &path, entry)?,
        }
        Ok(())
    }

    /// The root's own entry only gives metadata.
    fn root(&mut self, entry: &Entry) -> Result<(), Fault> {
        if entry.kind != Kind::Dir {
            return Err(Fault::bad("an entry would replace the root directory"));
        }
        attrs::apply_fd(self.tree.root(), entry, "/")?;
        self.implied.remove(b"".as_slice());
        self.times.add(b"", entry.mtime)?;
        self.record(b"", entry, None, None)
    }

    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, Fault> {
        let mut made = Made::default();
        let fd = self.tree.parent(path, &mut made)?;
        for path in made.implied {
            self.meta.inodes += 1;
            self.record_plain(&path, manifest::Kind::Dir, 0o755)?;
            self.note_implied(path)?;
        }
        for path in made.uncovered {
            self.record_plain(&path, manifest::Kind::Dir, 0o755)?;
        }
        Ok(fd)
    }

    fn whiteout(&mut self, path: &[u8], parent: &[u8], name: &[u8], hidden: &[u8]) -> Result<(), Fault> {
        if name == OPAQUE_MARK {
            if parent.is_empty() {
                self.meta.opaque_root = true;
                return Ok(());
            }
            let dir = self.parent(parent)?;
            return tree::mark_opaque(&dir).map_err(|e| Fault::io("mark as opaque", self.tree.show(parent), e));
        }
        if hidden.starts_with(WHITEOUT) {
            // aufs' own bookkeeping (`.wh..wh.plnk` and so on) hides nothing.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Fault::Bad(format!("{}: whiteout of nothing", path.escape_ascii())));
        }
        let dir = self.parent(parent)?;
        let target = OsStr::from_bytes(hidden);
        let shown = join(parent, hidden);
        match tree::file_type(&dir, target) {
            // Of this very layer: it stays, and hides what lies below it.
            Ok(FileType::Directory) => {
                let fd = tree::open_dir(&dir, target).map_err(|e| Fault::io("open", self.tree.show(&shown), e))?;
                self.implied.remove(&shown);
                tree::mark_opaque(&fd).map_err(|e| Fault::io("mark as opaque", self.tree.show(&shown), e))
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => {
                rustix::fs::mknodat(&dir, target, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|e| Fault::io("make the whiteout", self.tree.show(&shown), e))?;
                self.meta.inodes += 1;
                self.record_plain(&shown, manifest::Kind::Whiteout, 0)
            }
            Err(e) => Err(Fault::io("look up", self.tree.show(&shown), e)),
        }
    }

    fn dir(&mut self, parent: &OwnedFd, name: &OsStr, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        let mut opaque = false;
        let mode = Mode::from_raw_mode(0o700);
        match rustix::fs::mkdirat(parent, name, mode) {
            Ok(()) => self.meta.inodes += 1,
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| Fault::io("look up", self.tree.show(path), e))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    opaque = tree::is_whiteout(&stat);
                    self.replace(parent, name, path)?;
                    rustix::fs::mkdirat(parent, name, mode)
                        .map_err(|e| Fault::io("make the directory", self.tree.show(path), e))?;
                    self.meta.inodes += 1;
                }
            }
            Err(e) => return Err(Fault::io("make the directory", self.tree.show(path), e)),
        }
        let fd = tree::open_dir(parent, name).map_err(|e| Fault::io("open", self.tree.show(path), e))?;
        attrs::apply_fd(&fd, entry, &path.escape_ascii().to_string())?;
        if opaque {
            tree::mark_opaque(&fd).map_err(|e| Fault::io("mark as opaque", self.tree.show(path), e))?;
        }
        self.implied.remove(path);
        self.times.add(path, entry.mtime)?;
        self.record(path, entry, None, None)
    }

    fn file<R: Read>(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &[u8],
        entry: &Entry,
        reader: &mut TarReader<'_, R>,
    ) -> Result<(), Fault> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600));
        let fd = match open() {
            Err(Errno::EXIST) => {
                self.replace(parent, name, path)?;
                open()
            }
            done => done,
        };
        let mut file = File::from(fd.map_err(|e| Fault::io("create", self.tree.show(path), e))?);
        self.meta.inodes += 1;
        let (hash, size, stored) = self.content(&mut file, path, entry, reader)?;
        self.meta.bytes = self.meta.bytes.saturating_add(stored);
        attrs::apply_fd(&file, entry, &path.escape_ascii().to_string())?;
        rustix::fs::futimens(&file, &attrs::times(entry.mtime))
            .map_err(|e| Fault::io("set the time of", self.tree.show(path), e))?;
        if stored >= EARLY_WRITE_BACK {
            // Starts write-back of the dirty pages; a failure changes nothing but speed.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
        self.record(path, entry, Some((hash, size)), None)
    }

    fn content<R: Read>(
        &mut self,
        file: &mut File,
        path: &[u8],
        entry: &Entry,
        reader: &mut TarReader<'_, R>,
    ) -> Result<(String, u64, u64), Fault> {
        let shown = self.tree.show(path);
        let failed = |e: std::io::Error| Fault::io("write", &shown, e);
        let mut hash = blake3::Hasher::new();
        let mut stored = 0u64;
        let Some(map) = &entry.sparse else {
            loop {
                let n = reader.data(&mut self.buf)?;
                if n == 0 {
                    return Ok((hash.finalize().to_hex().to_string(), stored, stored));
                }
                hash.update(&self.buf[..n]);
                file.write_all(&self.buf[..n]).map_err(failed)?;
                stored += n as u64;
            }
        };
        file.set_len(map.size).map_err(failed)?;
        for (offset, length) in &map.segments {
            let (mut at, mut left) = (*offset, *length);
            while left > 0 {
                let max = usize::try_from(left).unwrap_or(usize::MAX).min(self.buf.len());
                let n = reader.data(&mut self.buf[..max])?;
                if n == 0 {
                    return Err(Fault::bad("malformed map of a sparse file"));
                }
                file.write_all_at(&self.buf[..n], at).map_err(failed)?;
                (at, left, stored) = (at + n as u64, left - n as u64, stored + n as u64);
            }
        }
        Ok((manifest::hash_sparse(file).map_err(failed)?, map.size, stored))
    }

    fn hardlink(&mut self, dir: &OwnedFd, name: &OsStr, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        let target = clean(&entry.link)?;
        let Some((target_parent, target_name)) = split(&target) else {
            return Err(Fault::Bad(format!("{}: hard link to the root", path.escape_ascii())));
        };
        if target == path {
            return Ok(());
        }
        let target_name = OsStr::from_bytes(target_name);
        let found = self.tree.lookup(target_parent, false).and_then(|from| {
            let stat = rustix::fs::statat(&from, target_name, AtFlags::SYMLINK_NOFOLLOW)?;
            if tree::is_whiteout(&stat) { Err(Errno::NOENT) } else { Ok((from, stat)) }
        });
        let (from, stat) = match found {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.note_bytes(path.len() + target.len(), self.meta.lower_links.len())?;
                self.meta.lower_links.push((escape(path), escape(&target)));
                return Ok(());
            }
            Err(e) => return Err(Fault::io("look up", self.tree.show(&target), e)),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Fault::Bad(format!("{}: hard link to a directory", path.escape_ascii())));
        }
        let link = || rustix::fs::linkat(&from, target_name, dir, name, AtFlags::empty());
        let linked = match link() {
            Err(Errno::EXIST) => {
                self.replace(dir, name, path)?;
                link()
            }
            done => done,
        };
        linked.map_err(|e| Fault::io("link", self.tree.show(path), e))?;
        self.record(path, entry, None, Some(&target))
    }

    fn special(&mut self, dir: &OwnedFd, name: &OsStr, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(0o600);
        let file_type = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            _ => FileType::Symlink,
        };
        let link = file_type == FileType::Symlink;
        let make = || match link {
            true => rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), dir, name),
            false => rustix::fs::mknodat(dir, name, file_type, mode, if entry.kind == Kind::Fifo { 0 } else { device }),
        };
        let made = match make() {
            Err(Errno::EXIST) => {
                self.replace(dir, name, path)?;
                make()
            }
            done => done,
        };
        match made {
            Err(Errno::INVAL | Errno::NOENT | Errno::NAMETOOLONG) if link => {
                return Err(Fault::Bad(format!("{}: impossible link target", path.escape_ascii())));
            }
            done => done.map_err(|e| Fault::io("make", self.tree.show(path), e))?,
        }
        self.meta.inodes += 1;
        attrs::apply_at(dir, name, entry, link, &path.escape_ascii().to_string())?;
        self.record(path, entry, None, link.then_some(entry.link.as_slice()))
    }

    /// Takes away what an earlier entry of this layer put here.
    fn replace(&mut self, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<(), Fault> {
        tree::remove_tree(dir.as_fd(), name).map_err(|e| Fault::io("replace", self.tree.show(path), e))?;
        self.tree.forget();
        self.implied.remove(path);
        // `0` follows `/`: only what is below is looked at, as an archive may replace as often as it likes.
        let below = [path, b"/"].concat()..[path, b"0"].concat();
        let gone: Vec<_> = self.implied.range(below).cloned().collect();
        for path in gone {
            self.implied.remove(&path);
        }
        self.record_plain(path, manifest::Kind::Gone, 0)
    }

    fn note_implied(&mut self, path: Vec<u8>) -> Result<(), Fault> {
        self.note_bytes(path.len(), self.implied.len())?;
        self.implied.insert(path);
        Ok(())
    }

    fn note_bytes(&mut self, bytes: usize, count: usize) -> Result<(), Fault> {
        self.noted_bytes += bytes;
        if self.noted_bytes > self.limits.noted_bytes || count >= self.limits.noted {
            return Err(Fault::bound("implied directories and links to lower layers", self.limits.noted.to_string()));
        }
        Ok(())
    }

    fn record(
        &mut self,
        path: &[u8],
        entry: &Entry,
        content: Option<(String, u64)>,
        link: Option<&[u8]>,
    ) -> Result<(), Fault> {
        let (h, s) = content.map_or((None, None), |(h, s)| (Some(h), Some(s)));
        let (k, m, u, g) = (entry.kind.into(), entry.mode, entry.uid, entry.gid);
        self.manifest.add(&manifest::Entry { p: escape(path), k, m, u, g, s, h, l: link.map(escape) })
    }

    fn record_plain(&mut self, path: &[u8], k: manifest::Kind, m: u32) -> Result<(), Fault> {
        self.manifest.add(&manifest::Entry { p: escape(path), k, m, u: 0, g: 0, s: None, h: None, l: None })
    }
}
