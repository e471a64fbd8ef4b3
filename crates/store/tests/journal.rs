//! Journals: what was appended is there, and a torn line costs only itself.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::io::Write;

use cricket_model::{ErrorKind, Kinded};
use cricket_store::Journal;
use proptest::prelude::*;

#[test]
fn entries_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod");
    let (mut journal, entries) = Journal::<String>::open(&path).unwrap();
    assert!(entries.is_empty());
    journal.append(&"one\ntwo".to_owned()).unwrap();
    journal.append(&"three".to_owned()).unwrap();
    assert_eq!(Journal::<String>::open(&path).unwrap().1, ["one\ntwo", "three"]);
    journal.rewrite(&["only".to_owned()]).unwrap();
    journal.append(&"after".to_owned()).unwrap();
    assert_eq!(Journal::<String>::open(&path).unwrap().1, ["only", "after"]);
    assert!(!dir.path().join("pod.new").exists());
}

#[test]
fn a_rewrite_replaces_what_an_interrupted_one_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod");
    std::fs::write(dir.path().join("pod.new"), "\"stale\"\n\"and longer than what comes\"\n").unwrap();
    let (mut journal, _) = Journal::<String>::open(&path).unwrap();
    journal.rewrite(&["kept".to_owned()]).unwrap();
    journal.append(&"next".to_owned()).unwrap();
    assert_eq!(Journal::<String>::open(&path).unwrap().1, ["kept", "next"]);
}

#[test]
fn a_line_of_another_shape_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod");
    std::fs::write(&path, "1\n\"text\"\n{]\n2\n").unwrap();
    assert_eq!(Journal::<u32>::open(&path).unwrap().1, [1, 2]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n\"text\"\n{]\n2\n");
}

proptest! {
    #[test]
    fn a_journal_torn_anywhere_has_a_prefix(entries in prop::collection::vec(".{0,40}", 0..12), cut in any::<prop::sample::Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod");
        let (mut journal, _) = Journal::<String>::open(&path).unwrap();
        for entry in &entries {
            journal.append(entry).unwrap();
        }
        drop(journal);
        let text = std::fs::read(&path).unwrap();
        let cut = if text.is_empty() { 0 } else { cut.index(text.len() + 1) };
        std::fs::write(&path, &text[..cut]).unwrap();
        let whole = text[..cut].iter().filter(|b| **b == b'\n').count();
        let (mut journal, found) = Journal::<String>::open(&path).unwrap();
        prop_assert_eq!(&found[..], &entries[..whole]);
        journal.append(&"next".to_owned()).unwrap();
        let (_, found) = Journal::<String>::open(&path).unwrap();
        prop_assert_eq!(found.len(), whole + 1);
        prop_assert_eq!(found.last().map(String::as_str), Some("next"));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod");
        std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
        Journal::<Vec<u32>>::open(&path).unwrap();
    }
}

#[test]
fn a_directory_is_no_journal() {
    let dir = tempfile::tempdir().unwrap();
    let error = Journal::<u32>::open(dir.path()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains(dir.path().to_str().unwrap()));
}
