//! Reads `WWW-Authenticate` (RFC 9110, 11.6.1), including what real registries make of it: several challenges in one
//! header, blanks around `=`, unquoted values.

/// Longest header that is looked at, in bytes.
const MAX_HEADER: usize = 8 << 10;
/// Most challenges that are kept of one header.
const MAX_CHALLENGES: usize = 16;

/// One challenge: how the server wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme, in lower case.
    pub(crate) scheme: String,
    /// The parameters, names in lower case.
    pub(crate) params: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter of that name, if it says anything.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }
}

/// The challenges of one header value. What does not follow the grammar is skipped.
pub(crate) fn parse(value: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = match value.len() {
        0..=MAX_HEADER => value,
        _ => return found,
    };
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return found;
        }
        let (word, after) = take_token(rest);
        if word.is_empty() {
            // Not a token: step over one character and look again.
            rest = rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or("");
            continue;
        }
        let next = after.trim_start_matches([' ', '\t']);
        if let Some(value) = next.strip_prefix('=') {
            let (value, after) = take_value(value.trim_start_matches([' ', '\t']));
            rest = after;
            if let Some(challenge) = found.last_mut() {
                challenge.params.push((word.to_ascii_lowercase(), value));
            }
            continue;
        }
        if found.len() == MAX_CHALLENGES {
            return found;
        }
        found.push(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() });
        rest = after;
    }
}

/// A token (RFC 9110, 5.6.2) at the start, and the rest.
fn take_token(text: &str) -> (&str, &str) {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c);
    text.split_at(text.find(|c| !token(c)).unwrap_or(text.len()))
}

/// A quoted string or a token at the start, and the rest. A quote that is never closed ends with the text.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge(scheme: &str, params: &[(&str, &str)]) -> Challenge {
        let params = params.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        Challenge { scheme: scheme.to_owned(), params }
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let hub_read = challenge(
            "bearer",
            &[
                ("realm", "https://auth.docker.io/token"),
                ("service", "registry.docker.io"),
                ("scope", "repository:a/b:pull,push"),
            ],
        );
        assert_eq!(parse(hub), [hub_read]);
        assert_eq!(parse("BASIC Realm = reg"), [challenge("basic", &[("realm", "reg")])]);
        assert_eq!(
            parse(r#"Basic realm="a\"b, c", Bearer realm=https://x/token,error=""#),
            [
                challenge("basic", &[("realm", "a\"b, c")]),
                challenge("bearer", &[("realm", "https://x/token"), ("error", "")]),
            ]
        );
        assert_eq!(parse("Negotiate, Basic")[1].scheme, "basic");
        assert_eq!(parse(r#"realm="no scheme""#), []);
        assert_eq!(parse(""), []);
        assert_eq!(parse(&"a ".repeat(5000)), []);
    }

    proptest! {
        #[test]
        fn survives_anything(text in "\\PC{0,200}|[Bbasicer =\",\\\\]{0,80}") {
            let found = parse(&text);
            prop_assert!(found.len() <= MAX_CHALLENGES);
            prop_assert!(found.iter().all(|c| !c.scheme.is_empty()));
        }

        #[test]
        fn reads_back_what_was_written(
            scheme in "[a-z]{1,8}",
            params in proptest::collection::vec(("[a-z]{1,6}", "[ -~]{0,20}"), 0..5),
        ) {
            let quote = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"");
            let list: Vec<_> = params.iter().map(|(n, v)| format!("{n}=\"{}\"", quote(v))).collect();
            let found = parse(&format!("{scheme} {}", list.join(", ")));
            prop_assert_eq!(found, [Challenge { scheme, params }]);
        }
    }
}
