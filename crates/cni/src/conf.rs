//! Reads the configuration directory. One bad file never hides the others.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::list::NetworkList;

/// Largest configuration file that is read.
const MAX_FILE: u64 = 1 << 20;
/// Most files looked at in one directory.
const MAX_FILES: usize = 1024;

/// A network of the directory with the interface it gets in pods.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    pub(crate) ifname: String,
    pub(crate) list: NetworkList,
    /// The file's text, for the verbose status.
    pub(crate) source: String,
}

/// What a directory held when it was read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) networks: Vec<Network>,
    /// Files that were skipped, each with its reason.
    pub(crate) skipped: Vec<String>,
}

/// Loads the first `max` valid configurations by file name (0: all). A missing directory is an empty one.
pub(crate) fn load(dir: &Path, max: usize) -> Loaded {
    let mut loaded = Loaded::default();
    let paths = match files(dir) {
        Ok(paths) => paths,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return loaded,
        Err(e) => {
            loaded.skipped.push(format!("{}: {e}", dir.display()));
            return loaded;
        }
    };
    for path in paths {
        if max > 0 && loaded.networks.len() == max {
            break;
        }
        match read(&path).and_then(|source| Ok((NetworkList::parse(source.as_bytes())?, source))) {
            Ok((list, _)) if loaded.networks.iter().any(|n| n.list.name == list.name) => {
                loaded.skipped.push(format!("{}: network {:?} is defined twice", path.display(), list.name));
            }
            Ok((list, source)) => {
                let ifname = format!("eth{}", loaded.networks.len());
                loaded.networks.push(Network { ifname, list, source });
            }
            Err(reason) => loaded.skipped.push(format!("{}: {reason}", path.display())),
        }
    }
    loaded
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let known =
            path.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "conflist" | "conf" | "json"));
        if known && paths.len() < MAX_FILES {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |e: io::Error| e.to_string();
    // Non-blocking: a FIFO must not stop the loader.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err("not a regular file".into());
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes"));
    }
    String::from_utf8(text).map_err(|_| "not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(name: &str) -> String {
        format!(r#"{{"name":"{name}","cniVersion":"1.0.0","plugins":[{{"type":"x"}}]}}"#)
    }

    #[test]
    fn bad_files_are_skipped_by_name_and_the_rest_is_ordered() {
        let dir = tempfile::tempdir().expect("tempdir");
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("write");
        put("00-empty.conflist", "");
        put("10-b.conflist", &conf("b"));
        put("05-bad.conf", r#"{"name":"x","type":"../x"}"#);
        put("20-a.json", &conf("a"));
        put("25-again.json", &conf("a"));
        put("30-c.conf", &conf("c"));
        put("01-ignored.txt", &conf("t"));
        put("40-big.conf", &format!("{}{}", conf("d"), " ".repeat(1 << 20)));
        fs::create_dir(dir.path().join("50-dir.conf")).expect("mkdir");

        let all = load(dir.path(), 0);
        let names: Vec<_> = all.networks.iter().map(|n| (n.ifname.as_str(), n.list.name.as_str())).collect();
        assert_eq!(names, [("eth0", "b"), ("eth1", "a"), ("eth2", "c")]);
        let skipped = all.skipped.join("\n");
        for name in ["00-empty", "05-bad", "25-again", "40-big", "50-dir"] {
            assert!(skipped.contains(name), "{name} in {skipped}");
        }
        assert_eq!(load(dir.path(), 1).networks.len(), 1);
        assert_eq!(load(&dir.path().join("gone"), 0), Loaded::default());
    }
}
