//! Records: what is committed is there, whatever happens to the file or the records.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::path::Path;
use std::time::{Duration, Instant};

use cricket_model::{ErrorKind, Kinded};
use cricket_store::{Batch, Encoded, Error, Journal, Record, Store};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pod {
    name: String,
    #[serde(default)]
    attempt: u32,
}

impl Record for Pod {
    const TABLE: &'static str = "pods";
}

/// The same table as a later release reads it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct LaterPod {
    name: String,
    uid: u64,
}

impl Record for LaterPod {
    const TABLE: &'static str = "pods";
    const VERSION: u32 = 2;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Count(u64);

impl Record for Count {
    const TABLE: &'static str = "counts";
}

fn pod(name: &str) -> Pod {
    Pod { name: name.to_owned(), attempt: 1 }
}

fn put<R: Record>(key: &str, record: &R) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, record).unwrap();
    batch
}

#[tokio::test]
async fn batches_are_whole_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get::<Pod>("a").unwrap(), None);
    assert_eq!(store.list::<Pod>().unwrap(), []);
    let mut batch = Batch::new();
    batch.put("a", &pod("a")).unwrap().put("b", &pod("b")).unwrap().put("n", &Count(1)).unwrap();
    batch.delete::<Pod>("b").delete::<Pod>("never");
    store.commit(batch).await.unwrap();
    assert_eq!(store.list::<Pod>().unwrap(), [("a".to_owned(), pod("a"))]);
    assert!(matches!(Store::open(&path), Err(Error::Locked { .. })));
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get::<Pod>("a").unwrap(), Some(pod("a")));
    assert_eq!(store.get::<Count>("n").unwrap(), Some(Count(1)));
    let mut tables = store.tables().unwrap();
    tables.sort();
    assert_eq!(tables, ["counts", "pods"]);
}

#[tokio::test]
async fn later_batches_travel_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("db")).unwrap();
    store.commit_later(put("k", &Count(1)));
    store.commit_later(put("other", &Count(9)));
    // A commit takes along what was queued before it, and is not overwritten by it.
    store.commit(put("k", &Count(2))).await.unwrap();
    assert_eq!(store.get::<Count>("k").unwrap(), Some(Count(2)));
    assert_eq!(store.get::<Count>("other").unwrap(), Some(Count(9)));
    // Alone it is written after a second, and at the latest when the store is closed.
    store.commit_later(put("alone", &Count(3)));
    let start = Instant::now();
    while store.get::<Count>("alone").unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Flushed it is there at once.
    store.commit_later(put("flushed", &Count(5)));
    store.flush().await.unwrap();
    assert_eq!(store.get::<Count>("flushed").unwrap(), Some(Count(5)));
    store.commit_later(put("last", &Count(4)));
    drop(store);
    let store = Store::open(dir.path().join("db")).unwrap();
    assert_eq!(store.get::<Count>("last").unwrap(), Some(Count(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_all_land() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("db")).unwrap();
    let mut set = tokio::task::JoinSet::new();
    for i in 0..100u64 {
        let store = store.clone();
        set.spawn(async move { store.commit(put(&i.to_string(), &Count(i))).await });
    }
    while let Some(done) = set.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(store.list::<Count>().unwrap().len(), 100);
}

#[tokio::test]
async fn an_unreadable_record_is_kept_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let store = Store::open(&path).unwrap();
    store.commit(put("old", &pod("old"))).await.unwrap();
    store.commit(put("new", &LaterPod { name: "new".to_owned(), uid: 7 })).await.unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.list::<Pod>().unwrap(), [("old".to_owned(), pod("old"))]);
    let error = store.get::<Pod>("new").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    // The later release cannot read the older one's without a default for what is new.
    assert_eq!(store.list::<LaterPod>().unwrap().len(), 1);
    let keys: Vec<_> = store.damaged().into_iter().map(|d| (d.table, d.key)).collect();
    assert_eq!(keys, [("pods".to_owned(), "new".to_owned()), ("pods".to_owned(), "old".to_owned())]);
    assert_eq!(store.get::<LaterPod>("new").unwrap().unwrap().uid, 7);
}

