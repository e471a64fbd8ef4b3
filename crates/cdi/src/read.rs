//! Reads the directories, each time anew. A file that has not changed since (same inode, size and times) is not read
//! again: that makes reading a thousand files as cheap as looking at them, and needs no watch.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};

use crate::parse::{self, Format, MAX_BYTES};
use crate::snapshot::{Content, Directory, Snapshot};

/// Most specifications of a directory: several for each container of a full node, as drivers of dynamic resources
/// write them.
const MAX_FILES: usize = 4096;
/// Most entries that are looked at to find them.
const MAX_ENTRIES: usize = 65_536;
/// Most bytes of all files that are kept.
const MAX_TOTAL: u64 = 64 << 20;
/// A file that was changed this short a time ago may change again without its times telling.
const SETTLED: Duration = Duration::from_secs(2);

/// Identifies a file's content: device, inode, size, and when it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self(meta.dev(), meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec())
    }

    fn settled(self, now: SystemTime) -> bool {
        let seconds = u64::try_from(self.3).unwrap_or(0);
        now.duration_since(UNIX_EPOCH + Duration::from_secs(seconds)).is_ok_and(|age| age > SETTLED)
    }
}

type Known = HashMap<PathBuf, (Stamp, Arc<Content>)>;

/// The directories of specifications.
#[derive(Debug)]
pub struct Registry {
    directories: Vec<PathBuf>,
    /// What is known of files that are settled. Not locked while files are read.
    known: Mutex<Arc<Known>>,
}

impl Registry {
    /// Those directories, the one that takes precedence last. They need not exist.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, known: Mutex::default() }
    }

    /// The directories as they are now. Blocks while files that have changed are read.
    pub fn read(&self) -> Snapshot {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut reading = Reading { known: &known, next: Known::new(), bytes: 0, now: SystemTime::now() };
        let directories = self.directories.iter().map(|path| reading.directory(path)).collect();
        let next = Arc::new(reading.next);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Snapshot { directories }
    }
}

struct Reading<'a> {
    known: &'a Known,
    next: Known,
    bytes: u64,
    now: SystemTime,
}

impl Reading<'_> {
    fn directory(&mut self, path: &Path) -> Directory {
        let mut directory = Directory { path: path.to_owned(), ..Directory::default() };
        match list(path) {
            Ok(files) => {
                for (file, format) in files {
                    // One that is gone again is no longer there.
                    if let Some(content) = self.file(&file, format) {
                        directory.files.push((file, content));
                    }
                }
            }
            Err(reason) => {
                tracing::warn!(directory = %path.display(), reason, "no CDI devices from this directory");
                directory.error = Some(reason);
            }
        }
        directory
    }

    fn file(&mut self, path: &Path, format: Format) -> Option<Arc<Content>> {
        let stamp = match fs::metadata(path) {
            Ok(meta) => Stamp::of(&meta),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => return Some(Arc::new(Err(e.to_string()))),
        };
        if let Some((_, content)) = self.known.get(path).filter(|(known, _)| *known == stamp) {
            self.bytes += stamp.2;
            self.next.insert(path.to_owned(), (stamp, content.clone()));
            return Some(content.clone());
        }
        let (stamp, content) = match self.open(path) {
            Ok((stamp, bytes)) => (Some(stamp), parse::parse(&bytes, format)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => (None, Err(e.to_string())),
        };
        if let Err(reason) = &content {
            tracing::warn!(file = %path.display(), reason, "CDI specification not used");
        }
        let content = Arc::new(content);
        if let Some(stamp) = stamp.filter(|stamp| stamp.settled(self.now)) {
            self.next.insert(path.to_owned(), (stamp, content.clone()));
        }
        Some(content)
    }

    /// A regular file's content; nothing else is waited for.
    fn open(&mut self, path: &Path) -> io::Result<(Stamp, Vec<u8>)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("is no regular file"));
        }
        let size = meta.size().min(MAX_BYTES + 1);
        if self.bytes + size > MAX_TOTAL {
            return Err(io::Error::other(format!("all specifications together are longer than {MAX_TOTAL} bytes")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        self.bytes += bytes.len() as u64;
        Ok((Stamp::of(&meta), bytes))
    }
}

/// The specifications of a directory in the order of their names; its own directories are not looked into.
fn list(path: &Path) -> Result<Vec<(PathBuf, Format)>, String> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.to_string()),
    };
    let mut files = Vec::new();
    for (count, entry) in entries.enumerate() {
        let entry = entry.map_err(|e| e.to_string())?;
        let path = entry.path();
        let format = match path.extension().and_then(|e| e.to_str()) {
            Some("json") => Format::Json,
            Some("yaml") => Format::Yaml,
            _ if count < MAX_ENTRIES => continue,
            _ => return Err(format!("holds more than {MAX_ENTRIES} entries")),
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(format!("holds more than {MAX_FILES} specifications"));
        }
        files.push((path, format));
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
