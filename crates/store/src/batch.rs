//! A set of changes that reaches the file whole or not at all.

use crate::{Encoded, Record, Result, codec};

/// One change: a value, or `None` to delete the key.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) table: &'static str,
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
}

/// Changes to any number of tables, applied in order and atomically.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub(crate) ops: Vec<Op>,
}

impl Batch {
    /// A batch without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `record` under `key`, replacing what was there.
    ///
    /// # Errors
    /// [`crate::Error::Encode`] when the record cannot be written as JSON.
    pub fn put<R: Record>(&mut self, key: &str, record: &R) -> Result<&mut Self> {
        let value = codec::encode(key, record)?;
        self.ops.push(Op { table: R::TABLE, key: key.to_owned(), value: Some(value) });
        Ok(self)
    }

    /// As [`Batch::put`], of a record that has been encoded.
    pub fn put_encoded<R: Record>(&mut self, key: &str, record: &Encoded<R>) -> &mut Self {
        self.ops.push(Op { table: R::TABLE, key: key.to_owned(), value: Some(record.enveloped()) });
        self
    }

    /// Deletes `key`; a key that is not there is no error.
    pub fn delete<R: Record>(&mut self, key: &str) -> &mut Self {
        self.ops.push(Op { table: R::TABLE, key: key.to_owned(), value: None });
        self
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}
