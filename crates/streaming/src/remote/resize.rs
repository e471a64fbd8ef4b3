//! The resize channel: JSON objects behind each other, `{"Width":80,"Height":24}`.

use serde::Deserialize;
use tokio::sync::mpsc;

use crate::backend::TerminalSize;
use crate::pipe::Input;

/// Bytes that may be no whole object yet.
const MAX_PENDING: usize = 4 << 10;

#[derive(Deserialize)]
struct Wire {
    #[serde(alias = "width", default)]
    #[serde(rename = "Width")]
    width: u16,
    #[serde(alias = "height", default)]
    #[serde(rename = "Height")]
    height: u16,
}

/// Collects the channel's bytes and finds the sizes in them.
#[derive(Debug, Default)]
pub(crate) struct Parser(Vec<u8>);

impl Parser {
    /// The last size that is complete with these bytes. Nothing more is understood behind what is no JSON.
    pub(crate) fn last(&mut self, bytes: &[u8]) -> Result<Option<TerminalSize>, serde_json::Error> {
        self.0.extend_from_slice(bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&self.0).into_iter::<Wire>();
        let (mut last, mut read) = (None, 0);
        loop {
            match sizes.next() {
                Some(Ok(size)) => {
                    last = Some(TerminalSize { width: size.width, height: size.height });
                    read = sizes.byte_offset();
                }
                Some(Err(e)) if e.is_eof() && self.0.len() - read <= MAX_PENDING => break,
                Some(Err(e)) => return Err(e),
                None => break,
            }
        }
        self.0.drain(..read);
        Ok(last)
    }
}

/// Passes sizes on until the client ends the channel or nobody wants them. A slow receiver gets the latest.
pub(crate) async fn pump(mut from: Input, to: mpsc::Sender<TerminalSize>) {
    let mut parser = Parser::default();
    let mut latest = None;
    loop {
        tokio::select! {
            permit = to.reserve(), if latest.is_some() => match permit {
                Ok(permit) => if let Some(size) = latest.take() { permit.send(size) },
                Err(_) => return,
            },
            chunk = from.chunk() => {
                let Ok(Some(chunk)) = chunk else { break };
                match parser.last(&chunk) {
                    Ok(size) => latest = size.or(latest),
                    Err(error) => {
                        tracing::debug!(%error, "resize channel is not understood");
                        break;
                    }
                }
            }
        }
    }
    if let Some(size) = latest {
        let _gone = to.send(size).await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::pipe::input;

    fn size(width: u16, height: u16) -> TerminalSize {
        TerminalSize { width, height }
    }

    #[test]
    fn sizes_come_whole_or_in_pieces() {
        let mut parser = Parser::default();
        let last = parser.last(b"{\"Width\":80,\"Height\":24}\n{\"Width\":81,\"Hei").expect("json");
        assert_eq!(last, Some(size(80, 24)));
        assert_eq!(parser.last(b"").expect("json"), None);
        assert_eq!(parser.last(b"ght\":25}\n").expect("json"), Some(size(81, 25)));
        assert_eq!(parser.last(b"\n").expect("json"), None);
        assert!(parser.last(b"nonsense").is_err());
        assert!(Parser::default().last(&b"[".repeat(5000)).is_err());
        assert!(Parser::default().last(br#"{"Width":65536,"Height":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn it_holds_little_of_anything(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..8)) {
            let mut parser = Parser::default();
            for piece in pieces {
                if parser.last(&piece).is_err() {
                    break;
                }
                prop_assert!(parser.0.len() <= MAX_PENDING + 3000);
            }
        }
    }

    #[tokio::test]
    async fn a_slow_terminal_gets_the_latest_size() {
        let (sender, from) = input();
        let (to, mut sizes) = mpsc::channel(1);
        let pump = tokio::spawn(pump(from, to));
        for width in 1..=100 {
            sender.send(Bytes::from(format!(r#"{{"Width":{width},"Height":1}}"#))).await;
        }
        drop(sender);
        let mut got = Vec::new();
        while let Some(size) = sizes.recv().await {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            got.push(size.width);
        }
        pump.await.expect("ended");
        assert_eq!(got.last(), Some(&100));
        assert!(got.is_sorted(), "{got:?}");
    }
}
