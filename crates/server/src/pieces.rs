//! Lists in pieces, for the Stream RPCs: a message of a list that grows with the node would one day be longer than
//! clients accept (gRPC's limit is 4 MiB, kubelets set 16).

use std::iter::Peekable;
use std::pin::Pin;

use futures_util::stream::unfold;
use prost::Message;
use tokio_stream::Stream;
use tonic::Status;

/// Most bytes of the items of one message. One item may be longer: it is a message of its own.
const MAX_BYTES: usize = 1 << 20;
/// Most items of one message: the first ones come before the last ones have been read.
const MAX_ITEMS: usize = 256;

/// What a Stream RPC answers.
pub(crate) type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Sends what is there already; `wrap` makes a message of a piece. No items: no message.
pub(crate) fn ready<T, M>(items: Vec<T>, wrap: fn(Vec<T>) -> M) -> Streamed<M>
where
    T: Message + 'static,
    M: Send + 'static,
{
    Box::pin(tokio_stream::iter(Pieces(items.into_iter().peekable()).map(move |piece| Ok(wrap(piece)))))
}

/// Sends what has to be read first, which blocks: each piece on a thread for that, when the one before it has been taken.
pub(crate) fn read<T, M>(items: impl Iterator<Item = T> + Send + 'static, wrap: fn(Vec<T>) -> M) -> Streamed<M>
where
    T: Message + 'static,
    M: Send + 'static,
{
    Box::pin(unfold(Some(Pieces(items.peekable())), move |pieces| async move {
        let mut pieces = pieces?;
        match tokio::task::spawn_blocking(move || (pieces.next(), pieces)).await {
            Ok((piece, pieces)) => Some((Ok(wrap(piece?)), Some(pieces))),
            // Whoever has some pieces must not take them for all.
            Err(error) => Some((Err(Status::internal(format!("read a part of the list: {error}"))), None)),
        }
    }))
}

/// Cuts items into pieces.
struct Pieces<I: Iterator>(Peekable<I>);

impl<T: Message, I: Iterator<Item = T>> Iterator for Pieces<I> {
    type Item = Vec<T>;

    fn next(&mut self) -> Option<Vec<T>> {
        let first = self.0.next()?;
        let mut bytes = first.encoded_len();
        let mut piece = vec![first];
        while piece.len() < MAX_ITEMS {
            let fits = |item: &T| bytes + item.encoded_len() <= MAX_BYTES;
            let Some(item) = self.0.next_if(fits) else { break };
            bytes += item.encoded_len();
            piece.push(item);
        }
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use cricket_cri_api::v1;
    use tokio_stream::StreamExt as _;

    use super::*;

    fn container(number: usize, annotation: usize) -> v1::Container {
        let annotations = [("text".to_owned(), "x".repeat(annotation))].into();
        v1::Container { id: format!("{number:064}"), annotations, ..Default::default() }
    }

    fn message(containers: Vec<v1::Container>) -> v1::StreamContainersResponse {
        v1::StreamContainersResponse { containers }
    }

    async fn lengths(stream: Streamed<v1::StreamContainersResponse>) -> (Vec<usize>, usize) {
        let messages: Vec<_> = stream.map(|piece| piece.expect("a piece")).collect().await;
        let ids: Vec<_> = messages.iter().flat_map(|m| &m.containers).map(|c| c.id.clone()).collect();
        assert!(ids.is_sorted(), "out of order");
        let longest = messages.iter().map(Message::encoded_len).max().unwrap_or(0);
        (messages.iter().map(|m| m.containers.len()).collect(), longest)
    }

    #[tokio::test]
    async fn a_thousand_containers_are_some_short_messages() {
        // What a kubelet's containers carry: a dozen labels and annotations.
        let items: Vec<_> = (0..1000).map(|number| container(number, 2000)).collect();
        let (counts, longest) = lengths(ready(items.clone(), message)).await;
        assert_eq!(counts, [256, 256, 256, 232]);
        assert!(longest < MAX_BYTES, "{longest}");
        assert_eq!(lengths(read(items.into_iter(), message)).await.0, counts);
    }

    #[tokio::test]
    async fn long_items_are_fewer_in_a_message_and_never_left_out() {
        let items = [400 << 10, 400 << 10, 400 << 10, 3 << 20, 10].map(|length| container(0, length));
        let (counts, longest) = lengths(ready(items.into(), message)).await;
        assert_eq!(counts, [2, 1, 1, 1]);
        assert!(longest > 3 << 20, "{longest}");
        assert_eq!(lengths(ready(Vec::new(), message)).await.0, Vec::<usize>::new());
    }

    #[tokio::test]
    async fn a_reader_that_fails_is_no_end() {
        let items = (0..300).map(|number| if number < 270 { container(number, 1) } else { panic!("gone") });
        let mut stream = read(items, message);
        assert_eq!(stream.next().await.expect("a piece").expect("read").containers.len(), 256);
        assert_eq!(stream.next().await.expect("an answer").expect_err("failed").code(), tonic::Code::Internal);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn nothing_is_read_before_somebody_takes_it() {
        let (sender, read_so_far) = std::sync::mpsc::channel();
        let items = (0..600).map(move |number| {
            sender.send(number).expect("the test listens");
            container(number, 1)
        });
        let mut stream = read(items, message);
        assert_eq!(read_so_far.try_iter().count(), 0);
        stream.next().await.expect("a piece").expect("read");
        // One more than the piece has, which did not fit or was looked at.
        assert!(read_so_far.try_iter().count() <= 257);
    }
}
