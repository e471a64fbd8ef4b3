//! What a container may do: users, capabilities, system calls, paths, devices.

mod apparmor;

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
use cricket_testkit::cri;
use cricket_testkit::image::{Layer, Tree, compile};

use crate::support::{Scene, idle, security, shell};

fn int(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn profile(kind: v1::security_profile::ProfileType, file: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: file.to_owned() })
}

const RUNTIME_DEFAULT: v1::security_profile::ProfileType = v1::security_profile::ProfileType::RuntimeDefault;

/// The line of a process' status in a running container's init.
async fn status_of_init(scene: &Scene, id: &str, field: &str) -> Result<String> {
    scene.sh(id, &format!("grep '^{field}:' /proc/1/status | cut -f 2")).await
}

#[tokio::test]
async fn users_come_from_the_request_then_from_the_image() -> Result<()> {
    let scene = Scene::host("sec-users").await?;
    let print = "id -u; id -g; id -G";
    let image = scene.image("sec-user", |image| image.user("www-data")).await?;
    let config = cri::container("image", &image, &["sh", "-c", print]);
    assert_eq!(scene.output(&config).await?, ["33", "33", "33"]);
    let mut config = cri::container("number", &image, &["sh", "-c", print]);
    security(&mut config).run_as_user = int(1234);
    assert_eq!(scene.output(&config).await?, ["1234", "0", "0"]);
    let mut config = cri::container("groups", &image, &["sh", "-c", print]);
    let context = security(&mut config);
    (context.run_as_user, context.run_as_group) = (int(1234), int(5678));
    context.supplemental_groups = vec![10, 20];
    assert_eq!(scene.output(&config).await?, ["1234", "5678", "5678 10 20"]);
    let mut config = cri::container("name", BUSYBOX, &["sh", "-c", print]);
    security(&mut config).run_as_username = "daemon".into();
    assert_eq!(scene.output(&config).await?, ["1", "1", "1"]);
    scene.end().await
}

#[tokio::test]
async fn groups_of_the_image_are_merged_or_left_out() -> Result<()> {
    let scene = Scene::host("sec-groups").await?;
    let files = Tree::new()
        .dirs(["etc"])
        .file("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\nmember:x:1000:1000::/:/bin/sh\n")
        .file("etc/group", 0o644, "root:x:0:\nmember:x:1000:\nextra:x:50000:member\n");
    let layer = Layer::gzip(files)?;
    let image = scene.image("sec-groups", |image| image.layer(layer).user("member")).await?;
    for (name, policy, expected) in [
        ("merge", v1::SupplementalGroupsPolicy::Merge, "1000 2000 50000"),
        ("strict", v1::SupplementalGroupsPolicy::Strict, "1000 2000"),
    ] {
        let mut config = cri::container(name, &image, &["sh", "-c", "id -G | tr ' ' '\\n' | sort -n | xargs"]);
        let context = security(&mut config);
        context.supplemental_groups = vec![2000];
        context.set_supplemental_groups_policy(policy);
        assert_eq!(scene.output(&config).await?, [expected], "{name}");
        let id = scene
            .cri
            .containers()
            .await?
            .into_iter()
            .find(|c| c.pod_sandbox_id == scene.id && c.metadata.as_ref().is_some_and(|m| m.name == name));
        let status = scene.cri.container(&id.map(|c| c.id).unwrap_or_default()).await?;
        let mut user = status.user.and_then(|u| u.linux).unwrap_or_default();
        user.supplemental_groups.sort_unstable();
        let groups: Vec<i64> = expected.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        assert_eq!((user.uid, user.gid), (1000, 1000));
        assert_eq!(user.supplemental_groups, groups, "{name}: the status says what the process has");
    }
    scene.end().await
}

