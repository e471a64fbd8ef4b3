//! What a container cannot see or do.

use std::fs;

use cricket_process::memfd;
use serde_json::json;

use crate::harness::Fixture;

/// `ld nr; jeq uname, deny; allow; deny: EPERM` for x86-64 and its like.
fn deny_uname() -> Vec<u8> {
    let nr = libc::SYS_uname as u32;
    let program: [(u16, u8, u8, u32); 4] =
        [(0x20, 0, 0, 0), (0x15, 1, 0, nr), (0x06, 0, 0, 0x7fff_0000), (0x06, 0, 0, 0x0005_0000 | libc::EPERM as u32)];
    let bytes = |(code, jt, jf, k): (u16, u8, u8, u32)| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
        bytes
    };
    program.into_iter().flat_map(bytes).collect()
}

#[test]
fn no_descriptor_but_stdio() {
    let script = "n=3; while [ $n -le 64 ]; do [ -e /proc/$$/fd/$n ] && echo open $n; n=$((n+1)); done; true";
    assert_eq!(Fixture::shell(script).launch().output(), "");
}

#[test]
fn capabilities_and_no_new_privileges() {
    let status = |fixture: Fixture| fixture.launch().output();
    let out = status(Fixture::shell("cat /proc/self/status"));
    // CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, MKNOD.
    for line in [
        "CapInh:\t0000000000000000",
        "CapBnd:\t00000000080000eb",
        "CapEff:\t00000000080000eb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let mut fixture = Fixture::shell("cat /proc/self/status");
    fixture.spec["process"]["user"] = json!({"uid": 5, "gid": 5});
    fixture.spec["process"]["noNewPrivileges"] = false.into();
    let caps = &mut fixture.spec["process"]["capabilities"];
    caps["effective"] = json!(["CAP_KILL"]);
    caps["permitted"] = json!(["CAP_KILL"]);
    caps["inheritable"] = json!(["CAP_KILL"]);
    caps["ambient"] = json!(["CAP_KILL"]);
    let out = status(fixture);
    for line in ["CapEff:\t0000000000000020", "CapAmb:\t0000000000000020", "NoNewPrivs:\t0"] {
        assert!(out.contains(line), "{line}: {out}");
    }
}

#[test]
fn a_compiled_seccomp_program_applies_with_and_without_no_new_privileges() {
    // One open file for both: a launch must not depend on where the one before stopped reading.
    let program = memfd::config(&deny_uname()).expect("memfd");
    for no_new_privileges in [true, false] {
        let mut fixture = Fixture::shell("uname 2>&1; grep_seccomp=$(cat /proc/self/status); echo \"$grep_seccomp\"");
        fixture.spec["process"]["noNewPrivileges"] = no_new_privileges.into();
        fixture.seccomp = Some(program.try_clone().expect("descriptor"));
        let out = fixture.launch().output();
        assert!(out.contains("Seccomp:\t2"), "{no_new_privileges}: {out}");
        assert!(!out.contains("Linux"), "{no_new_privileges}: {out}");
    }
}

#[test]
fn a_seccomp_profile_without_its_program_is_refused() {
    let mut fixture = Fixture::shell("true");
    fixture.spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    assert!(fixture.launch().failure().message.contains("no compiled program"));
}

#[test]
fn masked_and_read_only_paths() {
    let script = "cat /etc/masked; ls /sys/firmware; echo 1 > /proc/sys/kernel/sysrq && echo written; true";
    let fixture = Fixture::shell(script);
    fs::write(fixture.rootfs().join("etc/masked"), "secret").expect("write");
    let (_, out, err) = fixture.launch().finish();
    assert_eq!(out, "");
    assert!(err.contains("/proc/sys/kernel/sysrq"), "{err}");
}

#[test]
fn control_groups_are_read_only() {
    let script = "cd /sys/fs/cgroup; ls; for f in */memory.limit_in_bytes */pids.max memory.max pids.max; do \
                  [ -e $f ] && { echo 77777 > $f && echo written $f; }; done; touch new && echo made; true";
    let (_, out, err) = Fixture::shell(script).launch().finish();
    assert!(out.contains("memory") || out.contains("cgroup.procs"), "{out}");
    assert!(!out.contains("written") && !out.contains("made"), "{out}");
    assert!(err.contains("Read-only file system") || err.contains("read-only"), "{err}");
}

#[test]
fn devices_are_denied_but_for_the_standard_ones() {
    // Making a node of any device is allowed, as by runc; opening it is what counts.
    fs::File::open("/dev/fuse").expect("the host's device, for comparison");
    let script = "echo x > /dev/null && echo null; mknod /tmp/fuse c 10 229; mknod /tmp/zero c 1 5; \
                  head -c 1 /tmp/zero > /dev/null && echo zero; (: < /tmp/fuse) && echo opened; true";
    let (_, out, err) = Fixture::shell(script).launch().finish();
    assert_eq!(out, "null\nzero\n");
    assert!(err.contains("/tmp/fuse: Operation not permitted"), "{err}");
}

#[test]
fn mounts_stay_in_the_container_and_read_only_goes_all_the_way() {
    let mut fixture =
        Fixture::shell("touch /vol/x && echo top; touch /vol/sub/x && echo below; cat /proc/self/mountinfo");
    let volume = fixture.dir.path().join("volume");
    let below = volume.join("sub");
    fs::create_dir_all(&below).expect("mkdir");
    cricket_process::mounts::tmpfs(&below, 1 << 20, 0o755).expect("tmpfs");
    fixture.mount("/vol", &volume, &["rbind", "rro"]);
    let before = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let (_, out, _) = fixture.launch().finish();
    assert!(out.contains(" /vol/sub ") && !out.contains("top") && !out.contains("below\n"), "{out}");
    let after = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let own = |text: &str| text.lines().filter(|l| l.contains(&fixture.dir.path().display().to_string())).count();
    assert_eq!(own(&before), own(&after), "{after}");
    cricket_process::mounts::unmount_all(&below).expect("unmount");
}
