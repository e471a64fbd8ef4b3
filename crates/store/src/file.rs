//! The database file: opening, writing a group, reading, and opening afresh after a failed write.
//!
//! redb refuses everything after an I/O error until the file is opened again, so the handle sits
//! behind a lock that readers share and that only the reopening takes alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};

use crate::batch::Op;
use crate::{Error, Result};

/// redb's page cache. Records are a few KiB each, and an idle daemon shall stay small.
const CACHE_BYTES: usize = 4 << 20;

fn table(name: &str) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(name)
}

pub(crate) struct DbFile {
    pub(crate) path: PathBuf,
    db: RwLock<Option<Database>>,
}

impl DbFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let db = open_database(path)?;
        Ok(Self { path: path.to_owned(), db: RwLock::new(Some(db)) })
    }

    /// Writes all changes in one durable transaction. On failure nothing of it is in the file.
    pub(crate) fn write<'a>(&self, ops: impl Iterator<Item = &'a Op>) -> Result<()> {
        let done = self.with(|db| {
            let tx = db.begin_write()?;
            for op in ops {
                let mut table = tx.open_table(table(op.table))?;
                match &op.value {
                    Some(value) => drop(table.insert(op.key.as_str(), value.as_slice())?),
                    None => drop(table.remove(op.key.as_str())?),
                }
            }
            tx.commit()?;
            Ok(())
        });
        if done.is_err() {
            self.reopen();
        }
        done
    }

    pub(crate) fn get(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>> {
        self.with(|db| match db.begin_read()?.open_table(table(name)) {
            Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(e.into()),
        })
    }

    /// Calls `each` for every record of a table, in key order.
    pub(crate) fn for_each(&self, name: &str, mut each: impl FnMut(&str, &[u8])) -> Result<()> {
        self.with(|db| {
            let table = match db.begin_read()?.open_table(table(name)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            for row in table.iter()? {
                let (key, value) = row?;
                each(key.value(), value.value());
            }
            Ok(())
        })
    }

    /// The names of all tables in the file, those of other releases included.
    pub(crate) fn tables(&self) -> Result<Vec<String>> {
        self.with(|db| Ok(db.begin_read()?.list_tables()?.map(|t| t.name().to_owned()).collect()))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> std::result::Result<T, redb::Error>) -> Result<T> {
        let guard = self.db.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match guard.as_ref() {
            Some(db) => work(db).map_err(|e| translate(&self.path, e)),
            None => Err(Error::Closed { path: self.path.clone() }),
        }
    }

    /// Opens the file afresh; when that fails too the next write tries again.
    fn reopen(&self) {
        let mut guard = self.db.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The old handle holds the file's lock: it has to go first.
        drop(guard.take());
        match open_database(&self.path) {
            Ok(db) => *guard = Some(db),
            Err(e) => tracing::error!(path = %self.path.display(), error = %e, "cannot reopen the record store"),
        }
    }

    /// Opens the file afresh if an earlier attempt failed.
    pub(crate) fn ensure_open(&self) {
        let closed = self.db.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_none();
        if closed {
            self.reopen();
        }
    }
}

fn open_database(path: &Path) -> Result<Database> {
    // A damaged file may trip an assertion in the database instead of an error.
    let opened = catch_unwind(AssertUnwindSafe(|| redb::Builder::new().set_cache_size(CACHE_BYTES).create(path)));
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(e)) => Err(translate(path, e.into())),
        Err(_) => Err(Error::Corrupt { path: path.to_owned(), detail: "its structure is inconsistent".to_owned() }),
    }
}

fn translate(path: &Path, error: redb::Error) -> Error {
    let path_buf = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => Error::Locked { path: path_buf },
        redb::Error::Corrupted(detail) => Error::Corrupt { path: path_buf, detail },
        redb::Error::UpgradeRequired(version) => {
            Error::Corrupt { path: path_buf, detail: format!("unknown file format {version}") }
        }
        redb::Error::Io(e) => match e.kind() {
            // redb's answer to a file that is not one of its own.
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                Error::Corrupt { path: path_buf, detail: e.to_string() }
            }
            _ => Error::io(path, e),
        },
        other => Error::Database { path: path_buf, detail: other.to_string() },
    }
}
