//! Layers without a record: what an interrupted pull or removal left. A daemon that runs knows more than the records
//! do and collects such layers itself, so they are looked for only where none runs.

use std::collections::BTreeSet;

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

/// Compares directories with records.
pub(super) fn layers(config: &Config) -> Vec<Finding> {
    let root = &config.own.root;
    let images = root.join("images");
    let Ok(_lock) = Lock::take(&root.join(layout::LOCK)) else { return Vec::new() };
    let path = layout::records(root);
    if !path.exists() {
        return Vec::new();
    }
    let recorded = match Store::open(&path).and_then(|store| store.list::<Layer>()) {
        Ok(list) => list.into_iter().map(|(key, _)| key.trim_start_matches("sha256:").to_owned()).collect(),
        Err(e) => return vec![Finding::Wrong(e.to_string())],
    };
    let there: BTreeSet<String> = names(&images.join("layers")).into_iter().collect();
    let recorded: BTreeSet<String> = recorded;
    let mut findings: Vec<_> = recorded
        .difference(&there)
        .map(|hex| {
            Finding::Wrong(format!("layer sha256:{hex}: is recorded and not there; the next use fetches it again"))
        })
        .collect();
    let unknown = there.difference(&recorded).count();
    let unfinished = names(&images.join("staging")).len() + names(&images.join("trash")).len();
    if unknown + unfinished > 0 {
        findings.push(Finding::Note(format!(
            "images: {unknown} layers without a record and {unfinished} unfinished directories; the next start collects them"
        )));
    }
    findings
}
