//! A client of the remote command protocol (`v5.channel.k8s.io`) that shares no code with the server.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cricket_cri_api::v1;
use cricket_testkit::cri::Cri;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A session.
pub(crate) struct Session {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    channels: BTreeMap<u8, Vec<u8>>,
    ended: bool,
}

/// What came of a session.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: Value,
}

impl Outcome {
    /// The exit code that the status names.
    pub(crate) fn code(&self) -> Result<i32> {
        if self.status["status"] == "Success" {
            return Ok(0);
        }
        ensure!(self.status["reason"] == "NonZeroExitCode", "{self:?}");
        let causes = self.status["details"]["causes"].as_array().context("no causes")?;
        let code = causes.iter().find(|cause| cause["reason"] == "ExitCode").context("no exit code")?;
        Ok(code["message"].as_str().context("no text")?.parse()?)
    }
}

/// What an exec asks for.
pub(crate) fn order(container: &str, script: &str) -> v1::ExecRequest {
    v1::ExecRequest {
        container_id: container.to_owned(),
        cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    }
}

/// The same with a terminal.
pub(crate) fn in_terminal(container: &str, script: &str) -> v1::ExecRequest {
    v1::ExecRequest { tty: true, stderr: false, ..order(container, script) }
}

impl Session {
    pub(crate) async fn exec(cri: &Cri, request: v1::ExecRequest) -> Result<Self> {
        let url = cri.runtime().exec(request).await?.into_inner().url;
        Self::connect(&url, "v5.channel.k8s.io").await
    }

    pub(crate) async fn attach(cri: &Cri, request: v1::AttachRequest) -> Result<Self> {
        let url = cri.runtime().attach(request).await?.into_inner().url;
        Self::connect(&url, "v5.channel.k8s.io").await
    }

    pub(crate) async fn connect(url: &str, protocol: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://").with_context(|| format!("{url} is no plain URL"))?;
        let (host, path) = rest.split_once('/').context("no path")?;
        let mut stream = TcpStream::connect(host).await?;
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.with_context(|| String::from_utf8_lossy(&head).into_owned())?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        ensure!(head.to_lowercase().contains(&format!("sec-websocket-protocol: {protocol}").to_lowercase()), "{head}");
        let (reader, writer) = stream.into_split();
        Ok(Self { reader, writer, channels: BTreeMap::new(), ended: false })
    }

    /// A masked frame; the mask may be zero.
    async fn frame(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length @ ..65536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        Ok(self.writer.write_all(&frame).await?)
    }

    pub(crate) async fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<()> {
        self.frame(BINARY, &[&[channel], bytes].concat()).await
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.send(STDIN, bytes.as_ref()).await
    }

    /// Standard input has no more.
    pub(crate) async fn close_stdin(&mut self) -> Result<()> {
        self.frame(BINARY, &[255, STDIN]).await
    }

    pub(crate) async fn resize(&mut self, width: u16, height: u16) -> Result<()> {
        let size = serde_json::json!({ "Width": width, "Height": height });
        self.send(RESIZE, size.to_string().as_bytes()).await
    }

    /// Takes one message; false at the end.
    async fn take(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let first = match self.reader.read_u8().await {
            Ok(first) => first,
            Err(_) => {
                self.ended = true;
                return Ok(false);
            }
        };
        let length = match self.reader.read_u8().await? {
            126 => u64::from(self.reader.read_u16().await?),
            127 => self.reader.read_u64().await?,
            length @ ..126 => u64::from(length),
            masked => bail!("a server's frame with length byte {masked}"),
        };
        let mut payload = vec![0; usize::try_from(length)?];
        self.reader.read_exact(&mut payload).await?;
        match first & 0x0f {
            PING => self.frame(PONG, &payload).await?,
            PONG => {}
            CLOSE => self.ended = true,
            _ => {
                if let Some((channel, bytes)) = payload.split_first() {
                    self.channels.entry(*channel).or_default().extend(bytes);
                }
            }
        }
        Ok(true)
    }

    /// Waits until a channel's text is so.
    pub(crate) async fn expect(&mut self, channel: u8, what: &str) -> Result<()> {
        let waiting = async {
            while !self.text(channel).contains(what) {
                ensure!(self.take().await?, "the session ended");
            }
            Ok(())
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| bail!("waited too long"));
        found.with_context(|| format!("want {what:?}, have {:?}", self.channels))
    }

    /// Whether a message is there, or comes within a tenth of a second.
    pub(crate) async fn hears(&mut self) -> Result<bool> {
        match tokio::time::timeout(Duration::from_millis(100), self.reader.readable()).await {
            Ok(ready) => {
                ready?;
                self.take().await
            }
            Err(_) => Ok(false),
        }
    }

    /// What a channel has brought so far.
    pub(crate) fn text(&self, channel: u8) -> String {
        String::from_utf8_lossy(self.bytes(channel)).into_owned()
    }

    pub(crate) fn bytes(&self, channel: u8) -> &[u8] {
        self.channels.get(&channel).map_or(&[], Vec::as_slice)
    }

    /// Everything up to the end.
    pub(crate) async fn finish(&mut self) -> Result<Outcome> {
        let waiting = async {
            while self.take().await? {}
            anyhow::Ok(())
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.with_context(|| format!("the session goes on: {:?}", self.channels))??;
        let status = serde_json::from_slice(self.bytes(STATUS)).unwrap_or(Value::Null);
        Ok(Outcome { stdout: self.text(STDOUT), stderr: self.text(STDERR), status })
    }
}
