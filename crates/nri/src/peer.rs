//! A plugin in a test's hand, message by message.

use std::collections::VecDeque;

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::error::Status;
use crate::frame::{Demux, Lane, Message, encode};
use crate::ttrpc::{REQUEST, RESPONSE, Request, Response};

/// The other side of a connection, in the test's hand.
pub(crate) struct Peer {
    socket: UnixStream,
    demux: Demux,
    ready: VecDeque<Message>,
}

impl Peer {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, demux: Demux::default(), ready: VecDeque::new() }
    }

    pub(crate) async fn read(&mut self) -> Option<Message> {
        let mut portion = vec![0; 1 << 16];
        while self.ready.is_empty() {
            let size = self.socket.read(&mut portion).await.ok().filter(|size| *size > 0)?;
            let mut messages = Vec::new();
            self.demux.feed(&portion[..size], &mut messages).unwrap();
            self.ready.extend(messages);
        }
        self.ready.pop_front()
    }

    pub(crate) async fn write(&mut self, lane: Lane, stream: u32, kind: u8, payload: Vec<u8>) {
        let bytes = encode(&Message { lane, stream, kind, flags: 0, payload }).unwrap();
        self.socket.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, stream: u32, result: Result<Vec<u8>, Status>) {
        self.write(Lane::Plugin, stream, RESPONSE, Response::of(result).encode_to_vec()).await;
    }

    pub(crate) async fn call(&mut self, stream: u32, method: &str) {
        let request = Request { service: "S".into(), method: method.into(), payload: b"p".to_vec(), timeout_nano: 0 };
        self.write(Lane::Runtime, stream, REQUEST, request.encode_to_vec()).await;
    }
}
