//! A SPDY client in the manner of Go's: it waits for each stream's reply and knows no windows.

use std::collections::HashMap;

use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection.
pub(crate) struct Client<T> {
    pub(crate) io: T,
    zlib: Compress,
    next: u32,
    /// What came on each stream.
    pub(crate) data: HashMap<u32, Vec<u8>>,
    /// Streams that the server ended, and how.
    pub(crate) ended: HashMap<u32, End>,
    pub(crate) replied: Vec<u32>,
    pub(crate) goaway: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset(u32),
}

/// Sends a request and reads the head of the answer.
pub(crate) async fn request(url: &str, headers: &str) -> (TcpStream, String) {
    let (host, path) = url.strip_prefix("http://").and_then(|u| u.split_once('/')).expect("url");
    let mut io = TcpStream::connect(host).await.expect("connects");
    io.set_nodelay(true).expect("set");
    let text = format!("POST /{path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    io.write_all(text.as_bytes()).await.expect("sent");
    let head = head(&mut io).await;
    (io, head)
}

/// Reads to the empty line.
pub(crate) async fn head<T: AsyncRead + Unpin>(io: &mut T) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("text")
}

pub(crate) async fn connect(url: &str, protocols: &str) -> Client<TcpStream> {
    let headers = format!("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocols}\r\n");
    let (io, head) = request(url, &headers).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in ["connection: Upgrade\r\n", "upgrade: SPDY/3.1\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(!head.contains("close"), "{head}");
    Client::new(io)
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    pub(crate) fn new(io: T) -> Self {
        Self {
            io,
            zlib: Compress::new(Compression::fast(), true),
            next: 1,
            data: HashMap::new(),
            ended: HashMap::new(),
            replied: Vec::new(),
            goaway: false,
        }
    }

    /// Opens a stream and waits for its reply.
    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.syn(headers).await;
        while !self.replied.contains(&stream) && !self.ended.contains_key(&stream) {
            self.frame().await.expect("reply");
        }
        stream
    }

    /// Opens a stream and waits for nothing.
    pub(crate) async fn syn(&mut self, headers: &[(&str, &str)]) -> u32 {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(n, v)| [n, v]) {
            block.extend((text.len() as u32).to_be_bytes());
            block.extend(text.as_bytes());
        }
        let mut packed = Vec::with_capacity(block.len() + 64);
        self.zlib.compress_vec(&block, &mut packed, FlushCompress::Sync).expect("packed");
        let stream = self.next;
        self.next += 2;
        let mut body = stream.to_be_bytes().to_vec();
        body.extend([0; 6]);
        body.extend(packed);
        self.control(1, &body).await;
        stream
    }

    pub(crate) async fn control(&mut self, kind: u16, body: &[u8]) {
        let mut frame = vec![0x80, 3];
        frame.extend(kind.to_be_bytes());
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        self.io.write_all(&frame).await.expect("sent");
    }

    pub(crate) async fn send(&mut self, stream: u32, bytes: &[u8], fin: bool) -> std::io::Result<()> {
        let mut frame = stream.to_be_bytes().to_vec();
        frame.push(u8::from(fin));
        frame.extend(&(bytes.len() as u32).to_be_bytes()[1..]);
        frame.extend(bytes);
        self.io.write_all(&frame).await
    }

    /// Reads a frame; `None` at the connection's end.
    pub(crate) async fn frame(&mut self) -> Option<()> {
        let mut head = [0; 8];
        self.io.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let mut body = vec![0; length];
        self.io.read_exact(&mut body).await.ok()?;
        let word = |b: &[u8]| u32::from_be_bytes(b[..4].try_into().expect("four bytes"));
        if head[0] & 0x80 == 0 {
            let stream = word(&head);
            assert!(self.replied.contains(&stream), "data of stream {stream} before its reply");
            assert!(!self.ended.contains_key(&stream), "data of stream {stream} behind its end");
            self.data.entry(stream).or_default().extend(body);
            if head[4] & 1 != 0 {
                self.ended.insert(stream, End::Fin);
            }
            return Some(());
        }
        match head[3] {
            2 => self.replied.push(word(&body)),
            3 => {
                self.ended.insert(word(&body), End::Reset(word(&body[4..])));
            }
            6 => self.replied.push(word(&body)),
            7 => self.goaway = true,
            kind => panic!("frame of type {kind}"),
        }
        Some(())
    }

    /// Reads until the server has closed.
    pub(crate) async fn finish(&mut self) {
        while self.frame().await.is_some() {}
    }

    pub(crate) async fn until_ended(&mut self, stream: u32) -> End {
        while !self.ended.contains_key(&stream) {
            self.frame().await.expect("the stream's end");
        }
        self.ended[&stream]
    }

    pub(crate) fn text(&self, stream: u32) -> String {
        String::from_utf8(self.data.get(&stream).cloned().unwrap_or_default()).expect("text")
    }
}
