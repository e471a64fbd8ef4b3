//! HTTP/1.1 by hand: a server library would not let a test lie about lengths
//! or stop in the middle.

use super::content::Answer;
use super::rule::Fault;
use super::{Request, Shared};
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What becomes of the connection after an answer.
#[derive(PartialEq)]
enum Next {
    Keep,
    Close,
}

/// Serves a connection until it is closed by either side.
pub(super) async fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        let (answer, fault) = shared.decide(&request);
        if write(stream.get_mut(), &request, answer, fault).await? == Next::Close {
            break;
        }
    }
    Ok(())
}

/// The next request, nothing at the end of the connection. A body is read and dropped.
async fn read(stream: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().context("no method")?.to_owned();
    let target = words.next().context("no target")?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let request = Request { method, path: path.to_owned(), query: query.to_owned(), headers };
    let length: u64 = request.header("content-length").map_or(Ok(0), str::parse)?;
    tokio::io::copy(&mut stream.take(length), &mut tokio::io::sink()).await?;
    Ok(Some(request))
}

async fn write(stream: &mut TcpStream, request: &Request, mut answer: Answer, fault: Option<Fault>) -> Result<Next> {
    let mut length = Some(answer.body.len() as u64);
    let mut chunked = false;
    match &fault {
        None | Some(Fault::Truncate(_) | Fault::Drip(..) | Fault::Stall(_) | Fault::IgnoreRange) => {}
        Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
        Some(Fault::Close) => return Ok(Next::Close),
        Some(Fault::Silence) => return silence().await,
        Some(Fault::Status(status, headers, body)) => {
            answer = Answer { status: *status, headers: headers.clone(), body: body.clone() };
            length = Some(body.len() as u64);
        }
        Some(Fault::Redirect(url)) => {
            let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
            let url = url.replace("{path}", &format!("{}{query}", request.path));
            answer = Answer::new(307, "").header("Location", url);
            length = Some(0);
        }
        Some(Fault::Replace(body)) => {
            answer.body = body.clone();
            length = Some(body.len() as u64);
        }
        Some(Fault::ContentLength(claimed)) => length = Some(*claimed),
        Some(Fault::UntilClose) => length = None,
        Some(Fault::Endless) => (length, chunked) = (None, true),
    }

    let mut head = format!("HTTP/1.1 {} Status\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        Some(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
        None if chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        None => head.push_str("Connection: close\r\n"),
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    if request.method == "HEAD" {
        return Ok(Next::Keep);
    }

    let body = &answer.body;
    match fault {
        Some(Fault::Truncate(size)) => {
            stream.write_all(&body[..size.min(body.len())]).await?;
            return Ok(Next::Close);
        }
        Some(Fault::Stall(size)) => {
            stream.write_all(&body[..size.min(body.len())]).await?;
            return silence().await;
        }
        Some(Fault::Drip(size, pause)) => {
            for piece in body.chunks(size.max(1)) {
                tokio::time::sleep(pause).await;
                stream.write_all(piece).await?;
            }
        }
        Some(Fault::Endless) => loop {
            stream.write_all(b"10000\r\n").await?;
            stream.write_all(&[0; 0x10000]).await?;
            stream.write_all(b"\r\n").await?;
        },
        _ => stream.write_all(body).await?,
    }
    let honest = length == Some(body.len() as u64);
    Ok(if honest { Next::Keep } else { Next::Close })
}

/// Longer than any test; the connection's task is dropped with the registry.
async fn silence() -> Result<Next> {
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    Ok(Next::Close)
}
