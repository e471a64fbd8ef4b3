//! How much of what a client sent may be kept until a stream's owner has done with it.
//!
//! Nobody can ask the client to wait on one stream alone: Go's clients know no windows. So whatever is over the bound
//! holds up the whole connection, and the bound must not let one stream's owner hold up the others:
//!
//! - all streams share a budget, of which the queue of a single stream cannot take more than a part;
//! - once it is spent, each stream goes on by an allowance of its own, a small piece at a time: a stream waits for its
//!   own owner only, never for another's.
//!
//! Invariants: what is kept is at most [`BUDGET`] bytes and [`OWN`] for each stream; a piece counts until the last
//! handle of its bytes is dropped, be it in the queue or in its owner's hands.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all streams of a connection.
const BUDGET: usize = 4 << 20;
/// Bytes of a stream beyond that.
const OWN: usize = 4 << 10;
/// Pieces below this size are copied: they would keep the whole block that they were read into.
const COPIED: usize = 8 << 10;
/// What a piece counts that is not copied, if it is not larger itself: a block.
const BLOCK: usize = 64 << 10;

/// A connection's budget.
#[derive(Debug)]
pub(crate) struct Budget(Arc<Semaphore>);

/// A stream's allowance.
#[derive(Debug, Clone)]
pub(crate) struct Allowance(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// Bytes and what they cost.
struct Piece {
    bytes: Bytes,
    _cost: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Budget {
    /// Takes a piece from the front of `rest`, all of it if the budget has as much; waits until the budget or the
    /// stream's allowance is there.
    pub(crate) async fn piece(&self, own: &Allowance, rest: &mut Bytes) -> Bytes {
        let copied = rest.len() < COPIED;
        let cost = if copied { rest.len() } else { rest.len().clamp(BLOCK, BUDGET) };
        let (size, cost) = tokio::select! {
            biased;
            cost = self.0.clone().acquire_many_owned(cost as u32) => (rest.len(), cost),
            cost = own.0.clone().acquire_owned() => (rest.len().min(OWN), cost),
        };
        let bytes = rest.split_to(size);
        let bytes = if size < COPIED { Bytes::copy_from_slice(&bytes) } else { bytes };
        match cost {
            Ok(cost) => Bytes::from_owner(Piece { bytes, _cost: cost }),
            // Nobody closes them.
            Err(_) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn soon<T>(what: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_millis(20), what).await.ok()
    }

    #[tokio::test]
    async fn small_pieces_do_not_keep_their_block() {
        let budget = Budget::default();
        for (size, kept) in [(1, false), (COPIED - 1, false), (COPIED, true)] {
            let block = Bytes::from(vec![7; BLOCK]);
            let piece = budget.piece(&Allowance::default(), &mut block.slice(..size)).await;
            assert_eq!((piece.len(), block.is_unique()), (size, !kept), "{size}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_until_it_is_dropped() {
        let (budget, stuck) = (Budget::default(), Allowance::default());
        let block = Bytes::from(vec![7; COPIED]);
        let mut kept = Vec::new();
        while let Some(piece) = soon(budget.piece(&stuck, &mut block.clone())).await {
            kept.push(piece);
        }
        // Each may keep a whole block, all but the last one.
        assert_eq!(kept.len(), BUDGET / BLOCK + 1);
        assert_eq!(kept.last().map(Bytes::len), Some(OWN));
        // Another stream goes on all the same, piece by piece.
        let live = Allowance::default();
        let mut rest = Bytes::from(vec![8; 10 * OWN]);
        for _ in 0..10 {
            let piece = soon(budget.piece(&live, &mut rest)).await.expect("its own allowance");
            assert_eq!(piece.len(), OWN);
            assert!(soon(budget.piece(&live, &mut block.clone())).await.is_none(), "its owner has not done with it");
        }
        assert!(rest.is_empty());
        // A part of a piece counts like the whole.
        let part = kept.remove(0).slice(..1);
        assert!(soon(budget.piece(&stuck, &mut block.clone())).await.is_none());
        drop(part);
        let piece = soon(budget.piece(&stuck, &mut block.clone())).await.expect("room");
        assert_eq!(piece.len(), COPIED);
    }
}
