//! Answers of a shim's task service, in ttrpc's frames.

use cricket_shim::Error;
use cricket_shim::fuzzing::answer;

/// Whatever comes is an answer or an error in time; what a shim says is kept only up to a length.
pub fn run(data: &[u8]) {
    match answer(data) {
        Ok(state) => assert!(state.id.len() <= data.len(), "more than was there"),
        Err(Error::Status { message, .. }) => assert!(message.chars().count() <= 4096, "{} bytes", message.len()),
        Err(Error::Io { source, .. }) => assert_ne!(source.kind(), std::io::ErrorKind::TimedOut, "it waited"),
        Err(_) => {}
    }
}
