//! Walking an archive of images with the same reader as a layer's, and bounds of its own.

use std::io::{self, Read};

use super::limits::{Fault, Limits};
use super::source::Bounded;
use super::tarball::{Kind, TarReader};
use crate::{Error, Result};

/// Bytes of an inflated archive of images: several of the largest layers, which are bounded when they are unpacked.
/// What a small file can blow up to fill is this much of the disk, and not all of it.
pub(crate) const ARCHIVE_BYTES: u64 = 256 << 30;

/// Members that an archive of images is made of; everything else is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    File,
    Symlink,
    Hardlink,
}

/// Calls `each` with name, kind, link target and content of every member of an archive of at most `bytes`.
pub(crate) fn each_member(
    archive: impl Read,
    bytes: u64,
    mut each: impl FnMut(&[u8], Member, &[u8], &mut dyn Read) -> std::result::Result<(), Fault>,
) -> Result<()> {
    let limits = Limits { bytes, ..Limits::default() };
    let mut reader = TarReader::new(Bounded { inner: archive, left: bytes, bound: bytes }, &limits);
    let failed = |fault| match fault {
        Fault::Bound { what, bound } => Error::TooLarge { what: format!("archive of images: {what}"), bound },
        other => other.into_error("archive"),
    };
    while let Some(entry) = reader.next().map_err(failed)? {
        let member = match entry.kind {
            Kind::File if entry.sparse.is_none() => Member::File,
            Kind::Symlink => Member::Symlink,
            Kind::Hardlink => Member::Hardlink,
            _ => continue,
        };
        each(&entry.path, member, &entry.link, &mut Content(&mut reader)).map_err(failed)?;
    }
    Ok(())
}

struct Content<'a, 'b, R>(&'a mut TarReader<'b, R>);

impl<R: Read> Read for Content<'_, '_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.data(buf).map_err(Fault::carry)
    }
}
