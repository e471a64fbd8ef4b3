//! Layers without a record: what an interrupted pull or removal left. A daemon that runs knows more than the records
//! do and collects such layers itself, so they are looked for only where none runs.

use std::collections::BTreeSet;
use std::path::Path;

use cricket_store::{Record, Store};
use serde::{Deserialize, Serialize};

use super::Finding;
use super::leftovers::names;
use crate::config::Config;
use crate::layout;
use crate::serve::Lock;

/// The record of a layer; only its key matters here, the diff ID.
#[derive(Serialize, Deserialize)]
struct Layer {}

impl Record for Layer {
    const TABLE: &'static str = "layers";
}

/// Layers' directories that no record has, by their names.
///
/// # Errors
/// When the records cannot be read.
pub(super) fn unknown_layers(root: &Path, store: &Store) -> cricket_store::Result<BTreeSet<String>> {
    let recorded = recorded(store)?;
    Ok(names(&root.join("images/layers")).into_iter().filter(|name| !recorded.contains(name)).collect())
}

/// The names of recorded layers' directories.
fn recorded(store: &Store) -> cricket_store::Result<BTreeSet<String>> {
    let list = store.list::<Layer>()?.into_iter();
    Ok(list.map(|(key, _)| key.trim_start_matches("sha256:").to_owned()).collect())
}

/// Compares directories with records.
pub(super) fn layers(config: &Config) -> Vec<Finding> {
    let root = &config.own.root;
    let images = root.join("images");
    let Ok(_lock) = Lock::take(&root.join(layout::LOCK)) else { return Vec::new() };
    let path = layout::records(root);
    if !path.exists() {
        return Vec::new();
    }
    let recorded = match Store::open(&path).and_then(|store| recorded(&store)) {
        Ok(recorded) => recorded,
        Err(e) => return vec![Finding::Wrong(e.to_string())],
    };
    let there: BTreeSet<String> = names(&images.join("layers")).into_iter().collect();
    let mut findings: Vec<_> = recorded
        .difference(&there)
        .map(|hex| {
            Finding::Wrong(format!("layer sha256:{hex}: is recorded and not there; the next use fetches it again"))
        })
        .collect();
    let unknown = there.difference(&recorded).count();
    let unfinished = super::repair::unfinished(root);
    if unknown + unfinished > 0 {
        findings.push(Finding::Note(format!(
            "images: {unknown} layers without a record and {unfinished} unfinished directories; the next start collects them"
        )));
    }
    findings
}
