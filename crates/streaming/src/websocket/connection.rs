//! One connection: reads the client's messages into its channels, and writes what the channels' owners send.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::protocol::{Channels, Codec, MessageError, Said, message, read};
use crate::activity::Activity;
use crate::link::Link;
use crate::pipe::{CHUNK, Command, Input, InputSender, Output, input};
use crate::socket::Hangup;

/// Largest message and frame, in bytes. Some clients send whatever they are given as one.
const MAX_MESSAGE: usize = 16 << 20;
/// What the library collects before it writes.
const WRITE_BUFFER: usize = 64 << 10;

/// The upgraded connection as a WebSocket, of which `read` is what came behind the request.
pub(crate) async fn open<T: AsyncRead + AsyncWrite + Unpin>(io: T, read: Bytes) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .write_buffer_size(WRITE_BUFFER);
    WebSocketStream::from_partially_read(io, read.into(), Role::Server, Some(config)).await
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct Connection {
    link: Link,
}

/// The receiving side.
pub(crate) struct Reader<T> {
    messages: SplitStream<WebSocketStream<T>>,
    channels: Channels,
    /// By channel; those that the client does not write to, or has ended, are `None`.
    inputs: Vec<Option<InputSender>>,
    activity: Activity,
    hangup: Option<Hangup>,
}

/// Serves a connection. `readable` says of each channel whether the client may write to it; the answer has an input for
/// each that it may.
pub(crate) fn serve<T>(
    socket: WebSocketStream<T>,
    channels: Channels,
    readable: &[bool],
    activity: Activity,
    hangup: Option<Hangup>,
) -> (Reader<T>, Connection, Vec<Option<Input>>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, messages) = socket.split();
    let seen = activity.clone();
    let codec = channels.codec;
    let link = Link::start(|queue, written| write(sink, codec, queue, [written, seen]));
    let (inputs, outer) = readable.iter().map(|r| r.then(input).unzip()).unzip();
    (Reader { messages, channels, inputs, activity, hangup }, Connection { link }, outer)
}

impl Connection {
    /// A channel's way to the client.
    pub(crate) fn output(&self, channel: u8) -> Output {
        self.link.output(u32::from(channel))
    }

    /// Sends the last commands, says goodbye, and waits until that has been written.
    pub(crate) async fn finish(&mut self, last: impl IntoIterator<Item = Command>) {
        self.link.finish(last.into_iter().chain([Command::Close(0, 0)])).await;
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Reader<T> {
    /// Reads until the client has gone, or has broken the protocol.
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.read().await {
            tracing::debug!(%error, "WebSocket ends");
        }
    }

    async fn read(&mut self) -> Result<(), ReadError> {
        while let Some(message) = self.messages.next().await {
            let message = message.map_err(Box::new)?;
            self.activity.touch();
            let payload = match message {
                Message::Binary(payload) => payload,
                Message::Text(text) => text.into(),
                // The library answers both.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
                Message::Close(_) => return Ok(()),
            };
            match read(self.channels, &payload)? {
                Some(Said::Data(channel, bytes)) if !bytes.is_empty() => {
                    if !self.deliver(channel, bytes).await {
                        return Ok(());
                    }
                }
                Some(Said::End(channel)) => {
                    if let Some(input) = self.inputs.get_mut(usize::from(channel)) {
                        *input = None;
                    }
                }
                Some(Said::Data(..)) | None => {}
            }
        }
        Ok(())
    }

    /// Whether the client was there all the time.
    async fn deliver(&self, channel: u8, bytes: Bytes) -> bool {
        let Some(Some(sender)) = self.inputs.get(usize::from(channel)) else { return true };
        if bytes.len() <= CHUNK {
            return self.hand_over(sender, bytes).await;
        }
        // A queue counts its places: none of them may keep a message of megabytes, not even a part that holds the rest.
        for piece in bytes.chunks(CHUNK) {
            if !self.hand_over(sender, Bytes::copy_from_slice(piece)).await {
                return false;
            }
        }
        true
    }

    async fn hand_over(&self, sender: &InputSender, bytes: Bytes) -> bool {
        let Err(bytes) = sender.try_send(bytes) else { return true };
        let Some(hangup) = &self.hangup else {
            sender.send(bytes).await;
            return true;
        };
        tokio::select! {
            biased;
            () = sender.send(bytes) => true,
            () = hangup.wait() => false,
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("read: {0}")]
    Socket(#[from] Box<tokio_tungstenite::tungstenite::Error>),
}

/// Writes until the connection is closed by this side, or broken.
async fn write<T: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<T>, Message>,
    codec: Codec,
    mut queue: mpsc::Receiver<Command>,
    touched: [Activity; 2],
) {
    while let Some(command) = queue.recv().await {
        let mut next = Some(command);
        while let Some(command) = next {
            match command {
                Command::Data(channel, bytes) => {
                    let channel = u8::try_from(channel).unwrap_or(u8::MAX);
                    if sink.feed(message(codec, channel, &bytes)).await.is_err() {
                        return;
                    }
                }
                Command::Close(..) => {
                    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                    let _gone = sink.send(Message::Close(Some(goodbye))).await;
                    return;
                }
                // A server has no way to end one channel, and the rest is SPDY's.
                _ => {}
            }
            next = queue.try_recv().ok();
        }
        if sink.flush().await.is_err() {
            return;
        }
        touched.iter().for_each(Activity::touch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_message_waits_in_pieces() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let socket = open(near, Bytes::new()).await;
        let channels = Channels { version: 5, codec: Codec::Raw };
        let (reader, _connection, inputs) = serve(socket, channels, &[true], Activity::new(), None);
        let mut input = inputs.into_iter().next().flatten().expect("readable");
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        let sent: Vec<u8> = (0..10 * CHUNK + 1).map(|n| (n % 251) as u8).collect();
        let payload = [&[0], &sent[..]].concat();
        let sending = async {
            client.send(Message::binary(payload)).await.expect("sent");
            client.close(None).await.expect("closed");
        };
        let reading = async {
            let mut got = Vec::new();
            while let Some(chunk) = input.chunk().await.expect("whole") {
                assert!(chunk.len() <= CHUNK, "{}", chunk.len());
                got.extend_from_slice(&chunk);
            }
            got
        };
        let (_, _, got) = tokio::join!(sending, reader.run(), reading);
        assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
    }
}
