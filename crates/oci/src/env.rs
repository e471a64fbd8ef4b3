//! The environment: defaults, then the image's, then the pod's; a later value replaces an earlier one in place.

use std::collections::HashMap;

use cricket_cri_api::v1;

use crate::args::{MAX_STRINGS, check_strings};
use crate::error::{Error, Result, shown};
use crate::input::ImageDefaults;

/// PATH of containers whose image and pod give none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the defaults depend on.
pub(crate) struct Defaults<'a> {
    /// HOSTNAME.
    pub hostname: &'a str,
    /// HOME.
    pub home: &'a str,
    /// With a terminal there is a TERM.
    pub tty: bool,
}

/// An ordered set of variables.
#[derive(Default)]
struct Variables {
    order: Vec<String>,
    index: HashMap<String, usize>,
}

impl Variables {
    fn set(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        if let Some(&at) = self.index.get(name) {
            self.order[at] = entry;
        } else {
            self.index.insert(name.to_owned(), self.order.len());
            self.order.push(entry);
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let at = *self.index.get(name)?;
        self.order[at].get(name.len() + 1..)
    }
}

/// `NAME=VALUE` strings for a container. `base` comes from the handler's base specification.
pub(crate) fn environment(
    config: &v1::ContainerConfig,
    image: &ImageDefaults,
    base: &[String],
    defaults: &Defaults<'_>,
) -> Result<Vec<String>> {
    if config.envs.len() > MAX_STRINGS {
        return Err(Error::TooLarge { field: "envs".into(), actual: config.envs.len(), limit: MAX_STRINGS });
    }
    let mut vars = Variables::default();
    vars.set("PATH", DEFAULT_PATH);
    if defaults.tty {
        vars.set("TERM", "xterm");
    }
    if !defaults.hostname.is_empty() {
        vars.set("HOSTNAME", defaults.hostname);
    }
    vars.set("HOME", defaults.home);
    // An entry without `=` is no variable; images in the wild have some.
    for (name, value) in base.iter().chain(&image.env).filter_map(|entry| entry.split_once('=')) {
        if !name.is_empty() {
            vars.set(name, value);
        }
    }
    if vars.get("HOME").is_some_and(|home| home.contains('\n')) {
        return Err(Error::image("HOME contains a newline"));
    }
    for pair in &config.envs {
        let field = || format!("envs[{}]", shown(&pair.key));
        if pair.key.is_empty() || pair.key.contains(['=', '\0']) {
            return Err(Error::invalid(field(), "is not a variable's name"));
        }
        let value = std::str::from_utf8(&pair.value)
            .map_err(|_| Error::invalid(field(), "is not UTF-8, which a runtime specification has to be"))?;
        vars.set(&pair.key, value);
    }
    if vars.get("HOME").is_some_and(|home| home.contains('\n')) {
        return Err(Error::invalid("envs[\"HOME\"]", "contains a newline"));
    }
    check_strings("envs", &vars.order)?;
    Ok(vars.order)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults<'_> = Defaults { hostname: "pod", home: "/root", tty: false };

    fn pair(key: &str, value: &[u8]) -> v1::KeyValue {
        v1::KeyValue { key: key.into(), value: value.into() }
    }

    fn env(envs: Vec<v1::KeyValue>, image: &[&str], tty: bool) -> Result<Vec<String>> {
        let config = v1::ContainerConfig { envs, ..Default::default() };
        let image = ImageDefaults { env: image.iter().map(|s| (*s).to_owned()).collect(), ..Default::default() };
        environment(&config, &image, &[], &Defaults { tty, ..DEFAULTS })
    }

    #[test]
    fn pod_over_image_over_defaults() {
        let got = env(vec![pair("A", b"pod"), pair("B", b"1=2")], &["A=image", "C=", "bare", "=x"], false).unwrap();
        assert_eq!(
            got,
            [&format!("PATH={DEFAULT_PATH}") as &str, "HOSTNAME=pod", "HOME=/root", "A=pod", "C=", "B=1=2"]
        );
    }

    #[test]
    fn term_only_with_a_terminal_and_overridable() {
        assert!(!env(vec![], &[], false).unwrap().iter().any(|e| e.starts_with("TERM=")));
        assert!(env(vec![], &[], true).unwrap().contains(&"TERM=xterm".to_owned()));
        assert!(env(vec![], &["TERM=dumb"], true).unwrap().contains(&"TERM=dumb".to_owned()));
    }

    #[test]
    fn refuses_malformed_variables() {
        for (key, value) in
            [("", &b"x"[..]), ("A=B", b"x"), ("A\0", b"x"), ("A", b"\0"), ("A", b"\xff"), ("HOME", b"/\nx")]
        {
            assert!(env(vec![pair(key, value)], &[], false).is_err(), "{key:?} {value:?}");
        }
        assert!(env(vec![], &["HOME=/root\nroot::0:0::/:/bin/sh"], false).is_err());
        let many = (0..1_000_000).map(|i| pair(&i.to_string(), b"")).collect();
        assert!(matches!(env(many, &[], false), Err(Error::TooLarge { .. })));
    }
}
