//! What a monitor answers, and what it says unasked.

use crate::helper::Failure;
use crate::{ContainerState, ExitFacts};

/// One packet from the monitor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The request that is answered; 0 for an event.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is said; absent when the sender is newer.
    #[prost(oneof = "ResponseKind", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21")]
    pub kind: Option<ResponseKind>,
}

/// What is said.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ResponseKind {
    /// The request was not carried out.
    #[prost(message, tag = "10")]
    Failed(Failed),
    /// It was, and there is nothing to tell.
    #[prost(message, tag = "11")]
    Done(crate::Empty),
    /// Answer to `Hello`.
    #[prost(message, tag = "12")]
    Hello(HelloReply),
    /// Answer to `Hold` and `Fetch`.
    #[prost(message, tag = "13")]
    Held(Held),
    /// Answer to `Run`. Descriptors: the init's pidfd, then one for each of `streams`.
    #[prost(message, tag = "14")]
    Started(Started),
    /// Comes before `ExecEnded`, with the same id.
    #[prost(message, tag = "15")]
    ExecStarted(crate::ExecStarted),
    /// Answer to `Exec`.
    #[prost(message, tag = "16")]
    ExecEnded(crate::ExecEnded),
    /// Answer to `List`.
    #[prost(message, tag = "17")]
    Containers(Containers),
    /// Answer to `Handles`. Descriptors: the init's pidfd (if it has not exited), then one for each of `streams`.
    #[prost(message, tag = "18")]
    Handles(Handles),
    /// Event: a container has ended.
    #[prost(message, tag = "19")]
    Exited(Exited),
    /// Comes before `Detached`, with the same id.
    #[prost(message, tag = "20")]
    Attached(crate::Empty),
    /// Answer to `Attach`: the session is over.
    #[prost(message, tag = "21")]
    Detached(crate::Detached),
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    /// The host, the kernel or cricket failed.
    Host = 0,
    /// This monitor does not know the request.
    Unknown = 1,
    /// The request makes no sense (too few descriptors, a bad name).
    Invalid = 2,
    /// No such container.
    NotFound = 3,
    /// The container is there already, or its state does not allow it.
    Conflict = 4,
    /// The helper failed; `Failed::failure` says why.
    Helper = 5,
    /// It was cancelled.
    Cancelled = 6,
    /// There are as many of these as there may be.
    Exhausted = 7,
}

/// A request that was not carried out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Failed {
    /// Why.
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// In words: lowercase, with names and the cause.
    #[prost(string, tag = "2")]
    pub message: String,
    /// What the helper said.
    #[prost(message, optional, tag = "3")]
    pub failure: Option<Failure>,
}

/// Introduces the monitor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloReply {
    /// The version to speak: the smaller of both sides' newest.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The monitor's PID.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// The sandbox it belongs to.
    #[prost(string, tag = "3")]
    pub sandbox_id: String,
    /// When the monitor was started, nanoseconds since 1970.
    #[prost(int64, tag = "4")]
    pub started_at: i64,
}

/// Descriptors that the monitor holds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Held {
    /// In the order of the descriptors, if there are some.
    #[prost(message, repeated, tag = "1")]
    pub fds: Vec<HeldFd>,
}

/// One descriptor that the monitor holds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeldFd {
    /// As it was given.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its number: the object is `/proc/MONITOR/fd/NUMBER` as long as the monitor lives.
    #[prost(int32, tag = "2")]
    pub number: i32,
}

/// A container was made.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Started {
    /// Host PID of its init.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// What the descriptors after the pidfd are.
    #[prost(enumeration = "crate::Stream", repeated, tag = "2")]
    pub streams: Vec<i32>,
    /// When the helper reported it, nanoseconds since 1970.
    #[prost(int64, tag = "3")]
    pub created_at: i64,
}

/// A list of containers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Containers {
    /// In the order they were made.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<ContainerState>,
}

/// Duplicates of a container's descriptors.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Handles {
    /// The container.
    #[prost(message, optional, tag = "1")]
    pub container: Option<ContainerState>,
    /// The first descriptor is the init's pidfd.
    #[prost(bool, tag = "2")]
    pub pidfd: bool,
    /// What the further descriptors are.
    #[prost(enumeration = "crate::Stream", repeated, tag = "3")]
    pub streams: Vec<i32>,
    /// When the helper reported it, nanoseconds since 1970.
    #[prost(int64, tag = "4")]
    pub created_at: i64,
}

/// A container has ended; its record is written, its init reaped.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exited {
    /// Which.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// How.
    #[prost(message, optional, tag = "2")]
    pub facts: Option<ExitFacts>,
}
