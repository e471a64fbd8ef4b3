//! File system usage.

use cricket_cri_api::v1;
use cricket_image::FsUsage;
use cricket_pod::now;

/// A file system's usage, as of now.
pub(crate) fn filesystem(usage: &FsUsage) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: now(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: usage.mountpoint.to_string_lossy().into_owned() }),
        used_bytes: Some(v1::UInt64Value { value: usage.used_bytes }),
        inodes_used: Some(v1::UInt64Value { value: usage.inodes_used }),
    }
}
