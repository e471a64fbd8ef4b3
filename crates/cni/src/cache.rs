//! Records of attachments: one file `<sandbox>.json` per sandbox, from before its ADD until after its DEL.
//!
//! A file is replaced by rename, so that it is whole after a crash of this program. There is no fsync: a power cut
//! takes the namespaces too; a record it damaged is still listed, and torn down with what is configured then.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cricket_model::SandboxId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attachment::Attachment;
use crate::conf::Network;
use crate::list::NetworkList;
use crate::{Error, Result};

/// Everything that CHECK and DEL need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Format of the file: 1.
    format: u32,
    pub(crate) netns: PathBuf,
    pub(crate) args: String,
    pub(crate) capability_args: Map<String, Value>,
    pub(crate) networks: Vec<RecordedNetwork>,
    /// Set when the whole ADD has succeeded.
    pub(crate) attachment: Option<Attachment>,
}

/// One network of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedNetwork {
    pub(crate) ifname: String,
    #[serde(serialize_with = "write_list", deserialize_with = "read_list")]
    pub(crate) list: NetworkList,
    /// The last plugin's result, in the list's version.
    pub(crate) result: Option<Value>,
}

fn write_list<S: serde::Serializer>(list: &NetworkList, s: S) -> std::result::Result<S::Ok, S::Error> {
    list.to_value().serialize(s)
}

fn read_list<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<NetworkList, D::Error> {
    NetworkList::from_value(&Value::deserialize(d)?).map_err(serde::de::Error::custom)
}

impl Record {
    pub(crate) fn intent(
        netns: &Path,
        args: String,
        capability_args: Map<String, Value>,
        networks: &[Network],
    ) -> Self {
        let networks = networks
            .iter()
            .map(|n| RecordedNetwork { ifname: n.ifname.clone(), list: n.list.clone(), result: None })
            .collect();
        Self { format: 1, netns: netns.to_owned(), args, capability_args, networks, attachment: None }
    }
}

/// The directory of records.
#[derive(Debug, Clone)]
pub(crate) struct Cache(PathBuf);

impl Cache {
    /// Makes the directory, closes it to others, and removes what an interrupted write left.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let failed = |source| Error::Cache { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                let _ = fs::remove_file(path);
            }
        }
        Ok(Self(dir.to_owned()))
    }

    fn path(&self, sandbox: &SandboxId) -> PathBuf {
        self.0.join(format!("{sandbox}.json"))
    }

    /// Every sandbox with a record, readable or not.
    pub(crate) fn list(&self) -> io::Result<Vec<SandboxId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            if let Some(id) = name.to_str().and_then(|n| n.strip_suffix(".json")).and_then(|n| n.parse().ok()) {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// `None` without a record.
    pub(crate) async fn read(&self, sandbox: &SandboxId) -> Result<Option<Record>> {
        let path = self.path(sandbox);
        blocking(move || {
            let text = match fs::read(&path) {
                Ok(text) => text,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(Error::Cache { path, source }),
            };
            match serde_json::from_slice::<Record>(&text) {
                Ok(record) if record.format == 1 => Ok(Some(record)),
                Ok(record) => Err(Error::CorruptRecord { path, reason: format!("format {}", record.format) }),
                Err(e) => Err(Error::CorruptRecord { path, reason: e.to_string() }),
            }
        })
        .await
    }

    pub(crate) async fn write(&self, sandbox: &SandboxId, record: &Record) -> Result<()> {
        let path = self.path(sandbox);
        let text = serde_json::to_vec(record)
            .map_err(|e| Error::CorruptRecord { path: path.clone(), reason: e.to_string() })?;
        blocking(move || {
            let temporary = path.with_extension("tmp");
            let write = || {
                let mut options = OpenOptions::new();
                let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
                file.write_all(&text)?;
                drop(file);
                fs::rename(&temporary, &path)
            };
            write().map_err(|source| {
                let _ = fs::remove_file(&temporary);
                Error::Cache { path, source }
            })
        })
        .await
    }

    pub(crate) async fn remove(&self, sandbox: &SandboxId) -> Result<()> {
        let path = self.path(sandbox);
        blocking(move || match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Cache { path, source }),
            _ => Ok(()),
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => Err(Error::Cache { path: PathBuf::new(), source: io::Error::other(e) }),
        },
    }
}
