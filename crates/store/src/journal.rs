//! Append-only files of JSON lines, for what dies with the boot.
//!
//! A line counts only with its newline, so a torn last line is what was never acknowledged. Lines
//! are written with one `write(2)` each, whole, behind what is good.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Encoded, Error, Result};

/// One journal file. Nothing is synced: it survives the daemon, not the machine.
#[derive(Debug)]
pub struct Journal<T> {
    path: PathBuf,
    file: File,
    /// The bytes of whole lines; a failed append is cut back to here.
    good: u64,
    entries: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens the journal, or makes it (mode 0600), and answers its entries. A torn last line is
    /// dropped; a whole line that cannot be decoded is reported and skipped, and stays in the file
    /// until [`Journal::rewrite`].
    ///
    /// # Errors
    /// When the file cannot be opened or read.
    pub fn open(path: impl AsRef<Path>) -> Result<(Self, Vec<T>)> {
        let path = path.as_ref().to_owned();
        let io = |e| Error::io(&path, e);
        let mut file = options().create(true).open(&path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            // On a full disk this still works: it only gives space back.
            file.set_len(whole as u64).map_err(io)?;
        }
        let mut entries = Vec::new();
        for line in bytes[..whole].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(entry) => entries.push(entry),
                Err(e) => tracing::error!(path = %path.display(), error = %e, "a journal line cannot be decoded"),
            }
        }
        Ok((Self { path, file, good: whole as u64, entries: PhantomData }, entries))
    }

    /// Appends one entry.
    ///
    /// # Errors
    /// The entry is then not in the journal; a caller that tears something down goes on.
    pub fn append(&mut self, entry: &T) -> Result<()> {
        self.append_encoded(&self.encode(entry)?)
    }

    /// As [`Journal::append`], of an entry that has been encoded.
    ///
    /// # Errors
    /// As `append`.
    pub fn append_encoded(&mut self, entry: &Encoded<T>) -> Result<()> {
        let line = line(entry);
        match self.file.write(&line) {
            Ok(n) if n == line.len() => {
                self.good += n as u64;
                Ok(())
            }
            short => {
                // Cut the torn line off, or the next one would be glued to it.
                if let Err(e) = self.file.set_len(self.good) {
                    tracing::error!(path = %self.path.display(), error = %e, "cannot cut a torn journal line");
                }
                let cause = short.err().unwrap_or_else(|| ErrorKind::StorageFull.into());
                Err(Error::io(&self.path, cause))
            }
        }
    }

    /// Replaces the journal's content in one step: readers see the old lines or the new ones.
    ///
    /// # Errors
    /// The old content is then still there and appends go on behind it.
    pub fn rewrite(&mut self, entries: &[T]) -> Result<()> {
        let mut text = Vec::new();
        for entry in entries {
            text.extend(line(&self.encode(entry)?));
        }
        self.replace(&text)
    }

    /// As [`Journal::rewrite`], with one entry that has been encoded.
    ///
    /// # Errors
    /// As `rewrite`.
    pub fn rewrite_encoded(&mut self, entry: &Encoded<T>) -> Result<()> {
        self.replace(&line(entry))
    }

    fn replace(&mut self, text: &[u8]) -> Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let fresh = PathBuf::from(name);
        // Of an interrupted rewrite: appending must begin with an empty file.
        let clean = match std::fs::remove_file(&fresh) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
        // After the rename nothing may fail: appends to the old file would be lost.
        let written = clean.and_then(|()| {
            let mut file = options().create_new(true).open(&fresh)?;
            file.write_all(text)?;
            std::fs::rename(&fresh, &self.path)?;
            Ok(file)
        });
        match written {
            Ok(file) => {
                self.file = file;
                self.good = text.len() as u64;
                Ok(())
            }
            Err(e) => {
                let _ = std::fs::remove_file(&fresh);
                Err(Error::io(&self.path, e))
            }
        }
    }

    /// Where the journal is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn encode(&self, entry: &T) -> Result<Encoded<T>> {
        Encoded::of(entry).map_err(|e| match e {
            Error::Encode { key, detail, .. } => Error::Encode { table: self.path.display().to_string(), key, detail },
            other => other,
        })
    }
}

/// JSON has no newlines of its own.
fn line<T>(entry: &Encoded<T>) -> Vec<u8> {
    [entry.text.as_slice(), b"\n"].concat()
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    options
}
