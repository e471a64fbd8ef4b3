//! What the processes of a container hold open.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

/// Most descriptors of a container that are looked at: whoever opens more must not make everybody wait for the list.
const MAX_DESCRIPTORS: u64 = 65536;

/// Open descriptors of these processes, and how many of them are sockets. A process that has ended meanwhile has none.
pub(super) fn descriptors(pids: &[i32]) -> (u64, u64) {
    let (mut open, mut sockets) = (0, 0);
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            if open == MAX_DESCRIPTORS {
                return (open, sockets);
            }
            open += 1;
            // Files have absolute paths.
            let is_socket = |target: std::path::PathBuf| target.as_os_str().as_bytes().starts_with(b"socket:");
            sockets += u64::from(fs::read_link(entry.path()).is_ok_and(is_socket));
        }
    }
    (open, sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_open() {
        let (socket, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
        let open = |path: &str| fs::File::open(path).expect("open");
        let (shell, null) = (open("/bin/sh"), open("/dev/null"));
        let spawn = cricket_process::Spawn::new(&shell, ["sh", "-c", "exec 3</dev/null; read line"]);
        let mut child = spawn.fd(0, &theirs).fd(1, &null).fd(2, &null).spawn().expect("sh");
        drop(theirs);
        // Descriptor 3 is opened a moment after the start.
        let pid = child.pid;
        let seen = (0..200).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            Some(descriptors(&[pid])).filter(|counts| counts.0 == 4)
        });
        assert_eq!(seen, Some((4, 1)));
        drop(socket);
        child.wait().expect("wait");
        assert_eq!(descriptors(&[pid]), (0, 0));
    }
}
