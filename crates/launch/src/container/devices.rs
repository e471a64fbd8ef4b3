//! Device rules: on v1 lines for the container's cgroup; v2 has no files for them, and a BPF program on the cgroup
//! decides (kernel's cgroup-v2.rst, "Device controller").
//!
//! The last rule that matches decides; without any it is "no". The devices that every container has come last, as with
//! runc: any node may be made, and those of the standard set may be opened.

use std::fs;
use std::path::Path;

use cricket_wire::launch_config::LaunchCgroup;
use libcontainer::oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::sys;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
/// `BPF_DEVCG_ACC_MKNOD`, `_READ` and `_WRITE`.
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MKNOD | READ | WRITE;

/// One rule; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    access: i32,
    major: Option<i32>,
    minor: Option<i32>,
}

/// Gives the rules to the container's cgroup.
pub(super) fn restrict(cgroup: &LaunchCgroup, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    let rules: Vec<Rule> = rules.iter().map(Rule::of).collect::<Result<Vec<_>, _>>()?;
    if let Some(directory) = &cgroup.v2_directory {
        return attach(directory, rules);
    }
    let has = |name: &str| name.split(',').any(|controller| controller == "devices");
    match cgroup.v1_directories.iter().find(|own| has(&own.name)) {
        Some(own) => rules.into_iter().chain(standard()).try_for_each(|rule| rule.write(&own.directory)),
        None => Ok(()),
    }
}

fn attach(cgroup: &Path, rules: Vec<Rule>) -> Result<(), Error> {
    let program = compile(rules.into_iter().chain(standard()));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(cgroup, flags, Mode::empty())
        .map_err(|e| Error::io(format!("open {}", cgroup.display()), e))?;
    sys::attach_device_program(&program, &dir)
        .map_err(|e| Error::io(format!("attach device rules to {}", cgroup.display()), e))
}

/// What every container may: see runc's list of allowed devices.
fn standard() -> impl Iterator<Item = Rule> {
    let any = |kind| Rule { allow: true, kind: Some(kind), access: MKNOD, major: None, minor: None };
    let open = |(major, minor)| Rule { allow: true, kind: Some(CHAR), access: ALL, major: Some(major), minor };
    // null, zero, full, random, urandom, tty, console, ptmx, the terminals, tun.
    let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (10, 200)];
    let nodes = nodes.into_iter().map(|(major, minor)| (major, Some(minor))).chain([(136, None)]);
    [any(CHAR), any(BLOCK)].into_iter().chain(nodes.map(open))
}

impl Rule {
    fn of(spec: &LinuxDeviceCgroup) -> Result<Self, Error> {
        let invalid = |what: &str| Error::content(format!("a device rule has the {what}: {spec:?}"));
        let number = |n: Option<i64>| match n {
            None | Some(-1) => Ok(None),
            Some(n) => i32::try_from(n).ok().filter(|n| *n >= 0).map(Some).ok_or_else(|| invalid("wrong number")),
        };
        let kind = match spec.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(BLOCK),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHAR),
            Some(LinuxDeviceType::P) => return Err(invalid("type of a pipe")),
        };
        let mut access = 0;
        for letter in spec.access().as_deref().unwrap_or("rwm").chars() {
            access |= match letter {
                'm' => MKNOD,
                'r' => READ,
                'w' => WRITE,
                _ => return Err(invalid("wrong access")),
            };
        }
        Ok(Self { allow: spec.allow(), kind, access, major: number(spec.major())?, minor: number(spec.minor())? })
    }

    /// v1: what is allowed and denied so far is changed by each rule (kernel's cgroup-v1/devices.rst).
    fn write(self, cgroup: &Path) -> Result<(), Error> {
        let file = cgroup.join(if self.allow { "devices.allow" } else { "devices.deny" });
        for line in self.lines() {
            fs::write(&file, &line).map_err(|e| Error::io(format!("write {line:?} to {}", file.display()), e))?;
        }
        Ok(())
    }

    /// `a` means all devices whatever follows, so that a rule for both kinds with numbers is two.
    fn lines(self) -> Vec<String> {
        let number = |n: Option<i32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let access: String = letters.into_iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, l)| l).collect();
        let line = |kind: char| format!("{kind} {}:{} {access}", number(self.major), number(self.minor));
        match self.kind {
            Some(BLOCK) => vec![line('b')],
            Some(_) => vec![line('c')],
            None if self.access == ALL && self.major.is_none() && self.minor.is_none() => vec!["a".to_owned()],
            None => vec![line('b'), line('c')],
        }
    }

    /// Instructions that answer if the rule matches and go on behind themselves if not.
    fn compile(self) -> Vec<u64> {
        let mut checks: Vec<u64> = Vec::new();
        // Offsets of the jumps are filled in when the length is known.
        checks.extend(self.kind.map(|kind| insn(JNE_IMM, 3, 0, 0, kind)));
        if self.access != ALL {
            checks.push(insn(MOV_REG, 1, 2, 0, 0));
            checks.push(insn(AND_IMM, 1, 0, 0, self.access));
            // All that is wanted is allowed; or anything that is wanted is denied.
            checks.push(if self.allow { insn(JNE_REG, 1, 2, 0, 0) } else { insn(JEQ_IMM, 1, 0, 0, 0) });
        }
        checks.extend(self.major.map(|major| insn(JNE_IMM, 4, 0, 0, major)));
        checks.extend(self.minor.map(|minor| insn(JNE_IMM, 5, 0, 0, minor)));
        let length = checks.len() + 2;
        for (at, check) in checks.iter_mut().enumerate() {
            if [JNE_IMM, JNE_REG, JEQ_IMM].contains(&(*check as u8)) {
                *check |= ((length - at - 1) as u64) << 16;
            }
        }
        checks.extend([insn(MOV_IMM, 0, 0, 0, self.allow.into()), insn(EXIT, 0, 0, 0, 0)]);
        checks
    }
}

