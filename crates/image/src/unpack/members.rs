//! Walking an archive of images with the same reader and bounds as a layer's.

use std::io::{self, Read};

use super::limits::{Fault, Limits};
use super::tarball::{Kind, TarReader};
use crate::Result;

/// Members that an archive of images is made of; everything else is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    File,
    Symlink,
    Hardlink,
}

/// Calls `each` with name, kind, link target and content of every member.
pub(crate) fn each_member(
    archive: impl Read,
    mut each: impl FnMut(&[u8], Member, &[u8], &mut dyn Read) -> Result<()>,
) -> Result<()> {
    // As many bytes as fit on the disk: a person loads this, and its layers are bounded when they are unpacked.
    let limits = Limits { bytes: u64::MAX / 4, ..Limits::default() };
    let mut reader = TarReader::new(archive, &limits);
    let failed = |fault: Fault| fault.into_error("archive");
    while let Some(entry) = reader.next().map_err(failed)? {
        let member = match entry.kind {
            Kind::File if entry.sparse.is_none() => Member::File,
            Kind::Symlink => Member::Symlink,
            Kind::Hardlink => Member::Hardlink,
            _ => continue,
        };
        each(&entry.path, member, &entry.link, &mut Content(&mut reader))?;
    }
    Ok(())
}

struct Content<'a, 'b, R>(&'a mut TarReader<'b, R>);

impl<R: Read> Read for Content<'_, '_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.data(buf).map_err(Fault::carry)
    }
}
