//! What the daemon asks of a monitor.

/// One packet from the daemon.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Chosen by the daemon, unique among the requests in flight on a connection, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is asked; absent when the sender is newer and asks for what this build does not know.
    #[prost(oneof = "RequestKind", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24")]
    pub kind: Option<RequestKind>,
}

/// What is asked.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RequestKind {
    /// First on every connection; answered by `HelloReply`.
    #[prost(message, tag = "10")]
    Hello(Hello),
    /// Keep the descriptors that came along; answered by `Held` (numbers, no descriptors).
    #[prost(message, tag = "11")]
    Hold(Hold),
    /// All that is held; answered by `Held` with the descriptors in the same order.
    #[prost(message, tag = "12")]
    Fetch(Empty),
    /// Make a container; answered by `Started`.
    /// Descriptors: the helper's executable, its configuration, then what the configuration names.
    #[prost(message, tag = "13")]
    Run(crate::Run),
    /// Execute in a container; answered by `ExecEnded`.
    /// Descriptors: the helper's executable, its configuration, stdin, stdout, stderr, then what the
    /// configuration names.
    #[prost(message, tag = "14")]
    Exec(crate::Exec),
    /// Kill what an unanswered `Run` or `Exec` of this connection started; that request is then answered.
    #[prost(message, tag = "15")]
    Cancel(Cancel),
    /// Open the container's log by its name again; answered by `Done` when the change is complete.
    #[prost(message, tag = "16")]
    ReopenLog(Named),
    /// All containers; answered by `Containers`.
    #[prost(message, tag = "17")]
    List(Empty),
    /// Drop what is known of an exited container; answered by `Done`, also when it is not known.
    #[prost(message, tag = "18")]
    Forget(Named),
    /// Look after a container whose monitor died; answered by `Done`.
    /// Descriptors: the init's pidfd, then one for each of `Adopt::streams`.
    #[prost(message, tag = "19")]
    Adopt(crate::Adopt),
    /// End the monitor; answered by `Done`, or refused while a container runs.
    #[prost(message, tag = "20")]
    Leave(Empty),
    /// Duplicates of a container's descriptors; answered by `Handles`.
    #[prost(message, tag = "21")]
    Handles(Named),
    /// Close the container's standard input (its writing end in the monitor); answered by `Done`.
    #[prost(message, tag = "22")]
    CloseStdin(Named),
    /// Attach to a container's stdio; answered by `Attached`, and by `Detached` when the session is over.
    /// Descriptors: one for each of `Attach::streams`.
    #[prost(message, tag = "23")]
    Attach(crate::Attach),
    /// Kill what an unanswered `Run` of a connection that has ended started, and forget the container; answered by
    /// `Done`, also when it is not known or has exited, and refused while it runs.
    #[prost(message, tag = "24")]
    Abandon(Named),
}

/// Introduces the daemon.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// The newest version that the daemon speaks.
    #[prost(uint32, tag = "1")]
    pub version: u32,
}

/// Names for descriptors, in the order of the descriptors.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hold {
    /// `ipc`, `uts`, `pid`, `net`, `user`…; a name that is held already is replaced.
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
}

/// Names a request of the same connection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cancel {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub request: u64,
}

/// Names a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Named {
    /// Its id.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// A request that needs no words.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}
