//! SELinux labels of pods and containers (`user:role:type:level`): read, checked and put together. Which categories a pod
//! gets of its own is [`Categories`]; that keeps the files of pods apart that run in the same domain.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use cricket_cri_api::v1;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, shown};

pub(crate) const FIELD: &str = "linux.security_context.selinux_options";

/// The level of what has no categories of its own.
const LOWEST: &str = "s0";
/// The domain of containers that are not to be confined (container_selinux(8)).
const UNCONFINED: &str = "spc_t";
/// Categories have numbers below this in every policy that has levels.
pub const MAX_CATEGORIES: u16 = 1024;
/// Pairs that are drawn before one is looked for.
const DRAWS: usize = 64;

/// Labels of a pod or a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelinuxLabels {
    /// Of its processes.
    pub process: Label,
    /// Of its files.
    pub files: Label,
}

/// A security context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// An SELinux user.
    pub user: String,
    /// A role.
    pub role: String,
    /// A domain, or a type of files.
    pub kind: String,
    /// Sensitivity and categories; empty where the policy has no levels.
    pub level: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        if self.level.is_empty() { Ok(()) } else { write!(f, ":{}", self.level) }
    }
}

impl Label {
    /// Reads one; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':');
        let mut next = || parts.next().map(str::to_owned);
        let label = Self { user: next()?, role: next()?, kind: next()?, level: next().unwrap_or_default() };
        let plain = [&label.user, &label.role, &label.kind].into_iter().all(|part| is_name(part));
        (plain && (label.level.is_empty() || is_level(&label.level))).then_some(label)
    }
}

/// What the policy gives containers (`lxc_contexts`, see selinux_lxc_contexts_path(3)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contexts {
    process: Label,
    files: Label,
}

impl Contexts {
    /// Reads the file: `name = "label"` a line, comments after `#` and `;`.
    ///
    /// # Errors
    /// Which of the labels `process` and `file` is missing or none.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let value = |wanted: &str| {
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
            let mut entries = lines.filter_map(|line| line.split_once('='));
            let found = entries.rfind(|(name, _)| name.trim() == wanted);
            let label = found.and_then(|(_, value)| Label::parse(value.trim().trim_matches('"')));
            label.ok_or_else(|| format!("it has no label {wanted:?}"))
        };
        Ok(Self { process: value("process")?, files: value("file")? })
    }

    /// Whether the policy has levels.
    pub fn has_levels(&self) -> bool {
        !self.process.level.is_empty()
    }

    /// The policy's labels with what a request says of them, and with this level where it does not say one.
    ///
    /// # Errors
    /// Options that no label can have.
    pub fn labels(&self, options: Option<&v1::SeLinuxOption>, level: &str) -> Result<SelinuxLabels> {
        check(options)?;
        let mut labels = SelinuxLabels { process: self.process.clone(), files: self.files.clone() };
        let SelinuxLabels { process, files } = &mut labels;
        let unset = v1::SeLinuxOption::default();
        let asked = options.unwrap_or(&unset);
        let set = |part: &mut String, asked: &String| {
            if !asked.is_empty() {
                part.clone_from(asked);
            }
        };
        set(&mut process.user, &asked.user);
        set(&mut files.user, &asked.user);
        set(&mut process.role, &asked.role);
        set(&mut process.kind, &asked.r#type);
        for label in [process, files] {
            if self.has_levels() {
                set(&mut label.level, &level.to_owned());
            }
            set(&mut label.level, &asked.level);
        }
        Ok(labels)
    }
}

