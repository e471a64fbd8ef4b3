//! Container logs in the CRI format: `TIME STREAM TAG TEXT`, where the tag is
//! `P` for a part of a line and `F` for its end.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was read from the container.
    pub time: jiff::Timestamp,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// More of the same line follows.
    pub partial: bool,
    /// The text, without the newline.
    pub text: Vec<u8>,
}

/// Reads a log file; an error names the first record that is not of the format.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    parse(&bytes).with_context(|| path.display().to_string())
}

/// Parses the content of a log file, which must end with a newline.
pub fn parse(bytes: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|&b| b == b'\n').context("the last record has no newline")?;
        records.push(record(&rest[..end]).with_context(|| format!("record {}", records.len() + 1))?);
        rest = &rest[end + 1..];
    }
    Ok(records)
}

/// The lines of a stream, parts joined, as text.
pub fn lines(records: &[Record], stream: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    for record in records.iter().filter(|record| record.stream == stream) {
        line.extend_from_slice(&record.text);
        if !record.partial {
            lines.push(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned());
        }
    }
    if !line.is_empty() {
        lines.push(String::from_utf8_lossy(&line).into_owned());
    }
    lines
}

fn record(line: &[u8]) -> Result<Record> {
    let mut fields = line.splitn(4, |&b| b == b' ');
    let mut field = |name: &str| fields.next().with_context(|| format!("no {name}"));
    let time = std::str::from_utf8(field("time")?)?;
    let stream = std::str::from_utf8(field("stream")?)?;
    let tag = std::str::from_utf8(field("tag")?)?;
    let text = field("text")?.to_vec();
    if !matches!(stream, "stdout" | "stderr") {
        bail!("stream {stream:?}");
    }
    // Tags may be followed by others behind a colon.
    let partial = match tag.split(':').next() {
        Some("P") => true,
        Some("F") => false,
        _ => bail!("tag {tag:?}"),
    };
    Ok(Record {
        time: time.parse().with_context(|| format!("time {time:?}"))?,
        stream: stream.to_owned(),
        partial,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_by_stream() {
        let log = b"2026-01-02T03:04:05.123456789Z stdout P ab\n2026-01-02T03:04:05.2Z stderr F no\n\
                    2026-01-02T03:04:05.3+01:00 stdout F c d\n2026-01-02T03:04:06Z stdout F \n";
        let records = parse(log).expect("a log");
        assert_eq!(lines(&records, "stdout"), ["abc d", ""]);
        assert_eq!(lines(&records, "stderr"), ["no"]);
    }

    #[test]
    fn what_is_not_a_record_is_refused() {
        for bad in ["x stdout F a\n", "2026-01-02T03:04:05Z stdin F a\n", "2026-01-02T03:04:05Z stdout X a\n"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"2026-01-02T03:04:05Z stdout F a").is_err());
    }
}
