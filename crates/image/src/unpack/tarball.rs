//! Walks a tar archive: ustar, pax and GNU headers, with every length bounded before it is believed.
//!
//! The `tar` crate reads the fields of a header block; which bytes belong to which entry is decided here, since pax
//! sizes override the header's and extensions have to be bounded while they are read.

use std::io::Read;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::limits::{Fault, Limits};
use super::pax::Pax;
use super::sparse::{self, SparseMap};

/// Sorts of entries that a layer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    Hardlink,
    Char,
    Block,
    Fifo,
}

/// One entry, extensions applied. Names are as they stand in the archive.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<SparseMap>,
}

/// The archive being read. [`TarReader::data`] reads the content of the entry that came last.
pub(crate) struct TarReader<'a, R> {
    inner: R,
    limits: &'a Limits,
    /// Bytes of the current entry's content not yet read, and of the padding behind it.
    left: u64,
    padding: u64,
    count: u64,
    global: Pax,
}

impl<'a, R: Read> TarReader<'a, R> {
    pub(crate) fn new(inner: R, limits: &'a Limits) -> Self {
        Self { inner, limits, left: 0, padding: 0, count: 0, global: Pax::default() }
    }

    /// The next entry, or `None` at the end mark or the end of the stream.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        let mut pax = self.global.clone();
        let (mut long_path, mut long_link) = (None, None);
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            self.count += 1;
            if self.count > self.limits.entries {
                return Err(Fault::bound("entries", self.limits.entries.to_string()));
            }
            let size = header.entry_size().map_err(bad)?;
            self.set_size(size)?;
            match header.entry_type() {
                EntryType::GNULongName => long_path = Some(cut(self.extension(size)?)),
                EntryType::GNULongLink => long_link = Some(cut(self.extension(size)?)),
                EntryType::XHeader => pax.read(&self.extension(size)?, self.limits)?,
                EntryType::XGlobalHeader => {
                    let data = self.extension(size)?;
                    self.global.read(&data, self.limits)?;
                    pax.read(&data, self.limits)?;
                }
                // A volume's label: no file.
                kind if kind.as_byte() == b'V' => {}
                _ => return self.entry(&header, pax, long_path, long_link).map(Some),
            }
        }
    }

    /// Reads content of the current entry; 0 at its end.
    pub(crate) fn data(&mut self, buf: &mut [u8]) -> Result<usize, Fault> {
        let max = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if max == 0 {
            return Ok(0);
        }
        let n = read_some(&mut self.inner, &mut buf[..max])?;
        if n == 0 {
            return Err(Fault::bad("the archive ends early"));
        }
        self.left -= n as u64;
        Ok(n)
    }

    fn entry(
        &mut self,
        header: &Header,
        pax: Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, Fault> {
        let sparse = self.sparse(header, &pax)?;
        let path = pax.sparse.name.or(pax.path).or(long_path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.link.or(long_link);
        let link = link.unwrap_or_else(|| header.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default());
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Dir,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Dir,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::Hardlink,
            EntryType::Char => Kind::Char,
            EntryType::Block => Kind::Block,
            EntryType::Fifo => Kind::Fifo,
            other => return Err(Fault::Bad(format!("{}: unknown entry type {other:?}", path.escape_ascii()))),
        };
        let id = |from_pax: Option<u64>, field: std::io::Result<u64>, what: &str| {
            let value = from_pax.map_or_else(|| field.map_err(bad), Ok)?;
            // The last value means "leave it" to chown(2).
            u32::try_from(value)
                .ok()
                .filter(|v| *v != u32::MAX)
                .ok_or_else(|| Fault::Bad(format!("{}: {what} {value} is out of range", path.escape_ascii())))
        };
        let uid = id(pax.uid, header.uid(), "uid")?;
        let gid = id(pax.gid, header.gid(), "gid")?;
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            // Negative times are two's complement in base-256 fields.
            None => (header.mtime().map_err(bad)?.cast_signed(), 0),
        };
        let device = match kind {
            Kind::Char | Kind::Block => {
                (header.device_major().map_err(bad)?.unwrap_or(0), header.device_minor().map_err(bad)?.unwrap_or(0))
            }
            _ => (0, 0),
        };
        let mode = header.mode().map_err(bad)? & 0o7777;
        Ok(Entry { kind, path, link, mode, uid, gid, mtime, device, xattrs: pax.xattrs, sparse })
    }

    /// Sets what the entry stores, and reads its map if it is sparse.
    fn sparse(&mut self, header: &Header, pax: &Pax) -> Result<Option<SparseMap>, Fault> {
        let is_file = matches!(header.entry_type(), EntryType::Regular | EntryType::Continuous);
        if header.entry_type() == EntryType::GNUSparse {
            let gnu = header.as_gnu().ok_or_else(|| Fault::bad("sparse entry without a GNU header"))?;
            let mut segments = Vec::new();
            sparse::gnu_segments(&gnu.sparse, &mut segments)?;
            let mut more = gnu.is_extended();
            while more {
                let mut block = GnuExtSparseHeader::new();
                fill(&mut self.inner, block.as_mut_bytes())?;
                sparse::gnu_segments(&block.sparse, &mut segments)?;
                if segments.len() > self.limits.noted {
                    return Err(Fault::bound("segments of a sparse file", self.limits.noted.to_string()));
                }
                more = block.is_extended();
            }
            return SparseMap::checked(segments, gnu.real_size().map_err(bad)?, self.left).map(Some);
        }
        if !is_file {
            // Links, directories and devices store nothing, whatever their size field says.
            self.set_size(0)?;
            return Ok(None);
        }
        if let Some(size) = pax.size {
            self.set_size(size)?;
        }
        if !pax.sparse.present {
            return Ok(None);
        }
        let size = pax.sparse.real_size.ok_or_else(|| Fault::bad("sparse file without a size"))?;
        let segments = if pax.sparse.major == Some(1) {
            let (limits, inner, left) = (self.limits, &mut self.inner, &mut self.left);
            let (segments, _) = sparse::read_v1(limits, || {
                let mut block = [0u8; 512];
                *left = left.checked_sub(512).ok_or_else(|| Fault::bad("malformed map of a sparse file"))?;
                fill(inner, &mut block)?;
                Ok(block)
            })?;
            segments
        } else {
            sparse::pairs(&pax.sparse.map)?
        };
        SparseMap::checked(segments, size, self.left).map(Some)
    }

    fn set_size(&mut self, size: u64) -> Result<(), Fault> {
        if size > self.limits.bytes {
            return Err(Fault::bound("size of an entry", format!("{} bytes", self.limits.bytes)));
        }
        self.left = size;
        self.padding = size.next_multiple_of(512) - size;
        Ok(())
    }

    /// The content of an extension, whole.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        if size > self.limits.header {
            return Err(Fault::bound("extended header", format!("{} bytes", self.limits.header)));
        }
        let mut data = vec![0u8; usize::try_from(size).map_err(|_| Fault::bad("header size"))?];
        fill(&mut self.inner, &mut data)?;
        self.left = 0;
        Ok(data)
    }

    /// Passes over what is left of the current entry.
    fn skip(&mut self) -> Result<(), Fault> {
        let mut left = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let mut buf = [0u8; 8192];
        while left > 0 {
            let max = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let n = read_some(&mut self.inner, &mut buf[..max])?;
            if n == 0 {
                return Err(Fault::bad("the archive ends early"));
            }
            left -= n as u64;
        }
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>, Fault> {
        let mut header = Header::new_old();
        for _ in 0..2 {
            if !fill_or_end(&mut self.inner, header.as_mut_bytes())? {
                return Ok(None);
            }
            let bytes = header.as_bytes();
            if bytes.iter().all(|b| *b == 0) {
                continue;
            }
            let sum = |b: &[u8]| b.iter().map(|b| u32::from(*b)).sum::<u32>();
            let actual = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
            if header.cksum().map_err(bad)? != actual {
                return Err(Fault::bad("a header's checksum does not match"));
            }
            return Ok(Some(header));
        }
        Ok(None)
    }
}

fn bad(e: std::io::Error) -> Fault {
    Fault::Bad(e.to_string())
}

/// GNU's long names end with a NUL.
fn cut(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}

fn read_some(reader: &mut impl Read, buf: &mut [u8]) -> Result<usize, Fault> {
    loop {
        match reader.read(buf) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            done => return done.map_err(Fault::reading),
        }
    }
}

fn fill(reader: &mut impl Read, buf: &mut [u8]) -> Result<(), Fault> {
    if buf.is_empty() || fill_or_end(reader, buf)? { Ok(()) } else { Err(Fault::bad("the archive ends early")) }
}

/// Fills the buffer; `false` when there is nothing more at all.
fn fill_or_end(reader: &mut impl Read, buf: &mut [u8]) -> Result<bool, Fault> {
    let mut at = 0;
    while at < buf.len() {
        match read_some(reader, &mut buf[at..])? {
            0 if at == 0 => return Ok(false),
            0 => return Err(Fault::bad("the archive ends early")),
            n => at += n,
        }
    }
    Ok(true)
}
