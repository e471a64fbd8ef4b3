//! How a record becomes bytes: JSON in an envelope that says the schema's version.

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

#[derive(Serialize)]
struct Writing<'a, R> {
    v: u32,
    r: &'a R,
}

#[derive(serde::Deserialize)]
struct Reading<'a> {
    v: u32,
    #[serde(borrow)]
    r: &'a serde_json::value::RawValue,
}

pub(crate) fn encode<R: Record>(key: &str, record: &R) -> Result<Vec<u8>> {
    serde_json::to_vec(&Writing { v: R::VERSION, r: record }).map_err(|e| Error::Encode {
        table: R::TABLE.to_owned(),
        key: key.to_owned(),
        detail: e.to_string(),
    })
}

pub(crate) fn decode<R: Record>(bytes: &[u8]) -> std::result::Result<R, String> {
    let envelope: Reading<'_> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if envelope.v > R::VERSION {
        return Err(format!("schema version {} is newer than {}", envelope.v, R::VERSION));
    }
    serde_json::from_str(envelope.r.get()).map_err(|e| e.to_string())
}
