//! Users, groups and their names, from requests and from hostile images.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use cricket_cri_api::v1;
use cricket_oci::{ImageUser, uid_or_username};
use proptest::prelude::*;
use support::Case;

/// uid, gid, additional gids and HOME for an image's USER.
fn image_user(user: &str) -> Option<(u32, u32, Vec<u32>, String)> {
    let mut case = Case::default();
    case.image.user = user.into();
    let user = case.spec().ok()?.user;
    Some((user.uid, user.gid, user.additional_gids, user.home))
}

#[test]
fn users_of_images() {
    let want = |uid, gid, groups: &[u32], home: &str| Some((uid, gid, groups.to_vec(), home.to_owned()));
    assert_eq!(image_user(""), want(0, 0, &[0], "/root"));
    assert_eq!(image_user("root"), want(0, 0, &[0], "/root"));
    assert_eq!(image_user("web"), want(1000, 1000, &[1000, 50000], "/home/web"));
    assert_eq!(image_user("1000"), want(1000, 1000, &[1000, 50000], "/home/web"));
    assert_eq!(image_user("4242"), want(4242, 0, &[0], "/"));
    assert_eq!(image_user("4242:4"), want(4242, 4, &[4], "/"));
    assert_eq!(image_user("ann:log"), want(1001, 4, &[4, 50000], "/home/ann"));
    assert_eq!(image_user("ann:7"), want(1001, 7, &[4, 7, 50000], "/home/ann"));
    assert_eq!(image_user("2147483647"), want(i32::MAX as u32, 0, &[0], "/"));
}

#[test]
fn numbers_that_overflow_or_only_resemble_one() {
    for bad in [
        "2147483648",
        "4294967296",
        "4294967295",
        "18446744073709551616",
        "-1",
        "+0",
        "-0",
        " 0",
        "0 ",
        "0:+0",
        "0:-1",
        "0:4294967296",
        ":0",
        "0:",
        "0:0:0",
        "nobody",
        "web:nogroup",
        "\n0",
        "0\n",
        "٠",
        "111111111111111111111111111111",
    ] {
        assert_eq!(image_user(bad), None, "{bad:?}");
    }
}

#[test]
fn requests_win_over_images() {
    let mut case = Case::default();
    case.image.user = "nobody-there".into();
    case.context().run_as_user = Some(v1::Int64Value { value: 1001 });
    let user = case.spec().unwrap().user;
    assert_eq!((user.uid, user.gid, user.name.as_deref()), (1001, 50, Some("ann")));
    case.context().run_as_group = Some(v1::Int64Value { value: 9 });
    assert_eq!(case.spec().unwrap().user.gid, 9);
    case.context().run_as_user = None;
    case.context().run_as_username = "web".into();
    assert_eq!(case.spec().unwrap().user.uid, 1000);
    for bad in [-1, 1 << 31, i64::MAX, i64::MIN] {
        let mut case = Case::default();
        case.context().run_as_user = Some(v1::Int64Value { value: bad });
        assert!(case.refusal().starts_with("linux.security_context.run_as_user"), "{bad}");
    }
}

#[test]
fn the_images_groups_only_under_merge() {
    let mut case = Case::default();
    case.context().run_as_user = Some(v1::Int64Value { value: 1000 });
    case.context().supplemental_groups = vec![1234, 1234];
    assert_eq!(case.spec().unwrap().user.additional_gids, [1000, 1234, 50000]);
    case.context().supplemental_groups_policy = v1::SupplementalGroupsPolicy::Strict as i32;
    assert_eq!(case.spec().unwrap().user.additional_gids, [1000, 1234]);
}

#[test]
fn images_without_files() {
    let mut case = Case { passwd: None, group: None, ..Default::default() };
    case.image.user = "5:6".into();
    let user = case.spec().unwrap().user;
    assert_eq!((user.uid, user.gid, user.home.as_str()), (5, 6, "/"));
    case.image.user = "root".into();
    assert!(case.refusal().starts_with("image: USER"));
}

#[test]
fn image_status() {
    assert_eq!(uid_or_username(""), ImageUser::Uid(0));
    assert_eq!(uid_or_username("1000:web"), ImageUser::Uid(1000));
    assert_eq!(uid_or_username("web:0"), ImageUser::Name("web".into()));
    assert_eq!(uid_or_username("4294967296"), ImageUser::Name("4294967296".into()));
}

proptest! {
    /// Whatever an image says: no panic, and no ID beyond 2³¹ − 1.
    #[test]
    fn hostile_images(user in any::<String>(), passwd in any::<Vec<u8>>(), group in any::<Vec<u8>>()) {
        let mut case = Case { passwd: Some(passwd), group: Some(group), ..Default::default() };
        case.image.user = user;
        if let Ok(made) = case.spec() {
            let ids = made.user.additional_gids.iter().chain([&made.user.uid, &made.user.gid]);
            prop_assert!(ids.into_iter().all(|id| *id <= i32::MAX as u32));
        }
    }

    /// A number is that number or a refusal, never another one.
    #[test]
    fn numbers_mean_themselves(number in any::<i64>()) {
        let want = u32::try_from(number).ok().filter(|id| *id <= i32::MAX as u32);
        prop_assert_eq!(image_user(&number.to_string()).map(|user| user.0), want);
    }
}
