//! The little YAML that an annotation may hold: a list of plain or quoted strings, `[a, "b"]` or lines of `- a`.

/// Parses it; `None` for anything else.
pub(crate) fn strings(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    if text.is_empty() || text == "[]" || text == "null" || text == "~" {
        return Some(Vec::new());
    }
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?.trim().trim_end_matches(',');
        return inner.split(',').map(|item| scalar(item.trim())).collect();
    }
    let lines = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
    lines.map(|line| scalar(line.trim_start().strip_prefix('-')?.strip_prefix(' ')?.trim())).collect()
}

/// Names of plugins need no escapes and hold nothing that YAML means something by.
fn scalar(text: &str) -> Option<String> {
    let quoted = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let inner = quoted('"').or_else(|| quoted('\'')).unwrap_or(text);
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    (!inner.is_empty() && inner.chars().all(name)).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::strings;

    #[test]
    fn lists_of_names() {
        let all = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(strings("[ a, \"10-b\", 'c.d' ]"), all(&["a", "10-b", "c.d"]));
        assert_eq!(strings("- a\n- \"b\"\n\n# no\n  - c\n"), all(&["a", "b", "c"]));
        assert_eq!(strings(" "), all(&[]));
        assert_eq!(strings("[]"), all(&[]));
        for wrong in ["a", "a: b", "[a", "- a: b", "[a b]", "[\"a]", "[,]", "-a", "{}"] {
            assert_eq!(strings(wrong), None, "{wrong}");
        }
    }
}
