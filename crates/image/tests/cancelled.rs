//! Pulls whose caller goes away in the middle of something.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use cricket_image::{Image, ImageStore, Result};
use support::{Registry, eventually, image, layer, names, sha};

type Pull = tokio::task::JoinHandle<Result<std::sync::Arc<Image>>>;

fn pull(store: &ImageStore, tag: &str) -> Pull {
    let (store, name) = (store.clone(), format!("r.test/repo:{tag}"));
    tokio::spawn(async move { store.pull(&name, None).await })
}

/// Text that does not compress to nothing.
fn noise(length: usize) -> String {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(b' ' + (state % 94) as u8)
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A file system in a file, which can be stopped.
struct Disk {
    dir: PathBuf,
    frozen: bool,
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Disk {
    fn mount(below: &Path) -> Self {
        let (file, dir) = (below.join("disk.img"), below.join("disk"));
        std::fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        std::fs::create_dir(&dir).unwrap();
        run("mkfs.ext4", &["-q", "-O", "^has_journal", file.to_str().unwrap()]);
        run("mount", &["-o", "loop", file.to_str().unwrap(), dir.to_str().unwrap()]);
        Self { dir, frozen: false }
    }

    fn freeze(&mut self) {
        run("fsfreeze", &["-f", self.dir.to_str().unwrap()]);
        self.frozen = true;
    }

    fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            run("fsfreeze", &["-u", self.dir.to_str().unwrap()]);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}

/// Whether a thread that writes records waits for its disk.
fn a_writer_waits() -> bool {
    std::fs::read_dir("/proc/self/task").unwrap().flatten().any(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.contains("(records) D ")
    })
}

async fn stuck() {
    for _ in 0..1000 {
        let mut all = true;
        for _ in 0..10 {
            all &= a_writer_waits();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if all {
            return;
        }
    }
    panic!("nobody writes to the disk that stands still");
}

async fn opened(path: &Path) -> cricket_store::Store {
    for _ in 0..1000 {
        match cricket_store::Store::open(path) {
            Err(cricket_store::Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the records stay locked");
}

fn listed(store: &ImageStore) -> Vec<(String, Vec<String>, bool)> {
    store.list().iter().map(|i| (i.id.to_string(), i.tags.clone(), i.pinned)).collect()
}

/// Whatever is being recorded when its caller goes away: what callers see then is what a restart finds.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_being_recorded_is_completed() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let mut disk = Disk::mount(dir.path());
    let records = disk.dir.join("records.redb");
    let old = image("old", &[layer(&[("old", "o")])]);
    let new = image("new", &[layer(&[("new", "n")])]);
    registry.push("moved", &old);
    registry.push("kept", &old);
    let open = async || ImageStore::open(registry.config(dir.path()), opened(&records).await).await.unwrap();
    let mut store = open().await;
    store.pull("r.test/repo:moved", None).await.unwrap();
    store.pull("r.test/repo:kept", None).await.unwrap();
    registry.push("moved", &new);
    type Change = (&'static str, fn(&ImageStore) -> tokio::task::AbortHandle);
    let changes: [Change; 4] = [
        ("a pull", |store| pull(store, "moved").abort_handle()),
        ("a pin", |store| {
            let store = store.clone();
            tokio::spawn(async move { store.pin("r.test/repo:moved").await }).abort_handle()
        }),
        ("a tag's removal", |store| {
            let store = store.clone();
            tokio::spawn(async move { store.remove("r.test/repo:kept").await }).abort_handle()
        }),
        ("a removal", |store| {
            let store = store.clone();
            tokio::spawn(async move { store.remove("r.test/repo:moved").await }).abort_handle()
        }),
    ];
    for (what, begin) in changes {
        let before = listed(&store);
        disk.freeze();
        let change = begin(&store);
        stuck().await;
        change.abort();
        eventually("the caller to be gone", || change.is_finished()).await;
        disk.thaw();
        eventually(what, || listed(&store) != before).await;
        let seen = listed(&store);
        drop(store);
        store = open().await;
        assert_eq!(listed(&store), seen, "{what}");
        assert!(store.verify().await.unwrap().is_empty(), "{what}");
    }
    assert_eq!(listed(&store).len(), 0);
    drop(store);
}

/// One thread for blocking work, which the test keeps busy while a layer's directory is to be renamed.
#[test]
fn a_layer_that_is_being_put_in_its_place_is_known() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &[layer(&[("noise", &noise(300_000))])]);
    registry.push("v1", &made);
    runtime.block_on(async {
        let store = registry.store(dir.path()).await;
        registry.hold_after(&sha(&made.layers[0]), 100_000);
        let first = pull(&store, "v1");
        eventually("unpacking to begin", || !names(dir.path(), "staging").is_empty()).await;
        let (begun, begins) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            begun.send(()).unwrap();
            let _ = goes_on.recv();
        });
        registry.release();
        eventually("the layer to be unpacked", || begins.try_recv().is_ok()).await;
        // Long enough for the rename to be asked for, behind what the test has there.
        tokio::time::sleep(Duration::from_millis(100)).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        go_on.send(()).unwrap();
        eventually("the layer", || names(dir.path(), "layers") == [made.diff_ids[0].hex()]).await;
        store.pull("r.test/repo:v1", None).await.unwrap();
        assert_eq!(registry.fetched(&made.layers[0]), 1, "the layer was there and not known");
        assert!(store.verify().await.unwrap().is_empty());
    });
}

/// Begins a pull, and gives it up when a part of its layer is unpacked.
async fn give_up(store: &ImageStore, registry: &Registry, dir: &Path, blob: &[u8]) {
    registry.hold_after(&sha(blob), blob.len() / 2);
    let first = pull(store, "v1");
    eventually("a part to be unpacked", || {
        let staging = names(dir, "staging");
        let file = staging.first().map(|name| dir.join("root/images/staging").join(name).join("fs/noise"));
        file.and_then(|file| file.metadata().ok()).is_some_and(|meta| meta.len() > 0)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    registry.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_goes_on_where_a_cancelled_pull_left_it() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &[layer(&[("noise", &noise(1_000_000))])]);
    let blob = &made.layers[0];
    registry.push("v1", &made);
    let store = registry.store(dir.path()).await;
    give_up(&store, &registry, dir.path(), blob).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
    let ranges = registry.ranges();
    assert!(ranges.len() == 1 && ranges[0] > 0 && ranges[0] <= blob.len() / 2, "{ranges:?} of {}", blob.len());
    assert!(store.verify().await.unwrap().is_empty());
    assert!(names(dir.path(), "staging").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_goes_on_with_is_deleted() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &[layer(&[("noise", &noise(1_000_000))])]);
    registry.push("v1", &made);
    let mut config = registry.config(dir.path());
    config.keep_unfinished = Duration::from_secs(1);
    let store = ImageStore::open(config, support::records(dir.path()).await).await.unwrap();
    give_up(&store, &registry, dir.path(), &made.layers[0]).await;
    assert_eq!(names(dir.path(), "staging").len(), 1);
    eventually("the part to go", || names(dir.path(), "staging").is_empty()).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
    assert_eq!((registry.ranges(), registry.fetched(&made.layers[0])), (vec![], 2));
}

/// Has the registry send something else at first, which only the digest of all of it tells.
async fn leave_a_wrong_part(store: &ImageStore, registry: &Registry, dir: &Path, blob: &[u8]) {
    let mut wrong = blob.to_vec();
    // The time in gzip's header.
    wrong[4] ^= 1;
    registry.corrupt(&sha(blob), wrong.clone());
    give_up(store, registry, dir, &wrong).await;
    registry.corrupt(&sha(blob), blob.to_vec());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_part_of_a_cancelled_pull_fails_no_other() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &[layer(&[("noise", &noise(1_000_000))])]);
    let blob = &made.layers[0];
    registry.push("v1", &made);
    let store = registry.store(dir.path()).await;
    leave_a_wrong_part(&store, &registry, dir.path(), blob).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
    // The first part, the rest of it, and all.
    assert_eq!((registry.ranges().len(), registry.fetched(blob)), (1, 3));
    assert!(store.verify().await.unwrap().is_empty());
    eventually("the parts to go", || names(dir.path(), "staging").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_wrong_is_fetched_no_third_time() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &[layer(&[("noise", &noise(1_000_000))])]);
    let blob = &made.layers[0];
    registry.push("v1", &made);
    let store = registry.store(dir.path()).await;
    leave_a_wrong_part(&store, &registry, dir.path(), blob).await;
    let mut wrong = blob.clone();
    wrong[5] ^= 1;
    registry.corrupt(&sha(blob), wrong);
    let error = store.pull("r.test/repo:v1", None).await.unwrap_err();
    assert!(matches!(error, cricket_image::Error::Mismatch { .. }), "{error}");
    assert_eq!(registry.fetched(blob), 3);
    eventually("the parts to go", || names(dir.path(), "staging").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_goes_on_with_nothing() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &[layer(&[("noise", &noise(1_000_000))])]);
    registry.push("v1", &made);
    let store = registry.store(dir.path()).await;
    give_up(&store, &registry, dir.path(), &made.layers[0]).await;
    store.pull("r.test/other:v1", None).await.unwrap();
    assert_eq!((registry.ranges(), registry.fetched(&made.layers[0])), (vec![], 2));
}
