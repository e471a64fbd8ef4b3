//! When dirty pages go to the disk.

use std::os::fd::{AsFd, AsRawFd};

/// Starts to write a file's dirty pages and waits for nothing (sync_file_range(2)): a sync that follows later finds less
/// to do. The pages stay cached, unlike after posix_fadvise(2) with `POSIX_FADV_DONTNEED`. Where it does not work nothing
/// is lost but time, so that there is no error.
pub fn start(file: impl AsFd) {
    // SAFETY: only numbers are passed, of a descriptor that is open; 0 bytes from 0 on are the whole file.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn content_stays_and_any_descriptor_is_taken() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(&[7; 100_000]).expect("write");
        start(&file);
        file.rewind().expect("rewind");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read");
        assert_eq!(bytes, [7; 100_000]);
        // ESPIPE.
        start(std::io::pipe().expect("pipe").1);
    }
}
