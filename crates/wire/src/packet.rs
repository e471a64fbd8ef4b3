//! Packets: one message and its descriptors over a `SOCK_SEQPACKET` socket.
//!
//! Whatever arrives is bounded: [`MAX_BYTES`] and [`MAX_FDS`]; a longer packet is an error, not a truncated message.
//! Descriptors that arrive are closed on exec, and closed when the packet is refused.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// Longest packet in bytes; larger things travel in files.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most descriptors of one packet.
pub const MAX_FDS: usize = 64;

/// A packet that cannot be sent, received or understood.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The other side is gone.
    #[error("the connection is closed")]
    Closed,
    /// Nothing can be received or sent at the moment (the socket does not block).
    #[error("the socket is not ready")]
    WouldBlock,
    /// More bytes or descriptors than a packet may have.
    #[error("the packet is too large")]
    TooLarge,
    /// Bytes that are no message.
    #[error("the packet is no message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The kernel's error.
    #[error("the socket failed: {0}")]
    Socket(#[source] std::io::Error),
}

impl From<Errno> for PacketError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => Self::WouldBlock,
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Closed,
            Errno::MSGSIZE | Errno::TOOMANYREFS => Self::TooLarge,
            other => Self::Socket(other.into()),
        }
    }
}

/// Sends one message with descriptors; all of it or nothing.
pub fn send<M: prost::Message>(socket: impl AsFd, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), PacketError> {
    let bytes = message.encode_to_vec();
    send_bytes(socket, &bytes, fds)
}

/// Sends an encoded message with descriptors; all of it or nothing.
pub fn send_bytes(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), PacketError> {
    if bytes.len() > MAX_BYTES || fds.len() > MAX_FDS {
        return Err(PacketError::TooLarge);
    }
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(PacketError::TooLarge);
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one packet: its bytes are the first of `buffer`, which should have [`MAX_BYTES`].
pub fn receive_bytes(socket: impl AsFd, buffer: &mut [u8]) -> Result<(&[u8], Vec<OwnedFd>), PacketError> {
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(PacketError::TooLarge);
    }
    // An empty packet is a valid datagram, but no message of ours is empty: the end of the connection looks the same.
    if received.bytes == 0 {
        return Err(PacketError::Closed);
    }
    Ok((&buffer[..received.bytes], fds))
}

/// Receives one message of at most `limit` bytes and its descriptors into memory of just its size: a buffer for the
/// longest packet, zeroed and used once, would stay resident in every monitor. The socket has one reader.
pub fn receive_sized<M: prost::Message + Default>(
    socket: impl AsFd,
    limit: usize,
) -> Result<(M, Vec<OwnedFd>), PacketError> {
    let length = loop {
        // TRUNC answers the packet's whole length (unix(7)), whatever there is room for.
        match rustix::net::recv(&socket, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::TRUNC) {
            Ok((_, length)) => break length,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
    };
    receive(socket, &mut vec![0; length.clamp(1, limit)])
}

/// Receives one message and its descriptors.
pub fn receive<M: prost::Message + Default>(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(M, Vec<OwnedFd>), PacketError> {
    let (bytes, fds) = receive_bytes(socket, buffer)?;
    Ok((M::decode(bytes)?, fds))
}
