//! HTTP: from a request to a claimed token, an agreed protocol and an upgraded connection.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
};
use http::header::{HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::backend::{Backend, ForwardOrder};
use crate::forward;
use crate::link::Limits;
use crate::remote::{self, Remote};
use crate::server::Shared;
use crate::socket::{Hangup, Socket};
use crate::spdy;
use crate::token::Order;
use crate::websocket::{self, Channels, Forwarding};

const SPDY: &str = "SPDY/3.1";
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

type Answer = Response<Full<Bytes>>;

/// What is spoken on an upgraded connection.
#[derive(Debug, Clone)]
enum Session {
    RemoteSpdy(Remote, u8),
    RemoteSocket(Remote, Channels),
    ForwardSpdy(ForwardOrder),
    ForwardSocket(ForwardOrder, Forwarding),
}

/// A request that is not upgraded.
struct Refused(Box<Answer>);

impl Refused {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let mut answer = Response::new(Full::new(Bytes::from(text.into())));
        *answer.status_mut() = status;
        // One request a connection: a session would follow it.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Self(Box::new(answer))
    }
}

/// Answers a request; the session of one that is accepted runs on by itself.
pub(crate) async fn answer<B: Backend>(
    shared: Arc<Shared<B>>,
    hangup: Option<Hangup>,
    mut request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    match accept(&shared, &request) {
        Ok((session, permit, answer)) => {
            let tasks = shared.tasks.clone();
            tasks.spawn(async move {
                serve(shared, session, upgrade, hangup).await;
                drop(permit);
            });
            Ok(answer)
        }
        Err(Refused(answer)) => {
            tracing::info!(status = %answer.status(), "streaming request is refused");
            Ok(*answer)
        }
    }
}

/// A session, its place among the others, and the answer that begins it.
type Accepted = (Session, OwnedSemaphorePermit, Answer);

fn accept<B: Backend>(shared: &Shared<B>, request: &Request<Incoming>) -> Result<Accepted, Refused> {
    if request.method() != Method::GET && request.method() != Method::POST {
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "want GET or POST"));
    }
    // Before the token is used up: whoever comes again within its time may find room.
    let permit = shared.sessions.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too many streaming sessions"))?;
    let mut path = request.uri().path().trim_start_matches('/').split('/');
    let claimed = match (path.next(), path.next(), path.next()) {
        (Some(verb), Some(token), None) => shared.tokens.claim(verb, token),
        _ => None,
    };
    let order = claimed.ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "no such streaming request"))?;
    let headers = request.headers();
    let upgrade = headers.get(UPGRADE).and_then(|u| u.to_str().ok()).unwrap_or_default();
    if !list(headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade")) {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "want an upgrade to SPDY/3.1 or a WebSocket"));
    }
    if upgrade.eq_ignore_ascii_case("websocket") {
        let (session, protocol) = agree(order, headers, request.uri().query())?;
        return Ok((session, permit, switch_to_socket(headers, protocol)?));
    }
    if upgrade.eq_ignore_ascii_case(SPDY) {
        return spdy(order, headers).map(|(session, answer)| (session, permit, answer));
    }
    Err(Refused::new(StatusCode::BAD_REQUEST, format!("cannot upgrade to {upgrade:?}, want SPDY/3.1 or a WebSocket")))
}

/// The elements of a header that is a list, however many lines it has.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn switching(protocol: &'static str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    answer
}

