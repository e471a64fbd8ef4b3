//! CHECK: asks the plugins whether an attachment is still as they made it.
//!
//! Nothing calls it by itself: containerd does not either, and CRI has no answer to a failed one but to end the pod.

use std::path::Path;

use cricket_model::SandboxId;

use crate::env::Target;
use crate::{Cni, Error, Result, Verb};

impl Cni {
    /// Checks an attachment with the networks of its record. Networks older than 0.4.0 and those with `disableCheck`
    /// are taken to be well.
    ///
    /// # Errors
    /// The sandbox is not attached, or the first plugin that finds something wrong.
    pub async fn check(&self, sandbox: &SandboxId, netns: &Path) -> Result<()> {
        let inner = &*self.0;
        let _turn = inner.turns.take(sandbox).await;
        let missing = || Error::NotAttached(sandbox.clone());
        let record = inner.cache.read(sandbox).await?.filter(|r| r.attachment.is_some()).ok_or_else(missing)?;
        for network in &record.networks {
            let list = &network.list;
            if list.disable_check || !list.version.has_check() {
                continue;
            }
            let target = Target { sandbox, netns: Some(netns), ifname: &network.ifname, args: &record.args };
            for plugin in &list.plugins {
                let prev = network.result.clone().map(|r| ("prevResult", r));
                inner.runner.run(list, plugin, Verb::Check, Some(target), &record.capability_args, prev).await?;
            }
        }
        Ok(())
    }
}