/// Whether a request says anything of labels.
pub fn asks_for_label(options: Option<&v1::SeLinuxOption>) -> bool {
    options.is_some_and(|o| [&o.user, &o.role, &o.r#type, &o.level].into_iter().any(|part| !part.is_empty()))
}

/// Whether a request wants what only SELinux can give. Nothing is kept from what has the lowest level without categories,
/// or the domain for the unconfined: hosts without SELinux give these to everything.
pub fn asks_for_confinement(options: Option<&v1::SeLinuxOption>) -> bool {
    options.is_some_and(|o| {
        let named = [&o.user, &o.role].into_iter().any(|part| !part.is_empty());
        named || !["", UNCONFINED].contains(&o.r#type.as_str()) || !["", LOWEST].contains(&o.level.as_str())
    })
}

/// Refuses what cannot be part of a label.
pub(crate) fn check(options: Option<&v1::SeLinuxOption>) -> Result<()> {
    let Some(options) = options else { return Ok(()) };
    for (name, part) in [("user", &options.user), ("role", &options.role), ("type", &options.r#type)] {
        if !part.is_empty() && !is_name(part) {
            let reason = format!("{} is not made of letters, digits, `_`, `-` and `.`", shown(part));
            return Err(Error::invalid(format!("{FIELD}.{name}"), reason));
        }
    }
    match options.level.is_empty() || is_level(&options.level) {
        true => Ok(()),
        false => {
            let reason = format!("{} is no level such as \"s0:c1,c2\"", shown(&options.level));
            Err(Error::invalid(format!("{FIELD}.level"), reason))
        }
    }
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && part.len() <= 128 && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// `sN[-sN][:CATEGORIES]`, as containerd takes it. Commas and colons mean nothing else where labels are written.
fn is_level(level: &str) -> bool {
    let sensitivity = |text: &str| matches!(text.as_bytes(), [b's', b'0'..=b'9']);
    let (range, categories) = level.split_once(':').map_or((level, None), |(range, rest)| (range, Some(rest)));
    let (low, high) = range.split_once('-').map_or((range, None), |(low, high)| (low, Some(high)));
    level.len() <= 200
        && sensitivity(low)
        && high.is_none_or(sensitivity)
        && categories.is_none_or(|text| categories_of(text).is_some())
}

/// The categories of `c1,c3.c5`.
fn categories_of(text: &str) -> Option<BTreeSet<u16>> {
    let number = |text: &str| -> Option<u16> {
        let digits = text.strip_prefix('c')?;
        let plain = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|n| plain && *n < MAX_CATEGORIES)
    };
    let mut all = BTreeSet::new();
    for item in text.split(',') {
        match item.split_once('.') {
            None => all.extend([number(item)?]),
            Some((first, last)) => all.extend(number(first)?..=number(last)?),
        }
    }
    Some(all)
}

/// Two categories; the lower one first.
type Pair = (u16, u16);

/// The pair that a level has, however it is written: no other number of categories can be given out twice.
fn pair(level: &str) -> Option<Pair> {
    let categories = categories_of(level.split_once(':')?.1)?;
    let mut numbers = categories.into_iter();
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(first), Some(second), None) => Some((first, second)),
        _ => None,
    }
}

/// The pairs of categories that pods have, by the pod's ID.
#[derive(Debug, Default)]
pub struct Categories {
    taken: HashMap<String, BTreeSet<Pair>>,
}

impl Categories {
    /// A level with a pair of categories below `range` (2 to [`MAX_CATEGORIES`]) that no other pod has; `None`: every
    /// pair is taken. `random` answers numbers below the one that it is given.
    pub fn allocate(&mut self, pod: &str, range: u16, mut random: impl FnMut(u16) -> u16) -> Option<String> {
        let range = range.clamp(2, MAX_CATEGORIES);
        let taken: BTreeSet<Pair> = self.taken.values().flatten().copied().collect();
        let drawn = (0..DRAWS).map(|_| {
            // The second one is any but the first.
            let (first, other) = (random(range) % range, random(range - 1) % (range - 1));
            let second = if other >= first { other + 1 } else { other };
            (first.min(second), first.max(second))
        });
        let all = || (0..range).flat_map(move |first| (first + 1..range).map(move |second| (first, second)));
        let free = |pair: &Pair| !taken.contains(pair);
        let mut drawn = drawn;
        let found = drawn.by_ref().find(free).or_else(|| all().find(free))?;
        self.taken.entry(pod.to_owned()).or_default().insert(found);
        Some(format!("{LOWEST}:c{},c{}", found.0, found.1))
    }

    /// A pod has this level, from a request or from before a restart: it is given to no other.
    pub fn reserve(&mut self, pod: &str, level: &str) {
        if let Some(pair) = pair(level) {
            self.taken.entry(pod.to_owned()).or_default().insert(pair);
        }
    }

    /// The pod is gone.
    pub fn release(&mut self, pod: &str) {
        self.taken.remove(pod);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "# containers\n process = \"system_u:system_r:container_t:s0\"\n\n\
                        ; comment = x\nfile=\"system_u:object_r:container_file_t:s0\"\nro_file = \"x\"\n";

    #[test]
    fn contexts_of_the_policy() {
        let contexts = Contexts::parse(FILE).unwrap();
        let labels = contexts.labels(None, "s0:c1,c2").unwrap();
        assert_eq!(labels.process.to_string(), "system_u:system_r:container_t:s0:c1,c2");
        assert_eq!(labels.files.to_string(), "system_u:object_r:container_file_t:s0:c1,c2");
        for wrong in ["", "process = \"a:b:c\"", "process = \"a:b\"\nfile = \"a:b:c\"", "file"] {
            Contexts::parse(wrong).unwrap_err();
        }
        // A policy without levels gets none by itself.
        let plain = Contexts::parse("process = \"u:r:t\"\nfile = \"u:object_r:f\"").unwrap();
        assert_eq!(plain.labels(None, "").unwrap().process.to_string(), "u:r:t");
    }

    #[test]
    fn a_request_changes_parts() {
        let contexts = Contexts::parse(FILE).unwrap();
        let option = |part: &str| v1::SeLinuxOption { r#type: part.into(), ..Default::default() };
        let labels = contexts.labels(Some(&option("spc_t")), "s0:c1,c2").unwrap();
        assert_eq!(labels.process.to_string(), "system_u:system_r:spc_t:s0:c1,c2");
        let all = v1::SeLinuxOption { user: "u".into(), role: "r".into(), r#type: "t".into(), level: "s0:c5".into() };
        let labels = contexts.labels(Some(&all), "s0:c1,c2").unwrap();
        assert_eq!(labels.process.to_string(), "u:r:t:s0:c5");
        assert_eq!(labels.files.to_string(), "u:object_r:container_file_t:s0:c5");
        contexts.labels(Some(&option("a:b")), "").unwrap_err();
        contexts.labels(Some(&v1::SeLinuxOption { level: "s0,context=x".into(), ..option("") }), "").unwrap_err();
        assert!(!asks_for_label(None) && !asks_for_label(Some(&option(""))) && asks_for_label(Some(&option("t"))));
    }

    #[test]
    fn what_needs_selinux() {
        let option = |user: &str, role: &str, kind: &str, level: &str| v1::SeLinuxOption {
            user: user.into(),
            role: role.into(),
            r#type: kind.into(),
            level: level.into(),
        };
        assert!(!asks_for_confinement(None));
        for open in [option("", "", "", ""), option("", "", "", "s0"), option("", "", "spc_t", "s0")] {
            assert!(!asks_for_confinement(Some(&open)), "{open:?}");
        }
        for confined in [
            option("", "", "", "s0:c1,c2"),
            option("", "", "", "s1"),
            option("", "", "container_t", "s0"),
            option("u", "", "spc_t", ""),
            option("", "r", "", "s0"),
        ] {
            assert!(asks_for_confinement(Some(&confined)), "{confined:?}");
        }
    }

    #[test]
    fn levels() {
        for level in ["s0", "s0-s0:c0.c1023", "s0:c1", "s1:c1,c2", "s0:c1.c4,c7", "s0-s9"] {
            assert!(is_level(level), "{level}");
        }
        for level in ["", "s", "s10", "s0:", "s0:c", "s0:c1024", "s0:c00001", "s0:c1,", "s0:c1..c2", "c1", "s0 "] {
            assert!(!is_level(level), "{level}");
        }
    }

    #[test]
    fn every_pair_is_given_out_once_and_again_after_its_release() {
        let mut categories = Categories::default();
        categories.reserve("given", "s0:c1,c0");
        let mut seen = BTreeSet::new();
        for pod in 0..5 {
            seen.insert(categories.allocate(&pod.to_string(), 4, |_| 0).unwrap());
        }
        assert_eq!(seen.len(), 5);
        assert!(!seen.contains("s0:c0,c1"));
        assert_eq!(categories.allocate("more", 4, |_| 0), None);
        categories.release("given");
        assert_eq!(categories.allocate("more", 4, |_| 3).as_deref(), Some("s0:c0,c1"));
    }

    proptest! {
        #[test]
        fn what_is_a_label_is_written_as_it_was_read(text in "[a-z_]{0,4}(:[a-z0-9.,_-]{0,6}){0,5}|\\PC{0,40}") {
            if let Some(label) = Label::parse(&text) {
                prop_assert_eq!(label.to_string(), text.strip_suffix(':').unwrap_or(&text));
                prop_assert!(!text.contains(['"', ' ', '\n', '\0']));
            }
            let _ = Contexts::parse(&text);
        }

        #[test]
        fn pods_never_share_a_pair(range in 2u16..40, ops in prop::collection::vec((0u8..12, any::<bool>(), any::<u16>()), 0..60)) {
            let mut categories = Categories::default();
            let mut held: HashMap<u8, String> = HashMap::new();
            for (pod, end, seed) in ops {
                if end || held.contains_key(&pod) {
                    categories.release(&pod.to_string());
                    held.remove(&pod);
                    continue;
                }
                let mut n = seed;
                let level = categories.allocate(&pod.to_string(), range, |_| { n = n.wrapping_mul(31).wrapping_add(7); n });
                match level {
                    Some(level) => {
                        prop_assert!(is_level(&level));
                        let (first, second) = pair(&level).unwrap();
                        prop_assert!(first < second && second < range);
                        prop_assert!(!held.values().any(|other| *other == level));
                        held.insert(pod, level);
                    }
                    None => prop_assert_eq!(held.len(), usize::from(range) * usize::from(range - 1) / 2),
                }
            }
        }
    }
}