#[test]
fn a_corrupt_file_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, vec![0xa5; 20_000]).unwrap();
    let error = Store::open(&path).map(drop).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert_eq!(std::fs::read(&path).unwrap(), vec![0xa5; 20_000]);
    let aside = Store::set_aside(&path).unwrap();
    assert_eq!(std::fs::read(aside).unwrap(), vec![0xa5; 20_000]);
    Store::open(&path).unwrap();
}

/// The file as it is at any moment opens to a state that was committed: each batch sets two keys to one number.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_at_any_time_opens_to_a_committed_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let store = Store::open(&path).unwrap();
    store.commit(both(0)).await.unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for i in 1..400 {
                store.commit(both(i)).await.unwrap();
            }
        }
    });
    let mut copies = 0;
    while !writer.is_finished() {
        let before = store.get::<Count>("a").unwrap().unwrap().0;
        let copy = dir.path().join(format!("copy{copies}"));
        std::fs::copy(&path, &copy).unwrap();
        copies += 1;
        let (a, b) = numbers(&copy);
        assert_eq!(a, b);
        assert!(a >= before, "{before} was committed, the copy has {a}");
        std::fs::remove_file(copy).unwrap();
    }
    writer.await.unwrap();
    assert!(copies > 3);
}

fn both(i: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put("a", &Count(i)).unwrap().put("b", &Count(i)).unwrap();
    batch
}

fn numbers(path: &Path) -> (u64, u64) {
    let store = Store::open(path).unwrap();
    let number = |key| store.get::<Count>(key).unwrap().unwrap().0;
    (number("a"), number("b"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Bytes that are cut off or changed never make opening panic: it works or says what is wrong.
    #[test]
    fn damage_never_panics(at in 0usize..60_000, bytes in prop::collection::vec(any::<u8>(), 1..600), cut in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let store = Store::open(&path).unwrap();
        for i in 0..5 {
            store.commit_blocking(both(i)).unwrap();
        }
        drop(store);
        let mut content = std::fs::read(&path).unwrap();
        let at = at % content.len();
        if cut {
            content.truncate(at);
        } else {
            let end = (at + bytes.len()).min(content.len());
            content[at..end].copy_from_slice(&bytes[..end - at]);
        }
        std::fs::write(&path, &content).unwrap();
        match Store::open(&path) {
            Ok(store) => drop(store.list::<Count>()),
            Err(e) => prop_assert!(e.to_string().contains("db"), "{}", e),
        }
    }
}

/// What an encoded record is in the store and in a journal cannot be told from the record's own.
#[tokio::test]
async fn a_record_is_encoded_once_for_both() {
    let dir = tempfile::tempdir().unwrap();
    let record = pod("a \"quoted\" name\n");
    let encoded = Encoded::of(&record).unwrap();
    let store = Store::open(dir.path().join("db")).unwrap();
    let mut batch = Batch::new();
    batch.put_encoded("a", &encoded).put("b", &record).unwrap();
    let later = Encoded::of(&LaterPod { name: "later".into(), uid: 7 }).unwrap();
    batch.put_encoded("c", &later);
    store.commit(batch).await.unwrap();
    assert_eq!(store.get::<Pod>("a").unwrap(), store.get::<Pod>("b").unwrap());
    // The envelope says the schema's version, too.
    assert!(matches!(store.get::<Pod>("c"), Err(Error::Undecodable { .. })));
    assert_eq!(store.get::<LaterPod>("c").unwrap().unwrap().uid, 7);
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::<Pod>::open(&path).unwrap();
    journal.append(&record).unwrap();
    journal.append_encoded(&encoded).unwrap();
    assert_eq!(Journal::<Pod>::open(&path).unwrap().1, [record.clone(), record.clone()]);
    journal.rewrite_encoded(&encoded).unwrap();
    journal.append(&record).unwrap();
    assert_eq!(Journal::<Pod>::open(&path).unwrap().1, [record.clone(), record]);
}
