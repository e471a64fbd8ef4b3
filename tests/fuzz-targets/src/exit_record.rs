//! Exit records: monitors of other versions write them.

use std::fs;

use cricket_monitor::fuzzing::write_exit_record;
use cricket_runtime::monitor::ExitRecord;

use crate::input;

/// What is read is what this version's monitor would write.
pub fn run(data: &[u8]) {
    let place = input::directory();
    let path = place.path().join("exit.json");
    fs::write(&path, data).expect("write the record");
    let Ok(read) = ExitRecord::read(&path) else { return };
    let facts = read.expect("the file is there");
    let written = cricket_wire::ExitFacts {
        exit_code: facts.exit_code,
        signal: facts.signal.unwrap_or_default(),
        oom_killed: facts.oom_killed,
        created_at: facts.created_at,
        finished_at: facts.finished_at,
        bytes_lost: facts.bytes_lost,
        unknown: facts.unknown,
        ..Default::default()
    };
    write_exit_record(&path, &written).expect("write the facts");
    assert_eq!(ExitRecord::read(&path).ok().flatten(), Some(facts));
    fs::remove_file(&path).expect("remove the record");
    assert!(matches!(ExitRecord::read(&path), Ok(None)));
}
