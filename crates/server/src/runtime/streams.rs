//! What Exec, Attach and PortForward have in common: they answer a URL, and refuse what could not work there.

use std::sync::Arc;

use cricket_model::ErrorKind;
use cricket_pod::{ContainerRecord, Error, PodView};
use cricket_streaming::{IssueError, Streams};

use crate::Service;

/// The rules of the CRI's ExecRequest and AttachRequest.
pub(super) fn check(streams: Streams) -> Result<(), Error> {
    if streams.tty && streams.stderr {
        return Err(Error::invalid("tty and stderr cannot both be true: a terminal has one output"));
    }
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(Error::invalid("one of stdin, stdout and stderr must be true"));
    }
    Ok(())
}

/// The running container of this ID.
pub(super) fn running(service: &Service, id: &str) -> Result<(Arc<PodView>, Arc<ContainerRecord>), Error> {
    if id.is_empty() {
        return Err(Error::invalid("container_id is empty"));
    }
    let (pod, container) = service.0.pods.container(id)?;
    pod.running(&container.id)?;
    Ok((pod, container))
}

/// The URL, or why there is none.
pub(super) fn url(issued: Result<String, IssueError>) -> Result<String, Error> {
    issued.map_err(|error| match error {
        IssueError::TooMany => Error::new(ErrorKind::ResourceExhausted, error),
        IssueError::Random(_) => Error::new(ErrorKind::Internal, error),
    })
}

#[cfg(test)]
mod tests {
    use cricket_model::Kinded;

    use super::*;

    #[test]
    fn streams_that_must_be_refused_name_their_fields() {
        let error = |streams| check(streams).expect_err("refused");
        let none = error(Streams { tty: true, ..Streams::default() });
        assert_eq!(none.kind(), ErrorKind::InvalidArgument);
        assert!(none.to_string().contains("stdin, stdout and stderr"), "{none}");
        let both = error(Streams { tty: true, stdout: true, stderr: true, stdin: false });
        assert_eq!(both.kind(), ErrorKind::InvalidArgument);
        assert!(both.to_string().contains("tty and stderr"), "{both}");
        assert!(check(Streams { tty: true, stdout: true, ..Streams::default() }).is_ok());
    }

    #[test]
    fn too_many_urls_are_a_bound_that_was_hit() {
        assert_eq!(url(Err(IssueError::TooMany)).expect_err("refused").kind(), ErrorKind::ResourceExhausted);
    }
}
