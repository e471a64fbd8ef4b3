//! The handle that everything else uses.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::file::DbFile;
use crate::writer::{Writer, WriterHandle};
use crate::{Batch, Damaged, Error, Record, Result, codec};

/// The record store: typed reads at once, writes through one group-committing thread. Clones
/// share it; dropping the last one writes what [`Store::commit_later`] still holds.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    file: Arc<DbFile>,
    writer: WriterHandle,
    damaged: Mutex<Vec<Damaged>>,
}

impl Store {
    /// Opens the database file at `path`, or makes it (its directory must exist).
    ///
    /// # Errors
    /// [`Error::Corrupt`] names a damaged file and leaves it as it is; [`Error::Locked`] when
    /// another process has it open.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = Arc::new(DbFile::open(path.as_ref())?);
        let writer = Writer::start(file.clone())?;
        Ok(Self(Arc::new(Inner { file, writer, damaged: Mutex::new(Vec::new()) })))
    }

    /// Moves a damaged database file aside, next to where it was, and answers its new path.
    /// Never called by the store itself: losing records is a person's decision.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn set_aside(path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        for n in 1u32.. {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".corrupt-{n}"));
            let aside = PathBuf::from(name);
            if !aside.exists() {
                std::fs::rename(path, &aside).map_err(|e| Error::io(path, e))?;
                return Ok(aside);
            }
        }
        Err(Error::Database { path: path.to_owned(), detail: "no free name to move it to".to_owned() })
    }

    /// The committed record under `key`.
    ///
    /// # Errors
    /// [`Error::Undecodable`] when it is there and cannot be read.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>> {
        let Some(bytes) = self.0.file.get(R::TABLE, key)? else { return Ok(None) };
        match codec::decode(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(detail) => {
                self.report(R::TABLE, key, &detail);
                Err(Error::Undecodable { table: R::TABLE, key: key.to_owned(), detail })
            }
        }
    }

    /// Every committed record that can be read, in key order. Those that cannot be are kept and
    /// listed by [`Store::damaged`].
    ///
    /// # Errors
    /// Only when the file cannot be read.
    pub fn list<R: Record>(&self) -> Result<Vec<(String, R)>> {
        let mut found = Vec::new();
        self.0.file.for_each(R::TABLE, |key, bytes| match codec::decode(bytes) {
            Ok(record) => found.push((key.to_owned(), record)),
            Err(detail) => self.report(R::TABLE, key, &detail),
        })?;
        Ok(found)
    }

    /// The names of all tables in the file, those of other releases included.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tables(&self) -> Result<Vec<String>> {
        self.0.file.tables()
    }

    /// The records that were met and could not be decoded since the store was opened.
    pub fn damaged(&self) -> Vec<Damaged> {
        self.0.damaged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Writes the batch durably: when this returns it survives a power cut. All batches that wait
    /// at once share one transaction. Once called it is written even if the caller goes away.
    ///
    /// # Errors
    /// [`Error::NoSpace`] and others; then nothing of the batch is in the file.
    pub async fn commit(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let answer = self.0.writer.commit(batch)?;
        answer.await.unwrap_or_else(|_| Err(Error::Closed { path: self.0.file.path.clone() }))
    }

    /// [`Store::commit`] for callers outside of the async runtime.
    ///
    /// # Errors
    /// As `commit`.
    pub fn commit_blocking(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let answer = self.0.writer.commit(batch)?;
        answer.blocking_recv().unwrap_or_else(|_| Err(Error::Closed { path: self.0.file.path.clone() }))
    }

    /// Queues the batch; it is written with the next commit, after a second at the latest, in the
    /// order of the calls. Reads do not see it before. When writing fails it is kept and tried
    /// again with every later group.
    pub fn commit_later(&self, batch: Batch) {
        if !batch.is_empty() {
            self.0.writer.later(batch);
        }
    }

    /// Writes what [`Store::commit_later`] holds, now: for the end of a daemon, which may leave clones behind.
    ///
    /// # Errors
    /// As `commit`.
    pub async fn flush(&self) -> Result<()> {
        let answer = self.0.writer.commit(Batch::new())?;
        answer.await.unwrap_or_else(|_| Err(Error::Closed { path: self.0.file.path.clone() }))
    }

    fn report(&self, table: &str, key: &str, detail: &str) {
        let found = Damaged { table: table.to_owned(), key: key.to_owned(), detail: detail.to_owned() };
        let mut damaged = self.0.damaged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !damaged.contains(&found) {
            tracing::error!(table, key, detail, "a record cannot be decoded; it is kept");
            damaged.push(found);
        }
    }
}
