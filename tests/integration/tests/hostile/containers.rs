//! What the root of a container may try, and what it finds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::daemon::{Options, Program};
use cricket_testkit::image::{Layer, Tree};
use cricket_testkit::{cri, host, logs};

use crate::support::{SOON, Scene, idle};

/// What cricket consists of on disk.
const PROGRAMS: [&str; 4] = ["cricket", "cricket-monitor", "cricket-launch", "cricket-exec"];

/// Copies of the programs, which nobody but the test may change.
fn programs(to: &Path) -> Result<PathBuf> {
    let daemon = match std::env::var_os("CRICKET_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let me = std::env::current_exe()?;
            me.ancestors().nth(2).context("no target directory")?.join("cricket")
        }
    };
    let from = daemon.parent().context("no directory")?;
    for name in PROGRAMS {
        std::fs::copy(from.join(name), to.join(name)).with_context(|| format!("{}/{name}", from.display()))?;
    }
    Ok(to.join("cricket"))
}

fn hashes(dir: &Path) -> Result<String> {
    host::run("sha256sum", PROGRAMS.map(|name| dir.join(name)))
}

#[tokio::test]
async fn the_programs_cannot_be_overwritten_through_proc() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("ck-programs-{}", host::unique()));
    std::fs::create_dir(&dir)?;
    let tried = overwrite(&dir).await;
    std::fs::remove_dir_all(&dir)?;
    tried
}

async fn overwrite(dir: &Path) -> Result<()> {
    let program = Program::At(programs(dir)?);
    let before = hashes(dir)?;
    let node = Arc::new(Node::with(Options { program, ..Options::default() }).await?);
    let scene = Scene::on(node, "overwrite").await?;
    // A script whose interpreter is whatever program executes it: the helper itself, started as the container's root.
    let layer = Layer::gzip(Tree::new().file("itself", 0o755, "#!/proc/self/exe\n"))?;
    let image = scene.image("overwrite", |image| image.layer(layer)).await?;
    let attack = "while :; do for exe in /proc/[0-9]*/exe; do \
                  (printf evil > $exe) 2>/dev/null && echo \"wrote $exe\"; done; done";
    let attacker = cri::container("attacker", &image, &["sh", "-c", attack]);
    let id = scene.run(&attacker).await?;
    for round in 0..10 {
        let done = scene.cri.exec(&id, &["true"], 10).await?;
        assert_eq!(done.exit_code, 0, "{round}: {}", String::from_utf8_lossy(&done.stderr));
        // Whatever comes of it, it comes to an end.
        let itself = tokio::time::timeout(SOON, scene.cri.exec(&id, &["/itself"], 10)).await?;
        assert!(itself.map_or(true, |done| done.exit_code != 0), "the helper ran again, and did what?");
        let mut start = cri::container(&format!("itself-{round}"), &image, &["/itself"]);
        start.linux.get_or_insert_default().security_context.get_or_insert_default().namespace_options =
            Some(v1::NamespaceOption {
                pid: v1::NamespaceMode::Target.into(),
                target_id: id.clone(),
                ..Default::default()
            });
        if let Ok(id) = scene.run(&start).await {
            assert_ne!(scene.cri.wait_exit(&id, SOON).await?.exit_code, 0);
        }
    }
    let records = scene.node.daemon.logs(&scene.pod, &attacker)?;
    assert_eq!(logs::lines(&records, "stdout"), Vec::<String>::new(), "no program of a process could be written");
    assert_eq!(hashes(dir)?, before);
    scene.end().await
}

#[tokio::test]
async fn descriptors_are_the_standard_ones() -> Result<()> {
    let scene = Scene::new("fds").await?;
    // The list has the descriptor that lists, too; a shell's built-in pattern has it as its last.
    let script = "for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; exec sleep 1000";
    let config = cri::container("main", BUSYBOX, &["sh", "-c", script]);
    let id = scene.run(&config).await?;
    let listed = "for fd in /proc/1/fd/*; do echo ${fd##*/}; done";
    let init = scene.sh(&id, listed).await?;
    assert_eq!(init, "0\n1\n2", "of init");
    let own = scene.sh(&id, "for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true").await?;
    assert_eq!(own, "0\n1\n2", "of an exec");
    // What they lead to is no file or directory of the host.
    for process in ["1", "self"] {
        for fd in 0..=2 {
            let target = scene.sh(&id, &format!("readlink /proc/{process}/fd/{fd}")).await?;
            assert!(target == "/dev/null" || target.starts_with("pipe:"), "{process} {fd}: {target}");
        }
    }
    scene.end().await
}

