//! What a container finds for which nothing was asked: what containerd gives it, and nothing of the daemon's.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
use cricket_testkit::cri;
use cricket_testkit::leaks;

use crate::support::{Scene, idle};

/// capability.h's numbers of CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW
/// SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP.
const CAPABILITIES: [u32; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A pod and a container of which the request says no more than which PIDs it sees.
async fn bare(name: &str) -> Result<(Scene, String)> {
    let scene = Scene::new(name).await?;
    let id = scene.idle("main").await?;
    Ok((scene, id))
}

#[tokio::test]
async fn capabilities_and_identity() -> Result<()> {
    let (scene, id) = bare("default-caps").await?;
    let fields = "^(Uid|Gid|Groups|Umask|NoNewPrivs|Seccomp|Cap(Inh|Prm|Eff|Bnd|Amb)):";
    let set = format!("{:016x}", CAPABILITIES.iter().map(|n| 1u64 << n).sum::<u64>());
    for process in ["1", "self"] {
        let seen = scene.sh(&id, &format!("grep -E '{fields}' /proc/{process}/status | tr -s '\\t ' ' '")).await?;
        let line = |key: &str| {
            let found = seen.lines().find_map(|l| l.strip_prefix(key)).map(|v| v.trim_matches([':', ' ']));
            found.unwrap_or("(missing)").to_owned()
        };
        for (key, want) in [
            ("Umask", "0022"),
            ("Uid", "0 0 0 0"),
            ("Gid", "0 0 0 0"),
            ("NoNewPrivs", "0"),
            ("Seccomp", "0"),
            ("CapInh", "0000000000000000"),
            ("CapPrm", set.as_str()),
            ("CapEff", set.as_str()),
            ("CapBnd", set.as_str()),
            ("CapAmb", "0000000000000000"),
        ] {
            assert_eq!(line(key), want, "{key} of {process}");
        }
        assert!(["", "0"].contains(&line("Groups").as_str()), "{seen}");
    }
    scene.end().await
}

#[tokio::test]
async fn masked_and_read_only_paths() -> Result<()> {
    let (scene, id) = bare("default-paths").await?;
    let mut told = 0;
    for path in MASKED {
        let script = format!("[ -d {path} ] && ls -A {path} || head -c 1 {path} 2>/dev/null; true");
        assert_eq!(scene.sh(&id, &script).await?, "", "{path} shows something");
        // What is hidden here is there on the host, or hiding it shows nothing.
        let mut byte = [0];
        let there = fs::File::open(path).and_then(|mut file| file.read(&mut byte));
        told += usize::from(Path::new(path).is_dir() || there.is_ok_and(|count| count > 0));
    }
    assert!(told >= 2, "the host has next to nothing to hide");
    let table = scene.sh(&id, "cat /proc/self/mountinfo").await?;
    let options = |path: &str| {
        let mut lines = table.lines().filter(|l| l.split(' ').nth(4) == Some(path));
        lines.next_back().and_then(|l| l.split(' ').nth(5)).map(|o| o.split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    for path in READ_ONLY {
        if !Path::new(path).exists() {
            continue;
        }
        let options = options(path).with_context(|| format!("{path} is no mount: {table}"))?;
        assert!(options.iter().any(|o| o == "ro"), "{path}: {options:?}");
    }
    // sysfs and every hierarchy of cgroups.
    let mounts: Vec<_> = table
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .filter(|(_, kind)| ["sysfs", "cgroup", "cgroup2"].contains(&kind.split(' ').next().unwrap_or_default()))
        .collect();
    assert!(mounts.len() >= 2, "{table}");
    for (mount, _) in mounts {
        let flags = mount.split(' ').nth(5).unwrap_or_default();
        assert!(flags.split(',').any(|f| f == "ro"), "{mount}");
        assert!(["nosuid", "nodev", "noexec"].iter().all(|want| flags.split(',').any(|f| f == *want)), "{mount}");
    }
    scene.end().await
}

#[tokio::test]
async fn devices_are_these_and_no_others() -> Result<()> {
    let (scene, id) = bare("default-devices").await?;
    let nodes = "find /dev -xdev '(' -type c -o -type b ')' -exec stat -c '%n %t:%T %a' {} + | sort";
    let want = "/dev/full 1:7 666\n/dev/null 1:3 666\n/dev/random 1:8 666\n/dev/tty 5:0 666\n/dev/urandom 1:9 666\n\
                /dev/zero 1:5 666";
    assert_eq!(scene.sh(&id, nodes).await?, want);
    let links = "for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done";
    let want = "fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\nptmx pts/ptmx";
    assert_eq!(scene.sh(&id, links).await?, want);
    scene.end().await
}

#[tokio::test]
async fn limits_are_the_daemons_but_for_open_files() -> Result<()> {
    let (scene, id) = bare("default-limits").await?;
    let daemon = scene.node.daemon.pid().context("the daemon runs")?;
    let own = fs::read_to_string(format!("/proc/{daemon}/limits"))?;
    for process in ["1", "self"] {
        let seen = scene.sh(&id, &format!("cat /proc/{process}/limits")).await?;
        assert_eq!(seen.lines().count(), own.lines().count());
        for (line, own) in seen.lines().zip(own.lines()) {
            if line.starts_with("Max open files") {
                let soft = line.split_whitespace().nth(3).context("a soft limit")?;
                assert_eq!(soft, "1024", "{process}: {line}");
            } else {
                assert_eq!(line.trim_end(), own.trim_end(), "{process}");
            }
        }
    }
    scene.end().await
}

/// Descriptors of a process, but for the standard ones, that do not close on exec, and what they lead to.
fn open_at_exec(pid: u64) -> Result<Vec<(u32, String)>> {
    const O_CLOEXEC: u32 = 0o2_000_000;
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let number: u32 = entry.file_name().to_string_lossy().parse()?;
        // One that is closed meanwhile has no more to say.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).context("flags")?;
        if number > 2 && u32::from_str_radix(flags.trim(), 8)? & O_CLOEXEC == 0 {
            let leads = fs::read_link(format!("/proc/{pid}/fd/{number}"))?;
            open.push((number, leads.display().to_string()));
        }
    }
    Ok(open)
}

/// Whatever is started without care gets nothing that the daemon or a monitor has open.
#[tokio::test]
async fn descriptors_of_the_daemon_and_its_monitors_close_on_exec() -> Result<()> {
    let scene = Scene::new("cloexec").await?;
    let mut terminal = idle("terminal", BUSYBOX);
    (terminal.tty, terminal.stdin) = (true, true);
    scene.run(&terminal).await?;
    let id = scene.idle("main").await?;
    let (cri, container) = (scene.cri.clone(), id.clone());
    let exec = tokio::spawn(async move { cri.exec(&container, &["sleep", "1000"], 0).await });
    scene.cri.exec(&id, &["true"], 10).await?;
    let daemon = scene.node.daemon.pid().context("the daemon runs")?;
    let mut processes = vec![("cricket".to_owned(), u64::from(daemon))];
    for process in leaks::processes(&scene.id)? {
        if process.command.contains("cricket-monitor") {
            processes.push((process.command, u64::try_from(process.pid)?));
        }
    }
    assert!(processes.len() >= 2, "a daemon and a monitor: {processes:?}");
    let given = open_at_exec(std::process::id().into())?;
    for (name, pid) in processes {
        let mut own = open_at_exec(pid)?;
        // Whoever starts the tests may have given them some.
        own.retain(|open| !given.contains(open));
        assert_eq!(own, [], "{name} ({pid}) gives these to whatever it executes");
        let all = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        assert!(all > 5, "{name} has {all} descriptors");
    }
    scene.cri.stop(&id, 0).await?;
    exec.await??;
    scene.end().await
}

/// A volume over `/dev` may have anything under the names of devices: what hides is the host's.
#[tokio::test]
async fn a_false_null_device_hides_as_well() -> Result<()> {
    let scene = Scene::new("false-null").await?;
    let volume = scene.node.daemon.home().join("false-dev");
    fs::create_dir(&volume)?;
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777))?;
    let outside = scene.node.daemon.home().join("false-dev-outside");
    fs::write(&outside, "of the host")?;
    for (name, target) in [("null", "/proc/sysrq-trigger"), ("zero", "/proc/kcore")] {
        std::os::unix::fs::symlink(target, volume.join(name))?;
    }
    std::os::unix::fs::symlink(&outside, volume.join("console"))?;
    let mut config =
        cri::container("main", BUSYBOX, &idle("x", BUSYBOX).command.iter().map(String::as_str).collect::<Vec<_>>());
    config.mounts = vec![v1::Mount {
        host_path: volume.display().to_string(),
        container_path: "/dev".into(),
        ..Default::default()
    }];
    let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    context.masked_paths = ["/proc/interrupts", "/proc/keys", "/etc/passwd"].map(str::to_owned).to_vec();
    let id = scene.run(&config).await?;
    for path in ["/proc/interrupts", "/proc/keys", "/etc/passwd"] {
        assert_eq!(
            scene.sh(&id, &format!("stat -c %t:%T {path}; head -c 1 {path} | wc -c")).await?,
            "1:3\n0",
            "{path}"
        );
    }
    // With a terminal nothing is put onto the link that waits for one.
    let mut terminal = config.clone();
    terminal.tty = true;
    terminal.metadata.get_or_insert_default().name = "terminal".into();
    let _ = scene.run(&terminal).await;
    assert_eq!(fs::read_to_string(&outside)?, "of the host");
    assert!(fs::symlink_metadata(&outside)?.is_file());
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!table.contains("false-dev-outside"), "{table}");
    scene.end().await
}
