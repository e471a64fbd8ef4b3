//! Header blocks: pairs of names and values, compressed as one zlib stream over the whole connection.
//!
//! Invariants: a block inflates to [`MAX_BLOCK`] bytes at most, whatever it claims; every block is inflated, because
//! the next one needs what it leaves behind.

use flate2::{Decompress, FlushDecompress, Status};

use super::ProtocolError;
use super::dictionary::DICTIONARY;

/// Bytes of an inflated block. Real ones have three short pairs.
pub(crate) const MAX_BLOCK: usize = 64 << 10;
/// Pairs of a block.
const MAX_PAIRS: u32 = 256;
/// A zlib stream's first two bytes: deflate with the largest window, nothing preset.
const ZLIB_HEAD: [u8; 2] = [0x78, 0x01];
/// What a flush ends with: an empty stored block.
const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// A block's pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a name, given in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[cfg(test)]
    pub(crate) fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    /// Reads an inflated block.
    fn parse(mut block: &[u8]) -> Result<Self, ProtocolError> {
        let pairs = number(&mut block)?;
        if pairs > MAX_PAIRS {
            return Err(ProtocolError::TooManyHeaders(pairs));
        }
        let mut all = Vec::new();
        for _ in 0..pairs {
            let name = text(&mut block)?.to_ascii_lowercase();
            let value = text(&mut block)?;
            if all.iter().any(|(n, _)| *n == name) {
                return Err(ProtocolError::DuplicateHeader);
            }
            all.push((name, value));
        }
        if block.is_empty() { Ok(Self(all)) } else { Err(ProtocolError::HeaderBlock("has bytes behind its pairs")) }
    }
}

fn number(block: &mut &[u8]) -> Result<u32, ProtocolError> {
    let (number, rest) = block.split_first_chunk().ok_or(ProtocolError::HeaderBlock("ends within a number"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*number))
}

fn text(block: &mut &[u8]) -> Result<String, ProtocolError> {
    let length = number(block)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or(ProtocolError::HeaderBlock("ends within a text"))?;
    *block = rest;
    // Values that came several times are kept apart by NUL; nothing here takes more than the first.
    let first = text.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8(first.to_owned()).map_err(|_| ProtocolError::HeaderBlock("has a text that is not UTF-8"))
}

/// The client's zlib stream.
pub(crate) struct Inflater {
    zlib: Decompress,
    block: Vec<u8>,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self { zlib: Decompress::new(true), block: Vec::new() }
    }

    /// Inflates the next block of the connection and reads it.
    pub(crate) fn headers(&mut self, mut from: &[u8]) -> Result<Headers, ProtocolError> {
        let broken = |_| ProtocolError::HeaderBlock("is not what zlib writes");
        self.block.clear();
        self.block.reserve_exact(MAX_BLOCK + 1);
        while !from.is_empty() {
            let (in_before, out_before) = (self.zlib.total_in(), self.block.len());
            let done = self.zlib.decompress_vec(from, &mut self.block, FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - in_before).unwrap_or(usize::MAX);
            from = from.get(taken..).unwrap_or_default();
            if self.block.len() > MAX_BLOCK {
                return Err(ProtocolError::HeaderBlock("inflates to more than 64 KiB"));
            }
            match done {
                Ok(Status::StreamEnd) => return Err(ProtocolError::HeaderBlock("ends the connection's zlib stream")),
                Ok(_) if taken == 0 && self.block.len() == out_before => {
                    return Err(ProtocolError::HeaderBlock("cannot be inflated"));
                }
                Ok(_) => {}
                Err(e) if e.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(&DICTIONARY).map_err(broken)?;
                }
                Err(_) => return Err(ProtocolError::HeaderBlock("is not what zlib writes")),
            }
        }
        let headers = Headers::parse(&self.block);
        // Between blocks nothing is needed; a connection lives for hours.
        self.block = Vec::new();
        headers
    }
}

/// The blocks that this server sends: stored, not compressed. All of them are empty, and a compressor would hold more
/// memory than the rest of a session.
#[derive(Debug, Default)]
pub(crate) struct Deflater {
    begun: bool,
}

