//! The command line: how `command` and `args` of the request combine with `Entrypoint` and `Cmd` of the image, and how
//! large an argument list may be.

use cricket_cri_api::v1;

use crate::error::{Error, Result};
use crate::input::ImageDefaults;

/// execve(2): one string is at most 32 pages.
pub(crate) const MAX_STRING: usize = 128 * 1024;
/// execve(2): arguments and environment together are at most three quarters of the 8 MiB default stack.
pub(crate) const MAX_BYTES: usize = 6 * 1024 * 1024;
/// More strings than any legitimate command or environment has.
pub(crate) const MAX_STRINGS: usize = 64 * 1024;

/// The argument list, by the rules of Kubernetes ("Define a command and arguments for a container"): a command
/// replaces the entrypoint and drops the image's `Cmd`; arguments alone replace `Cmd`.
pub(crate) fn command_line(config: &v1::ContainerConfig, image: &ImageDefaults) -> Result<Vec<String>> {
    let (program, args) = if config.command.is_empty() {
        let args = if config.args.is_empty() { &image.cmd } else { &config.args };
        (&image.entrypoint, args)
    } else {
        (&config.command, &config.args)
    };
    let line: Vec<String> = program.iter().chain(args).cloned().collect();
    if line.is_empty() {
        return Err(Error::image("neither the container nor the image says what to run"));
    }
    check_strings("command", &line)?;
    Ok(line)
}

/// Refuses what no execve(2) accepts: NUL bytes, too many or too large strings.
pub(crate) fn check_strings<S: AsRef<str>>(field: &str, strings: &[S]) -> Result<()> {
    if strings.len() > MAX_STRINGS {
        return Err(Error::TooLarge { field: field.to_owned(), actual: strings.len(), limit: MAX_STRINGS });
    }
    let mut total = 0;
    for string in strings.iter().map(AsRef::as_ref) {
        if string.contains('\0') {
            return Err(Error::invalid(field, "contains a NUL byte"));
        }
        if string.len() >= MAX_STRING {
            return Err(Error::TooLarge { field: field.to_owned(), actual: string.len(), limit: MAX_STRING - 1 });
        }
        total += string.len() + 1;
    }
    if total > MAX_BYTES {
        return Err(Error::TooLarge { field: field.to_owned(), actual: total, limit: MAX_BYTES });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: &[&str], args: &[&str], entrypoint: &[&str], cmd: &[&str]) -> Option<Vec<String>> {
        let own = |s: &[&str]| s.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let config = v1::ContainerConfig { command: own(command), args: own(args), ..Default::default() };
        let image = ImageDefaults { entrypoint: own(entrypoint), cmd: own(cmd), ..Default::default() };
        command_line(&config, &image).ok()
    }

    #[test]
    fn combines_as_kubernetes_documents() {
        let want = |s: &str| Some(s.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(line(&[], &[], &["ep"], &["cmd"]), want("ep cmd"));
        assert_eq!(line(&["c"], &[], &["ep"], &["cmd"]), want("c"));
        assert_eq!(line(&[], &["a"], &["ep"], &["cmd"]), want("ep a"));
        assert_eq!(line(&["c"], &["a", "b"], &["ep"], &["cmd"]), want("c a b"));
        assert_eq!(line(&[], &["a"], &[], &["cmd"]), want("a"));
        assert_eq!(line(&[], &[], &[], &[]), None);
    }

    #[test]
    fn refuses_what_execve_refuses() {
        assert!(line(&["a\0b"], &[], &[], &[]).is_none());
        assert!(line(&[&"x".repeat(MAX_STRING)], &[], &[], &[]).is_none());
        assert!(line(&vec!["x"; MAX_STRINGS + 1], &[], &[], &[]).is_none());
        assert!(line(&vec![&*"x".repeat(100 * 1024); 70], &[], &[], &[]).is_none());
    }
}
