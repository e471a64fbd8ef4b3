//! Durations as Go's `time.ParseDuration` reads them, which containerd's configuration uses: `1h30m`, `500ms`, `0`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration in a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoDuration(pub(crate) Duration);

impl GoDuration {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration such as \"90s\" or \"1m30s\"");
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut total = 0f64;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let seconds = match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
            total += number.parse::<f64>().map_err(|_| wrong())? * seconds;
            rest = tail;
        }
        if text.is_empty() {
            return Err(wrong());
        }
        Duration::try_from_secs_f64(total).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match (h, m, s, nanos) {
            (0, 0, 0, 0) => f.write_str("0s"),
            (0, 0, 0, n) if n % 1_000_000 == 0 => write!(f, "{}ms", n / 1_000_000),
            (0, 0, 0, n) => write!(f, "{n}ns"),
            _ => {
                if h > 0 {
                    write!(f, "{h}h")?;
                }
                if m > 0 {
                    write!(f, "{m}m")?;
                }
                match (s, nanos) {
                    (0, 0) => Ok(()),
                    (s, 0) => write!(f, "{s}s"),
                    (s, n) => write!(f, "{}s", s as f64 + f64::from(n) / 1e9),
                }
            }
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, ms, shown) in [
            ("0", 0, "0s"),
            ("60s", 60_000, "1m"),
            ("5m0s", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1.5s", 1500, "1.5s"),
            ("250ms", 250, "250ms"),
        ] {
            let read = GoDuration::parse(text).expect(text);
            assert_eq!(read.0, Duration::from_millis(ms), "{text}");
            assert_eq!(read.to_string(), shown);
            assert_eq!(GoDuration::parse(shown), Ok(read));
        }
        for wrong in ["", "1", "s", "1x", "-1s", "1s2", "1e400h"] {
            assert!(GoDuration::parse(wrong).is_err(), "{wrong}");
        }
    }
}