impl Deflater {
    /// The next block of the connection: no pairs.
    pub(crate) fn empty(&mut self) -> Vec<u8> {
        let block = 0u32.to_be_bytes();
        let mut all = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            all.extend(ZLIB_HEAD);
        }
        let length = block.len() as u16;
        all.push(0);
        all.extend(length.to_le_bytes());
        all.extend((!length).to_le_bytes());
        all.extend(block);
        all.extend(FLUSH);
        all
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    /// What a client does.
    pub(crate) struct Packer(Compress);

    impl Packer {
        pub(crate) fn new() -> Self {
            let mut zlib = Compress::new(Compression::best(), true);
            zlib.set_dictionary(&DICTIONARY).expect("dictionary");
            Self(zlib)
        }

        pub(crate) fn raw(&mut self, block: &[u8]) -> Vec<u8> {
            let mut out = Vec::with_capacity(block.len() + (block.len() >> 3) + 64);
            self.0.compress_vec(block, &mut out, FlushCompress::Sync).expect("compressed");
            out
        }

        pub(crate) fn pairs(&mut self, pairs: &[(&str, &str)]) -> Vec<u8> {
            self.raw(&block(pairs))
        }
    }

    fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut all = (pairs.len() as u32).to_be_bytes().to_vec();
        for text in pairs.iter().flat_map(|(n, v)| [n, v]) {
            all.extend((text.len() as u32).to_be_bytes());
            all.extend(text.as_bytes());
        }
        all
    }

    proptest! {
        #[test]
        fn blocks_of_one_connection_follow_each_other(
            blocks in prop::collection::vec(prop::collection::btree_map("[a-z-]{1,20}", "[ -~]{0,60}", 0..8), 1..6)
        ) {
            let (mut packer, mut inflater) = (Packer::new(), Inflater::new());
            for pairs in blocks {
                let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let read = inflater.headers(&packer.pairs(&pairs)).expect("readable");
                prop_assert_eq!(read.0.len(), pairs.len());
                for (name, value) in pairs {
                    prop_assert_eq!(read.get(name), Some(value));
                }
            }
        }

        #[test]
        fn garbage_is_an_error_or_a_block(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Inflater::new().headers(&bytes);
            let _ = Headers::parse(&bytes);
        }
    }

    #[test]
    fn names_are_lower_case_and_several_values_are_the_first() {
        let mut packer = Packer::new();
        let read = Inflater::new().headers(&packer.pairs(&[("Streamtype", "stdin\0stdout")])).expect("readable");
        assert_eq!(read.get("streamtype"), Some("stdin"));
        let twice = packer.pairs(&[("a", "1"), ("A", "2")]);
        assert!(twice.len() > 4);
    }

    #[test]
    fn a_small_block_that_becomes_huge_is_refused() {
        let huge = Packer::new().raw(&vec![0; 8 << 20]);
        assert!(huge.len() < 64 << 10, "{} bytes", huge.len());
        assert_eq!(Inflater::new().headers(&huge), Err(ProtocolError::HeaderBlock("inflates to more than 64 KiB")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (wrong, why) in [
            (block(&[("a", "1")])[..13].to_vec(), "ends within a text"),
            (vec![0, 0, 0], "ends within a number"),
            ([block(&[]), vec![1]].concat(), "has bytes behind its pairs"),
            ([1u32.to_be_bytes().to_vec(), u32::MAX.to_be_bytes().to_vec()].concat(), "ends within a text"),
        ] {
            assert_eq!(Inflater::new().headers(&Packer::new().raw(&wrong)), Err(ProtocolError::HeaderBlock(why)));
        }
        let many = Packer::new().raw(&u32::MAX.to_be_bytes());
        assert_eq!(Inflater::new().headers(&many), Err(ProtocolError::TooManyHeaders(u32::MAX)));
        let twice = Packer::new().pairs(&[("a", "1"), ("A", "2")]);
        assert_eq!(Inflater::new().headers(&twice), Err(ProtocolError::DuplicateHeader));
    }

    #[test]
    fn what_is_sent_can_be_read_by_zlib() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::new());
        for _ in 0..3 {
            assert_eq!(inflater.headers(&deflater.empty()), Ok(Headers::default()));
        }
    }
}