fn spdy(order: Order, headers: &HeaderMap) -> Result<(Session, Answer), Refused> {
    let offered: &[&'static str] =
        if matches!(order, Order::Forward(_)) { &forward::PROTOCOLS } else { &remote::PROTOCOLS };
    let asked: Vec<_> = list(headers, &PROTOCOL_VERSION).collect();
    if asked.is_empty() {
        return Err(Refused::new(StatusCode::BAD_REQUEST, format!("header {PROTOCOL_VERSION} names no protocol")));
    }
    let Some(agreed) = asked.iter().find_map(|a| offered.iter().find(|o| *o == a)) else {
        let text = format!("protocols {asked:?} are not offered, want one of {offered:?}");
        let mut refused = Refused::new(StatusCode::FORBIDDEN, text);
        for protocol in offered {
            refused.0.headers_mut().append(ACCEPTED_VERSIONS, HeaderValue::from_static(protocol));
        }
        return Err(refused);
    };
    let mut answer = switching(SPDY);
    answer.headers_mut().insert(PROTOCOL_VERSION, HeaderValue::from_static(agreed));
    let session = match order {
        Order::Exec(order) => Session::RemoteSpdy(Remote::Exec(order), remote::version(agreed)),
        Order::Attach(order) => Session::RemoteSpdy(Remote::Attach(order), remote::version(agreed)),
        Order::Forward(order) => Session::ForwardSpdy(order),
    };
    Ok((session, answer))
}

/// The first subprotocol of the client's that is known; one that names none gets the oldest.
fn agree(order: Order, headers: &HeaderMap, query: Option<&str>) -> Result<(Session, Option<String>), Refused> {
    let asked: Vec<_> = list(headers, &SEC_WEBSOCKET_PROTOCOL).collect();
    let unknown = || Refused::new(StatusCode::FORBIDDEN, format!("subprotocols {asked:?} are not offered"));
    let remote = |remote: Remote| match asked.iter().find_map(|name| Some((*name, Channels::parse(name)?))) {
        Some((name, channels)) => Ok((Session::RemoteSocket(remote, channels), Some(name.to_owned()))),
        None if asked.is_empty() => Ok((Session::RemoteSocket(remote, Channels::UNNAMED), None)),
        None => Err(unknown()),
    };
    match order {
        Order::Exec(order) => remote(Remote::Exec(order)),
        Order::Attach(order) => remote(Remote::Attach(order)),
        Order::Forward(mut order) => {
            let agreed = asked.iter().find_map(|name| Some((*name, Forwarding::parse(name)?)));
            let (name, forwarding) = match agreed {
                Some((name, forwarding)) => (Some(name.to_owned()), forwarding),
                None if asked.is_empty() => (None, Forwarding::Channels(websocket::Codec::Raw)),
                None => return Err(unknown()),
            };
            if forwarding != Forwarding::Tunnel {
                order.ports = ports(order.ports, query)?;
            }
            Ok((Session::ForwardSocket(order, forwarding), name))
        }
    }
}

/// The ports of the request, else those of the URL: `?port=80&port=443,8080`.
fn ports(ordered: Vec<u16>, query: Option<&str>) -> Result<Vec<u16>, Refused> {
    let wrong = |text: String| Refused::new(StatusCode::BAD_REQUEST, text);
    let mut ports = ordered;
    if ports.is_empty() {
        let values = query.unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("port="));
        for port in values.flat_map(|value| value.split(',').flat_map(|v| v.split("%2C"))) {
            let number = port.parse().ok().filter(|p| *p != 0);
            ports.push(number.ok_or_else(|| wrong(format!("port {port:?} is no port")))?);
        }
    }
    match ports.len() {
        0 => Err(wrong("query parameter \"port\" is required".to_owned())),
        // A channel's number is one byte.
        1..=127 => Ok(ports),
        many => Err(wrong(format!("{many} ports, want 127 at most"))),
    }
}

fn switch_to_socket(headers: &HeaderMap, protocol: Option<String>) -> Result<Answer, Refused> {
    let wrong = |text: &str| Refused::new(StatusCode::BAD_REQUEST, text);
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    if version != Some(b"13") {
        return Err(wrong("want version 13 of WebSocket"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| wrong("WebSocket request without a key"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| wrong("WebSocket key"))?;
    let mut answer = switching("websocket");
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        let protocol = HeaderValue::from_str(&protocol).map_err(|_| wrong("WebSocket subprotocol"))?;
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(answer)
}

/// Runs a session to its end.
async fn serve<B: Backend>(shared: Arc<Shared<B>>, session: Session, upgrade: OnUpgrade, hangup: Option<Hangup>) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "connection is not upgraded"),
    };
    let parts = match upgraded.downcast::<TokioIo<Socket>>() {
        Ok(parts) => parts,
        Err(_) => return tracing::error!("upgraded connection is of another kind"),
    };
    let (io, read) = (parts.io.into_inner(), parts.read_buf);
    let limits: Limits = shared.limits();
    let (backend, creation) = (shared.backend.clone(), shared.creation);
    let activity = limits.activity.clone();
    match session {
        Session::RemoteSpdy(remote, version) => {
            let connection = spdy::serve(io, read, activity, hangup);
            remote::serve_spdy(backend, remote, version, connection, limits, creation).await;
        }
        Session::RemoteSocket(remote, channels) => {
            let socket = websocket::open(io, read).await;
            remote::serve_websocket(backend, remote, channels, socket, hangup, limits).await;
        }
        Session::ForwardSpdy(order) => {
            let connection = spdy::serve(io, read, activity, hangup);
            forward::serve_spdy(backend, order, connection, limits, creation).await;
        }
        Session::ForwardSocket(order, Forwarding::Tunnel) => {
            let tunnel = websocket::Tunnel::new(websocket::open(io, read).await);
            let connection = spdy::serve(tunnel, Bytes::new(), activity, hangup);
            forward::serve_spdy(backend, order, connection, limits, creation).await;
        }
        Session::ForwardSocket(order, Forwarding::Channels(codec)) => {
            let socket = websocket::open(io, read).await;
            forward::serve_websocket(backend, order, codec, socket, hangup, limits).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_from_the_request_or_the_url() {
        let of = |ordered: &[u16], query| ports(ordered.to_vec(), query).ok();
        assert_eq!(of(&[80], Some("port=1")), Some(vec![80]));
        assert_eq!(of(&[], Some("x=1&port=80&port=443,8080&port=1%2C2")), Some(vec![80, 443, 8080, 1, 2]));
        for query in [None, Some(""), Some("port="), Some("port=0"), Some("port=65536"), Some("port=80,")] {
            assert_eq!(of(&[], query), None, "{query:?}");
        }
        assert_eq!(of(&[1; 128], None), None);
    }
}
