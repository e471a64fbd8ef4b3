//! User and group IDs of the calling thread; libc, which keeps those of a process' threads the same, knows nothing of it.

use rustix::thread::{Gid, Uid, set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{Doing, Error, Result};

/// Changes groups, group and user, in that order. Permitted capabilities stay (`PR_SET_KEEPCAPS`) and are to be
/// reduced with [`crate::caps::set`]; effective ones are lost when the user is not root.
pub fn change(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    // -1 means "leave it" to the kernel: that would keep root.
    if uid == u32::MAX || gid == u32::MAX || groups.contains(&u32::MAX) {
        return Err(Error::invalid(format!("become user {uid}:{gid}"), "4294967295 is not an ID"));
    }
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_keep_capabilities(true).doing(|| "keep capabilities")?;
    set_thread_groups(&groups).doing(|| format!("set the supplementary groups {groups:?}"))?;
    let (group, user) = (Gid::from_raw(gid), Uid::from_raw(uid));
    set_thread_res_gid(group, group, group).doing(|| format!("become group {gid}"))?;
    set_thread_res_uid(user, user, user).doing(|| format!("become user {uid}"))?;
    set_keep_capabilities(false).doing(|| "stop keeping capabilities")
}

/// Makes this the calling thread's effective user; its effective capabilities go unless that is root. For a thread that
/// ends right after, in a process with others.
pub fn act_as(uid: u32) -> Result<()> {
    if uid == u32::MAX {
        return Err(Error::invalid(format!("act as user {uid}"), "4294967295 is not an ID"));
    }
    set_thread_res_uid(None, Uid::from_raw(uid), None).doing(|| format!("act as user {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_as_another() {
        let acting = std::thread::spawn(|| {
            act_as(4321).expect("act");
            rustix::process::geteuid().as_raw()
        });
        assert_eq!((acting.join().expect("join"), rustix::process::geteuid().as_raw()), (4321, 0));
        assert!(act_as(u32::MAX).is_err());
    }

    #[test]
    fn changes_one_thread() {
        std::thread::spawn(|| {
            change(1234, 2345, &[7, 8]).expect("change");
            let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("line");
                line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(field("Uid:"), ["1234"; 4]);
            assert_eq!(field("Gid:"), ["2345"; 4]);
            assert_eq!(field("Groups:"), ["7", "8"]);
            assert_ne!(field("CapPrm:"), ["0000000000000000"]);
            assert_eq!(field("CapEff:"), ["0000000000000000"]);
        })
        .join()
        .expect("join");
    }

    #[test]
    fn minus_one_is_refused() {
        assert!(change(u32::MAX, 0, &[]).is_err());
        assert!(change(0, u32::MAX, &[]).is_err());
        assert!(change(0, 0, &[u32::MAX]).is_err());
    }
}
