//! Streams that wait for the other one of their connection.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::header::{Kind, Request};
use crate::spdy::NewStream;

/// Both streams of a connection.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The port in the pod.
    pub(crate) port: u16,
    /// The bytes.
    pub(crate) data: NewStream,
    /// What went wrong.
    pub(crate) error: NewStream,
}

/// What became of a stream.
#[derive(Debug)]
pub(crate) enum Added {
    /// It waits for the other one.
    Waits,
    /// Both are there.
    Complete(Box<Pair>),
    /// The connection has such a stream already.
    Twice(NewStream),
}

/// The streams that wait, by their connection's ID.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    waiting: HashMap<String, (Kind, NewStream)>,
    /// In the order of their ends; those that were completed are still named here until then.
    ends: VecDeque<(Instant, String, u32)>,
}

impl Pairs {
    /// Adds a stream, which may wait for so long.
    pub(crate) fn add(&mut self, request: Request, stream: NewStream, patience: Duration) -> Added {
        match self.waiting.remove(&request.id) {
            Some((kind, other)) if kind == request.kind => {
                self.waiting.insert(request.id, (kind, other));
                Added::Twice(stream)
            }
            Some((Kind::Data, data)) => Added::Complete(Box::new(Pair { port: request.port, data, error: stream })),
            Some((Kind::Error, error)) => Added::Complete(Box::new(Pair { port: request.port, data: stream, error })),
            None => {
                self.forget();
                self.ends.push_back((Instant::now() + patience, request.id.clone(), stream.id));
                self.waiting.insert(request.id, (request.kind, stream));
                Added::Waits
            }
        }
    }

    /// Keeps the ends of those that were completed from piling up behind one that waits.
    fn forget(&mut self) {
        let Self { waiting, ends } = self;
        if ends.len() > 2 * waiting.len() + 64 {
            ends.retain(|(_, id, stream)| waiting.get(id).is_some_and(|(_, s)| s.id == *stream));
        }
    }

    /// The next stream that has waited for too long. Never ends while none waits.
    pub(crate) async fn expired(&mut self) -> (Kind, NewStream) {
        loop {
            let Some((end, id, stream)) = self.ends.front() else { return std::future::pending().await };
            if self.waiting.get(id).is_some_and(|(_, s)| s.id == *stream) {
                tokio::time::sleep_until(*end).await;
            }
            let Some((_, id, stream)) = self.ends.pop_front() else { continue };
            if self.waiting.get(&id).is_some_and(|(_, s)| s.id == stream)
                && let Some(late) = self.waiting.remove(&id)
            {
                return late;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> NewStream {
        NewStream::alone(id)
    }

    fn request(kind: Kind, id: &str) -> Request {
        Request { kind, port: 80, id: id.into() }
    }

    #[tokio::test]
    async fn two_streams_make_a_connection_in_either_order() {
        let mut pairs = Pairs::default();
        let patience = Duration::from_secs(9);
        assert!(matches!(pairs.add(request(Kind::Error, "a"), stream(1), patience), Added::Waits));
        assert!(matches!(pairs.add(request(Kind::Data, "b"), stream(3), patience), Added::Waits));
        assert!(matches!(pairs.add(request(Kind::Data, "b"), stream(5), patience), Added::Twice(s) if s.id == 5));
        let Added::Complete(pair) = pairs.add(request(Kind::Data, "a"), stream(7), patience) else { panic!("not a") };
        assert_eq!((pair.error.id, pair.data.id), (1, 7));
        let Added::Complete(pair) = pairs.add(request(Kind::Error, "b"), stream(9), patience) else { panic!("not b") };
        assert_eq!((pair.error.id, pair.data.id), (9, 3));
        assert!(pairs.waiting.is_empty());
        // Nothing is left to expire.
        assert!(tokio::time::timeout(Duration::from_millis(20), pairs.expired()).await.is_err());
        assert!(pairs.ends.is_empty());
    }

    #[test]
    fn those_that_were_completed_do_not_pile_up_behind_one_that_waits() {
        let mut pairs = Pairs::default();
        let patience = Duration::from_secs(9);
        pairs.add(request(Kind::Error, "alone"), stream(1), patience);
        for n in 1..1000 {
            pairs.add(request(Kind::Error, &n.to_string()), stream(4 * n - 1), patience);
            pairs.add(request(Kind::Data, &n.to_string()), stream(4 * n + 1), patience);
        }
        assert!(pairs.ends.len() <= 70, "{}", pairs.ends.len());
        assert_eq!(pairs.ends.front().map(|(_, id, _)| id.as_str()), Some("alone"));
    }

    #[tokio::test]
    async fn one_that_stays_alone_expires() {
        let mut pairs = Pairs::default();
        pairs.add(request(Kind::Error, "a"), stream(1), Duration::from_millis(5));
        let (kind, late) = pairs.expired().await;
        assert_eq!((kind, late.id), (Kind::Error, 1));
        assert!(pairs.waiting.is_empty());
    }
}
