//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

/// Field 22 of proc_pid_stat(5).
pub fn start_time(stat: &[u8]) -> Option<u64> {
    crate::pidfd::parse_start_time(stat)
}

/// Where a kernel parameter is below `/proc/sys`.
pub fn sysctl_path(name: &str) -> Option<String> {
    crate::sysctl::path(name).ok()
}
