//! Which entries of a credentials file are for an image: the rules of the kubelet's keyring
//! (`pkg/credentialprovider/keyring.go`), and one more.
//!
//! A key is `[scheme://]host[:port][/path]`. Its host's labels are patterns (`*` and `[a-z]`, never across a dot), as
//! many as the image's host has; the port is the same text or absent on both sides; the path is a prefix of the
//! image's. Beyond the kubelet: a first label of `*` followed directly by a letter or digit stands for any number of
//! labels in front as well, since Kubernetes' documentation promised that for long. `*.x` and `*-x` do not: secrets
//! would go to more hosts than a kubelet sends them to.

/// Docker Hub's key when no other key matches.
const DEFAULT_KEY: &str = "index.docker.io";

/// A key of a credentials file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    host: String,
    port: String,
    path: String,
}

impl Pattern {
    /// Reads a key; none if it is no address.
    pub(crate) fn parse(key: &str) -> Option<Self> {
        let rest = ["https://", "http://"].iter().find_map(|scheme| key.strip_prefix(scheme)).unwrap_or(key);
        let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = split_port(authority)?;
        // The addresses of Docker's API stand for the whole host.
        let path = match path.get(..4) {
            Some("/v1/" | "/v2/") => &path[3..],
            _ => path,
        };
        let path = if path == "/" { "" } else { path };
        Some(Self { host: host.to_owned(), port: port.to_owned(), path: path.to_owned() })
    }

    /// The key as it is compared and sorted.
    pub(crate) fn key(&self) -> String {
        let colon = if self.port.is_empty() { "" } else { ":" };
        format!("{}{colon}{}{}", self.host, self.port, self.path)
    }

    /// Whether it is for `image`, `host[:port]/repository`.
    pub(crate) fn matches(&self, image: &str) -> bool {
        let (authority, path) = image.split_at(image.find('/').unwrap_or(image.len()));
        let Some((host, port)) = split_port(authority) else { return false };
        port == self.port && path.starts_with(&self.path) && host_matches(&self.host, host)
    }
}

/// The indices of the keys that are for `image`, the most specific first (the keys in reverse order, as the kubelet
/// has it). Equal keys keep their order.
pub(crate) fn select<'a>(keys: impl IntoIterator<Item = &'a str>, image: &str) -> Vec<usize> {
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut default = Vec::new();
    for (index, key) in keys.into_iter().enumerate() {
        let Some(pattern) = Pattern::parse(key) else { continue };
        if pattern.key() == DEFAULT_KEY {
            default.push(index);
        }
        if pattern.matches(image) {
            found.push((pattern.key(), index));
        }
    }
    if found.is_empty() && image.starts_with("docker.io/") {
        return default;
    }
    found.sort_by(|(a, i), (b, j)| b.cmp(a).then(i.cmp(j)));
    found.into_iter().map(|(_, index)| index).collect()
}

/// Host and port; none if there is no host or the port is no number. An IPv6 address keeps its brackets.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = if authority.starts_with('[') {
        let (host, port) = authority.split_at(authority.find(']')? + 1);
        match port.strip_prefix(':') {
            Some(port) => (host, port),
            None if port.is_empty() => (host, ""),
            None => return None,
        }
    } else {
        authority.split_once(':').unwrap_or((authority, ""))
    };
    let clean = |c: char| !c.is_control() && !c.is_whitespace();
    (!host.is_empty() && host.chars().all(clean) && port.bytes().all(|b| b.is_ascii_digit())).then_some((host, port))
}

fn host_matches(pattern: &str, host: &str) -> bool {
    if pattern.starts_with('[') || host.starts_with('[') {
        return pattern == host;
    }
    let patterns: Vec<&str> = pattern.split('.').collect();
    let mut labels: Vec<&str> = host.split('.').collect();
    let open = patterns[0].strip_prefix('*').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
    if open && labels.len() > patterns.len() {
        labels.drain(..labels.len() - patterns.len());
    }
    labels.len() == patterns.len() && patterns.iter().zip(labels).all(|(p, l)| label_matches(p, l))
}

/// One label against its pattern, in time of their product.
fn label_matches(pattern: &str, label: &str) -> bool {
    let Some(items) = compile(pattern) else { return false };
    let label: Vec<char> = label.chars().collect();
    let (mut at, mut next) = (0, 0);
    // Where the last star was, and how much it has swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    while at < label.len() {
        match items.get(next) {
            Some(Item::Star) => {
                star = Some((next, at));
                next += 1;
            }
            Some(item) if item.takes(label[at]) => {
                at += 1;
                next += 1;
            }
            _ => {
                let Some((place, from)) = star else { return false };
                star = Some((place, from + 1));
                (at, next) = (from + 1, place + 1);
            }
        }
    }
    items[next..].iter().all(|i| matches!(i, Item::Star))
}

