//! Pods' records: the journal of this boot with whatever a crash made of it, and the store's envelope.

use std::fs;

use cricket_pod::PodRecord;
use cricket_store::{Journal, fuzzing};

use crate::input;

/// What can be read is kept over rewriting and appending; what cannot is in nobody's way.
pub fn run(data: &[u8]) {
    let place = input::directory();
    let path = place.path().join("journal");
    fs::write(&path, data).expect("write the journal");
    let text =
        |records: &[PodRecord]| records.iter().map(|r| serde_json::to_string(r).expect("JSON")).collect::<Vec<_>>();
    let (mut journal, first) = Journal::<PodRecord>::open(&path).expect("any bytes are a journal");
    if let Some(last) = first.last() {
        journal.append(last).expect("append");
        let (_, longer) = Journal::<PodRecord>::open(&path).expect("open again");
        assert_eq!(longer.len(), first.len() + 1, "an entry that was appended is there");
        assert_eq!(text(&longer)[first.len()], text(&first)[first.len() - 1]);
        let bytes = fuzzing::encode(last).expect("encode");
        let stored: PodRecord = fuzzing::decode(&bytes).expect("what was encoded");
        assert_eq!(text(&[stored]), text(&longer[first.len()..]));
    }
    journal.rewrite(&first).expect("rewrite");
    let (_, again) = Journal::<PodRecord>::open(&path).expect("open the rewritten one");
    assert_eq!(text(&again), text(&first));
    assert_eq!(input::names(place.path()), ["journal"]);
    if let Ok(record) = fuzzing::decode::<PodRecord>(data) {
        let bytes = fuzzing::encode(&record).expect("encode");
        let stored: PodRecord = fuzzing::decode(&bytes).expect("what was encoded");
        assert_eq!(text(&[stored]), text(&[record]));
    }
}
