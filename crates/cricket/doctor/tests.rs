use std::fs;
use std::path::{Path, PathBuf};

use super::cgroups::Group;
use super::leftovers::{Suspect, What};
use super::*;
use crate::config::Flags;
use crate::layout;

const POD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const GONE: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A state and root directory with one recorded pod.
struct Node {
    dir: tempfile::TempDir,
    config: Config,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let (root, state) = (dir.path().join("root"), dir.path().join("state"));
        let file = dir.path().join("config.toml");
        fs::create_dir_all(&root).expect("root");
        let netns = "[plugins.'io.containerd.cri.v1.runtime']\nnetns_mounts_under_state_dir = true\n";
        fs::write(&file, netns).expect("config");
        let flags = Flags { root: Some(root), state: Some(state), ..Flags::default() };
        let config = Config::load(Some(&file), &flags).expect("valid");
        let node = Self { dir, config };
        node.journal(POD, &record(&node.config.netns_dir().join("cni-known")));
        node
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn journal(&self, id: &str, text: &str) {
        let pod = layout::pods(&self.state()).join(id);
        fs::create_dir_all(&pod).expect("pod");
        fs::write(pod.join("journal"), text).expect("journal");
    }

    fn file(&self, path: PathBuf) {
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        fs::write(path, "").expect("write");
    }

    /// What is wrong with this node. Control groups are the machine's, where other tests' may be.
    fn wrong(&self) -> Vec<String> {
        let all = leftovers(&self.config).expect("readable").into_iter();
        let wrong = all.filter_map(|f| if let Finding::Wrong(text) = f { Some(text) } else { None });
        wrong.filter(|text| !text.starts_with("control group ")).collect()
    }
}

/// A journal: an older line, the newest, and one that is being written.
fn record(netns: &Path) -> String {
    let line = format!(
        r#"{{"sandbox":{{"id":"{POD}","config":"","handler":"","created_at":1,"boot_id":"b","netns":"{}","network":null,"init":null,"state":"Ready"}},"containers":[]}}"#,
        netns.display()
    );
    format!("{}\n{line}\n{}", line.replace("Ready", "Creating"), &line[..40])
}

#[test]
fn a_clean_node_has_nothing_left() {
    let node = Node::new();
    node.file(node.config.netns_dir().join("cni-known"));
    node.file(layout::networks(&node.config.own.root).join(format!("{POD}.json")));
    assert_eq!(node.wrong(), Vec::<String>::new());
}

#[test]
fn what_belongs_to_nobody_is_found() {
    let node = Node::new();
    node.file(node.config.netns_dir().join("cni-lost"));
    node.file(layout::networks(&node.config.own.root).join(format!("{GONE}.json")));
    fs::create_dir_all(layout::pods(&node.state()).join(GONE)).expect("folder");
    let wrong = node.wrong();
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    for text in ["cni-lost", "network attachment", "folder"] {
        assert!(wrong.iter().any(|w| w.contains(text)), "{text}: {wrong:?}");
    }
}

#[test]
fn a_journal_that_cannot_be_read_is_told_and_blames_nobody() {
    let node = Node::new();
    node.journal(GONE, "{}\n");
    let wrong = node.wrong();
    assert!(wrong.len() == 1 && wrong[0].contains(&format!("pod {GONE}")), "{wrong:?}");
}

#[test]
fn mounts_of_pods_are_told_apart() {
    let table = format!(
        "1 2 0:3 / /s rw - tmpfs t rw\n\
         1 2 0:3 / /s/pods/{POD}/shm rw - tmpfs t rw\n\
         1 2 0:3 / /s/pods/{GONE}/shm rw - tmpfs t rw\n\
         1 2 0:3 / /s/pods/{POD}/c/{GONE}/a\\040b rw - overlay o rw\n\
         1 2 0:3 / /s/netns/cni-x rw - nsfs n rw\n\
         1 2 0:3 / /other/pods/{GONE} rw - tmpfs t rw\n"
    );
    let found = leftovers::mounts_in(table.as_bytes(), Path::new("/s"));
    let known = {
        let node = Node::new();
        Known::read(&node.config, None).expect("readable")
    };
    let left: Vec<_> = found.iter().filter(|s| !s.belongs(&known)).map(|s| s.path.display().to_string()).collect();
    let want = [format!("/s/pods/{GONE}/shm"), format!("/s/pods/{POD}/c/{GONE}/a b"), "/s/netns/cni-x".to_owned()];
    assert_eq!(left, want);
}

#[test]
fn control_groups_are_crickets_by_their_mark_or_their_neighbours() {
    let node = Node::new();
    let known = Known::read(&node.config, None).expect("readable");
    let group = |path: &str, marked| Group { dir: Path::new("/sys").join(&path[1..]), path: path.into(), marked };
    let groups = vec![
        group("/cricket", true),
        group(&format!("/cricket/{POD}"), false),
        group(&format!("/cricket/{GONE}"), false),
        group("/lost", true),
        group(&format!("/lost/{GONE}"), false),
        group("/others", false),
        group(&format!("/others/{GONE}"), false),
    ];
    let left: Vec<_> = cgroups::suspects(groups, &known).into_iter().map(|s| s.owner).collect();
    assert_eq!(left, [format!("/cricket/{GONE}"), "/lost".to_owned()]);
}

#[test]
fn control_groups_with_somebody_in_them_are_in_use() {
    let node = Node::new();
    let known = Known::read(&node.config, None).expect("readable");
    let (empty, used) = (node.dir.path().join("empty"), node.dir.path().join("used"));
    for (dir, processes) in [(&empty, ""), (&used, "1\n")] {
        node.file(dir.join("cgroup.procs"));
        node.file(dir.join("below/cgroup.procs"));
        fs::write(dir.join("below/cgroup.procs"), processes).expect("write");
    }
    let group = |dir: &Path| Group { dir: dir.into(), path: dir.into(), marked: true };
    let left = cgroups::suspects(vec![group(&empty), group(&used)], &known);
    assert_eq!(left.into_iter().map(|s| s.path).collect::<Vec<_>>(), [empty]);
}

#[test]
fn what_went_meanwhile_or_may_belong_to_another_is_not_wrong() {
    let path = PathBuf::from("/proc/self/no-such");
    let suspect = Suspect { what: What::Monitor, path, owner: GONE.to_owned() };
    assert!(!suspect.is_there());
    let group = Suspect { what: What::Cgroup, path: "/x".into(), owner: "/x".to_owned() };
    assert!(matches!(group.finding(false), Finding::Wrong(_)));
    // Another runtime's perhaps: worth a look, not wrong.
    assert!(matches!(group.finding(true), Finding::Note(_)));
}

#[test]
fn old_kernels_are_refused() {
    for (release, good) in
        [("5.14.0-1", true), ("6.1.0", true), ("5.13.19", false), ("4.18.0-553.el8", false), ("x", false)]
    {
        assert_eq!(matches!(node::release(release), Finding::Good(_)), good, "{release}");
    }
}
