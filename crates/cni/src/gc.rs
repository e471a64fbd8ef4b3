//! GC: lets plugins drop what belongs to no attachment (specification 1.1.0).

use std::collections::BTreeSet;
use std::time::Duration;

use cricket_model::SandboxId;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::conf::Network;
use crate::request::VALID_ATTACHMENTS;
use crate::{Cni, Error, Result, Verb};

/// How long an ADD waits for a collection that runs; a DEL does not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How a collection came to its end.
pub(crate) enum Collected {
    /// Every plugin was asked.
    Done(Result<()>),
    /// Its time was over, or somebody waited for it, when it had run for so long: the plugin that ran was killed.
    GaveWay(Duration),
}

impl Cni {
    /// Tells the plugins of every network of 1.1.0 without `disableGC` which sandboxes exist. Whatever has a record
    /// counts as existing, too: its own DEL takes it away. Begins when no ADD and no DEL runs, holds none of them back
    /// until then, and gives way to those that come meanwhile.
    ///
    /// # Errors
    /// The failures of all plugins, of which every one was tried; [`Error::GaveWay`].
    pub async fn gc(&self, valid: &[SandboxId]) -> Result<()> {
        match self.collect(Duration::MAX, || valid.to_vec()).await {
            Collected::Done(result) => result,
            Collected::GaveWay(after) => Err(Error::GaveWay(after)),
        }
    }

    /// The same, for so long at most; `valid` is asked when it begins.
    pub(crate) async fn collect(&self, limit: Duration, valid: impl FnOnce() -> Vec<SandboxId>) -> Collected {
        let alone = self.0.occupancy.alone().await;
        let began = Instant::now();
        tokio::select! {
            biased;
            () = alone.unwelcome() => Collected::GaveWay(began.elapsed()),
            () = tokio::time::sleep(limit) => Collected::GaveWay(began.elapsed()),
            asked = self.ask_all(valid()) => Collected::Done(asked),
        }
    }

    async fn ask_all(&self, valid: Vec<SandboxId>) -> Result<()> {
        let inner = &*self.0;
        let mut networks = inner.networks();
        networks.retain(|n| n.list.version.has_status() && !n.list.disable_gc);
        if networks.is_empty() {
            return Ok(());
        }
        let path = inner.runner.config.cache_dir.clone();
        let recorded = inner.cache.list().map_err(|source| Error::Cache { path, source })?;
        let existing: BTreeSet<_> = valid.into_iter().chain(recorded).collect();
        let (mut failures, no_args) = (Vec::new(), Default::default());
        for network in &networks {
            let keep = self.attachments(network, &existing).await;
            for plugin in &network.list.plugins {
                let extra = [(VALID_ATTACHMENTS, keep.clone())];
                let run = inner.runner.run(&network.list, plugin, Verb::Gc, None, &no_args, extra);
                if let Err(e) = run.await {
                    failures.push(e);
                }
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Error::Several(failures)) }
    }

    /// The interfaces of a network: those of records, and where there is none the one it would get now.
    async fn attachments(&self, network: &Network, existing: &BTreeSet<SandboxId>) -> Value {
        let mut keep = Vec::new();
        for sandbox in existing {
            let record = self.0.cache.read(sandbox).await.ok().flatten();
            let recorded = record.iter().flat_map(|r| &r.networks).find(|n| n.list.name == network.list.name);
            let ifname = recorded.map_or(&network.ifname, |n| &n.ifname);
            keep.push(json!({"containerID": sandbox, "ifname": ifname}));
        }
        keep.into()
    }
}
