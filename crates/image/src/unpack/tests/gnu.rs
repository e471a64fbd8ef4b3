//! The same tree as GNU tar makes of a legal archive.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::Case;

/// One thing in a generated tree.
#[derive(Debug, Clone)]
enum Node {
    File { size: usize, mode: u32 },
    Sparse { holes: u64 },
    Dir { mode: u32 },
    Symlink(String),
    HardlinkToFirst,
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        (0usize..3000, 0u32..0o7777).prop_map(|(size, mode)| Node::File { size, mode: mode | 0o400 }),
        (1u64..40).prop_map(|holes| Node::Sparse { holes }),
        (0u32..0o7777).prop_map(|mode| Node::Dir { mode: mode | 0o700 }),
        "[a-z/.]{1,150}".prop_map(Node::Symlink),
        Just(Node::HardlinkToFirst),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{1,2}", "[a-zA-Z0-9 äöü%_-]{1,40}", "[x]{90,130}"]
}

fn build(root: &Path, nodes: &[(Vec<String>, Node)]) {
    std::fs::write(root.join("first"), b"first").unwrap();
    for (parents, node) in nodes {
        let (name, parents) = parents.split_last().unwrap();
        let dir = parents.iter().fold(root.to_owned(), |dir, p| dir.join(format!("d{p}")));
        if std::fs::create_dir_all(&dir).is_err() {
            continue;
        }
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        let chmod = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        match node {
            Node::File { size, mode } => {
                std::fs::write(&path, vec![b'a' + (*size % 26) as u8; *size]).unwrap();
                std::os::unix::fs::lchown(&path, Some(*size as u32), Some(5)).unwrap();
                chmod(*mode);
            }
            Node::Sparse { holes } => {
                let file = std::fs::File::create(&path).unwrap();
                for i in 0..*holes {
                    file.write_all_at(b"data", i * 100_000 + 17).unwrap();
                }
                file.set_len(holes * 100_000).unwrap();
            }
            Node::Dir { mode } => {
                std::fs::create_dir(&path).unwrap();
                chmod(*mode);
            }
            Node::Symlink(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            Node::HardlinkToFirst => std::fs::hard_link(root.join("first"), &path).unwrap(),
        }
    }
}

/// Everything that can be told of a tree, by path.
fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_symlink() {
                std::fs::read_link(&path).unwrap().display().to_string()
            } else if meta.is_file() {
                blake3::hash(&std::fs::read(&path).unwrap()).to_hex().to_string()
            } else {
                pending.push(path.clone());
                String::new()
            };
            let size = if meta.is_file() { meta.len() } else { 0 };
            let facts = (meta.mode(), meta.uid(), meta.gid(), size, meta.mtime(), meta.is_file().then(|| meta.nlink()));
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), format!("{facts:?} {content}"));
        }
    }
    found
}

fn tar(args: &[&str]) {
    let done = Command::new("tar").args(args).output().unwrap();
    assert!(done.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn same_tree_as_gnu_tar(
        nodes in prop::collection::vec((prop::collection::vec(name(), 1..4), node()), 0..25),
        format in prop::sample::select(vec![
            vec!["--format=gnu"], vec!["--format=gnu", "-S"], vec!["--format=posix"],
            vec!["--format=posix", "-S"], vec!["--format=posix", "-S", "--sparse-version=0.1"],
            vec!["--format=posix", "-S", "--sparse-version=0.0"],
        ]),
    ) {
        let work = tempfile::tempdir().unwrap();
        let (tree, theirs) = (work.path().join("tree"), work.path().join("theirs"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::create_dir(&theirs).unwrap();
        build(&tree, &nodes);
        let archive = work.path().join("a.tar").display().to_string();
        let mut args = vec!["--numeric-owner", "-C", tree.to_str().unwrap(), "-cf", &archive];
        args.extend(&format);
        args.push(".");
        tar(&args);
        tar(&["--numeric-owner", "-p", "-C", theirs.to_str().unwrap(), "-xf", &archive]);
        let case = Case::new();
        case.unpack(&std::fs::read(&archive).unwrap()).unwrap();
        prop_assert_eq!(describe(&case.at("")), describe(&theirs));
    }
}