#[tokio::test]
async fn capabilities_are_the_default_ones_more_or_less() -> Result<()> {
    let scene = Scene::host("sec-caps").await?;
    // The set that Docker and containerd give: capability.h numbers 0 1 3 4 5 6 7 8 10 13 18 27 29 31.
    let default: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31].iter().map(|n| 1u64 << n).sum();
    let cases: [(&str, &[&str], &[&str], u64); 5] = [
        ("default", &[], &[], default),
        ("add", &["SYS_TIME"], &[], default | 1 << 25),
        ("prefix", &["CAP_SYS_TIME"], &["CAP_CHOWN"], default & !1 | 1 << 25),
        ("drop", &[], &["ALL"], 0),
        ("one", &["NET_BIND_SERVICE"], &["ALL"], 1 << 10),
    ];
    for (name, add, drop, expected) in cases {
        let mut config = shell(name, "grep -E '^Cap(Bnd|Eff|Prm|Inh|Amb):' /proc/self/status | cut -f 2");
        security(&mut config).capabilities = Some(v1::Capability {
            add_capabilities: add.iter().map(|&c| c.to_owned()).collect(),
            drop_capabilities: drop.iter().map(|&c| c.to_owned()).collect(),
            ..Default::default()
        });
        let hex = |n: u64| format!("{n:016x}");
        // In the order of the file: inheritable, permitted, effective, bounding, ambient.
        let lines = [hex(0), hex(expected), hex(expected), hex(expected), hex(0)];
        assert_eq!(scene.output(&config).await?, lines, "{name}");
    }
    // A user that is not root has none of them in effect, unless they are ambient.
    let mut config = shell("user", "grep -E '^Cap(Eff|Bnd|Amb):' /proc/self/status | cut -f 2");
    let context = security(&mut config);
    context.run_as_user = int(1000);
    let lines = scene.output(&config).await?;
    assert_eq!(lines, [format!("{:016x}", 0), format!("{default:016x}"), format!("{:016x}", 0)]);
    scene.end().await
}

#[tokio::test]
async fn an_unknown_capability_is_refused() -> Result<()> {
    let scene = Scene::host("sec-caps-unknown").await?;
    let mut config = idle("main");
    security(&mut config).capabilities =
        Some(v1::Capability { add_capabilities: vec!["NO_SUCH".into()], ..Default::default() });
    let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("there is none of that name");
    assert!(error.code() == tonic::Code::InvalidArgument && error.message().contains("NO_SUCH"), "{error}");
    scene.end().await
}

#[tokio::test]
async fn the_default_profile_filters_init_and_exec() -> Result<()> {
    let scene = Scene::host("sec-seccomp").await?;
    let with = |name: &str, seccomp: Option<v1::SecurityProfile>| {
        let mut config = idle(name);
        security(&mut config).seccomp = seccomp;
        config
    };
    let filtered = scene.run(&with("filtered", profile(RUNTIME_DEFAULT, ""))).await?;
    let unconfined = profile(v1::security_profile::ProfileType::Unconfined, "");
    let free = scene.run(&with("free", unconfined)).await?;
    let unset = scene.run(&with("unset", None)).await?;
    assert_eq!(status_of_init(&scene, &filtered, "Seccomp").await?, "2");
    assert_eq!(status_of_init(&scene, &free, "Seccomp").await?, "0");
    assert_eq!(status_of_init(&scene, &unset, "Seccomp").await?, "0", "no profile asked for means unconfined");
    // unshare(CLONE_NEWUSER) is what such a profile is for.
    let try_it = ["unshare", "-U", "true"];
    let refused = scene.cri.exec(&filtered, &try_it, 5).await?;
    assert!(refused.exit_code != 0 && String::from_utf8_lossy(&refused.stderr).contains("Operation not permitted"));
    assert_eq!(scene.cri.exec(&free, &try_it, 5).await?.exit_code, 0);
    // Init itself, not only execs.
    let mut config = shell("init", "unshare -U true");
    security(&mut config).seccomp = profile(RUNTIME_DEFAULT, "");
    let init = scene.run(&config).await?;
    assert_ne!(scene.cri.wait_exit(&init, crate::support::SOON).await?.exit_code, 0);
    scene.end().await
}

#[tokio::test]
async fn a_profile_of_the_nodes_is_applied_or_the_container_refused() -> Result<()> {
    let scene = Scene::host("sec-localhost").await?;
    let file = scene.node.daemon.home().join("no-chmod.json");
    std::fs::write(
        &file,
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}]}"#,
    )?;
    let localhost = v1::security_profile::ProfileType::Localhost;
    let mut config = idle("main");
    security(&mut config).seccomp = profile(localhost, &file.display().to_string());
    let main = scene.run(&config).await?;
    assert_ne!(scene.cri.exec(&main, &["chmod", "777", "/tmp"], 5).await?.exit_code, 0);
    assert_eq!(scene.cri.exec(&main, &["mkdir", "/tmp/dir"], 5).await?.exit_code, 0);
    let mut config = idle("missing");
    security(&mut config).seccomp = profile(localhost, "/no/such/profile.json");
    let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("there is no such profile");
    assert!(error.message().contains("/no/such/profile.json"), "{error}");
    scene.end().await
}

