//! A full disk, on a small tmpfs of the test's own.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::path::Path;

use cricket_model::{ErrorKind, Kinded};
use cricket_store::{Batch, Journal, Record, Store};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Blob(String);

impl Record for Blob {
    const TABLE: &'static str = "blobs";
}

struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "cricket-test"])
            .arg(dir.path())
            .status();
        assert!(done.unwrap().success());
        Self(dir)
    }

    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn put(key: &str, size: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, &Blob("x".repeat(size))).unwrap();
    batch
}

fn has(store: &Store, key: &str) -> bool {
    store.get::<Blob>(key).unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_commits_and_nothing_else() {
    let disk = Disk::new("16m");
    let path = disk.0.path().join("db");
    let store = Store::open(&path).unwrap();
    store.commit(put("before", 1000)).await.unwrap();
    let filler = disk.fill();
    let error = store.commit(put("big", 8 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert!(has(&store, "before") && !has(&store, "big"));
    store.commit_later(put("later", 6 << 20));
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(!has(&store, "later"));
    std::fs::remove_file(filler).unwrap();
    // What was queued is tried again with the next commit.
    store.commit(put("after", 1000)).await.unwrap();
    assert!(has(&store, "before") && has(&store, "after") && has(&store, "later"));
    drop(store);
    assert!(has(&Store::open(&path).unwrap(), "after"));
}

#[test]
fn a_journal_on_a_full_disk_stays_whole() {
    let disk = Disk::new("1m");
    let path: &Path = &disk.0.path().join("pod");
    let (mut journal, _) = Journal::<String>::open(path).unwrap();
    journal.append(&"first".to_owned()).unwrap();
    let filler = disk.fill();
    let error = journal.append(&"x".repeat(100_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(journal.rewrite(&["x".repeat(100_000)]).is_err());
    std::fs::remove_file(filler).unwrap();
    journal.append(&"second".to_owned()).unwrap();
    assert_eq!(Journal::<String>::open(path).unwrap().1, ["first", "second"]);
}
