//! Containers' output into CRI log entries.

use cricket_monitor::fuzzing::split;

/// Whatever the chunks, the contents put together are what was written, `F` ends exactly the lines, and no entry is
/// longer than asked for. The first two bytes say how long that is and how the rest comes in chunks.
pub fn run(data: &[u8]) {
    let [max, step, output @ ..] = data else { return };
    let max = usize::from(*max);
    let longest = if max == 0 { 16 << 10 } else { max };
    // Chunks of changing sizes, sometimes empty.
    let sizes = (0usize..).map(|i| (i * 7 + usize::from(*step)) % (usize::from(*step) + 1));
    let mut rest = output;
    let mut chunks = Vec::new();
    for size in sizes.take(output.len()) {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks.push(rest);

    let log = split("stdout", max, chunks.iter().copied());
    assert!(log.is_empty() || log.ends_with(b"\n"));
    let (mut joined, mut ends) = (Vec::new(), Vec::new());
    let entries: Vec<&[u8]> = log.strip_suffix(b"\n").map_or(Vec::new(), |l| l.split(|b| *b == b'\n').collect());
    for (i, entry) in entries.iter().enumerate() {
        let mut fields = entry.splitn(4, |b| *b == b' ');
        let mut field = || fields.next().expect("four fields");
        let (time, stream, tag, content) = (field(), field(), field(), field());
        assert!(time.len() == 30 && time.ends_with(b"Z") && stream == b"stdout");
        assert!(content.len() <= longest, "{} bytes", content.len());
        joined.extend_from_slice(content);
        match tag {
            b"F" => {
                joined.push(b'\n');
                ends.push(joined.len());
            }
            // A line that goes on fills its entry, but at the end of the stream.
            b"P" => assert!(content.len() == longest || i + 1 == entries.len() && !content.is_empty()),
            other => panic!("tag {}", other.escape_ascii()),
        }
    }
    assert_eq!(joined, output, "the contents are not what was written");
    let lines: Vec<usize> = output.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    assert_eq!(ends, lines);
    // Times may differ, nothing else.
    let whole = split("stdout", max, std::iter::once(output));
    let plain =
        |log: &[u8]| log.split(|b| *b == b'\n').map(|e| e.get(31..).unwrap_or_default().to_vec()).collect::<Vec<_>>();
    assert_eq!(plain(&whole), plain(&log), "the chunks decide");
}