#[tokio::test]
async fn no_new_privileges_holds_setuid_programs_down() -> Result<()> {
    let scene = Scene::host("sec-nnp").await?;
    let program = compile(
        "#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf(\"%d\\n\", (int)geteuid()); return 0; }",
    )?;
    let layer = Layer::gzip(Tree::new().file("euid", 0o4755, program))?;
    let image = scene.image("sec-nnp", |image| image.layer(layer)).await?;
    for (name, held, expected) in [("free", false, "0"), ("held", true, "1000")] {
        let mut config = cri::container(name, &image, &["/euid"]);
        let context = security(&mut config);
        (context.run_as_user, context.no_new_privs) = (int(1000), held);
        assert_eq!(scene.output(&config).await?, [expected], "{name}");
    }
    scene.end().await
}

#[tokio::test]
async fn paths_are_masked_and_read_only_as_asked() -> Result<()> {
    let scene = Scene::host("sec-paths").await?;
    let mut config = idle("main");
    let context = security(&mut config);
    context.masked_paths = vec!["/proc/kcore".into(), "/etc".into(), "/bin/ls".into(), "/no/such/path".into()];
    context.readonly_paths = vec!["/tmp".into(), "/proc/sys".into(), "/no/such/other".into()];
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "cat /proc/kcore | wc -c; echo /etc/*; cat /bin/ls | wc -c").await?, "0\n/etc/*\n0");
    let done = scene.cri.exec(&main, &["touch", "/tmp/file"], 5).await?;
    assert!(String::from_utf8_lossy(&done.stderr).contains("Read-only file system"));
    assert_ne!(scene.cri.exec(&main, &["sh", "-c", "echo x > /proc/sys/kernel/domainname"], 5).await?.exit_code, 0);
    scene.sh(&main, "touch /file").await?;
    scene.end().await
}

#[tokio::test]
async fn devices_are_the_standard_ones_and_what_is_asked_for() -> Result<()> {
    let scene = Scene::host("sec-devices").await?;
    let plain = scene.idle("plain").await?;
    let names = scene.sh(&plain, "ls /dev | xargs").await?;
    for name in ["full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    {
        assert!(names.split(' ').any(|n| n == name), "{name} is missing: {names}");
    }
    assert!(!names.contains("kmsg") && !names.contains("fuse"), "{names}");
    scene.sh(&plain, "echo x > /dev/null; head -c 4 /dev/zero >/dev/null; head -c 4 /dev/urandom > /dev/null").await?;
    // A node of a device that is not allowed may be made, and not opened.
    let made = scene.cri.exec(&plain, &["sh", "-c", "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg"], 5).await?;
    assert!(made.exit_code != 0 && String::from_utf8_lossy(&made.stderr).contains("Operation not permitted"));
    let mut config = idle("asked");
    config.devices = vec![v1::Device {
        container_path: "/dev/zero-too".into(),
        host_path: "/dev/zero".into(),
        permissions: "r".into(),
    }];
    let asked = scene.run(&config).await?;
    assert_eq!(scene.sh(&asked, "head -c 3 /dev/zero-too | wc -c; stat -c %t:%T /dev/zero-too").await?, "3\n1:5");
    let mut config = idle("missing");
    config.devices = vec![v1::Device {
        container_path: "/dev/x".into(),
        host_path: "/dev/no-such-device".into(),
        permissions: "rwm".into(),
    }];
    let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("there is no such device");
    assert!(error.message().contains("/dev/no-such-device"), "{error}");
    scene.end().await
}

#[tokio::test]
async fn privileged_has_the_hosts_devices_and_capabilities() -> Result<()> {
    let scene = Scene::privileged("sec-privileged").await?;
    let mut config = idle("main");
    let context = security(&mut config);
    context.privileged = true;
    context.masked_paths = vec!["/proc/kcore".into()];
    context.seccomp = profile(RUNTIME_DEFAULT, "");
    let main = scene.run(&config).await?;
    // All that the daemon itself may give.
    let daemon = scene.node.daemon.pid().unwrap_or_default();
    let own = std::fs::read_to_string(format!("/proc/{daemon}/status"))?;
    let own = own.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap_or_default().trim().to_owned();
    assert_eq!(status_of_init(&scene, &main, "CapEff").await?, own);
    assert_eq!(status_of_init(&scene, &main, "Seccomp").await?, "0", "privileged is unconfined");
    scene.sh(&main, "ls /dev/kmsg; mkdir /m; mount -t tmpfs none /m; test -w /proc/sys/kernel/domainname").await?;
    assert!(scene.sh(&main, "mount | grep ' /sys '").await?.contains("(rw"));
    // Its exec is as privileged.
    assert_eq!(scene.sh(&main, "grep ^CapEff /proc/self/status | cut -f 2").await?, own);
    scene.end().await?;
    let scene = Scene::host("sec-unprivileged").await?;
    let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("the sandbox is not privileged");
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    scene.end().await
}

