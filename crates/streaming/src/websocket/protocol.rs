//! Subprotocols, and messages that carry one channel's bytes each.
//!
//! A message's first byte is the channel's number, or in the base64 variants its digit. Version 5 of remote commands has
//! one more message, `[255, channel]`: the client will send nothing more on that channel.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// What precedes the name of a SPDY protocol that is spoken inside of binary messages.
const TUNNEL: &str = "SPDY/3.1+";
/// The first byte of version 5's half-close.
const CLOSE: u8 = 255;

/// How messages carry bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// As they are, in binary messages.
    Raw,
    /// As base64, in text messages.
    Base64,
}

/// A protocol of remote commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    /// 1 to 5.
    pub(crate) version: u8,
    /// How messages carry bytes.
    pub(crate) codec: Codec,
}

impl Channels {
    /// What a client speaks that names no subprotocol.
    pub(crate) const UNNAMED: Self = Self { version: 1, codec: Codec::Raw };

    /// Reads `channel.k8s.io`, `v4.channel.k8s.io`, `v4.base64.channel.k8s.io` and the like.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (version, rest) = match name.split_once('.') {
            Some(("v2", rest)) => (2, rest),
            Some(("v3", rest)) => (3, rest),
            Some(("v4", rest)) => (4, rest),
            Some(("v5", rest)) => (5, rest),
            _ => (1, name),
        };
        let codec = match rest {
            "channel.k8s.io" => Codec::Raw,
            "base64.channel.k8s.io" => Codec::Base64,
            _ => return None,
        };
        Some(Self { version, codec })
    }
}

/// A protocol of port forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// Two channels for each port.
    Channels(Codec),
    /// SPDY inside of binary messages.
    Tunnel,
}

impl Forwarding {
    /// Reads `SPDY/3.1+portforward.k8s.io`, `portforward.k8s.io`, `v4.channel.k8s.io` and the like.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name.strip_prefix(TUNNEL) {
            Some("portforward.k8s.io") => Some(Self::Tunnel),
            Some(_) => None,
            None if name == "portforward.k8s.io" => Some(Self::Channels(Codec::Raw)),
            None => Channels::parse(name).filter(|c| c.version < 5).map(|c| Self::Channels(c.codec)),
        }
    }
}

/// What a client's message says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Bytes of a channel; maybe none.
    Data(u8, Bytes),
    /// The channel's end.
    End(u8),
}

/// What is wrong with a message; the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    /// Not what the codec writes.
    #[error("message of channel {0} is no base64")]
    Base64(u8),
    /// A half-close names one channel.
    #[error("half-close of {0} bytes, want 2")]
    Close(usize),
}

/// Reads the payload of a message; `None` for an empty one, which says nothing.
pub(crate) fn read(channels: Channels, payload: &Bytes) -> Result<Option<Said>, MessageError> {
    let Some(first) = payload.first().copied() else { return Ok(None) };
    let digit = |byte: u8| if channels.codec == Codec::Base64 { byte.wrapping_sub(b'0') } else { byte };
    if channels.version >= 5 && first == CLOSE {
        return match payload[..] {
            // Nobody has said whether the base64 variant has a number or a digit here.
            [_, channel] if channel < b'0' => Ok(Some(Said::End(channel))),
            [_, channel] => Ok(Some(Said::End(digit(channel)))),
            _ => Err(MessageError::Close(payload.len())),
        };
    }
    let channel = digit(first);
    let bytes = match channels.codec {
        Codec::Raw => payload.slice(1..),
        Codec::Base64 => STANDARD.decode(&payload[1..]).map_err(|_| MessageError::Base64(channel))?.into(),
    };
    Ok(Some(Said::Data(channel, bytes)))
}

/// A message of the server.
pub(crate) fn message(codec: Codec, channel: u8, bytes: &[u8]) -> Message {
    match codec {
        Codec::Raw => {
            let mut payload = Vec::with_capacity(1 + bytes.len());
            payload.push(channel);
            payload.extend_from_slice(bytes);
            Message::binary(payload)
        }
        Codec::Base64 => {
            let mut text = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
            text.push(char::from(b'0'.wrapping_add(channel)));
            STANDARD.encode_string(bytes, &mut text);
            Message::text(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_name_of_the_protocols() {
        for (name, version, codec) in [
            ("channel.k8s.io", 1, Codec::Raw),
            ("base64.channel.k8s.io", 1, Codec::Base64),
            ("v2.channel.k8s.io", 2, Codec::Raw),
            ("v3.base64.channel.k8s.io", 3, Codec::Base64),
            ("v4.channel.k8s.io", 4, Codec::Raw),
            ("v4.base64.channel.k8s.io", 4, Codec::Base64),
            ("v5.channel.k8s.io", 5, Codec::Raw),
            ("v5.base64.channel.k8s.io", 5, Codec::Base64),
        ] {
            assert_eq!(Channels::parse(name), Some(Channels { version, codec }), "{name}");
        }
        for name in ["", "v1.channel.k8s.io", "v6.channel.k8s.io", "v5.v5.channel.k8s.io", "portforward.k8s.io"] {
            assert_eq!(Channels::parse(name), None, "{name}");
        }
        for (name, want) in [
            ("SPDY/3.1+portforward.k8s.io", Some(Forwarding::Tunnel)),
            ("portforward.k8s.io", Some(Forwarding::Channels(Codec::Raw))),
            ("v4.channel.k8s.io", Some(Forwarding::Channels(Codec::Raw))),
            ("v4.base64.channel.k8s.io", Some(Forwarding::Channels(Codec::Base64))),
            ("v5.channel.k8s.io", None),
            ("SPDY/3.1+v4.channel.k8s.io", None),
        ] {
            assert_eq!(Forwarding::parse(name), want, "{name}");
        }
    }

    #[test]
    fn only_version_5_has_a_half_close() {
        let five = Channels { version: 5, codec: Codec::Raw };
        let close = Bytes::from_static(&[255, 0]);
        assert_eq!(read(five, &close), Ok(Some(Said::End(0))));
        assert_eq!(read(five, &Bytes::from_static(&[255])), Err(MessageError::Close(1)));
        let four = Channels { version: 4, codec: Codec::Raw };
        assert_eq!(read(four, &close), Ok(Some(Said::Data(255, Bytes::from_static(&[0])))));
        let text = Channels { version: 5, codec: Codec::Base64 };
        assert_eq!(read(text, &Bytes::from_static(b"\xff0")), Ok(Some(Said::End(0))));
        assert_eq!(read(text, &Bytes::from_static(b"1#")), Err(MessageError::Base64(1)));
        assert_eq!(read(four, &Bytes::new()), Ok(None));
    }

    proptest! {
        #[test]
        fn messages_are_read_as_they_are_written(channel in 0u8..10, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for codec in [Codec::Raw, Codec::Base64] {
                let payload = message(codec, channel, &bytes).into_data();
                let said = read(Channels { version: 4, codec }, &payload);
                prop_assert_eq!(said, Ok(Some(Said::Data(channel, Bytes::from(bytes.clone())))));
            }
        }

        #[test]
        fn garbage_never_panics(version in 1u8..6, bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            for codec in [Codec::Raw, Codec::Base64] {
                let _ = read(Channels { version, codec }, &Bytes::from(bytes.clone()));
            }
        }
    }
}