#[tokio::test]
async fn no_capability_is_inheritable() -> Result<()> {
    let scene = Scene::new("inheritable").await?;
    let id = scene.idle("main").await?;
    let inheritable = scene.sh(&id, "grep -h ^CapInh /proc/1/status /proc/self/status").await?;
    assert_eq!(inheritable, "CapInh:\t0000000000000000\nCapInh:\t0000000000000000");
    let bounding = scene.sh(&id, "grep -h ^CapBnd /proc/1/status /proc/self/status | uniq | wc -l").await?;
    assert_eq!(bounding, "1", "an exec may do what its container may");
    scene.end().await
}

#[tokio::test]
async fn the_default_masks_hide_and_protect() -> Result<()> {
    let scene = Scene::new("masks").await?;
    let mut config = idle("main", BUSYBOX);
    let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    // What kubelets send for a pod that asks for nothing.
    let masked = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"];
    let read_only = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
    context.masked_paths = masked.map(str::to_owned).to_vec();
    context.readonly_paths = read_only.map(str::to_owned).to_vec();
    let id = scene.run(&config).await?;
    for path in masked {
        let script = format!("[ -d {path} ] && ls -A {path} || head -c 1 {path} 2>/dev/null; true");
        assert_eq!(scene.sh(&id, &script).await?, "", "{path} shows something");
    }
    let writes = "for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/vm/panic_on_oom; do \
                  (echo 0 > $f) 2>/dev/null && echo $f; done; true";
    assert_eq!(scene.sh(&id, writes).await?, "");
    // Neither can be taken away from inside.
    let undo = "for p in /proc/kcore /proc/sys; do umount $p 2>/dev/null && echo $p; \
                mount -o remount,rw,bind $p 2>/dev/null && echo $p; done; true";
    assert_eq!(scene.sh(&id, undo).await?, "");
    scene.end().await
}

#[tokio::test]
async fn block_devices_can_be_made_but_not_opened() -> Result<()> {
    let scene = Scene::new("devices").await?;
    let id = scene.idle("main").await?;
    // The numbers of the host's own disk, where it is a device at all, and a loop device's.
    for numbers in ["7 0", "8 0", "254 0", "259 0"] {
        let script = format!("rm -f /tmp/disk; mknod /tmp/disk b {numbers} && head -c 1 /tmp/disk");
        let done = scene.cri.exec(&id, &["sh", "-c", &script], 10).await?;
        let text = String::from_utf8_lossy(&done.stderr);
        assert!(done.exit_code != 0 && text.contains("Operation not permitted"), "{numbers}: {text}");
    }
    scene.end().await
}

#[tokio::test]
async fn the_daemon_and_its_monitors_have_no_abstract_socket() -> Result<()> {
    let scene = Scene::new("abstract").await?;
    scene.idle("main").await?;
    let mark = scene.node.daemon.mark().to_owned();
    let mut seen = 0;
    for entry in std::fs::read_dir("/proc")? {
        let process = entry?.path();
        let Ok(words) = std::fs::read(process.join("cmdline")) else { continue };
        let words = String::from_utf8_lossy(&words);
        // A monitor is named after its pod.
        let ours = words.contains(&mark) || words.contains(&scene.id);
        // Processes end, and a test's own command line may have the mark too.
        let (true, Ok(fds)) = (ours, std::fs::read_dir(process.join("fd"))) else { continue };
        seen += 1;
        let targets: Vec<_> = fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
        let table = std::fs::read_to_string(process.join("net/unix"))?;
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (Some(inode), Some(path)) = (fields.get(6), fields.get(7)) else { continue };
            let its_own = targets.iter().any(|t| t.as_os_str().to_string_lossy() == format!("socket:[{inode}]"));
            assert!(!(its_own && path.starts_with('@')), "{}: {path}", process.display());
        }
    }
    assert!(seen >= 2, "the daemon and a monitor, not {seen} processes");
    scene.end().await
}
