//! Leftovers of each kind, made and taken away. The tests are run by root, as everything that cricket does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cricket_process::mounts;
use cricket_process::namespaces::{self, Kinds};

use super::*;
use crate::config::Flags;
use crate::layout;

const GONE: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// A node on which no daemon runs and no pod is recorded.
struct Node {
    dir: tempfile::TempDir,
    config: Config,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = |name: &str| dir.path().join(name);
        let keys = format!(
            "[plugins.'io.containerd.cri.v1.runtime']\nnetns_mounts_under_state_dir = true\n\
             [plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = [{:?}]\nconf_dir = {:?}\n",
            path("bin"),
            path("net.d")
        );
        fs::write(path("config.toml"), keys).expect("config");
        fs::create_dir_all(path("root/cni")).expect("root");
        fs::create_dir_all(path("state/pods").join(GONE)).expect("state");
        let flags = Flags { root: Some(path("root")), state: Some(path("state")), ..Flags::default() };
        let config = Config::load(Some(&path("config.toml")), &flags).expect("valid");
        Self { dir, config }
    }

    fn pod(&self) -> PathBuf {
        layout::pods(&self.config.own.state).join(GONE)
    }

    /// `cricket doctor --repair`: what became of what. Control groups are the machine's, where other tests' may be.
    fn repair(&self) -> BTreeMap<String, repair::Outcome> {
        let answer = client::ask(&self.config, Operation::Repair).expect("answered");
        let Answer::Repaired(repairs) = answer else { panic!("{answer:?}") };
        let mine = |r: &Repair| !r.what.starts_with("control group") && r.what.contains(self.mark());
        repairs.into_iter().filter(mine).map(|r| (r.what.replace(self.mark(), "DIR"), r.outcome)).collect()
    }

    fn mark(&self) -> &str {
        self.dir.path().to_str().expect("UTF-8")
    }
}

fn gone(how: &str) -> repair::Outcome {
    repair::Outcome::Gone(how.to_owned())
}

/// A network namespace of its own, pinned.
fn pinned(path: &Path) {
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    let (made, ()) = namespaces::make(Kinds::NET, || Ok(())).expect("made");
    cricket_process::pin::pin(&made[0].1, path).expect("pin");
}

#[test]
fn folders_and_mounts_go_from_the_inside_out() {
    let node = Node::new();
    let rootfs = node.pod().join("c").join(GONE).join("rootfs");
    fs::create_dir_all(&rootfs).expect("rootfs");
    mounts::tmpfs(&rootfs, 1 << 20, 0o755).expect("mount");
    fs::create_dir(rootfs.join("volume")).expect("volume");
    mounts::tmpfs(&rootfs.join("volume"), 1 << 20, 0o755).expect("mount");
    let done = node.repair();
    let at = format!("DIR/state/pods/{GONE}");
    assert_eq!(done[&format!("mount {at}/c/{GONE}/rootfs/volume")], gone("unmounted"));
    assert_eq!(done[&format!("mount {at}/c/{GONE}/rootfs")], gone("unmounted"));
    assert_eq!(done[&format!("folder {at}")], gone("removed"));
    assert!(!node.pod().exists());
    assert_eq!(node.repair(), BTreeMap::new());
}

#[test]
fn namespaces_of_the_state_directory_are_unpinned() {
    let node = Node::new();
    let path = node.config.netns_dir().join("cni-lost");
    pinned(&path);
    let done = node.repair();
    assert!(done.values().all(|outcome| matches!(outcome, repair::Outcome::Gone(_))), "{done:?}");
    assert!(!path.exists());
}

#[test]
fn attachments_are_detached_by_the_recorded_plugins() {
    let node = Node::new();
    let (bin, called) = (node.dir.path().join("bin"), node.dir.path().join("called"));
    fs::create_dir(&bin).expect("bin");
    let script = format!(
        "#!/bin/sh\necho \"$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS\" >>{}\ncat >/dev/null\n",
        called.display()
    );
    fs::write(bin.join("fake"), script).expect("plugin");
    fs::set_permissions(bin.join("fake"), fs::Permissions::from_mode(0o755)).expect("mode");
    let netns = node.dir.path().join("run-netns/cni-recorded");
    pinned(&netns);
    let record = serde_json::json!({
        "format": 1, "netns": netns, "args": "", "capability_args": {}, "attachment": null,
        "networks": [{
            "ifname": "eth0", "result": null,
            "list": { "cniVersion": "1.0.0", "name": "n", "plugins": [{ "type": "fake" }] },
        }],
    });
    let file = layout::networks(&node.config.own.root).join(format!("{GONE}.json"));
    fs::write(&file, record.to_string()).expect("record");
    let done = node.repair();
    let what = format!("network attachment DIR/root/cni/{GONE}.json");
    let how = format!("detached, and its network namespace {} unpinned", netns.display());
    assert_eq!(done[&what], gone(&how));
    let calls = fs::read_to_string(called).expect("called");
    assert!(calls.lines().all(|line| line == format!("DEL {GONE} {}", netns.display())), "{calls}");
    assert!(!file.exists() && !netns.exists());
}

