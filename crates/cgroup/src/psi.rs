//! Pressure stall information (kernel's accounting/psi.rst).

use serde::{Deserialize, Serialize};

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PsiData {
    /// Nanoseconds of waiting since the cgroup was made.
    pub total: u64,
    /// Share of time waited over 10 s, in per cent.
    pub avg10: f64,
    /// Over 60 s.
    pub avg60: f64,
    /// Over 300 s.
    pub avg300: f64,
}

/// A pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PsiStats {
    /// Every task waited.
    pub full: PsiData,
    /// Some task waited.
    pub some: PsiData,
}

impl PsiStats {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let line = |kind: &str| text.lines().find_map(|l| parse_line(l.strip_prefix(kind)?.strip_prefix(' ')?));
        let some = line("some")?;
        Some(Self { some, full: line("full").unwrap_or_default() })
    }
}

fn parse_line(line: &str) -> Option<PsiData> {
    let field = |key: &str| line.split(' ').find_map(|f| f.strip_prefix(key)?.strip_prefix('='));
    Some(PsiData {
        total: field("total")?.trim().parse::<u64>().ok()?.saturating_mul(1000),
        avg10: field("avg10")?.parse().ok()?,
        avg60: field("avg60")?.parse().ok()?,
        avg300: field("avg300")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let text =
            "some avg10=1.50 avg60=0.37 avg300=17.47 total=329306371\nfull avg10=0.00 avg60=0.00 avg300=0.25 total=7\n";
        let psi = PsiStats::parse(text).expect("valid");
        assert_eq!(psi.some, PsiData { total: 329_306_371_000, avg10: 1.5, avg60: 0.37, avg300: 17.47 });
        assert_eq!((psi.full.total, psi.full.avg300), (7000, 0.25));
        assert_eq!(PsiStats::parse(""), None);
        assert_eq!(PsiStats::parse("some avg10=x"), None);
    }
}
