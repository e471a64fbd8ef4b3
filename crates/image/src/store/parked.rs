//! Layers that were under way when the last who wanted them went.
//!
//! A layer is unpacked while it comes, so the part that is here is a thread which waits for more bytes, with its hashes
//! and its staging directory. It is kept for a moment: who asks for the same layer again (a kubelet that was restarted,
//! say) gets the rest from where it stopped. Whatever is sent to it then, the digests are of all of it; if they are wrong,
//! who got the rest fetches all of it afresh: the first part was not its own.
//!
//! Invariants: `offset` counts what was handed to the thread, no more and no less; there are at most [`MOST`], each for
//! a bounded time; dropping one ends its thread, which deletes its directory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cricket_model::Digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::layers::Finished;
use super::record::LayerRef;
use crate::Result;
use crate::reference::Reference;

/// How long one is kept.
const KEPT: Duration = Duration::from_secs(60);
/// How many are kept; the oldest goes first.
const MOST: usize = 16;

/// What goes on with what: the same layer of the same repository. Another repository's registry may have sent anything.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    repository: String,
    blob: Digest,
    diff_id: Digest,
    /// As the manifest has it: the thread that unpacks wants no more and no less.
    size: u64,
}

impl Key {
    pub(crate) fn new(layer: &LayerRef, reference: &Reference) -> Self {
        Self {
            repository: format!("{}/{}", reference.registry(), reference.repository()),
            blob: layer.blob.clone(),
            diff_id: layer.diff_id.clone(),
            size: layer.size,
        }
    }
}

/// A layer that is being unpacked as it comes.
pub(crate) struct Transfer {
    pub(crate) sender: mpsc::Sender<Option<Result<Bytes>>>,
    pub(crate) unpacking: JoinHandle<Result<Finished>>,
    /// Bytes of the blob that were sent.
    pub(crate) offset: u64,
}

/// Those that nobody waits for.
pub(crate) struct Parked {
    kept: Duration,
    inner: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    serial: u64,
    transfers: HashMap<Key, (u64, Transfer)>,
}

impl Parked {
    /// `keep`: how long anything unfinished is kept here.
    pub(crate) fn new(keep: Duration) -> Self {
        Self { kept: keep.min(KEPT), inner: Mutex::default() }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives one back to work.
    pub(crate) fn take(&self, key: &Key) -> Option<Transfer> {
        let (_, transfer) = self.slots().transfers.remove(key)?;
        // It may have failed while it waited: on its directory, say.
        (!transfer.sender.is_closed()).then_some(transfer)
    }

    /// Gives all of them up: their space is wanted.
    pub(crate) fn clear(&self) {
        self.slots().transfers.clear();
    }

    fn park(self: &Arc<Self>, key: Key, transfer: Transfer) {
        // A runtime that ends keeps nothing.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let serial = {
            let mut slots = self.slots();
            slots.serial += 1;
            let serial = slots.serial;
            slots.transfers.insert(key.clone(), (serial, transfer));
            if slots.transfers.len() > MOST {
                let oldest = slots.transfers.iter().min_by_key(|(_, (serial, _))| *serial).map(|(key, _)| key.clone());
                oldest.and_then(|oldest| slots.transfers.remove(&oldest));
            }
            serial
        };
        let (parked, kept) = (Arc::downgrade(self), self.kept);
        runtime.spawn(async move {
            tokio::time::sleep(kept).await;
            let Some(parked) = parked.upgrade() else { return };
            let mut slots = parked.slots();
            if slots.transfers.get(&key).is_some_and(|(found, _)| *found == serial) {
                slots.transfers.remove(&key);
            }
        });
    }
}

/// A transfer at work, which is parked when this is dropped before [`Moving::arrived`].
pub(crate) struct Moving {
    parked: Arc<Parked>,
    key: Key,
    transfer: Option<Transfer>,
}

impl Moving {
    /// Goes on with the parked transfer of this layer, or with one that `begin` makes.
    pub(crate) fn new(parked: &Arc<Parked>, key: Key, begin: impl FnOnce() -> Transfer) -> Self {
        let transfer = parked.take(&key).unwrap_or_else(begin);
        Self { parked: parked.clone(), key, transfer: Some(transfer) }
    }

    /// The next byte that is wanted.
    pub(crate) fn offset(&self) -> u64 {
        self.transfer.as_ref().map_or(0, |transfer| transfer.offset)
    }

    /// Hands over what came, or why nothing more comes. False: nobody receives any more, unpacking failed and says why.
    pub(crate) async fn send(&mut self, came: Result<Bytes>) -> bool {
        let Some(transfer) = &mut self.transfer else { return false };
        // After an error there is nothing to go on with.
        let next = came.as_ref().map_or(0, |bytes| transfer.offset + bytes.len() as u64);
        // Dropped here, the message is not sent, and not counted.
        let sent = transfer.sender.send(Some(came)).await.is_ok();
        transfer.offset = next;
        sent
    }

    /// Everything was sent; the thread that comes to an end now.
    pub(crate) async fn arrived(mut self) -> Option<JoinHandle<Result<Finished>>> {
        if let Some(transfer) = &self.transfer {
            let _ = transfer.sender.send(None).await;
        }
        self.transfer.take().map(|transfer| transfer.unpacking)
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        // Without a byte there is nothing to go on with.
        if let Some(transfer) = self.transfer.take().filter(|t| t.offset > 0 && !t.sender.is_closed()) {
            self.parked.park(self.key.clone(), transfer);
        }
    }
}
