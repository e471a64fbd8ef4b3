//! Logs: nothing lost, reordered or unbounded.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Pod, content, kill, until};

#[tokio::test]
async fn streams_long_lines_and_no_newline_at_the_end() {
    let mut pod = Pod::start().await;
    let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo err >&2; echo; printf tail";
    pod.run("a", script).await;
    assert_eq!(pod.exit().await.1.bytes_lost, 0);
    let log = std::fs::read(pod.log_file("a")).expect("log");
    let expected = [vec![b'x'; 1_000_000], b"\n\ntail".to_vec()].concat();
    assert!(content(&log, "stdout") == expected);
    assert_eq!(content(&log, "stderr"), b"err\n");
}

#[tokio::test]
async fn opening_again_under_load_loses_nothing() {
    let mut pod = Pod::start().await;
    pod.run("a", "i=0; while [ $i -lt 60000 ]; do echo line $i; i=$((i+1)); done").await;
    let log = pod.log_file("a");
    let mut rotated = 0;
    while pod.events.is_empty() {
        let name = |n: usize| log.with_extension(format!("log.{n}"));
        std::fs::rename(&log, name(rotated)).expect("rename");
        rotated += 1;
        match pod.client.reopen_log("a").await {
            Ok(()) => {}
            // It has ended meanwhile.
            Err(_) => break,
        }
        // What was read before the answer is in the old file: it does not change any more.
        let old = std::fs::read(name(rotated - 1)).expect("old log");
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(std::fs::read(name(rotated - 1)).expect("old log").len(), old.len());
    }
    assert!(rotated > 2, "rotated {rotated} times only");
    assert_eq!(pod.exit().await.1.bytes_lost, 0);
    let mut whole = Vec::new();
    for n in 0..rotated {
        whole.extend(std::fs::read(log.with_extension(format!("log.{n}"))).expect("old log"));
    }
    whole.extend(std::fs::read(&log).unwrap_or_default());
    let expected: String = (0..60_000).map(|i| format!("line {i}\n")).collect();
    assert!(content(&whole, "stdout") == expected.as_bytes());
}

#[tokio::test]
async fn a_removed_directory_does_not_stop_anything() {
    let mut pod = Pod::start().await;
    let go = pod.dir.path().join("go");
    pod.run("a", &format!("echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two", go.display())).await;
    let log = pod.log_file("a");
    until("the first line", || std::fs::read(&log).is_ok_and(|log| !log.is_empty())).await;
    std::fs::remove_dir_all(pod.log_dir()).expect("remove");
    pod.client.reopen_log("a").await.expect("open again");
    std::fs::write(go, b"").expect("go");
    assert_eq!(pod.exit().await.1.exit_code, 0);
    assert_eq!(content(&std::fs::read(&log).expect("log"), "stdout"), b"two\n");
}

struct SmallDisk<'p>(&'p Path);

impl<'p> SmallDisk<'p> {
    fn mount(path: &'p Path) -> Self {
        std::fs::create_dir_all(path).expect("mkdir");
        let options = c"size=128k";
        rustix::mount::mount("tmpfs", path, "tmpfs", rustix::mount::MountFlags::empty(), options).expect("mount");
        Self(path)
    }

    fn grow(&self) {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount_remount(self.0, flags, "size=64m").expect("remount");
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_makes_the_application_wait() {
    let mut pod = Pod::start().await;
    let directory = pod.log_dir();
    let disk = SmallDisk::mount(&directory);
    let done = pod.dir.path().join("done");
    let script = format!("seq 1 200000; touch {}", done.display());
    pod.run("a", &script).await;
    let log = pod.log_file("a");
    let size = || std::fs::metadata(&log).map_or(0, |stat| stat.len());
    until("the disk is full", || size() >= 120 * 1024).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!done.exists(), "the application did not wait");
    disk.grow();
    let (_, facts) = pod.exit().await;
    assert_eq!((facts.exit_code, facts.bytes_lost), (0, 0));
    let expected: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
    assert!(content(&std::fs::read(&log).expect("log"), "stdout") == expected.as_bytes());
}

#[tokio::test]
async fn a_full_disk_does_not_hinder_stopping() {
    let mut pod = Pod::start().await;
    let directory = pod.log_dir();
    let _disk = SmallDisk::mount(&directory);
    let started = pod.run("a", "exec seq 1 2000000").await;
    let other = pod.run("b", "exec sleep 600").await;
    let log = pod.log_file("a");
    until("the disk is full", || std::fs::metadata(&log).is_ok_and(|stat| stat.len() >= 120 * 1024)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begin = Instant::now();
    kill(started.pid);
    kill(other.pid);
    // The container without output is not held up by the other's log.
    let (first, _) = pod.exit().await;
    assert_eq!(first, "b");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let (_, facts) = pod.exit().await;
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(facts.exit_code, 137);
    // At least a pipe full, at most that and what is between reader and writer.
    assert!((64 * 1024..400 * 1024).contains(&facts.bytes_lost), "{}", facts.bytes_lost);
}

#[tokio::test]
async fn much_output_needs_little_memory() {
    let mut pod = Pod::start().await;
    // Empty lines grow most.
    pod.run("a", "yes '' | head -c 3000000; head -c 20000000 /dev/zero").await;
    let (_, facts) = pod.exit().await;
    assert_eq!(facts.bytes_lost, 0);
    let log = std::fs::read(pod.log_file("a")).expect("log");
    assert_eq!(content(&log, "stdout").len(), 23_000_000);
    let status = std::fs::read_to_string(format!("/proc/{}/status", pod.client.pid())).expect("status");
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 1024, "{kib} KiB");
}
