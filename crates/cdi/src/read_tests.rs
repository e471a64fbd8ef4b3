use std::fs;
use std::os::unix::fs::symlink;

use cricket_oci::oci_spec::runtime::Spec;

use super::*;
use crate::apply::{Able, Host, LiveNodes};
use crate::error::Error;

struct NoMounts;

impl cricket_oci::MountFacts for NoMounts {
    fn kind(&self, _: &Path) -> cricket_oci::PathKind {
        cricket_oci::PathKind::Missing
    }
    fn propagation(&self, _: &Path) -> cricket_oci::Propagation {
        cricket_oci::Propagation::Private
    }
    fn devices(&self, _: &Path) -> Vec<cricket_oci::HostDevice> {
        Vec::new()
    }
}

struct Node(tempfile::TempDir, Registry);

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(vec![dir.path().join("low"), dir.path().join("high")]);
        Self(dir, registry)
    }

    /// Writes a file with devices, each of which sets FROM to the file's name.
    fn file(&self, name: &str, devices: &[&str]) -> PathBuf {
        let list: Vec<String> = devices
            .iter()
            .map(|device| format!(r#"{{"name":"{device}","containerEdits":{{"env":["FROM={name}"]}}}}"#))
            .collect();
        self.write(name, &format!(r#"{{"cdiVersion":"0.6.0","kind":"v/c","devices":[{}]}}"#, list.join(",")))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn from(&self, name: &str) -> Result<String, Error> {
        let mut spec = Spec::default();
        let host = Host { nodes: &LiveNodes, mounts: &NoMounts, able: Able::default() };
        self.1.read().inject(&mut spec, &[name.to_owned()], &host)?;
        let env = spec.process().as_ref().unwrap().env().clone().unwrap();
        Ok(env.iter().find_map(|v| v.strip_prefix("FROM=")).unwrap().to_owned())
    }

    fn error(&self, name: &str) -> String {
        self.from(name).unwrap_err().to_string()
    }
}

#[test]
fn later_directories_take_precedence() {
    let node = Node::new();
    assert!(node.error("v/c=a").contains("unresolvable CDI devices v/c=a: not in "), "{}", node.error("v/c=a"));
    node.file("low/x.json", &["a", "b"]);
    assert_eq!(node.from("v/c=a").unwrap(), "low/x.json");
    node.file("high/y.yaml", &["a"]);
    assert_eq!((node.from("v/c=a").unwrap(), node.from("v/c=b").unwrap()), ("high/y.yaml".into(), "low/x.json".into()));
    // A conflict of two below does not matter to what is above it.
    let z = node.file("low/z.json", &["a", "b"]);
    assert_eq!(node.from("v/c=a").unwrap(), "high/y.yaml");
    let error = node.error("v/c=b");
    assert!(error.contains("low/x.json and ") && error.contains("low/z.json"), "{error}");
    fs::remove_file(z).unwrap();
    assert_eq!(node.from("v/c=b").unwrap(), "low/x.json");
    fs::remove_dir_all(node.0.path().join("high")).unwrap();
    assert_eq!(node.from("v/c=a").unwrap(), "low/x.json");
}

#[test]
fn only_specifications_are_read() {
    let node = Node::new();
    let target = node.file("elsewhere", &["link"]);
    node.file("low/below/x.json", &["below"]);
    node.file("low/x.yml", &["yml"]);
    node.file("low/x.json.tmp", &["tmp"]);
    fs::create_dir(node.0.path().join("low/dir.json")).unwrap();
    symlink(target, node.0.path().join("low/link.json")).unwrap();
    symlink("/nowhere", node.0.path().join("low/dangling.json")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        node.0.path().join("low/pipe.json"),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for name in ["below", "yml", "tmp"] {
        let error = node.error(&format!("v/c={name}"));
        assert!(error.contains("pipe.json (is no regular file)"), "{error}");
    }
    assert_eq!(node.from("v/c=link").unwrap(), "elsewhere");
    let large = node.write("low/large.json", &" ".repeat(MAX_BYTES as usize + 1));
    assert!(node.error("v/c=x").contains("large.json (is longer than"), "{}", node.error("v/c=x"));
    fs::remove_file(large).unwrap();
}

#[test]
fn an_unusable_file_takes_nothing_of_others_and_is_named() {
    let node = Node::new();
    node.file("low/good.json", &["a"]);
    for n in 0..5 {
        node.write(&format!("high/bad{n}.json"), "{");
    }
    assert_eq!(node.from("v/c=a").unwrap(), "low/good.json");
    let error = node.error("v/c=b");
    assert!(error.contains("high/bad0.json (EOF") && error.contains(" and 2 more"), "{error}");
    assert!(!error.contains("bad3"), "{error}");
}

#[test]
fn a_change_is_seen_and_what_has_not_changed_is_not_read_again() {
    let node = Node::new();
    let path = node.file("low/x.json", &["a"]);
    let content = |node: &Node| node.1.read().directories[0].files[0].1.clone();
    // Just written: read each time, as its times may not tell a second change.
    assert!(!Arc::ptr_eq(&content(&node), &content(&node)));
    let held = |node: &Node| node.1.known.lock().unwrap().len();
    assert_eq!(held(&node), 0);
    // Files that are older are kept; the node's own have such times.
    let settled = Stamp(1, 2, 3, 4, 5).settled(SystemTime::now());
    assert!(settled && !Stamp::of(&fs::metadata(&path).unwrap()).settled(SystemTime::now()));
    let stamp = Stamp::of(&fs::metadata(&path).unwrap());
    let kept = Arc::new(Err("kept".to_owned()));
    *node.1.known.lock().unwrap() = Arc::new(Known::from([(path.clone(), (stamp, kept.clone()))]));
    assert!(Arc::ptr_eq(&content(&node), &kept) && held(&node) == 1);
    node.file("low/x.json", &["b", "more"]);
    assert_eq!(node.from("v/c=more").unwrap(), "low/x.json");
    fs::remove_file(path).unwrap();
    assert!(node.1.read().directories[0].files.is_empty() && held(&node) == 0);
}

#[test]
fn too_many_files_are_an_error_of_the_directory() {
    let node = Node::new();
    for n in 0..=MAX_FILES {
        node.write(&format!("low/{n}.json"), "");
    }
    let error = node.error("v/c=a");
    assert!(error.contains("holds more than 4096 specifications"), "{error}");
}
