//! How the user and group IDs of a user namespace are the host's (user_namespaces(7)).

use serde::{Deserialize, Serialize};

/// IDs that follow one another: a line of a `uid_map` or `gid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdRange {
    /// The first one inside.
    pub inside: u32,
    /// What that is outside.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

impl IdRange {
    /// The ID outside of one inside; `None` when it is not mapped.
    pub fn outside(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.inside).filter(|offset| *offset < self.length)?;
        self.outside.checked_add(offset)
    }
}

/// The IDs of a pod with a user namespace of its own: one range of users and one of groups, as kubelets give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMaps {
    /// Users.
    pub users: IdRange,
    /// Groups.
    pub groups: IdRange,
}

impl IdMaps {
    /// User and group on the host of an owner inside; `None` when one of them is not mapped.
    pub fn outside(self, user: u32, group: u32) -> Option<(u32, u32)> {
        Some((self.users.outside(user)?, self.groups.outside(group)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_outside() {
        let users = IdRange { inside: 10, outside: 1000, length: 5 };
        assert_eq!([9, 10, 14, 15].map(|id| users.outside(id)), [None, Some(1000), Some(1004), None]);
        let groups = IdRange { inside: 0, outside: u32::MAX - 1, length: 10 };
        assert_eq!(groups.outside(5), None, "beyond all IDs");
        let maps = IdMaps { users, groups };
        assert_eq!((maps.outside(10, 0), maps.outside(0, 0)), (Some((1000, u32::MAX - 1)), None));
    }
}
