//! What a create is at, so that a caller whose deadline is over can be told what was waited for.
//!
//! ```text
//! the work ──enter──▶ Stage ◀── a Wait for it, cut off ──▶ WaitedFor ──▶ the RPC's answer
//! ```
//!
//! Both are tied to their tasks: nobody has to hand them down. What is left becomes a step of the [`crate::timeline`].

use std::borrow::Cow;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::shared::now;
use crate::timeline::Step;

tokio::task_local! {
    static AT: Stage;
    static CUT_OFF: WaitedFor;
}

/// Where a piece of work is: what has been entered and not left, the innermost last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stage(Arc<Mutex<At>>);

#[derive(Debug, Default)]
struct At {
    /// Each with a key of its own.
    entered: Vec<(u64, Cow<'static, str>)>,
    /// What has been left.
    left: Vec<Step>,
}

/// Most steps that are kept of one piece of work: a container may have any number of volumes.
const MOST_LEFT: usize = 32;

impl Stage {
    /// Work whose stages these are.
    pub(crate) fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        AT.scope(self, work)
    }

    /// Tells the RPC that waits, if it is cut off before this is [`Waiting::done`].
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting(Some(self.clone()))
    }

    /// What has been left so far, for a timeline; whoever asks next gets what is left from here on.
    pub(crate) fn taken(&self) -> Vec<Step> {
        std::mem::take(&mut self.lock().left)
    }

    fn lock(&self) -> MutexGuard<'_, At> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The work of this task, or thread, is at `what`, words for a person, until this is dropped.
pub(crate) fn enter(what: impl Into<Cow<'static, str>>) -> Entered {
    // Nobody waits for other work.
    let Ok(stage) = AT.try_with(Stage::clone) else { return Entered(None) };
    let mut at = stage.lock();
    let key = at.entered.last().map_or(0, |(key, _)| key + 1);
    at.entered.push((key, what.into()));
    drop(at);
    Entered(Some(Inside { stage, key, at: now(), since: Instant::now() }))
}

/// What the work of this task has left so far, for a timeline.
pub(crate) fn taken() -> Vec<Step> {
    AT.try_with(Stage::taken).unwrap_or_default()
}

/// See [`enter`].
#[must_use]
pub(crate) struct Entered(Option<Inside>);

struct Inside {
    stage: Stage,
    key: u64,
    /// Nanoseconds since 1970.
    at: i64,
    since: Instant,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(Inside { stage, key, at, since }) = &self.0 else { return };
        let took = u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX);
        let mut now_at = stage.lock();
        let Some(index) = now_at.entered.iter().position(|(other, _)| other == key) else { return };
        let (_, what) = now_at.entered.remove(index);
        if now_at.left.len() < MOST_LEFT {
            now_at.left.push(Step { what, at: *at, took });
        }
    }
}

/// Takes this task's stage along to a thread.
pub(crate) fn carried<T>(f: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let stage = AT.try_with(Stage::clone).ok();
    move || match stage {
        Some(stage) => AT.sync_scope(stage, f),
        None => f(),
    }
}

/// Somebody waits for a piece of work.
pub(crate) struct Waiting(Option<Stage>);

impl Waiting {
    /// The work is done.
    pub(crate) fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let at = self.0.as_ref().and_then(|stage| stage.lock().entered.last().map(|(_, what)| what.to_string()));
        if let Some(at) = at {
            // The first counts; nobody asks where there is no deadline.
            let _ = CUT_OFF.try_with(|waited| waited.0.set(at));
        }
    }
}

/// What an RPC waited for when it was cut off.
#[derive(Debug, Clone, Default)]
pub struct WaitedFor(Arc<OnceLock<String>>);

impl WaitedFor {
    /// An RPC that may be dropped before it is ready.
    pub fn scope<F: Future>(&self, rpc: F) -> impl Future<Output = F::Output> {
        CUT_OFF.scope(self.clone(), rpc)
    }

    /// The stage, once the RPC was dropped.
    pub fn stage(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_cut_off_says_what_was_waited_for() {
        let stage = Stage::default();
        let (on, mut wake) = tokio::sync::mpsc::channel::<()>(1);
        let work = tokio::spawn(stage.clone().scope(async move {
            let _outer = enter("outer");
            drop(enter("left"));
            let inner = tokio::task::spawn_blocking(carried(|| enter("inner"))).await.expect("a thread");
            wake.recv().await;
            drop(inner);
            wake.recv().await;
        }));
        let wait = |stage: &Stage| {
            let waiting = stage.waiting();
            async move {
                std::future::pending::<()>().await;
                waiting.done();
            }
        };
        let cut_off = || {
            let waited = WaitedFor::default();
            drop(Box::pin(waited.scope(wait(&stage))));
            waited.stage().map(str::to_owned)
        };
        assert_eq!(cut_off(), None, "it has not begun");
        while cut_off().as_deref() != Some("inner") {
            tokio::task::yield_now().await;
        }
        on.send(()).await.expect("it works");
        while cut_off().as_deref() == Some("inner") {
            tokio::task::yield_now().await;
        }
        assert_eq!(cut_off().as_deref(), Some("outer"));
        drop(on);
        work.await.expect("it ends");
        assert_eq!(cut_off(), None);
        let waited = WaitedFor::default();
        waited.scope(async { stage.waiting().done() }).await;
        assert_eq!(waited.stage(), None);
        let steps: Vec<_> = stage.taken().into_iter().map(|step| step.what).collect();
        assert_eq!(steps, ["left", "inner", "outer"]);
        assert_eq!(stage.taken(), Vec::new());
    }
}