#[tokio::test]
async fn sys_and_cgroups_are_read_only_otherwise() -> Result<()> {
    let scene = Scene::host("sec-sys").await?;
    let main = scene.idle("main").await?;
    assert!(scene.sh(&main, "mount | grep ' /sys '").await?.contains("(ro"));
    let done =
        scene.cri.exec(&main, &["sh", "-c", "mkdir /sys/fs/cgroup/memory/x || mkdir /sys/fs/cgroup/x"], 5).await?;
    assert_ne!(done.exit_code, 0);
    scene.end().await
}

#[tokio::test]
async fn what_the_host_cannot_enforce_is_refused() -> Result<()> {
    let scene = Scene::host("sec-honest").await?;
    if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        let mut config = idle("apparmor");
        security(&mut config).apparmor = profile(v1::security_profile::ProfileType::Localhost, "some-profile");
        let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("no AppArmor here");
        assert!(error.message().contains("AppArmor"), "{error}");
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let mut config = idle("selinux");
        security(&mut config).selinux_options =
            Some(v1::SeLinuxOption { r#type: "container_t".into(), level: "s0".into(), ..Default::default() });
        let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("no SELinux here");
        assert!(error.message().contains("SELinux"), "{error}");
        // What confines nothing is the same with and without.
        let mut config = shell("open", "echo runs");
        security(&mut config).selinux_options =
            Some(v1::SeLinuxOption { r#type: "spc_t".into(), level: "s0".into(), ..Default::default() });
        assert_eq!(scene.output(&config).await?, ["runs"]);
    }
    scene.end().await
}

#[tokio::test]
async fn ambient_capabilities_are_in_effect_for_a_user() -> Result<()> {
    let scene = Scene::host("sec-ambient").await?;
    let mut config = shell("main", "grep -E '^Cap(Eff|Amb):' /proc/self/status | cut -f 2");
    let context = security(&mut config);
    context.run_as_user = int(1000);
    context.capabilities =
        Some(v1::Capability { add_ambient_capabilities: vec!["NET_BIND_SERVICE".into()], ..Default::default() });
    let only = format!("{:016x}", 1 << 10);
    assert_eq!(scene.output(&config).await?, [only.clone(), only.clone()]);
    // What is executed in it later has what it has, and nothing else that is inheritable.
    let rest = security(&mut config).clone();
    let mut config = idle("exec");
    *security(&mut config) = rest;
    let id = scene.run(&config).await?;
    let sets = scene.sh(&id, "grep -E '^Cap(Inh|Prm|Eff|Amb):' /proc/self/status | cut -f 2").await?;
    assert_eq!(sets.split_whitespace().collect::<Vec<_>>(), [only.as_str(); 4]);
    scene.end().await
}

/// Prints the serial number of the session keyring: keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0).
const PRINT_KEYRING: &str = r#"
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) { printf("%ld\n", syscall(SYS_keyctl, 0, -3, 0)); return 0; }
"#;

#[tokio::test]
async fn keys_of_the_daemon_and_of_others_are_out_of_reach() -> Result<()> {
    let scene = Scene::host("sec-keyring").await?;
    let layer = Layer::gzip(Tree::new().file("keyring", 0o755, compile(PRINT_KEYRING)?))?;
    let image = scene.image("sec-keyring", |image| image.layer(layer)).await?;
    let one = scene.output(&cri::container("one", &image, &["/keyring"])).await?;
    let two = scene.output(&cri::container("two", &image, &["/keyring"])).await?;
    let serial = |lines: &[String]| lines.first().and_then(|l| l.parse::<i64>().ok()).unwrap_or(-1);
    assert!(serial(&one) > 0 && serial(&two) > 0, "{one:?} {two:?}");
    assert_ne!(one, two, "each has a session keyring of its own");
    let mut config = cri::container("three", &image, &[]);
    config.command = idle("x").command;
    let three = scene.run(&config).await?;
    let exec: i64 = scene.cri.exec_text(&three, &["/keyring"]).await?.trim().parse()?;
    assert!(exec > 0 && exec != serial(&one) && exec != serial(&two));
    scene.end().await
}

#[tokio::test]
async fn profiles_that_need_no_support_of_the_kernel_are_no_reason_to_refuse() -> Result<()> {
    let scene = Scene::host("sec-apparmor").await?;
    for (name, kind) in [("default", RUNTIME_DEFAULT), ("unconfined", v1::security_profile::ProfileType::Unconfined)] {
        let mut config = shell(name, "echo runs");
        security(&mut config).apparmor = profile(kind, "");
        assert_eq!(scene.output(&config).await?, ["runs"], "{name}");
    }
    scene.end().await
}
