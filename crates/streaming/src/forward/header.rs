//! What the headers of a forwarding stream say.

use crate::spdy::Headers;

/// Bytes of a connection's ID. Go's client counts, others take UUIDs.
const MAX_ID: usize = 256;

/// A connection has two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The bytes of the connection.
    Data,
    /// What went wrong.
    Error,
}

/// A stream's part in a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Which of the two.
    pub(crate) kind: Kind,
    /// The port in the pod, not 0.
    pub(crate) port: u16,
    /// What both streams of a connection have in common.
    pub(crate) id: String,
}

impl Request {
    /// Reads the headers of a stream with this number; `None` for what cannot be forwarded.
    pub(crate) fn read(headers: &Headers, stream: u32) -> Option<Self> {
        let kind = match headers.get("streamtype")? {
            "data" => Kind::Data,
            "error" => Kind::Error,
            _ => return None,
        };
        let port = headers.get("port")?.parse().ok().filter(|port| *port != 0)?;
        let id = match headers.get("requestid").filter(|id| !id.is_empty()) {
            Some(id) if id.len() > MAX_ID => return None,
            Some(id) => id.to_owned(),
            // Clients before Kubernetes 1.1 opened the error stream first and the data stream next.
            None => match kind {
                Kind::Error => stream.to_string(),
                Kind::Data => stream.checked_sub(2)?.to_string(),
            },
        };
        Some(Self { kind, port, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::Headers;

    fn read(pairs: &[(&str, &str)], stream: u32) -> Option<Request> {
        Request::read(&Headers::from_pairs(pairs), stream)
    }

    #[test]
    fn a_connections_streams_have_one_id() {
        let data = read(&[("streamtype", "data"), ("port", "8080"), ("requestid", "7")], 3);
        assert_eq!(data, Some(Request { kind: Kind::Data, port: 8080, id: "7".into() }));
        let old = read(&[("streamtype", "error"), ("port", "80")], 5).expect("old client");
        assert_eq!(old.id, read(&[("streamtype", "data"), ("port", "80")], 7).expect("old client").id);
    }

    #[test]
    fn what_cannot_be_forwarded() {
        for pairs in [
            &[("port", "80")][..],
            &[("streamtype", "data")],
            &[("streamtype", "stdin"), ("port", "80")],
            &[("streamtype", "data"), ("port", "0")],
            &[("streamtype", "data"), ("port", "65536")],
            &[("streamtype", "data"), ("port", "-1")],
        ] {
            assert_eq!(read(pairs, 1), None, "{pairs:?}");
        }
        assert_eq!(read(&[("streamtype", "data"), ("port", "80")], 1), None);
        let long = "x".repeat(MAX_ID + 1);
        assert_eq!(read(&[("streamtype", "data"), ("port", "80"), ("requestid", &long)], 3), None);
        assert!(read(&[("streamtype", "data"), ("port", "80"), ("requestid", &long[1..])], 3).is_some());
    }
}
