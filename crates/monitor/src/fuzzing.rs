//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use std::io;
use std::path::Path;

use cricket_process::ExitStatus;
use cricket_wire::ExitFacts;

use crate::log::split::Splitter;
use crate::log::time::Timestamp;

/// The log entries of a stream that came in these chunks, with entries of `max` bytes (0: as usual), all at one time.
pub fn split<'a>(name: &'static str, max: usize, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut splitter, time, mut out) = (Splitter::new(name, max), Timestamp::now(), Vec::new());
    for chunk in chunks {
        splitter.push(chunk, &time, &mut out);
    }
    splitter.finish(&time, &mut out);
    out
}

/// The exit status in proc_pid_stat(5) of a zombie.
pub fn zombie_status(stat: &[u8]) -> Option<ExitStatus> {
    ExitStatus::of_zombie(stat)
}

/// Writes an exit record.
///
/// # Errors
/// When the file cannot be written.
pub fn write_exit_record(path: &Path, facts: &ExitFacts) -> io::Result<()> {
    crate::record::write(path, facts)
}
