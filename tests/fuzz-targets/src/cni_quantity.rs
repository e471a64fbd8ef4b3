//! Kubernetes quantities and the bandwidth annotations.

use std::collections::BTreeMap;

use cricket_cni::Bandwidth;
use cricket_cni::fuzzing::quantity;

const LIMIT: i128 = 10i128.pow(27);

/// Values are bounded, plain numbers are themselves, a sign mirrors but for the rounding, and limits are reasonable.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let value = quantity(text);
    assert!(value.is_none_or(|v| v.abs() <= LIMIT));
    if let Ok(number) = text.parse::<u32>() {
        assert!(value == Some(i128::from(number)) || text.len() > 18, "{text}");
    }
    if let Some(value) = value
        && text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && text.len() < 64
    {
        // Rounding goes up, so the negative one is the same or its successor.
        let negative = quantity(&format!("-{text}"));
        assert!(negative.is_some_and(|n| n == -value || n == 1 - value), "{text}: {value} and {negative:?}");
        assert_eq!(quantity(&format!("+{text}")), Some(value));
    }
    let annotation = BTreeMap::from([("kubernetes.io/ingress-bandwidth".to_owned(), text.to_owned())]);
    match Bandwidth::from_annotations(&annotation) {
        Ok(limits) => {
            let limits = limits.expect("one was given");
            assert_eq!(limits.ingress.map(i128::from), value);
            assert!(limits.ingress.is_some_and(|bits| (1000..=1_000_000_000_000_000).contains(&bits)));
        }
        Err(error) => assert!(error.to_string().len() < 1024, "an error repeats everything"),
    }
}
