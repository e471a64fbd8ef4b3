//! A SPDY client that only sends: streams that nobody reads from, and bytes for them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection is stuck when it takes nothing for so long.
const STUCK: Duration = Duration::from_secs(1);

pub(crate) struct Forwarder {
    io: TcpStream,
    next: u32,
}

impl Forwarder {
    pub(crate) async fn connect(url: &str, protocol: &str) -> Result<Self> {
        let (host, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).context("no plain URL")?;
        let mut io = TcpStream::connect(host).await?;
        let request = format!(
            "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: {protocol}\r\n\r\n"
        );
        io.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await?);
        }
        ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Ok(Self { io, next: 1 })
    }

    /// Opens a stream, and waits for nothing.
    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> Result<u32> {
        let mut block = u32::try_from(headers.len())?.to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend(u32::try_from(text.len())?.to_be_bytes());
            block.extend(text.as_bytes());
        }
        let stream = self.next;
        self.next += 2;
        let mut body = stream.to_be_bytes().to_vec();
        body.extend([0; 6]);
        // zlib without compression (RFC 1950, RFC 1951 3.2.4): its head once, and a stored block each time.
        if stream == 1 {
            body.extend([0x78, 0x01]);
        }
        let length = u16::try_from(block.len())?;
        body.push(0);
        body.extend(length.to_le_bytes());
        body.extend((!length).to_le_bytes());
        body.extend(block);
        let mut frame = vec![0x80, 3, 0, 1];
        frame.extend(u32::try_from(body.len())?.to_be_bytes());
        frame.extend(body);
        self.io.write_all(&frame).await?;
        Ok(stream)
    }

    /// Sends bytes on these streams in turn, so many rounds or until the server takes no more. How many it took.
    pub(crate) async fn fill(&mut self, streams: &[u32], size: usize, rounds: usize) -> Result<usize> {
        let mut taken = 0;
        for stream in std::iter::repeat_n(streams, rounds).flatten() {
            let mut frame = stream.to_be_bytes().to_vec();
            frame.extend(u32::try_from(size)?.to_be_bytes());
            frame.resize(8 + size, 7);
            match tokio::time::timeout(STUCK, self.io.write_all(&frame)).await {
                Ok(sent) => sent?,
                Err(_) => break,
            }
            taken += size;
        }
        Ok(taken)
    }
}
