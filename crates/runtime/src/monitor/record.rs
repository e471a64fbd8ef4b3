//! The exit record: what a monitor writes of an ended container before it reaps it.

use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;

use super::{ExitFacts, MonitorError};

/// Longest record that is read.
const MAX_RECORD: u64 = 4096;

/// A file `exit_path`. The monitor that wrote it may be older or newer than this build: unknown fields are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ExitRecord {
    exit_code: i32,
    signal: i32,
    oom_killed: bool,
    created_at: i64,
    finished_at: i64,
    bytes_lost: u64,
    #[serde(default)]
    unknown: bool,
}

impl ExitRecord {
    /// Reads the record at `path`; `None`: there is none, the container has not ended under a monitor.
    pub fn read(path: &Path) -> Result<Option<ExitFacts>, MonitorError> {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(MonitorError::io(format!("open {}", path.display()))(source)),
        };
        let mut text = Vec::new();
        file.take(MAX_RECORD).read_to_end(&mut text).map_err(MonitorError::io(format!("read {}", path.display())))?;
        let record: Self = serde_json::from_slice(&text)
            .map_err(|error| MonitorError::io(format!("parse {}", path.display()))(error.into()))?;
        Ok(Some(record.facts()))
    }

    fn facts(self) -> ExitFacts {
        ExitFacts {
            exit_code: self.exit_code,
            signal: (self.signal != 0).then_some(self.signal),
            oom_killed: self.oom_killed,
            created_at: self.created_at,
            finished_at: self.finished_at,
            bytes_lost: self.bytes_lost,
            unknown: self.unknown,
            unrecorded: false,
        }
    }
}
