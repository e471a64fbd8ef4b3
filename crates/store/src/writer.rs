//! The one thread that writes: group commit.
//!
//! ```text
//! commit ─┐                 ┌ waiting batches + queued ones ─▶ one transaction, one fsync ─▶ answers
//! later ──┴▶ channel ─▶ thread
//! ```
//! While a group is being written the next one gathers in the channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::batch::Op;
use crate::file::DbFile;
use crate::{Batch, Error, Result};

/// How long a queued batch may wait for a commit to travel with.
const LATER: Duration = Duration::from_secs(1);
/// How long after a failed write queued batches are tried again on their own.
const RETRY: Duration = Duration::from_secs(10);

enum Message {
    Commit(Batch, oneshot::Sender<Result<()>>),
    Later(Batch),
}

impl Message {
    fn ops(&self) -> std::slice::Iter<'_, Op> {
        match self {
            Message::Commit(batch, _) | Message::Later(batch) => batch.ops.iter(),
        }
    }
}

pub(crate) struct WriterHandle {
    sender: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    file: Arc<DbFile>,
}

impl WriterHandle {
    pub(crate) fn commit(&self, batch: Batch) -> Result<oneshot::Receiver<Result<()>>> {
        let (answer, receiver) = oneshot::channel();
        self.send(Message::Commit(batch, answer))?;
        Ok(receiver)
    }

    pub(crate) fn later(&self, batch: Batch) {
        // The receiver lives as long as this handle unless the thread panicked.
        if let Err(e) = self.send(Message::Later(batch)) {
            tracing::error!(error = %e, "a queued record change is lost");
        }
    }

    fn send(&self, message: Message) -> Result<()> {
        let closed = || Error::Closed { path: self.file.path.clone() };
        self.sender.as_ref().ok_or_else(closed)?.send(message).map_err(|_| closed())
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the record store's writer had panicked");
        }
    }
}

pub(crate) struct Writer {
    file: Arc<DbFile>,
    /// Queued changes that could not be written; the last value of a key wins, so the number of
    /// keys bounds it.
    kept: BTreeMap<(&'static str, String), Option<Vec<u8>>>,
    /// What waits for the next write, in the order of the calls.
    group: Vec<Message>,
    /// When queued changes are written without a commit to travel with.
    due: Option<Instant>,
}

impl Writer {
    pub(crate) fn start(file: Arc<DbFile>) -> Result<WriterHandle> {
        let (sender, receiver) = channel();
        let mut writer = Writer { file: file.clone(), kept: BTreeMap::new(), group: Vec::new(), due: None };
        let thread = std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|e| Error::io(&file.path, e))?;
        Ok(WriterHandle { sender: Some(sender), thread: Some(thread), file })
    }

    fn run(&mut self, receiver: &Receiver<Message>) {
        loop {
            let message = match self.due {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Ok(message) = receiver.try_recv() {
                self.take(message);
            }
            let asked = self.group.iter().any(|m| matches!(m, Message::Commit(..)));
            if asked || self.due.is_some_and(|due| due <= Instant::now()) {
                self.write();
            }
        }
        if !self.group.is_empty() || !self.kept.is_empty() {
            self.write();
        }
    }

    fn take(&mut self, message: Message) {
        if matches!(message, Message::Later(_)) {
            self.due.get_or_insert_with(|| Instant::now() + LATER);
        }
        self.group.push(message);
    }

    /// Writes the whole group; when that fails, each part alone, so that one value the database
    /// refuses does not fail its neighbours.
    fn write(&mut self) {
        self.file.ensure_open();
        let group = std::mem::take(&mut self.group);
        match self.transaction(&group) {
            Ok(()) => {
                self.kept.clear();
                for message in group {
                    answer(message, Ok(()));
                }
            }
            Err(e) if group.len() == 1 => self.failed(group, &e),
            Err(_) => {
                for message in group {
                    let alone = [message];
                    match self.transaction(&alone) {
                        Ok(()) => {
                            self.kept.clear();
                            alone.into_iter().for_each(|m| answer(m, Ok(())));
                        }
                        Err(e) => self.failed(alone, &e),
                    }
                }
            }
        }
        self.due = (!self.kept.is_empty()).then(|| Instant::now() + RETRY);
    }

    fn transaction(&self, group: &[Message]) -> Result<()> {
        let kept: Vec<Op> = self
            .kept
            .iter()
            .map(|((table, key), value)| Op { table, key: key.clone(), value: value.clone() })
            .collect();
        self.file.write(kept.iter().chain(group.iter().flat_map(Message::ops)))
    }

    fn failed(&mut self, group: impl IntoIterator<Item = Message>, error: &Error) {
        tracing::error!(path = %self.file.path.display(), %error, "cannot write records");
        for message in group {
            if let Message::Later(batch) = message {
                self.kept.extend(batch.ops.into_iter().map(|op| ((op.table, op.key), op.value)));
            } else {
                answer(message, Err(error.clone()));
            }
        }
    }
}

fn answer(message: Message, result: Result<()>) {
    if let Message::Commit(_, sender) = message {
        // A caller that went away needs no answer.
        let _ = sender.send(result);
    }
}
