//! Maps of sparse files: GNU's old format in header blocks, and those that pax headers carry.

use tar::GnuSparseHeader;

use super::limits::{Fault, Limits};
use super::pax::number;

/// Where the stored bytes belong, and how long the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SparseMap {
    pub(crate) segments: Vec<(u64, u64)>,
    pub(crate) size: u64,
}

impl SparseMap {
    /// A map is only good if its segments ascend, lie inside of the file, and are as long as what is stored.
    pub(crate) fn checked(segments: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Self, Fault> {
        let malformed = || Fault::bad("malformed map of a sparse file");
        let (mut end, mut sum) = (0u64, 0u64);
        for (offset, length) in &segments {
            if *offset < end {
                return Err(malformed());
            }
            end = offset.checked_add(*length).ok_or_else(malformed)?;
            sum = sum.checked_add(*length).ok_or_else(malformed)?;
        }
        if end > size || sum != stored {
            return Err(malformed());
        }
        Ok(Self { segments, size })
    }
}

/// Segments of an old GNU header; empty slots end the list.
pub(crate) fn gnu_segments(slots: &[GnuSparseHeader], into: &mut Vec<(u64, u64)>) -> Result<(), Fault> {
    for slot in slots {
        if slot.is_empty() {
            continue;
        }
        let offset = slot.offset().map_err(|e| Fault::Bad(e.to_string()))?;
        let length = slot.length().map_err(|e| Fault::Bad(e.to_string()))?;
        into.push((offset, length));
    }
    Ok(())
}

/// Pairs up the numbers of formats 0.0 and 0.1.
pub(crate) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, Fault> {
    if !numbers.len().is_multiple_of(2) {
        return Err(Fault::bad("malformed map of a sparse file"));
    }
    Ok(numbers.chunks_exact(2).map(|c| (c[0], c[1])).collect())
}

/// Reads format 1.0's map, which stands before the data: a count, then offsets and lengths, a number a line, padded
/// to whole blocks. `block` gives the next block of the entry. Answers the map and the blocks it took.
pub(crate) fn read_v1(
    limits: &Limits,
    mut block: impl FnMut() -> Result<[u8; 512], Fault>,
) -> Result<(Vec<(u64, u64)>, u64), Fault> {
    let malformed = || Fault::bad("malformed map of a sparse file");
    let (mut text, mut at, mut blocks) = (Vec::new(), 0usize, 0u64);
    let mut next = |text: &mut Vec<u8>, at: &mut usize| -> Result<u64, Fault> {
        loop {
            if let Some(end) = text[*at..].iter().position(|b| *b == b'\n') {
                let value = number(&text[*at..*at + end]).ok_or_else(malformed)?;
                *at += end + 1;
                return Ok(value);
            }
            if text.len() - *at > 20 {
                return Err(malformed());
            }
            text.drain(..*at);
            *at = 0;
            text.extend_from_slice(&block()?);
            blocks += 1;
        }
    };
    let count = usize::try_from(next(&mut text, &mut at)?).map_err(|_| malformed())?;
    if count > limits.noted {
        return Err(Fault::bound("segments of a sparse file", limits.noted.to_string()));
    }
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        segments.push((next(&mut text, &mut at)?, next(&mut text, &mut at)?));
    }
    Ok((segments, blocks))
}
