//! GC: lets plugins drop what belongs to no attachment (specification 1.1.0).

use std::collections::BTreeSet;

use cricket_model::SandboxId;
use serde_json::{Value, json};

use crate::conf::Network;
use crate::request::VALID_ATTACHMENTS;
use crate::{Cni, Error, Result, Verb};

impl Cni {
    /// Tells the plugins of every network of 1.1.0 without `disableGC` which sandboxes exist. Whatever has a record
    /// counts as existing, too: its own DEL takes it away. Waits for running ADDs and DELs and holds new ones back.
    ///
    /// # Errors
    /// The failures of all plugins; every one was tried.
    pub async fn gc(&self, valid: &[SandboxId]) -> Result<()> {
        let inner = &*self.0;
        let _alone = inner.collecting.write().await;
        let mut networks = inner.networks();
        networks.retain(|n| n.list.version.has_status() && !n.list.disable_gc);
        if networks.is_empty() {
            return Ok(());
        }
        let path = inner.runner.config.cache_dir.clone();
        let recorded = inner.cache.list().map_err(|source| Error::Cache { path, source })?;
        let existing: BTreeSet<_> = valid.iter().cloned().chain(recorded).collect();
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
