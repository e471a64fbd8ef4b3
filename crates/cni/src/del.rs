//! DEL: takes a sandbox off its networks, from its record alone.

use std::path::Path;
use std::time::Duration;

use cricket_model::SandboxId;
use cricket_process::fault::point;

use crate::cache::Record;
use crate::cni::Inner;
use crate::env::{Target, is_namespace};
use crate::{Cni, Error, Result, Verb};

impl Cni {
    /// Detaches a sandbox, whatever the configuration directory says now. Every plugin of every network is tried,
    /// backwards; the record goes when all succeeded, so a failed DEL can be repeated. Without a record there is
    /// nothing to do. `netns` is `None`, or leads nowhere, when the namespace is gone.
    ///
    /// # Errors
    /// The failures of all steps.
    pub async fn del(&self, sandbox: &SandboxId, netns: Option<&Path>) -> Result<()> {
        let inner = &*self.0;
        let _together = inner.occupancy.together(Duration::ZERO).await;
        let _turn = inner.turns.take(sandbox).await;
        let record = match inner.cache.read(sandbox).await {
            Ok(None) => return Ok(()),
            Ok(Some(record)) => record,
            Err(e) if is_lost(&e) => {
                tracing::warn!(%sandbox, error = %e, "detaching from the networks configured now");
                substitute(inner, sandbox)
            }
            Err(e) => return Err(e),
        };
        inner.detach(sandbox, &record, netns).await?;
        point("cni.deleted");
        if let Err(e) = inner.cache.remove(sandbox).await {
            // A disk that fails keeps no pod: what comes back with it is torn down once more.
            tracing::warn!(%sandbox, error = %e, "the network record stays");
        }
        Ok(())
    }
}

/// Whether a record cannot be had however often it is asked for: damaged, or on a disk that fails.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::CorruptRecord { .. } => true,
        Error::Cache { source, .. } => [rustix::io::Errno::IO, rustix::io::Errno::UCLEAN]
            .iter()
            .any(|e| source.raw_os_error() == Some(e.raw_os_error())),
        _ => false,
    }
}

/// Stands in for a damaged record: plugins find most of what they made by the sandbox's ID. Which
/// handler it had is not known any more, so every network is asked.
fn substitute(inner: &Inner, sandbox: &SandboxId) -> Record {
    let args = format!("IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID={sandbox}");
    Record::intent(Path::new(""), args, Default::default(), &inner.networks())
}

impl Inner {
    /// Every DEL of a record.
    pub(crate) async fn detach(&self, sandbox: &SandboxId, record: &Record, netns: Option<&Path>) -> Result<()> {
        let netns = netns.filter(|path| is_namespace(path));
        let mut failures = Vec::new();
        for network in record.networks.iter().rev() {
            let list = &network.list;
            let target = Target { sandbox, netns, ifname: &network.ifname, args: &record.args };
            for plugin in list.plugins.iter().rev() {
                let result = network.result.clone().filter(|_| list.version.has_check());
                let prev = result.map(|r| ("prevResult", r));
                let run = self.runner.run(list, plugin, Verb::Del, Some(target), &record.capability_args, prev);
                if let Err(e) = run.await {
                    failures.push(e);
                }
            }
        }
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Error::Several(failures)),
        }
    }
}
