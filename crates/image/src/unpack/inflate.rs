//! What a blob is packed with is told by its first bytes: media types of old registries are not reliable.

use std::io::{self, BufReader, Chain, Cursor, Read};

use super::limits::{Fault, Limits};
use super::source::Bounded;

/// Bytes asked of the download at once.
const INPUT: usize = 64 << 10;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

type Head<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum Inflated<'a, R: Read> {
    Plain(Head<R>),
    // pigz and eStargz write several members, one after the other.
    Gzip(Box<flate2::bufread::MultiGzDecoder<Head<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'a, Head<R>>>),
}

impl<R: Read> Read for Inflated<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Inflated::Plain(r) => r.read(buf),
            Inflated::Gzip(r) => r.read(buf),
            Inflated::Zstd(r) => r.read(buf),
        }
    }
}

/// The tar archive inside of `blob`, bounded.
pub(crate) fn open<'a, R: Read + 'a>(mut blob: R, limits: &Limits) -> Result<Bounded<impl Read + 'a>, Fault> {
    let mut magic = Vec::with_capacity(4);
    blob.by_ref().take(4).read_to_end(&mut magic).map_err(Fault::reading)?;
    let (gzip, zstd) = (magic.starts_with(&GZIP), magic.starts_with(&ZSTD));
    let head = BufReader::with_capacity(INPUT, Cursor::new(magic).chain(blob));
    let inner = if gzip {
        Inflated::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(head)))
    } else if zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(head).map_err(Fault::reading)?;
        decoder.window_log_max(limits.zstd_window_log).map_err(Fault::reading)?;
        Inflated::Zstd(Box::new(decoder))
    } else {
        Inflated::Plain(head)
    };
    Ok(Bounded { inner, left: limits.bytes, bound: limits.bytes })
}
