//! What an ADD is going to do, decided before it starts: whoever asks for it can record it together with the pod.

use cricket_store::Batch;

use crate::cache::Record;
use crate::{Cni, Error, NotReady, PodNetwork, Result, env};

/// An attachment about to be made, see [`Cni::intend`].
#[derive(Debug, Clone)]
pub struct Intent {
    pub(crate) pod: PodNetwork,
    pub(crate) record: Record,
}

impl Cni {
    /// Chooses the networks that are configured now for the pod's handler, and checks its data. Nothing is changed.
    ///
    /// # Errors
    /// No network is configured, or the pod's data is invalid.
    pub fn intend(&self, pod: PodNetwork) -> Result<Intent> {
        let args = env::args(&pod)?;
        let directory = self.0.directory(&pod.handler);
        let loaded = directory.loaded();
        if loaded.networks.is_empty() {
            return Err(directory.readiness().err().unwrap_or_else(|| NotReady::new("no network")).into());
        }
        let record = Record::intent(&pod.netns, args, pod.capability_args(), &loaded.networks);
        Ok(Intent { pod, record })
    }
}

impl Intent {
    /// Adds the record to a batch of the store that the client was opened with ([`Cni::open_with`]). Once that is
    /// committed, [`Cni::del`] finds it after a power cut as well.
    ///
    /// # Errors
    /// The record cannot be encoded.
    pub fn record_in(&self, batch: &mut Batch) -> Result<()> {
        let put = batch.put(self.pod.sandbox.as_str(), &self.record);
        put.map(|_| ()).map_err(|source| Error::Store { sandbox: self.pod.sandbox.clone(), source })
    }
}