enum Item {
    Star,
    One(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Item {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::One(one) => *one == c,
            Self::Class { negated, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

/// Reads a pattern (Go's `filepath.Match`); none if a class is not complete.
fn compile(pattern: &str) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        items.push(match c {
            '*' => Item::Star,
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                    let from = chars.next().filter(|c| !matches!(c, ']' | '-'))?;
                    let to = match chars.next_if_eq(&'-') {
                        Some(_) => chars.next().filter(|c| !matches!(c, ']' | '-'))?,
                        None => from,
                    };
                    ranges.push((from, to));
                }
                Item::Class { negated, ranges }
            }
            c => Item::One(c),
        });
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics to fail")]

    use proptest::prelude::*;

    use super::*;

    fn matches(key: &str, image: &str) -> bool {
        Pattern::parse(key).is_some_and(|p| p.matches(image))
    }

    #[test]
    fn keys_match_as_the_kubelet_has_it() {
        for (key, image, want) in [
            ("registry.example", "registry.example/a", true),
            ("https://registry.example/v2/", "registry.example/a", true),
            ("http://registry.example/v1/team", "registry.example/team/a", true),
            ("registry.example/v1", "registry.example/a", false),
            ("registry.example/team", "registry.example/team/a", true),
            ("registry.example/team", "registry.example/teams/a", true),
            ("registry.example/team", "registry.example/other", false),
            ("registry.example:5000", "registry.example/a", false),
            ("registry.example", "registry.example:5000/a", false),
            ("*.example:5000", "registry.example:5000/a", true),
            ("*.example", "a.registry.example/a", false),
            ("*.example", "example/a", false),
            ("*.*.example", "a.registry.example/a", true),
            ("re*y.example", "registry.example/a", true),
            ("reg[0-9].example", "reg7.example/a", true),
            ("reg[^0-9].example", "reg7.example/a", false),
            ("reg[0-9.example", "reg7.example/a", false),
            ("*", "registry.example/a", false),
            ("*", "localhost/a", true),
            ("[::1]:5000", "[::1]:5000/a", true),
            ("[::1]", "[::2]/a", false),
            ("user@registry.example", "registry.example/a", true),
            ("", "registry.example/a", false),
            ("registry.example:port", "registry.example:port/a", false),
        ] {
            assert_eq!(matches(key, image), want, "{key} {image}");
        }
    }

    #[test]
    fn only_a_star_before_a_letter_or_digit_stands_for_labels_in_front() {
        let key = "*my-registry.io/images";
        for image in ["my-registry.io/images", "my-registry.io/images/my-image", "sub.my-registry.io/images/my-image"] {
            assert!(matches(key, image), "{image}");
        }
        assert!(matches(key, "a.sub.my-registry.io/images/my-image"));
        for (key, image) in [
            (key, "my-registry.io/other"),
            (key, "my-registry.io.evil/images"),
            ("*.my-registry.io", "a.sub.my-registry.io/x"),
            ("*-registry.io", "a.my-registry.io/x"),
            ("**my-registry.io", "a.my-registry.io/x"),
            ("my*registry.io", "a.my-registry.io/x"),
        ] {
            assert!(!matches(key, image), "{key} {image}");
        }
    }

    #[test]
    fn all_matches_are_given_the_most_specific_first() {
        let keys = ["r.example", "*.example", "r.example/a/b", "other", "https://r.example", "r.example/a"];
        assert_eq!(select(keys, "r.example/a/b/c"), [2, 5, 0, 4, 1]);
        let hub = ["https://index.docker.io/v1/", "other"];
        assert_eq!(select(hub, "docker.io/library/a"), [0]);
        assert_eq!(select(["https://index.docker.io/v1/", "docker.io"], "docker.io/library/a"), [1]);
        assert_eq!(select(hub, "r.example/a"), [0usize; 0]);
    }

    proptest! {
        #[test]
        fn survives_anything(key in "\\PC{0,60}|[*a\\[\\]^.:/-]{0,30}", image in "\\PC{0,60}|[a.:/-]{0,30}") {
            let found = select([key.as_str()], &image);
            prop_assert!(found.len() <= 1);
        }

        #[test]
        fn a_plain_key_is_for_its_host_only(a in "[a-z]{1,4}(\\.[a-z]{1,4}){0,3}", b in "[a-z]{1,4}(\\.[a-z]{1,4}){0,3}") {
            let image = format!("{b}/x");
            prop_assert_eq!(matches(&a, &image), a == b);
            let bare = format!("*.{a}");
            let deep = format!("x.y.{a}/x");
            prop_assert!(!matches(&bare, &deep));
            let open = format!("*{a}");
            prop_assert!(matches(&open, &deep));
        }

        #[test]
        fn stars_match_what_they_were_made_of(parts in proptest::collection::vec("[a-z]{0,3}", 1..5), fill in "[a-z]{0,3}") {
            prop_assert!(label_matches(&parts.join("*"), &parts.join(&fill)));
        }
    }
}
