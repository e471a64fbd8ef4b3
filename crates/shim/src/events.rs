//! The events service, which shims call (`containerd/api/services/ttrpc/events/v1/events.proto`): what they tell of the
//! containers that they run.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use prost::Message as _;

use crate::error::{Error, Result};
use crate::frame::{self, HEADER, Header, REMOTE_CLOSED, REQUEST, RESPONSE, Request, Response, Status};
use crate::messages::{ForwardRequest, TaskExit, TaskOom};

/// gRPC's UNIMPLEMENTED.
const UNIMPLEMENTED: i32 = 12;
/// The topic of [`Event::OutOfMemory`].
const OUT_OF_MEMORY: &str = "/tasks/oom";
/// The topic of [`Event::Ended`].
const EXIT: &str = "/tasks/exit";

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A process of this container was killed because memory was short (`TaskOOM`).
    OutOfMemory(String),
    /// The init of this container has ended (`TaskExit`).
    Ended(String),
    /// What is not listened to.
    Other,
}

/// A shim's connection to the events service.
#[derive(Debug)]
pub struct Events(UnixStream);

impl Events {
    /// Serves a connection that was accepted.
    pub fn new(connection: UnixStream) -> Self {
        Self(connection)
    }

    /// Waits for the next event and acknowledges it; `None` when the shim has closed the connection.
    ///
    /// # Errors
    /// When what comes is no call, or an answer cannot be written. Nothing can be read any more then.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        loop {
            let mut header = [0; HEADER];
            match self.0.read(&mut header[..1]) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(e)),
            }
            self.0.read_exact(&mut header[1..]).map_err(failed)?;
            let Header { size, stream, kind } = Header::parse(&header)?;
            let mut payload = vec![0; size];
            self.0.read_exact(&mut payload).map_err(failed)?;
            if kind != REQUEST {
                return Err(Error::Protocol(format!("a message of type {kind} where a call is due")));
            }
            let broken = |e: prost::DecodeError| Error::Protocol(format!("an event: {e}"));
            let request = Request::decode(payload.as_slice()).map_err(broken)?;
            if !request.service.ends_with(".Events") || request.method != "Forward" {
                let message = "only events are taken here".to_owned();
                self.answer(stream, Some(Status { code: UNIMPLEMENTED, message }))?;
                continue;
            }
            let event = event(&ForwardRequest::decode(request.payload.as_slice()).map_err(broken)?)?;
            self.answer(stream, None)?;
            return Ok(Some(event));
        }
    }

    fn answer(&mut self, stream: u32, status: Option<Status>) -> Result<()> {
        // An empty message is no bytes.
        let response = Response { status, payload: Vec::new() }.encode_to_vec();
        let frame = frame::encode(stream, RESPONSE, REMOTE_CLOSED, &response).map_err(failed)?;
        self.0.write_all(&frame).map_err(failed)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("read a shim's events", error)
}

fn event(request: &ForwardRequest) -> Result<Event> {
    let Some(envelope) = request.envelope.as_ref() else { return Ok(Event::Other) };
    let message = envelope.event.as_ref().map(|event| event.value.as_slice()).unwrap_or_default();
    let broken = |e| Error::Protocol(format!("{}: {e}", envelope.topic));
    match envelope.topic.as_str() {
        OUT_OF_MEMORY => Ok(Event::OutOfMemory(TaskOom::decode(message).map_err(broken)?.container_id)),
        EXIT => match TaskExit::decode(message).map_err(broken)? {
            TaskExit { container_id, id } if container_id == id => Ok(Event::Ended(id)),
            _ => Ok(Event::Other),
        },
        _ => Ok(Event::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Any, Empty, Envelope};
    use crate::ttrpc::Client;

    /// An event of the container, or of a process of that ID in it.
    fn envelope(topic: &str, container: &str, process: &str) -> ForwardRequest {
        // The first field of every event.
        let value = TaskExit { container_id: container.into(), id: process.into() }.encode_to_vec();
        let event = Some(Any { type_url: "containerd.events.Some".into(), value });
        ForwardRequest { envelope: Some(Envelope { topic: topic.into(), event }) }
    }

    #[test]
    fn events_are_told_and_acknowledged() {
        let (shim, ours) = UnixStream::pair().expect("pair");
        let service = "containerd.services.events.ttrpc.v1.Events";
        let limit = Some(std::time::Duration::from_secs(10));
        let shim = std::thread::spawn(move || {
            let mut client = Client::new(shim, service);
            for (topic, process) in [("/tasks/start", ""), (OUT_OF_MEMORY, ""), (EXIT, "exec"), (EXIT, "b")] {
                client.call::<Empty>("Forward", &envelope(topic, "b", process), limit).expect("acknowledged");
            }
            client.call::<Empty>("Other", &envelope(OUT_OF_MEMORY, "c", ""), limit).expect_err("no such method")
        });
        let mut events = Events::new(ours);
        let ended = Event::Ended("b".into());
        for event in [Event::Other, Event::OutOfMemory("b".into()), Event::Other, ended] {
            assert_eq!(events.next_event().expect("an event"), Some(event));
        }
        // The call that is not served is no event.
        assert_eq!(events.next_event().expect("the end"), None);
        let refused = shim.join().expect("the shim");
        assert!(matches!(refused, Error::Status { code: UNIMPLEMENTED, .. }), "{refused}");
    }

    #[test]
    fn what_is_no_call_ends_the_connection() {
        let oom = Request {
            service: "x.Events".into(),
            method: "Forward".into(),
            payload: ForwardRequest {
                envelope: Some(Envelope {
                    topic: OUT_OF_MEMORY.into(),
                    event: Some(Any { type_url: String::new(), value: vec![0xff] }),
                }),
            }
            .encode_to_vec(),
            timeout_nano: 0,
        };
        let bad = [
            frame::encode(1, RESPONSE, 0, b"").expect("frame"),
            frame::encode(1, REQUEST, 0, b"\xff\xff").expect("frame"),
            frame::encode(1, REQUEST, 0, &oom.encode_to_vec()).expect("frame"),
            [&u32::MAX.to_be_bytes()[..], &[0, 0, 0, 1, REQUEST, 0]].concat(),
            vec![0, 0, 0],
        ];
        for bytes in bad {
            let (mut shim, ours) = UnixStream::pair().expect("pair");
            shim.write_all(&bytes).expect("write");
            shim.shutdown(std::net::Shutdown::Write).expect("shutdown");
            assert!(Events::new(ours).next_event().is_err(), "{bytes:?}");
        }
    }
}
