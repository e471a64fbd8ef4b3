//! What a shim sends in ttrpc's frames: answers of its task service, events; and figures in one of them.

use cricket_shim::fuzzing::{answer, events, usage};
use cricket_shim::{Error, Event};

/// Whatever comes is an answer or an error in time; what a shim says is kept only up to a length. An event is no longer
/// than its frame, and no limit of memory is the largest there can be.
pub fn run(data: &[u8]) {
    match answer(data) {
        Ok(state) => assert!(state.id.len() <= data.len(), "more than was there"),
        Err(Error::Status { message, .. }) => assert!(message.chars().count() <= 4096, "{} bytes", message.len()),
        Err(Error::Io { source, .. }) => assert_ne!(source.kind(), std::io::ErrorKind::TimedOut, "it waited"),
        Err(_) => {}
    }
    if let Ok((events, _)) = events(data) {
        let named = |event: &Event| match event {
            Event::OutOfMemory(id) | Event::Ended(id) => id.len(),
            Event::Other => 0,
        };
        assert!(events.len() <= data.len() / 10, "more events than headers");
        assert!(events.iter().map(named).sum::<usize>() <= data.len(), "more than was there");
    }
    for version in [1, 2] {
        if let Ok(usage) = usage(version, data) {
            assert!(usage.memory_limit.is_none_or(|limit| (1..i64::MAX as u64).contains(&limit)), "{usage:?}");
        }
    }
}
