//! Who an image's process is: USER, `/etc/passwd` and `/etc/group`.

use cricket_oci::fuzzing::{accounts, groups, user};
use cricket_oci::{ImageUser, uid_or_username};

use crate::input;

/// IDs are in range and those of the files; a number is never looked up as a name; whoever is not said to be root is
/// not. The parts are USER, passwd and group, with a NUL between.
pub fn run(data: &[u8]) {
    let [name, passwd, group] = input::parts(data);
    let Ok(name) = std::str::from_utf8(name) else { return };
    let max = i32::MAX as u32;
    let known = accounts(passwd);
    assert!(known.iter().all(|(n, uid, gid, _)| !n.is_empty() && !n.contains(&b':') && *uid <= max && *gid <= max));
    let listed = groups(group, b"nobody");
    assert!(listed.iter().all(|(n, gid, _)| !n.is_empty() && !n.contains(&b'\n') && *gid <= max));
    assert!(groups(group, b"").iter().all(|(.., member)| !member), "nobody has no name");

    let Ok(found) = user(name, Some(passwd), Some(group)) else { return };
    assert!(found.uid <= max && found.gid <= max && found.additional_gids.iter().all(|gid| *gid <= max));
    assert!(found.additional_gids.is_sorted_by(|a, b| a < b) && found.additional_gids.contains(&found.gid));
    assert!(found.home.starts_with('/'));
    if let Some(login) = &found.name {
        assert!(known.iter().any(|(n, uid, ..)| *n == login.as_bytes() && *uid == found.uid), "{login}");
    }
    let (first, second) = name.split_once(':').map_or((name, None), |(n, g)| (n, Some(g)));
    match first.parse::<u32>() {
        Ok(uid) => assert_eq!(uid, found.uid, "{name}"),
        Err(_) if name.is_empty() => assert_eq!(found.uid, 0),
        Err(_) => assert!(known.iter().any(|(n, uid, ..)| *n == first.as_bytes() && *uid == found.uid), "{name}"),
    }
    if let Some(gid) = second.and_then(|g| g.parse::<u32>().ok()) {
        assert_eq!(found.gid, gid, "{name}");
    }
    // What the kubelet decides runAsNonRoot by.
    if let ImageUser::Uid(uid) = uid_or_username(name) {
        assert_eq!(uid, i64::from(found.uid), "{name}: the kubelet is told another user");
    }
}
