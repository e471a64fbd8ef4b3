//! Layer archives, entry by entry. Legal ones are deterministic (no time, no
//! owner but the one that is set); [`Tree::raw`] writes what no archiver would.

use std::collections::BTreeSet;
use std::io::Write;
use tar::{EntryType, Header};

/// The entries of a layer in order; ends as the bytes of a tar archive.
#[derive(Clone, Default)]
pub struct Tree {
    bytes: Vec<u8>,
    owner: (u64, u64),
    mtime: u64,
    directories: BTreeSet<String>,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Owner (uid, gid) of the entries that follow.
    pub fn owned_by(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Modification time of the entries that follow, seconds since the epoch.
    pub fn modified_at(mut self, seconds: u64) -> Self {
        self.mtime = seconds;
        self
    }

    /// A directory. Parents are not added: a layer may only imply them.
    pub fn dir(mut self, path: &str, mode: u32) -> Self {
        let path = path.trim_end_matches('/');
        self.directories.insert(path.to_owned());
        self.entry(EntryType::Directory, &format!("{path}/"), mode, "", &[])
    }

    /// The directories above `path` that this tree does not have yet, mode 0755.
    pub fn parents(self, path: &str) -> Self {
        path.match_indices('/').fold(self, |tree, (end, _)| {
            let parent = &path[..end];
            if parent.is_empty() || tree.directories.contains(parent) { tree } else { tree.dir(parent, 0o755) }
        })
    }

    /// Several directories of mode 0755.
    pub fn dirs<'a>(self, paths: impl IntoIterator<Item = &'a str>) -> Self {
        paths.into_iter().fold(self, |tree, path| tree.dir(path, 0o755))
    }

    /// A regular file.
    pub fn file(self, path: &str, mode: u32, data: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, path, mode, "", data.as_ref())
    }

    /// A hard link to an entry of this or a lower layer.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, 0o755, target, &[])
    }

    /// A symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, 0o777, target, &[])
    }

    /// A whiteout: `path` of a lower layer is gone.
    pub fn whiteout(self, path: &str) -> Self {
        let (dir, name) = path.rsplit_once('/').map_or(("", path), |(dir, name)| (dir, name));
        let slash = if dir.is_empty() { "" } else { "/" };
        self.file(&format!("{dir}{slash}.wh.{name}"), 0o644, [])
    }

    /// An opaque marker: nothing below the directory `path` of lower layers shows.
    pub fn opaque(self, path: &str) -> Self {
        self.file(&format!("{}/.wh..wh..opq", path.trim_end_matches('/')), 0o644, [])
    }

    /// A character or block device, or a FIFO.
    pub fn device(mut self, path: &str, kind: EntryType, major: u32, minor: u32) -> Self {
        let mut header = self.header(kind, 0o666, 0);
        // A ustar header holds any 32-bit number in its eight octal digits or fewer; larger ones are for `raw`.
        let _ = header.set_device_major(major);
        let _ = header.set_device_minor(minor);
        self.push(header, path.as_bytes(), &[], &[]);
        self
    }

    /// PAX records for the entry that follows, such as `SCHILY.xattr.user.x`.
    pub fn pax<'a>(mut self, records: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            data.extend_from_slice(&pax_record(key, value));
        }
        let header = self.header(EntryType::XHeader, 0o644, data.len() as u64);
        self.push(header, b"PaxHeaders/0", &[], &data);
        self
    }

    /// An entry with exactly these bytes as name and link (the first hundred
    /// of each; NUL and non-UTF-8 included) and this kind.
    pub fn raw(mut self, kind: EntryType, name: &[u8], mode: u32, link: &[u8], data: &[u8]) -> Self {
        let header = self.header(kind, mode, data.len() as u64);
        self.push_short(header, name, link, data);
        self
    }

    /// Bytes as they are, in the middle of the archive.
    pub fn garbage(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The archive, with its two blocks of zeros at the end.
    pub fn tar(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }

    /// The archive without an end, as after a lost connection.
    pub fn tar_without_end(self) -> Vec<u8> {
        self.bytes
    }

    fn entry(mut self, kind: EntryType, path: &str, mode: u32, link: &str, data: &[u8]) -> Self {
        let header = self.header(kind, mode, data.len() as u64);
        self.push(header, path.as_bytes(), link.as_bytes(), data);
        self
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(self.mtime);
        header.set_size(size);
        header
    }

    /// Names that do not fit a header go into PAX records in front of it.
    fn push(&mut self, header: Header, name: &[u8], link: &[u8], data: &[u8]) {
        let mut records = Vec::new();
        if name.len() > 100 {
            records.extend_from_slice(&pax_record("path", name));
        }
        if link.len() > 100 {
            records.extend_from_slice(&pax_record("linkpath", link));
        }
        if !records.is_empty() {
            let extended = self.header(EntryType::XHeader, 0o644, records.len() as u64);
            self.push_short(extended, b"PaxHeaders/0", &[], &records);
        }
        self.push_short(header, name, link, data);
    }

    fn push_short(&mut self, mut header: Header, name: &[u8], link: &[u8], data: &[u8]) {
        let old = header.as_old_mut();
        copy_field(&mut old.name, name);
        copy_field(&mut old.linkname, link);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        let padding = data.len().next_multiple_of(512) - data.len();
        self.bytes.extend(std::iter::repeat_n(0, padding));
    }
}

fn copy_field(field: &mut [u8; 100], value: &[u8]) {
    let length = value.len().min(field.len());
    field.fill(0);
    field[..length].copy_from_slice(&value[..length]);
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut record = Vec::with_capacity(length);
    let _ = write!(record, "{length} {key}=");
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_length_counts_itself() {
        for size in 0..2000 {
            let record = pax_record("k", &vec![b'v'; size]);
            let digits = record.iter().position(|&b| b == b' ').expect("a space");
            let length: usize = std::str::from_utf8(&record[..digits]).expect("ascii").parse().expect("a number");
            assert_eq!(length, record.len());
        }
    }

    #[test]
    fn an_archiver_reads_what_was_written() {
        let long = format!("{}/file", "d".repeat(150));
        let bytes = Tree::new()
            .dir("bin", 0o755)
            .owned_by(5, 6)
            .file(&long, 0o4755, b"x".repeat(700))
            .pax([("SCHILY.xattr.user.k", &b"v"[..])])
            .file("marked", 0o600, "m")
            .hard_link("other", "marked")
            .whiteout("a/b")
            .tar();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let xattr = entry.pax_extensions().ok().flatten().is_some_and(|records| {
                records.flatten().any(|r| r.key() == Ok("SCHILY.xattr.user.k") && r.value_bytes() == b"v")
            });
            seen.push((
                String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
                entry.header().uid().expect("a uid"),
                entry.size(),
                xattr,
            ));
        }
        let expected = [
            ("bin/".to_owned(), 0, 0, false),
            (long, 5, 700, false),
            ("marked".to_owned(), 5, 1, true),
            ("other".to_owned(), 5, 0, false),
            ("a/.wh.b".to_owned(), 5, 0, false),
        ];
        assert_eq!(seen, expected);
    }
}
