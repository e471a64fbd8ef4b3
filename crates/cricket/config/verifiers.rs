//! The table of image verifiers.

use std::time::Duration;

use cricket_image::VerifierConfig;

use super::duration::GoDuration;
use super::error::Result;
use super::reader::Reader;

/// The table.
const TABLE: [&str; 2] = ["plugins", "io.containerd.image-verifier.v1.bindir"];

/// Reads the table. As in containerd, fewer than no verifiers stand for all of them.
pub(super) fn read(r: &mut Reader) -> Result<VerifierConfig> {
    let default = VerifierConfig::default();
    let bin_dir = r.setting(&TABLE, "bin_dir", default.bin_dir)?;
    if !bin_dir.is_absolute() {
        return Err(r.wrong(&TABLE, "bin_dir", "want an absolute path"));
    }
    let most = default.max_verifiers.map_or(-1, |n| i64::try_from(n).unwrap_or(-1));
    let max_verifiers = usize::try_from(r.setting(&TABLE, "max_verifiers", most)?).ok();
    let timeout = r.setting(&TABLE, "per_verifier_timeout", GoDuration(default.timeout))?.0;
    if timeout < Duration::from_millis(1) {
        return Err(r.wrong(&TABLE, "per_verifier_timeout", "want at least 1ms: no verifier could agree"));
    }
    Ok(VerifierConfig { bin_dir, max_verifiers, timeout })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn load(keys: &str) -> crate::config::Result<Config> {
        Config::of_text(&format!("version = 3\n[plugins.\"io.containerd.image-verifier.v1.bindir\"]\n{keys}"))
    }

    #[test]
    fn the_keys_are_containerds() {
        let config = load("").expect("defaults").images.verifiers;
        assert_eq!(config, cricket_image::VerifierConfig::default());
        let config = load("bin_dir = \"/v\"\nmax_verifiers = -1\nper_verifier_timeout = \"1m30s\"").expect("valid");
        assert_eq!(config.unsupported.len(), 0);
        let read = config.images.verifiers;
        assert_eq!((read.bin_dir, read.max_verifiers, read.timeout.as_secs()), ("/v".into(), None, 90));
        assert_eq!(load("max_verifiers = 0").expect("valid").images.verifiers.max_verifiers, Some(0));
    }

    #[test]
    fn what_would_let_nothing_pass_is_refused() {
        for wrong in ["bin_dir = \"\"", "bin_dir = \"v\"", "per_verifier_timeout = \"0\"", "max_verifiers = \"x\""] {
            assert!(load(wrong).is_err(), "{wrong}");
        }
    }
}
