//! Signals by name and number (signal(7)), and the CRI definition's own enumeration of them.

use cricket_cri_api::v1;

use crate::error::{Error, Result};
use crate::input::ImageDefaults;

/// SIGTERM.
pub(crate) const SIGTERM: i32 = 15;
/// The first real-time signal that the C libraries leave to programs.
const SIGRTMIN: i32 = 34;
/// The last real-time signal.
const SIGRTMAX: i32 = 64;

/// The names without `SIG`, by number from 1, as on every architecture but alpha, mips, parisc and sparc.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// Other names of the same signals.
const ALIASES: [(&str, i32); 5] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("INFO", 30), ("UNUSED", 31)];

/// The number of a signal: `TERM`, `SIGTERM`, `15`, `SIGRTMIN+3`, `SIGRTMAX-1`, in any case.
pub fn parse_signal(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    if !upper.is_empty() && upper.len() <= 2 && upper.bytes().all(|b| b.is_ascii_digit()) {
        return upper.parse().ok().filter(|number| (1..=SIGRTMAX).contains(number));
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(rest, '+', "PLUS").map(|n| SIGRTMIN + n).filter(|n| *n <= SIGRTMAX);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(rest, '-', "MINUS").map(|n| SIGRTMAX - n).filter(|n| *n >= SIGRTMIN);
    }
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, number)| *number)
}

/// The offset in `+3` or `PLUS3`; nothing is 0.
fn real_time(rest: &str, sign: char, word: &str) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign).or_else(|| rest.strip_prefix(word))?;
    let plain = !digits.is_empty() && digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// The number of the signal that asks a container to stop: the request's, else the image's, else SIGTERM. An image
/// with a signal that does not exist gets SIGTERM, too: its author's typo is no reason not to run it.
///
/// # Errors
/// When the request's is no signal of this CRI version.
pub fn stop_signal(config: &v1::ContainerConfig, image: &ImageDefaults) -> Result<i32> {
    let asked = v1::Signal::try_from(config.stop_signal)
        .map_err(|_| Error::invalid("stop_signal", format!("{} is not a signal", config.stop_signal)))?;
    if asked == v1::Signal::RuntimeDefault {
        return Ok(parse_signal(&image.stop_signal).unwrap_or(SIGTERM));
    }
    number(asked).ok_or_else(|| Error::invalid("stop_signal", "is not a signal of this host"))
}

fn number(signal: v1::Signal) -> Option<i32> {
    parse_signal(signal.as_str_name().strip_prefix("SIGNAL_")?)
}

/// A signal's number as ContainerStatus spells it; `RuntimeDefault` for a number that CRI has no name for.
pub fn cri_signal(number: i32) -> v1::Signal {
    // Two CRI values may have one number (SIGABRT, SIGIOT): the name in NAMES is the one to report.
    let canonical = usize::try_from(number - 1).ok().and_then(|index| NAMES.get(index));
    if let Some(signal) = canonical.and_then(|name| v1::Signal::from_str_name(&format!("SIGNAL_SIG{name}"))) {
        return signal;
    }
    (1..)
        .map_while(|value| v1::Signal::try_from(value).ok())
        .find(|signal| self::number(*signal) == Some(number))
        .unwrap_or(v1::Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_dockerfiles_contain() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigquit", 3),
            ("15", 15),
            ("64", 64),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("SIGRTMAX-1", 63),
            ("SIGCLD", 17),
            ("SIGRTMINPLUS15", 49),
            ("SIGRTMAXMINUS14", 50),
        ] {
            assert_eq!(parse_signal(text), Some(number), "{text}");
        }
        for bad in
            ["", "0", "65", "-1", "+9", "SIG", "SIGSIGTERM", "SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMAX+1", "RTMIN+", "٣"]
        {
            assert_eq!(parse_signal(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_cri_signal_has_a_number_and_comes_back() {
        for value in 1..=65 {
            let signal = v1::Signal::try_from(value).unwrap();
            let value = number(signal).unwrap_or_else(|| panic!("{}", signal.as_str_name()));
            assert_eq!(number(cri_signal(value)), Some(value));
        }
        assert_eq!(cri_signal(15), v1::Signal::Sigterm);
        assert_eq!(cri_signal(99), v1::Signal::RuntimeDefault);
    }

    #[test]
    fn request_over_image_over_term() {
        let image = |s: &str| ImageDefaults { stop_signal: s.into(), ..Default::default() };
        let asks = v1::ContainerConfig { stop_signal: v1::Signal::Sigusr1 as i32, ..Default::default() };
        assert_eq!(stop_signal(&asks, &image("SIGQUIT")).unwrap(), 10);
        assert_eq!(stop_signal(&Default::default(), &image("SIGQUIT")).unwrap(), 3);
        assert_eq!(stop_signal(&Default::default(), &image("SIGNOPE")).unwrap(), 15);
        assert!(stop_signal(&v1::ContainerConfig { stop_signal: 99, ..Default::default() }, &image("")).is_err());
    }
}
