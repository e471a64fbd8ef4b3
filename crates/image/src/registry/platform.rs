//! Which of an index's images a host can run, and which of those is best.

use super::resolved::Platform;

/// Added for images of the narrower architecture that most CPUs run too: only if there is nothing else.
const COMPATIBLE: u32 = 100;

impl Platform {
    /// This machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        let variant = match architecture {
            "amd64" => amd64_level(),
            "arm64" => "v8",
            "arm" => "v7",
            _ => "",
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// How well an image suits, the lower the better; none if it does not run.
    pub(crate) fn rank(&self, image: &Platform) -> Option<u32> {
        if !self.os.eq_ignore_ascii_case(&image.os) {
            return None;
        }
        let (host, host_level) = self.normal();
        let (other, other_level) = image.normal();
        match (host, other) {
            ("amd64" | "arm64" | "arm", same) if same == host => host_level.checked_sub(other_level),
            ("amd64", "386") => Some(COMPATIBLE),
            ("arm64", "arm") => 80u32.checked_sub(other_level).map(|r| COMPATIBLE + r),
            (host, other) => {
                let same = host == other && (image.variant == self.variant || image.variant.is_empty());
                same.then_some(0)
            }
        }
    }

    /// The architecture's usual name and its level in tenths: `v8.2` is 82. A variant that cannot be read is beyond
    /// every host.
    fn normal(&self) -> (&str, u32) {
        let (architecture, implied) = match self.architecture.as_str() {
            "x86_64" | "x86-64" | "amd64" => ("amd64", "v1"),
            "aarch64" | "arm64" => ("arm64", "v8"),
            "armhf" | "arm" => ("arm", "v7"),
            "armel" => ("arm", "v6"),
            "i386" | "386" => ("386", ""),
            other => (other, ""),
        };
        let variant = if self.variant.is_empty() { implied } else { &self.variant };
        let digits = variant.strip_prefix('v').unwrap_or(variant);
        let (major, minor) = digits.split_once('.').unwrap_or((digits, "0"));
        let level = match (major.parse::<u32>(), minor.parse::<u32>()) {
            (Ok(major @ 0..100), Ok(minor @ 0..10)) => major * 10 + minor,
            _ => u32::MAX,
        };
        (architecture, level)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// The x86-64 psABI's level of this CPU.
fn amd64_level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! all {
            ($($feature:tt)*) => { true $(&& is_x86_feature_detected!($feature))* };
        }
        let v2 = all!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "cmpxchg16b");
        let v3 = v2 && all!("avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe");
        let v4 = v3 && all!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl");
        match (v4, v3, v2) {
            (true, ..) => "v4",
            (_, true, _) => "v3",
            (.., true) => "v2",
            _ => "v1",
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    "v1"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    /// The best of a list, as its position.
    fn best(host: &str, list: &[&str]) -> Option<usize> {
        let ranks = list.iter().enumerate().filter_map(|(i, p)| Some((platform(host).rank(&platform(p))?, i)));
        ranks.min().map(|(_, i)| i)
    }

    #[test]
    fn the_closest_variant_that_runs_is_taken() {
        for (host, list, want) in [
            ("linux/amd64/v3", vec!["linux/amd64", "linux/amd64/v3", "linux/amd64/v4"], Some(1)),
            ("linux/amd64/v2", vec!["linux/amd64/v3", "linux/amd64/v1"], Some(1)),
            ("linux/amd64", vec!["linux/amd64/v2"], None),
            ("linux/amd64/v3", vec!["linux/386", "linux/amd64"], Some(1)),
            ("linux/amd64/v3", vec!["linux/386", "windows/amd64"], Some(0)),
            ("linux/amd64/v3", vec!["linux/x86_64"], Some(0)),
            ("linux/amd64/v3", vec!["linux/arm64", "unknown/unknown", "linux/amd64/odd"], None),
            ("linux/arm64/v8", vec!["linux/arm/v7", "linux/arm64"], Some(1)),
            ("linux/arm64/v8", vec!["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/arm64/v8", vec!["linux/arm64/v9"], None),
            ("linux/arm64", vec!["linux/aarch64/v8"], Some(0)),
            ("linux/arm/v7", vec!["linux/arm/v5", "linux/arm/v6", "linux/arm64"], Some(1)),
            ("linux/arm/v6", vec!["linux/arm/v7", "linux/arm"], None),
            ("linux/riscv64", vec!["linux/riscv64"], Some(0)),
            ("linux/s390x", vec!["linux/ppc64le"], None),
        ] {
            assert_eq!(best(host, &list), want, "{host} {list:?}");
        }
    }

    #[test]
    fn the_host_runs_its_own_images() {
        let host = Platform::host();
        assert_eq!(host.rank(&host), Some(0));
        assert!(host.rank(&Platform { variant: String::new(), ..host.clone() }).is_some());
    }
}
