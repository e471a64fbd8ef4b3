//! Records of attachments: one file `<sandbox>.json` per sandbox, from before its ADD until after its DEL.
//!
//! ```text
//! file   written before ADD and after each network, replaced by rename, no fsync: survives the end of this program
//! store  the intent in the transaction that records the pod, which RunPodSandbox waits for; the result with a later
//!        one: survives a power cut, after which addresses are still leased though the namespaces are gone
//! ```
//!
//! Files are what is read; the store only restores those that are missing or damaged when the daemon starts. So no
//! ADD waits for a disk. A removal reaches the store later: a record that comes back is torn down once more, which
//! plugins allow (specification, DEL). A damaged file that the store does not know is listed, and torn down with what
//! is configured then.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cricket_model::SandboxId;
use cricket_store::{Batch, Store};
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

impl cricket_store::Record for Record {
    const TABLE: &'static str = "attachments";
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

/// The directory of records, and the store behind it.
#[derive(Clone)]
pub(crate) struct Cache {
    dir: PathBuf,
    store: Option<Store>,
}

impl Cache {
    /// Makes the directory, closes it to others, removes what an interrupted write left, and restores what it lost.
    pub(crate) fn open(dir: &Path, store: Option<Store>) -> Result<Self> {
        let failed = |source| Error::Cache { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                let _ = fs::remove_file(path);
            }
        }
        let cache = Self { dir: dir.to_owned(), store };
        cache.restore()?;
        Ok(cache)
    }

    fn restore(&self) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        for (key, record) in store.list::<Record>().map_err(Error::Records)? {
            let Ok(sandbox) = key.parse::<SandboxId>() else { continue };
            let path = self.path(&sandbox);
            // The newer one is the one with the outcome.
            match read(&path) {
                Ok(Some(file)) if file.attachment.is_some() || record.attachment.is_none() => {}
                Ok(_) | Err(Error::CorruptRecord { .. }) => {
                    tracing::info!(%sandbox, "network record restored");
                    write(&path, &encode(&path, &record)?)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn path(&self, sandbox: &SandboxId) -> PathBuf {
        self.dir.join(format!("{sandbox}.json"))
    }

    /// Every sandbox with a record, readable or not.
    pub(crate) fn list(&self) -> io::Result<Vec<SandboxId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
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
        blocking(move || read(&path)).await
    }

    pub(crate) async fn write(&self, sandbox: &SandboxId, record: &Record) -> Result<()> {
        let path = self.path(sandbox);
        let text = encode(&path, record)?;
        blocking(move || write(&path, &text)).await
    }

    /// Has the store follow, with its next transaction.
    pub(crate) fn store_later(&self, sandbox: &SandboxId, record: &Record) {
        let Some(store) = &self.store else { return };
        let mut batch = Batch::new();
        match batch.put(sandbox.as_str(), record) {
            Ok(_) => store.commit_later(batch),
            Err(e) => tracing::warn!(%sandbox, error = %e, "network record not stored"),
        }
    }

    pub(crate) async fn remove(&self, sandbox: &SandboxId) -> Result<()> {
        let path = self.path(sandbox);
        blocking(move || match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Cache { path, source }),
            _ => Ok(()),
        })
        .await?;
        if let Some(store) = &self.store {
            let mut batch = Batch::new();
            batch.delete::<Record>(sandbox.as_str());
            store.commit_later(batch);
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Record>> {
    let path = path.to_owned();
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
}

fn encode(path: &Path, record: &Record) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|e| Error::CorruptRecord { path: path.to_owned(), reason: e.to_string() })
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let replace = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text)?;
        drop(file);
        fs::rename(&temporary, path)
    };
    replace().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::Cache { path: path.to_owned(), source }
    })
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