// Opcodes (kernel's bpf/standardization/instruction-set.rst).
const LDX_W: u8 = 0x61;
const MOV_REG: u8 = 0xbf;
const MOV_IMM: u8 = 0xb7;
const AND_IMM: u8 = 0x57;
const RSH_IMM: u8 = 0x77;
const JNE_IMM: u8 = 0x55;
const JNE_REG: u8 = 0x5d;
const JEQ_IMM: u8 = 0x15;
const EXIT: u8 = 0x95;

/// One instruction as the kernel reads it from a little-endian machine's memory.
fn insn(code: u8, dst: u8, src: u8, offset: u16, imm: i32) -> u64 {
    u64::from(code) | u64::from(dst | src << 4) << 8 | u64::from(offset) << 16 | u64::from(imm as u32) << 32
}

/// `struct bpf_cgroup_dev_ctx` is in register 1: access and kind in one word, major, minor.
fn compile(rules: impl Iterator<Item = Rule>) -> Vec<u64> {
    let mut program = vec![
        insn(LDX_W, 2, 1, 0, 0),
        insn(LDX_W, 4, 1, 4, 0),
        insn(LDX_W, 5, 1, 8, 0),
        insn(MOV_REG, 3, 2, 0, 0),
        insn(AND_IMM, 3, 0, 0, 0xffff),
        insn(RSH_IMM, 2, 0, 0, 16),
    ];
    // Nothing behind a rule that matches everything can be reached, and the kernel refuses what cannot be.
    let rules: Vec<Rule> = rules.collect();
    for rule in rules.iter().rev() {
        program.extend(rule.compile());
        if rule.kind.is_none() && rule.access == ALL && rule.major.is_none() && rule.minor.is_none() {
            return program;
        }
    }
    program.extend([insn(MOV_IMM, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    use cricket_cgroup::{Cgroup, Hierarchies, Kind};

    /// What a shell in a cgroup with these rules can open. `None` on a host without any v2 hierarchy.
    fn opened(rules: &str, name: &str) -> Option<String> {
        let hierarchies = Hierarchies::detect().expect("cgroups");
        let unified = hierarchies.all().iter().find(|h| h.kind == Kind::V2)?;
        let path = format!("/cricket-devices-{}/{name}", std::process::id()).parse().expect("path");
        let group = Cgroup::create(&hierarchies, &path).expect("create");
        let dir = path.under(&unified.mount);
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(rules).expect("rules");
        let cgroup = LaunchCgroup { v2_directory: Some(dir.clone()), ..Default::default() };
        restrict(&cgroup, &rules).expect("restrict");
        let script = "read go; for d in null zero fuse kmsg; do (: < /dev/$d) 2>/dev/null && echo r:$d; \
                      (: >> /dev/$d) 2>/dev/null && echo w:$d; done; true";
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        fs::write(dir.join("cgroup.procs"), child.id().to_string()).expect("join");
        child.stdin.take().expect("stdin").write_all(b"go\n").expect("go");
        let out = child.wait_with_output().expect("output").stdout;
        group.remove().expect("remove");
        Some(String::from_utf8(out).expect("text").lines().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_last_rule_decides_and_the_standard_ones_stay() {
        let standard = "r:null w:null r:zero w:zero";
        let check = |name, rules, want: &str| {
            if let Some(got) = opened(rules, name) {
                assert_eq!(got, want, "{rules}");
            }
        };
        check("none", "[]", standard);
        check("deny", r#"[{"allow":true,"access":"rwm"},{"allow":false,"access":"rwm"}]"#, standard);
        let all = format!("{standard} r:fuse w:fuse r:kmsg w:kmsg");
        check("all", r#"[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]"#, &all);
        let fuse = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"r"}]"#;
        check("fuse", fuse, &format!("{standard} r:fuse"));
        let but = r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":10,"access":"w"}]"#;
        check("but", but, &format!("{standard} r:fuse r:kmsg w:kmsg"));
        check("block", r#"[{"allow":true,"type":"b","access":"rwm"}]"#, standard);
    }

    #[test]
    fn lines_of_version_1() {
        let lines = |rule: &str| Rule::of(&serde_json::from_str(rule).expect("parses")).expect("rule").lines();
        assert_eq!(lines(r#"{"allow":false,"access":"rwm"}"#), ["a"]);
        assert_eq!(lines(r#"{"allow":true,"type":"c","major":10,"access":"rw"}"#), ["c 10:* rw"]);
        assert_eq!(lines(r#"{"allow":true,"type":"b","major":8,"minor":1,"access":"mr"}"#), ["b 8:1 rm"]);
        assert_eq!(lines(r#"{"allow":true,"access":"m"}"#), ["b *:* m", "c *:* m"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [r#"{"allow":true,"access":"x"}"#, r#"{"allow":true,"type":"p"}"#, r#"{"allow":true,"major":-7}"#] {
            let rule: LinuxDeviceCgroup = serde_json::from_str(bad).expect("parses");
            assert!(Rule::of(&rule).is_err(), "{bad}");
        }
    }
}
