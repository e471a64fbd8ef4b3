//! Device rules as properties of a unit (`DevicePolicy`, `DeviceAllow`).

use zbus::Variant;

/// A rule of the OCI specification's `linux.resources.devices` that allows something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// `c`, `b`, or `a` for both.
    pub kind: char,
    /// `None`: every one.
    pub major: Option<u32>,
    /// `None`: every one.
    pub minor: Option<u32>,
    /// Out of `rwm`.
    pub access: String,
}

/// What is not allowed is refused. A rule for every device of both kinds makes the policy one that allows everything.
pub(super) fn properties(rules: &[DeviceRule]) -> Vec<(&'static str, Variant<'static>)> {
    let everything =
        |r: &DeviceRule| r.kind == 'a' && r.major.is_none() && r.access.contains('r') && r.access.contains('w');
    if rules.iter().any(everything) {
        return vec![("DevicePolicy", "auto".into())];
    }
    let allow: Vec<(String, String)> =
        rules.iter().flat_map(|rule| names(rule).map(|n| (n, rule.access.clone()))).collect();
    vec![("DevicePolicy", "strict".into()), ("DeviceAllow", allow.into())]
}

/// systemd names nodes, or groups of them by their name in /proc/devices, for which `*` stands too.
fn names(rule: &DeviceRule) -> impl Iterator<Item = String> + '_ {
    let kinds: &[&str] = match rule.kind {
        'c' => &["char"],
        'b' => &["block"],
        _ => &["char", "block"],
    };
    kinds.iter().map(|kind| match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{}", group(kind, major).unwrap_or_else(|| major.to_string())),
        (None, _) => format!("{kind}-*"),
    })
}

/// The name of a major number in /proc/devices.
fn group(kind: &str, major: u32) -> Option<String> {
    let text = std::fs::read_to_string("/proc/devices").ok()?;
    find(&text, kind, major)
}

fn find(devices: &str, kind: &str, major: u32) -> Option<String> {
    let heading = if kind == "char" { "Character devices:" } else { "Block devices:" };
    let lines = devices.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty());
    let mut pairs = lines.filter_map(|line| line.trim().split_once(' '));
    pairs.find(|(number, _)| number.parse() == Ok(major)).map(|(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_names() {
        let devices = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  7 loop\n";
        assert_eq!(find(devices, "char", 136).as_deref(), Some("pts"));
        assert_eq!(find(devices, "block", 7).as_deref(), Some("loop"));
        assert_eq!((find(devices, "char", 7), find(devices, "block", 1)), (None, None));
    }

    #[test]
    fn rules_are_nodes_groups_or_everything() {
        let rule = |kind, major, minor| DeviceRule { kind, major, minor, access: "rwm".into() };
        let of = |rule: DeviceRule| names(&rule).collect::<Vec<_>>();
        assert_eq!(of(rule('c', Some(1), Some(3))), ["/dev/char/1:3"]);
        assert_eq!(of(rule('a', None, None)), ["char-*", "block-*"]);
        let (policy, strict) = (properties(&[rule('a', None, None)]), properties(&[rule('c', Some(1), Some(3))]));
        assert_eq!(policy, [("DevicePolicy", Variant::from("auto"))]);
        assert_eq!((strict.len(), &strict[0].1), (2, &Variant::from("strict")));
    }
}
