//! How a record becomes bytes: JSON in an envelope that says the schema's version.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A value with a table of its own. Add fields with `#[serde(default)]`; raise [`Record::VERSION`]
/// only when an older reader would misread the record.
pub trait Record: Serialize + DeserializeOwned + Send + 'static {
    /// The table's name, unique in the product and never reused.
    const TABLE: &'static str;
    /// The schema this build writes. Records of a newer schema are reported as undecodable.
    const VERSION: u32 = 1;
}

/// A record that is there and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The table's name.
    pub table: String,
    /// The record's key.
    pub key: String,
    /// Why it cannot be decoded.
    pub detail: String,
}

/// A value's JSON, made once where it goes both into a journal and into the store.
#[derive(Debug, Clone)]
pub struct Encoded<T> {
    pub(crate) text: Vec<u8>,
    value: PhantomData<fn(T)>,
}

impl<T: Serialize> Encoded<T> {
    /// The JSON form.
    ///
    /// # Errors
    /// [`Error::Encode`] when it has none.
    pub fn of(value: &T) -> Result<Self> {
        let text = serde_json::to_vec(value).map_err(|e| Error::Encode {
            table: std::any::type_name::<T>().to_owned(),
            key: String::new(),
            detail: e.to_string(),
        })?;
        Ok(Self { text, value: PhantomData })
    }
}

impl<R: Record> Encoded<R> {
    /// The record's bytes in the store: its JSON in the envelope that [`Reading`] takes off.
    pub(crate) fn enveloped(&self) -> Vec<u8> {
        let head = format!("{{\"v\":{},\"r\":", R::VERSION);
        [head.as_bytes(), &self.text, b"}"].concat()
    }
}

#[derive(serde::Deserialize)]
struct Reading<'a> {
    v: u32,
    #[serde(borrow)]
    r: &'a serde_json::value::RawValue,
}

pub(crate) fn encode<R: Record>(key: &str, record: &R) -> Result<Vec<u8>> {
    let named = |e| match e {
        Error::Encode { detail, .. } => Error::Encode { table: R::TABLE.to_owned(), key: key.to_owned(), detail },
        other => other,
    };
    Ok(Encoded::of(record).map_err(named)?.enveloped())
}

pub(crate) fn decode<R: Record>(bytes: &[u8]) -> std::result::Result<R, String> {
    let envelope: Reading<'_> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if envelope.v > R::VERSION {
        return Err(format!("schema version {} is newer than {}", envelope.v, R::VERSION));
    }
    serde_json::from_str(envelope.r.get()).map_err(|e| e.to_string())
}
