//! ADD: attaches a sandbox to every network, in order.

use cricket_model::SandboxId;
use cricket_process::fault::point;
use serde_json::Value;

use crate::attachment::Attachment;
use crate::cache::{Record, RecordedNetwork};
use crate::cni::Inner;
use crate::env::Target;
use crate::gc::PATIENCE;
use crate::invoke::reported;
use crate::result::AddResult;
use crate::runner::failed;
use crate::{Cni, Error, Intent, PluginError, PodNetwork, Result, Verb};

impl Cni {
    /// Attaches the pod: each network's plugins in order, one network after the other, `eth0` first. When a plugin
    /// fails, what was started is detached; what cannot be stays recorded, see [`Cni::cached`]. The same holds when
    /// the future is dropped: the running plugin is killed, the record stays and [`Cni::del`] takes it back.
    ///
    /// # Errors
    /// No network is configured, the pod's data is invalid, the sandbox has a record, or a plugin failed.
    pub async fn add(&self, pod: &PodNetwork) -> Result<Attachment> {
        self.add_intended(self.intend(pod.clone())?).await
    }

    /// The same, for a pod whose intent is already being recorded.
    ///
    /// # Errors
    /// The sandbox has a record, or a plugin failed.
    pub async fn add_intended(&self, intent: Intent) -> Result<Attachment> {
        let Intent { pod, mut record } = intent;
        let inner = &*self.0;
        let _together = inner.occupancy.together(PATIENCE).await;
        let _turn = inner.turns.take(&pod.sandbox).await;
        match inner.cache.read(&pod.sandbox).await {
            Ok(None) => {}
            Ok(Some(_)) | Err(Error::CorruptRecord { .. }) => return Err(Error::AlreadyAttached(pod.sandbox.clone())),
            Err(e) => return Err(e),
        }
        inner.cache.write(&pod.sandbox, &record).await?;
        point("cni.recorded");
        let mut started = 0;
        match attach(inner, &pod, &mut record, &mut started).await {
            Ok(attachment) => Ok(attachment),
            Err(e) => {
                record.networks.truncate(started);
                undo(inner, &pod.sandbox, &record).await;
                Err(e)
            }
        }
    }
}

async fn attach(inner: &Inner, pod: &PodNetwork, record: &mut Record, started: &mut usize) -> Result<Attachment> {
    let mut results = Vec::new();
    let count = record.networks.len();
    for index in 0..count {
        *started = index + 1;
        let network = &record.networks[index];
        let result = attach_one(inner, pod, record, network).await?;
        point("cni.added");
        results.push((network.ifname.clone(), result.clone()));
        let name = network.list.name.clone();
        record.networks[index].result = Some(result.as_version(record.networks[index].list.version));
        if index + 1 == count {
            let built = Attachment::build(&results).map_err(|reason| Error::Network { network: name, reason })?;
            record.attachment = Some(built);
        }
        inner.cache.write(&pod.sandbox, record).await?;
    }
    inner.cache.store_later(&pod.sandbox, record);
    record.attachment.clone().ok_or_else(|| Error::NotAttached(pod.sandbox.clone()))
}

/// Runs one list; each plugin sees the result of the one before.
async fn attach_one(inner: &Inner, pod: &PodNetwork, record: &Record, network: &RecordedNetwork) -> Result<AddResult> {
    let list = &network.list;
    let target = Target { sandbox: &pod.sandbox, netns: Some(&pod.netns), ifname: &network.ifname, args: &record.args };
    let mut previous: Option<AddResult> = None;
    for plugin in &list.plugins {
        let prev = previous.as_ref().map(|r| ("prevResult", r.as_version(list.version)));
        let output = inner.runner.run(list, plugin, Verb::Add, Some(target), &record.capability_args, prev).await?;
        let invalid = |source| failed(list, plugin, Verb::Add, source);
        // Some plugins print an error object and still exit with 0.
        if let Some(e) = reported(&output) {
            return Err(invalid(e));
        }
        let result = AddResult::parse(&output, list.version).map_err(|e| invalid(PluginError::Result(e)))?;
        previous = Some(result);
    }
    match previous {
        Some(result) => Ok(result),
        None => AddResult::from_value(Value::Object(Default::default()), list.version)
            .map_err(|reason| Error::Network { network: list.name.clone(), reason }),
    }
}

/// Best effort: the caller reports why the ADD failed, and the record stays for whoever reconciles.
async fn undo(inner: &Inner, sandbox: &SandboxId, record: &Record) {
    let undone = match inner.detach(sandbox, record, Some(&record.netns)).await {
        Ok(()) => inner.cache.remove(sandbox).await,
        failed => failed,
    };
    if let Err(e) = undone {
        tracing::warn!(%sandbox, error = %e, "a failed attachment could not be taken back and stays recorded");
    }
}
