//! Who the container's process is: the request's user over the image's USER, looked up in the image's own files.
//!
//! The request's names and numbers are trusted to ask, the image's are hostile; both go through the same strict
//! parser, which takes decimal numbers up to 2³¹ − 1 and nothing that merely resembles one.

use cricket_cri_api::v1;

use crate::error::{Error, Result, shown};
use crate::output::ResolvedUser;
use crate::passwd::{Account, accounts, groups, parse_id};

/// What ImageStatus says of an image's USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// `Image.uid`; an empty USER is 0.
    Uid(i64),
    /// `Image.username`.
    Name(String),
}

/// Splits an image's USER as ImageStatus reports it: the part before `:`, a number or a name. A number that is no
/// valid ID is reported as a name, which no passwd has: the kubelet's `runAsNonRoot` then refuses the pod.
pub fn uid_or_username(user: &str) -> ImageUser {
    let name = user.split(':').next().unwrap_or_default();
    match (name, parse_id(name.as_bytes())) {
        ("", _) => ImageUser::Uid(0),
        (_, Some(uid)) => ImageUser::Uid(i64::from(uid)),
        (name, None) => ImageUser::Name(name.to_owned()),
    }
}

/// The image's files, `None` where it has none.
pub(crate) struct Files<'a> {
    /// `/etc/passwd`.
    pub passwd: Option<&'a [u8]>,
    /// `/etc/group`.
    pub group: Option<&'a [u8]>,
}

impl Files<'_> {
    fn account(&self, wanted: impl Fn(&Account<'_>) -> bool) -> Option<Account<'_>> {
        self.passwd.and_then(|file| accounts(file).find(wanted))
    }
}

/// Where a user was named, for errors.
#[derive(Clone, Copy)]
enum Source {
    Request(&'static str),
    Image,
}

impl Source {
    fn error(self, reason: String) -> Error {
        match self {
            Self::Request(field) => Error::invalid(field, reason),
            Self::Image => Error::image(format!("USER: {reason}")),
        }
    }
}

const RUN_AS_USER: &str = "linux.security_context.run_as_user";
const RUN_AS_GROUP: &str = "linux.security_context.run_as_group";
const RUN_AS_USERNAME: &str = "linux.security_context.run_as_username";
const SUPPLEMENTAL: &str = "linux.security_context.supplemental_groups";

/// The process's user and groups.
pub(crate) fn resolve(
    context: &v1::LinuxContainerSecurityContext,
    image_user: &str,
    files: &Files<'_>,
) -> Result<ResolvedUser> {
    let (account, group) = match (&context.run_as_user, context.run_as_username.as_str()) {
        (Some(_), name) if !name.is_empty() => {
            return Err(Error::invalid(RUN_AS_USERNAME, "cannot be given together with run_as_user"));
        }
        (Some(uid), _) => (by_uid(id(RUN_AS_USER, uid.value)?, files), None),
        (None, "") if context.run_as_group.is_some() => {
            return Err(Error::invalid(RUN_AS_GROUP, "is given without run_as_user or run_as_username"));
        }
        (None, "") => from_image(image_user, files)?,
        (None, name) => (by_name(name, Source::Request(RUN_AS_USERNAME), files)?, None),
    };
    let gid = match &context.run_as_group {
        Some(gid) => id(RUN_AS_GROUP, gid.value)?,
        None => group.unwrap_or(account.gid),
    };
    let mut additional_gids = vec![gid];
    for group in &context.supplemental_groups {
        additional_gids.push(id(SUPPLEMENTAL, *group)?);
    }
    let policy = v1::SupplementalGroupsPolicy::try_from(context.supplemental_groups_policy).map_err(|_| {
        Error::invalid("linux.security_context.supplemental_groups_policy", "is not a policy of this CRI version")
    })?;
    if let (v1::SupplementalGroupsPolicy::Merge, Some(name), Some(file)) = (policy, &account.name, files.group) {
        additional_gids.extend(groups(file).filter(|g| g.has_member(name.as_bytes())).map(|g| g.gid));
    }
    additional_gids.sort_unstable();
    additional_gids.dedup();
    Ok(ResolvedUser { gid, additional_gids, ..account })
}

fn id(field: &str, value: i64) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id <= i32::MAX as u32)
        .ok_or_else(|| Error::invalid(field, format!("{value} is not between 0 and {}", i32::MAX)))
}

/// `user`, `uid`, `user:group` and their mixtures (image-spec, `User`).
fn from_image(user: &str, files: &Files<'_>) -> Result<(ResolvedUser, Option<u32>)> {
    if user.is_empty() {
        return Ok((by_uid(0, files), None));
    }
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let account = by_name(name, Source::Image, files)?;
    let group = group.map(|group| group_id(group, files)).transpose()?;
    Ok((account, group))
}

fn by_uid(uid: u32, files: &Files<'_>) -> ResolvedUser {
    match files.account(|account| account.uid == uid) {
        Some(account) => resolved(&account),
        None => ResolvedUser { uid, gid: 0, additional_gids: Vec::new(), name: None, home: "/".to_owned() },
    }
}

fn by_name(name: &str, source: Source, files: &Files<'_>) -> Result<ResolvedUser> {
    if let Some(uid) = parse_id(name.as_bytes()) {
        return Ok(by_uid(uid, files));
    }
    if looks_like_a_number(name) {
        return Err(source.error(format!("{} is not between 0 and {}", shown(name), i32::MAX)));
    }
    match files.account(|account| account.name == name.as_bytes()) {
        Some(account) => Ok(resolved(&account)),
        None => Err(source.error(format!("no user {} in the image's /etc/passwd", shown(name)))),
    }
}

fn group_id(group: &str, files: &Files<'_>) -> Result<u32> {
    if let Some(gid) = parse_id(group.as_bytes()) {
        return Ok(gid);
    }
    if looks_like_a_number(group) {
        return Err(Source::Image.error(format!("group {} is not between 0 and {}", shown(group), i32::MAX)));
    }
    let found = files.group.and_then(|file| groups(file).find(|g| g.name == group.as_bytes()).map(|g| g.gid));
    found.ok_or_else(|| Source::Image.error(format!("no group {} in the image's /etc/group", shown(group))))
}

/// What a laxer parser somewhere would take for a number must never be looked up as a name.
fn looks_like_a_number(text: &str) -> bool {
    let digits = text.trim().trim_start_matches(['+', '-']);
    digits.is_empty() || digits.bytes().all(|b| b.is_ascii_digit())
}

fn resolved(account: &Account<'_>) -> ResolvedUser {
    let home = std::str::from_utf8(account.home).ok().filter(|home| home.starts_with('/')).unwrap_or("/");
    ResolvedUser {
        uid: account.uid,
        gid: account.gid,
        additional_gids: Vec::new(),
        name: std::str::from_utf8(account.name).ok().map(str::to_owned),
        home: home.to_owned(),
    }
}