#[test]
fn what_cannot_be_detached_is_kept_and_told() {
    let node = Node::new();
    let file = layout::networks(&node.config.own.root).join(format!("{GONE}.json"));
    let record = serde_json::json!({
        "format": 1, "netns": "/nowhere/cni-x", "args": "", "capability_args": {}, "attachment": null,
        "networks": [{
            "ifname": "eth0", "result": null,
            "list": { "cniVersion": "1.0.0", "name": "n", "plugins": [{ "type": "absent" }] },
        }],
    });
    fs::write(&file, record.to_string()).expect("record");
    let done = node.repair();
    let outcome = &done[&format!("network attachment DIR/root/cni/{GONE}.json")];
    assert!(matches!(outcome, repair::Outcome::Failed(why) if why.contains("absent")), "{outcome:?}");
    assert!(file.exists());
}

/// A process that has the name and the messages of a monitor, and a child.
fn monitor(node: &Node) -> Child {
    let log = fs::File::create(node.pod().join("monitor.log")).expect("log");
    // `sh ID` runs the script of that name in the working directory.
    fs::write(node.dir.path().join(GONE), "sleep 1000 & echo $! >child; wait\n").expect("script");
    let mut command = Command::new("/bin/sh");
    command.arg0("cricket-monitor").arg(GONE).current_dir(node.dir.path()).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("start")
}

#[test]
fn monitors_without_a_pod_are_killed_with_their_children() {
    let node = Node::new();
    let mut monitor = monitor(&node);
    let path = node.dir.path().join("child");
    let child = loop {
        match fs::read_to_string(&path).unwrap_or_default().trim().parse::<i32>() {
            Ok(pid) => break pid,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    };
    let answer = client::ask(&node.config, Operation::Repair).expect("answered");
    let Answer::Repaired(done) = answer else { panic!("{answer:?}") };
    let what = format!("process /proc/{}", monitor.id());
    let outcome = done.iter().find(|r| r.what == what).map(|r| r.outcome.clone());
    assert_eq!(outcome, Some(gone("killed, with 1 of its children")), "{done:?}");
    monitor.wait().expect("reaped");
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[test]
fn control_groups_go_where_they_are_crickets_and_nobody_is_in_them() {
    let hierarchies = cricket_cgroup::Hierarchies::detect().expect("cgroups");
    let name = format!("/repair-{}", std::process::id());
    let create =
        |path: String| cricket_cgroup::Cgroup::create(&hierarchies, &path.parse().expect("path")).expect("made");
    // What is above it is made, and so marked, by cricket.
    let group = create(format!("{name}/pod/{GONE}"));
    let used = create(format!("{name}/used/{GONE}"));
    let suspect = |cgroup: &cricket_cgroup::Cgroup, above: usize| {
        let path = Path::new(cgroup.path().as_str()).ancestors().nth(above).expect("above").to_owned();
        let dir = cgroup.processes_dir().ancestors().nth(above).expect("above").to_owned();
        Suspect { what: leftovers::What::Cgroup, path: dir, owner: path.display().to_string() }
    };
    let alone = Others { runtimes: false, crickets: false };
    let remove = |suspect: &Suspect, others| repair::remove(suspect, others).map_err(|e| e.to_string());
    // Without a mark it may be another runtime's; with one, another cricket's.
    let with = |runtimes, crickets| Others { runtimes, crickets };
    for (above, others) in [(0, with(true, false)), (0, with(false, true)), (1, with(false, true))] {
        let outcome = remove(&suspect(&group, above), others);
        assert!(matches!(outcome, Ok(repair::Outcome::LeftAlone(_))), "{above} {others:?}: {outcome:?}");
    }
    let mut sleeper = Command::new("sleep").arg("1000").spawn().expect("start");
    fs::write(used.processes_dir().join("cgroup.procs"), sleeper.id().to_string()).expect("join");
    let in_use = remove(&suspect(&used, 0), alone);
    assert_eq!(remove(&suspect(&group, 1), with(true, false)), Ok(gone("removed")));
    assert!(!group.exists() && used.exists());
    sleeper.kill().expect("killed");
    sleeper.wait().expect("reaped");
    assert!(in_use.is_err(), "{in_use:?}");
    assert_eq!(remove(&suspect(&used, 0), alone), Ok(gone("removed")));
    assert!(hierarchies.all().iter().all(|h| !h.mount.join(&name[1..]).exists()));
}

#[test]
fn layers_and_unfinished_directories_are_collected() {
    let node = Node::new();
    let images = node.config.own.root.join("images");
    for left in ["layers", "staging", "trash"] {
        let dir = images.join(left).join("d".repeat(64)).join("fs");
        fs::create_dir_all(&dir).expect("directory");
        fs::write(dir.join("file"), "x").expect("file");
    }
    let answer = client::ask(&node.config, Operation::Repair).expect("answered");
    let Answer::Repaired(done) = answer else { panic!("{answer:?}") };
    let told = Repair { what: "images: 3 unfinished or unknown directories".to_owned(), outcome: gone("collected") };
    assert!(done.contains(&told), "{done:?}");
    for left in ["layers", "staging", "trash"] {
        assert_eq!(fs::read_dir(images.join(left)).expect("there").count(), 0, "{left}");
    }
}

#[test]
fn nothing_is_touched_while_a_record_cannot_be_read() {
    let node = Node::new();
    fs::write(node.pod().join("journal"), "{}\n").expect("journal");
    let path = node.config.netns_dir().join("cni-whose");
    pinned(&path);
    let error = client::ask(&node.config, Operation::Repair).expect_err("refused").to_string();
    assert!(error.contains(GONE) && error.contains("nothing is taken away"), "{error}");
    assert!(path.exists());
    cricket_process::pin::unpin(&path).expect("unpin");
}
