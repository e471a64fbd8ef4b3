//! Sessions that attach to a running container's stdio.

/// A session. It lives until the container has ended and the session has taken all of its output, or until its
/// descriptors are closed on the daemon's side.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attach {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// What the descriptors are, each at most once: `Stdin` is the reading end of a pipe with the session's input,
    /// `Stdout` and `Stderr` are the writing ends of pipes for the container's output. A container with a terminal has
    /// `Stdout` only.
    #[prost(enumeration = "crate::Stream", repeated, tag = "2")]
    pub streams: Vec<i32>,
}

/// The session is over.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Detached {
    /// Why.
    #[prost(enumeration = "DetachReason", tag = "1")]
    pub reason: i32,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DetachReason {
    /// The daemon's side closed the streams.
    Closed = 0,
    /// The container has ended, and the session has all of its output.
    Ended = 1,
    /// The session's input ended, and with it the session (standard input that is kept open for other sessions).
    InputEnded = 2,
    /// It did not take the container's output for too long.
    Stuck = 3,
}
