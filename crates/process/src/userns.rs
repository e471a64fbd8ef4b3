//! ID maps of user namespaces.

use crate::error::{Error, Result};

/// One line of a `uid_map` or `gid_map`, see user_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    inside: u64,
    outside: u64,
    length: u64,
}

/// How a user namespace's IDs are those of another (the reader's).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap(Vec<Extent>);

impl IdMap {
    /// From the text of `/proc/PID/uid_map` or `gid_map`.
    pub fn parse(text: &str) -> Result<Self> {
        let extent = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            Some(Extent {
                inside: numbers.next()?.ok()?,
                outside: numbers.next()?.ok()?,
                length: numbers.next()?.ok()?,
            })
        };
        let extents: Option<_> = text.lines().map(extent).collect();
        extents.map(Self).ok_or_else(|| Error::invalid("read an ID map", "a line that is not three numbers"))
    }

    /// The reader's ID of an ID inside the namespace; `None` when it is not mapped.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        let inside = u64::from(inside);
        let extent = self.0.iter().find(|e| (e.inside..e.inside + e.length).contains(&inside))?;
        (extent.outside + (inside - extent.inside)).try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        let map = IdMap::parse("         0     100000      65536\n     70000          5          1\n").expect("parse");
        assert_eq!(map.outside(0), Some(100_000));
        assert_eq!(map.outside(65_535), Some(165_535));
        assert_eq!(map.outside(65_536), None);
        assert_eq!(map.outside(70_000), Some(5));
        assert!(IdMap::parse("0 1").is_err());
        let own = std::fs::read_to_string("/proc/self/uid_map").expect("own map");
        assert_eq!(IdMap::parse(&own).expect("parse").outside(0), Some(0));
    }
}
