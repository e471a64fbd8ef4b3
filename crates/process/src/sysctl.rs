//! Kernel parameters below `/proc/sys`, in the namespaces of the calling thread.

use std::fs::File;
use std::io::Write;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};

use crate::error::{Doing, Error, Result};

/// The path below `/proc/sys` of a name as sysctl(8) takes it: the first separator that occurs decides, so that
/// `net/ipv4/conf/eth0.100/forwarding` and `net.ipv4.conf.eth0/100.forwarding` name the same parameter.
pub(crate) fn path(name: &str) -> Result<String> {
    let slashes = name.find(['.', '/']).is_some_and(|first| name.as_bytes()[first] == b'/');
    let path: String = match slashes {
        true => name.to_owned(),
        false => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    let valid = |part: &str| {
        let mut bytes = part.bytes();
        !matches!(part, "" | "." | "..") && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-+:@%".contains(&b))
    };
    match path.len() < 512 && path.contains('/') && path.split('/').all(valid) {
        true => Ok(path),
        false => Err(Error::invalid(format!("set the kernel parameter {name:?}"), "not a parameter's name")),
    }
}

/// Sets the parameter `name` (`net.ipv4.ip_forward`); `value` is one line.
pub fn set(name: &str, value: &str) -> Result<()> {
    let path = path(name)?;
    let action = || format!("set the kernel parameter {name}");
    if value.contains(['\n', '\0']) || value.len() > 4096 {
        return Err(Error::invalid(action(), "the value is not one line"));
    }
    let root = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open("/proc/sys", root, Mode::empty()).doing(action)?;
    // Mounts over it are refused as well: a parameter is never in another file system than the root of the tree.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(&root, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve).doing(action)?;
    File::from(file).write_all(value.as_bytes()).doing(action)
}

/// Whether the kernel has this parameter, in the namespaces of the calling thread.
pub fn exists(name: &str) -> Result<bool> {
    let path = format!("/proc/sys/{}", path(name)?);
    match rustix::fs::statat(CWD, &path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error).doing(|| format!("look at {path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        assert_eq!(path("net.ipv4.ip_forward").expect("path"), "net/ipv4/ip_forward");
        assert_eq!(path("net.ipv4.conf.eth0/100.forwarding").expect("path"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(path("net/ipv4/conf/eth0.100/forwarding").expect("path"), "net/ipv4/conf/eth0.100/forwarding");
        for bad in ["", "net", "net..ipv4", "/etc/passwd", "net/../x", "kernel/..", "a.b\n", "a.b c", ".net.x", "a.b\0"]
        {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        // What is no `..` in one notation must not become one in the other.
        assert!(path("net.//.ipv4").is_err());
    }

    #[test]
    fn values_are_one_line() {
        assert!(set("kernel.shm_rmid_forced", "0\n+net").is_err());
        assert!(set("kernel.no_such_parameter", "1").is_err());
        assert!(exists("kernel.ostype").expect("exists"));
        assert!(!exists("kernel.no_such_parameter").expect("exists"));
    }
}
