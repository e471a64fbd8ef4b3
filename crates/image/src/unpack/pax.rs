//! Extended headers (POSIX.1-2017, pax, "pax Header Block"): `LENGTH KEY=VALUE\n`, values may be binary.

use super::limits::{Fault, Limits};

/// What an extended header says about the next entry. Later records win.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: SparseKeys,
}

/// GNU's keys for sparse files, formats 0.0, 0.1 and 1.0 (tar manual, "Sparse Formats").
#[derive(Debug, Default, Clone)]
pub(crate) struct SparseKeys {
    pub(crate) major: Option<u64>,
    pub(crate) real_size: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    /// Offsets and lengths, alternating.
    pub(crate) map: Vec<u64>,
    pub(crate) present: bool,
}

impl Pax {
    /// Adds the records of one header.
    pub(crate) fn read(&mut self, mut data: &[u8], limits: &Limits) -> Result<(), Fault> {
        let malformed = || Fault::bad("malformed extended header");
        while !data.is_empty() && data[0] != 0 {
            let space = data.iter().take(20).position(|b| *b == b' ').ok_or_else(malformed)?;
            let length = number(&data[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(malformed)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(malformed());
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
            self.set(&record[..equals], &record[equals + 1..], limits)?;
            data = &data[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), Fault> {
        let wrong = || Fault::Bad(format!("extended header: bad value of {}", key.escape_ascii()));
        let digits = || number(value).ok_or_else(wrong);
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(digits()?),
            b"uid" => self.uid = Some(digits()?),
            b"gid" => self.gid = Some(digits()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(wrong)?),
            b"GNU.sparse.major" => (self.sparse.major, self.sparse.present) = (Some(digits()?), true),
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                (self.sparse.real_size, self.sparse.present) = (Some(digits()?), true);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                // One header after the other may add to it.
                if self.sparse.map.len() >= 2 * limits.noted {
                    return Err(Fault::bound("segments of a sparse file", limits.noted.to_string()));
                }
                self.sparse.map.push(digits()?);
            }
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> = value.split(|b| *b == b',').map(number).collect();
                (self.sparse.map, self.sparse.present) = (numbers.ok_or_else(wrong)?, true);
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(n, _)| n != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                    let bytes: usize = self.xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
                    if bytes > limits.xattrs || self.xattrs.len() > 1024 {
                        return Err(Fault::bound("extended attributes", format!("{} bytes", limits.xattrs)));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Decimal digits only.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with an optional fraction, perhaps negative: `-1.5` is 1969-12-31 23:59:58.5.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let negative = seconds.starts_with('-');
    let seconds: i64 = seconds.parse().ok()?;
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = nine.parse().ok()?;
    if negative && nanos > 0 { Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)) } else { Some((seconds, nanos)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
mod tests {
    use super::*;

    #[test]
    fn reads_binary_values_and_refuses_lies() {
        let mut pax = Pax::default();
        let mut data = b"30 SCHILY.xattr.user.k=a\nb=c\0d\n".to_vec();
        let length = data.len().to_string();
        data[0..2].copy_from_slice(length.as_bytes());
        pax.read(&data, &Limits::default()).unwrap();
        assert_eq!(pax.xattrs, [(b"user.k".to_vec(), b"a\nb=c\0d".to_vec())]);
        for bad in [&b"99 path=x\n"[..], b"x path=a\n", b"9 path=ab", b"5 a\n\n", b"18446744073709551616 a=b\n"] {
            assert!(Pax::default().read(bad, &Limits::default()).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn maps_do_not_grow_over_many_headers() {
        let limits = Limits { noted: 4, ..Limits::default() };
        let mut pax = Pax::default();
        let header = b"23 GNU.sparse.offset=1\n25 GNU.sparse.numbytes=1\n";
        for _ in 0..4 {
            pax.read(header, &limits).unwrap();
        }
        assert!(matches!(pax.read(header, &limits), Err(Fault::Bound { .. })));
    }

    #[test]
    fn times_before_the_epoch() {
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(time(b"1.x"), None);
    }
}
