//! passwd(5) and group(5) as an image has them: hostile text. Lines that are not well-formed are skipped, numbers out
//! of range make a line malformed, and nothing here takes more than one pass and no memory per line.

/// A line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account<'a> {
    /// Login name.
    pub name: &'a [u8],
    /// User ID.
    pub uid: u32,
    /// Primary group ID.
    pub gid: u32,
    /// Home directory.
    pub home: &'a [u8],
}

/// A line of group(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    /// Group name.
    pub name: &'a [u8],
    /// Group ID.
    pub gid: u32,
    members: &'a [u8],
}

impl Group<'_> {
    /// Whether `user` is listed as a member.
    pub(crate) fn has_member(&self, user: &[u8]) -> bool {
        !user.is_empty() && self.members.split(|&b| b == b',').any(|member| member.trim_ascii() == user)
    }
}

/// A user or group ID: decimal digits only, 2³¹ − 1 at most. Larger numbers, signs and spaces overflow or confuse
/// one program or another on the way to the kernel.
pub(crate) fn parse_id(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let id: u32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (id <= i32::MAX as u32).then_some(id)
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty() && line[0] != b'#')
}

/// The accounts of a passwd file, in order.
pub(crate) fn accounts(file: &[u8]) -> impl Iterator<Item = Account<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next()?;
        let (_password, uid, gid) = (fields.next()?, parse_id(fields.next()?)?, parse_id(fields.next()?)?);
        let home = fields.nth(1).unwrap_or_default();
        (!name.is_empty()).then_some(Account { name, uid, gid, home })
    })
}

/// The groups of a group file, in order.
pub(crate) fn groups(file: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next()?;
        let (_password, gid) = (fields.next()?, parse_id(fields.next()?)?);
        let members = fields.next().unwrap_or_default();
        (!name.is_empty()).then_some(Group { name, gid, members })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_accounts_and_skips_garbage() {
        let file = b"# c\nroot:x:0:0:root:/root:/bin/sh\n\nbad\nneg:x:-1:0::/:\nbig:x:2147483648:0::/:\n:x:5:5::/:\nshort:x:7:8\r\n";
        let got: Vec<_> = accounts(file).map(|a| (a.name.to_vec(), a.uid, a.gid, a.home.to_vec())).collect();
        assert_eq!(got, [(b"root".to_vec(), 0, 0, b"/root".to_vec()), (b"short".to_vec(), 7, 8, vec![]),]);
    }

    #[test]
    fn reads_groups_and_members() {
        let file = b"wheel:x:10:root, ann\nempty:x:11:\nnone:x:12\n";
        let all: Vec<_> = groups(file).collect();
        assert_eq!(all.iter().map(|g| g.gid).collect::<Vec<_>>(), [10, 11, 12]);
        assert!(all[0].has_member(b"root") && all[0].has_member(b"ann") && !all[0].has_member(b"an"));
        assert!(!all[1].has_member(b""));
    }

    #[test]
    fn one_line_of_ten_mebibytes_is_one_pass() {
        let mut file = b"many:x:9:".to_vec();
        file.resize(10 << 20, b',');
        file.extend(b",ann\n");
        assert!(groups(&file).next().is_some_and(|g| g.has_member(b"ann")));
    }
}
