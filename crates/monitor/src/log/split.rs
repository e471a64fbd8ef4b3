//! Bytes of a stream → lines of the CRI log format.
//!
//! `TIME STREAM TAG CONTENT\n`, as kubelets parse it (Kubernetes' CRI logging design): tag `F` ends a line, tag `P`
//! says that the line goes on. A line is cut after 16 KiB, or what the log asks for; an end of the stream within a line leaves a
//! `P`, so that the contents, put together, are exactly the bytes that were written.

use super::time::Timestamp;

/// Most content of one entry when nobody says otherwise, as every CRI runtime has it.
pub(crate) const MAX_CONTENT: usize = 16 * 1024;

/// Longest content that may be asked for: it has to fit into what is held between reader and writer.
const LONGEST: usize = 128 * 1024;

/// Splits one stream. Holds at most one entry's content: a line that is not complete yet.
#[derive(Debug)]
pub(crate) struct Splitter {
    name: &'static str,
    max: usize,
    line: Vec<u8>,
}

impl Splitter {
    /// For the stream `stdout` or `stderr`, with entries of `max` bytes of content; 0: [`MAX_CONTENT`].
    pub(crate) fn new(name: &'static str, max: usize) -> Self {
        let max = if max == 0 { MAX_CONTENT } else { max.min(LONGEST) };
        Self { name, max, line: Vec::new() }
    }

    /// Bytes that are held back.
    pub(crate) fn held(&self) -> usize {
        self.line.len()
    }

    /// Appends to `out` the entries that `input` completes.
    pub(crate) fn push(&mut self, mut input: &[u8], time: &Timestamp, out: &mut Vec<u8>) {
        while !input.is_empty() {
            let room = self.max - self.line.len();
            // One byte beyond the room tells a line that is exactly full from one that goes on.
            let window = &input[..input.len().min(room + 1)];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    entry(self.name, b'F', &self.line, &window[..end], time, out);
                    self.line.clear();
                    input = &input[end + 1..];
                }
                None if window.len() > room => {
                    entry(self.name, b'P', &self.line, &window[..room], time, out);
                    self.line.clear();
                    input = &input[room..];
                }
                None => {
                    self.line.extend_from_slice(window);
                    input = &[];
                }
            }
        }
        if self.line.is_empty() && self.line.capacity() > 0 {
            // An idle container keeps no buffer.
            self.line = Vec::new();
        }
    }

    /// The stream has ended: what is held back becomes a last `P`.
    pub(crate) fn finish(&mut self, time: &Timestamp, out: &mut Vec<u8>) {
        if !self.line.is_empty() {
            entry(self.name, b'P', &self.line, &[], time, out);
            self.line = Vec::new();
        }
    }
}

fn entry(name: &str, tag: u8, first: &[u8], then: &[u8], time: &Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(time.text());
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&[b' ', tag, b' ']);
    out.extend_from_slice(first);
    out.extend_from_slice(then);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The contents of a log put together again, and the tags.
    fn read_back(log: &[u8]) -> (Vec<u8>, Vec<u8>, usize) {
        let (mut bytes, mut tags, mut longest) = (Vec::new(), Vec::new(), 0);
        for line in log.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").expect("every entry ends");
            let parts: Vec<_> = line.splitn(4, |byte| *byte == b' ').collect();
            let [time, b"stdout", tag, content] = parts[..] else { panic!("entry {line:?}") };
            assert_eq!(time.len(), 30);
            longest = longest.max(content.len());
            tags.push(tag[0]);
            bytes.extend_from_slice(content);
            if tag == b"F" {
                bytes.push(b'\n');
            }
        }
        (bytes, tags, longest)
    }

    fn split(pieces: &[Vec<u8>]) -> Vec<u8> {
        let (mut splitter, mut out) = (Splitter::new("stdout", 0), Vec::new());
        for piece in pieces {
            splitter.push(piece, &Timestamp::now(), &mut out);
            assert!(splitter.held() <= MAX_CONTENT);
        }
        splitter.finish(&Timestamp::now(), &mut out);
        out
    }

    #[test]
    fn a_full_line_is_not_cut() {
        let exact = [vec![b'x'; MAX_CONTENT], b"\n".to_vec()].concat();
        for cut in [1, 4096, MAX_CONTENT - 1, MAX_CONTENT] {
            let (a, b) = exact.split_at(cut);
            assert_eq!(read_back(&split(&[a.to_vec(), b.to_vec()])).1, b"F");
        }
        let longer = [vec![b'x'; MAX_CONTENT + 1], b"\n".to_vec()].concat();
        assert_eq!(read_back(&split(&[longer])).1, b"PF");
    }

    #[test]
    fn an_unfinished_line_is_partial() {
        assert_eq!(read_back(&split(&[b"a\n\nb".to_vec()])).1, b"FFP");
        assert!(split(&[]).is_empty());
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60),
            (0usize..40_000).prop_map(|len| vec![b'y'; len]),
            Just(b"\n".to_vec()),
        ]
    }

    #[test]
    fn a_log_may_ask_for_shorter_entries() {
        let mut out = Vec::new();
        Splitter::new("stdout", 4).push(b"abcdefgh\n", &Timestamp::now(), &mut out);
        let tags: Vec<_> = out
            .split(|b| *b == b'\n')
            .filter_map(|l| std::str::from_utf8(l).ok()?.split_once(" stdout ").map(|x| x.1))
            .collect();
        assert_eq!(tags, ["P abcd", "F efgh"]);
    }

    proptest! {
        #[test]
        fn entries_put_together_are_the_bytes(pieces in proptest::collection::vec(piece(), 0..12)) {
            let whole = pieces.concat();
            let (bytes, tags, longest) = read_back(&split(&pieces));
            prop_assert_eq!(&bytes, &whole);
            prop_assert!(longest <= MAX_CONTENT);
            prop_assert_eq!(tags.iter().filter(|t| **t == b'F').count(), whole.iter().filter(|b| **b == b'\n').count());
        }

        #[test]
        fn where_reads_are_cut_does_not_matter(pieces in proptest::collection::vec(piece(), 0..12)) {
            prop_assert_eq!(read_back(&split(&pieces)), read_back(&split(&[pieces.concat()])));
        }
    }
}
