//! Kubernetes quantities (`10M`, `1.5Gi`, `2e6`), as far as whole numbers are wanted.

/// The value rounded up to a whole number; `None` when `text` is no quantity or is beyond 10²⁷.
pub(crate) fn parse(text: &str) -> Option<i128> {
    if text.len() > 64 {
        return None;
    }
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 18 || fraction.len() > 9 {
        return None;
    }
    let (multiplier, divisor) = scale(suffix)?;
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let top = digits.checked_mul(multiplier)?;
    let bottom = divisor.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let (top, up) = if negative { (-top, 0) } else { (top, bottom - 1) };
    Some((top + up) / bottom).filter(|v| v.abs() <= 10i128.pow(27))
}

/// A suffix as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let binary = |n: u32| Some((1i128 << (10 * n), 1));
    let decimal = |n: u32| Some((1000i128.pow(n), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs()).filter(|p| *p <= 10i128.pow(18))?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_suffix() {
        for (text, value) in [
            ("10M", 10_000_000),
            ("1Ki", 1024),
            ("1.5Gi", 1_610_612_736),
            ("2e3", 2000),
            ("2E3", 2000),
            ("1500m", 2),
            ("0.1", 1),
            (".5k", 500),
            ("-1", -1),
            ("+7", 7),
            ("1P", 1_000_000_000_000_000),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in ["", "M", "1.2.3", "1 M", "1MB", "--1", "1e", "1e99", "ten", "-", "."] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,70}", number in "[+-]?[0-9.]{0,30}(e-?[0-9]{0,3}|[kMGTPEi]{0,2})") {
            let _ = (parse(&text), parse(&number));
        }

        #[test]
        fn whole_numbers_are_themselves(n in 0u32..) {
            prop_assert_eq!(parse(&n.to_string()), Some(i128::from(n)));
        }
    }
}
