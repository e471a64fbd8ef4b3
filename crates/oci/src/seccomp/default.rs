//! The built-in `RuntimeDefault` profile for a set of capabilities and an architecture.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::table::{BY_ARCHITECTURE, BY_CAPABILITY, UNCONDITIONAL};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The namespace flags of clone(2): NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// personality(2): Linux, Linux with 32-bit uname, the same with UNAME26, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The socket families below 64 but for AF_ALG (38) and AF_VSOCK (40), as (mask, value) pairs: the kernel crypto API
/// and the hypervisor's sockets are not namespaced. Masks compare the 32 bits that the kernel looks at, and each
/// pair is a rule of its own, because conditions on one argument within a rule are not combined alike everywhere.
const SOCKET_FAMILIES: [(u64, u64); 8] = [
    (0xffff_ffe0, 0),  // 0–31
    (0xffff_fffc, 32), // 32–35
    (0xffff_fffe, 36), // 36, 37
    (0xffff_ffff, 39),
    (0xffff_ffff, 41),
    (0xffff_fffe, 42), // 42, 43
    (0xffff_fffc, 44), // 44–47
    (0xffff_fff0, 48), // 48–63
];

/// The profile for a container with these capabilities on `architecture` (as [`std::env::consts::ARCH`] spells it).
pub fn default_profile(capabilities: &Capabilities, architecture: &str) -> LinuxSeccomp {
    let mut names: Vec<&str> = UNCONDITIONAL.iter().flat_map(|group| group.iter().copied()).collect();
    for (architectures, extra) in BY_ARCHITECTURE {
        if architectures.contains(&architecture) {
            names.extend(*extra);
        }
    }
    for (capability, extra) in BY_CAPABILITY {
        if capabilities.contains(capability) {
            names.extend(*extra);
        }
    }
    names.sort_unstable();
    names.dedup();

    let mut rules = vec![rule(&names, LinuxSeccompAction::ScmpActAllow, None, vec![])];
    for (mask, family) in SOCKET_FAMILIES {
        rules.push(allow("socket", masked(0, mask, family)));
    }
    for personality in PERSONALITIES {
        rules.push(allow("personality", equal(0, personality)));
    }
    if !capabilities.contains(&Capability::SysAdmin) {
        // clone(2) on s390 takes the flags as its second argument.
        let flags = usize::from(architecture == "s390x");
        rules.push(allow("clone", masked(flags, NAMESPACE_FLAGS, 0)));
        // The flags of clone3 are behind a pointer; ENOSYS makes the C libraries fall back to clone.
        rules.push(rule(&["clone3"], LinuxSeccompAction::ScmpActErrno, Some(ENOSYS), vec![]));
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(architectures(architecture)))
        .set_syscalls(Some(rules));
    profile
}

/// The architecture and those whose programs its kernel runs as well.
pub(super) fn architectures(native: &str) -> Vec<Arch> {
    match native {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        "s390x" => vec![Arch::ScmpArchS390x, Arch::ScmpArchS390],
        "riscv64" => vec![Arch::ScmpArchRiscv64],
        _ => vec![Arch::ScmpArchNative],
    }
}

fn rule(names: &[&str], action: LinuxSeccompAction, errno: Option<u32>, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect())
        .set_action(action)
        .set_errno_ret(errno)
        .set_args((!args.is_empty()).then_some(args));
    rule
}

fn allow(name: &str, arg: LinuxSeccompArg) -> LinuxSyscall {
    rule(&[name], LinuxSeccompAction::ScmpActAllow, None, vec![arg])
}

fn equal(index: usize, value: u64) -> LinuxSeccompArg {
    let arg = LinuxSeccompArgBuilder::default().index(index).value(value).op(LinuxSeccompOperator::ScmpCmpEq);
    arg.build().expect("every field has a default")
}

/// `argument & mask == value`; runtime-spec puts the mask into `value` and the datum into `valueTwo`.
fn masked(index: usize, mask: u64, value: u64) -> LinuxSeccompArg {
    let arg = LinuxSeccompArgBuilder::default().index(index).value(mask).value_two(value);
    arg.op(LinuxSeccompOperator::ScmpCmpMaskedEq).build().expect("every field has a default")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps::DEFAULT;

    fn profile(extra: &[Capability]) -> LinuxSeccomp {
        default_profile(&DEFAULT.into_iter().chain(extra.iter().copied()).collect(), "x86_64")
    }

    /// Whether a 64-bit first argument is let through for a call, as the kernel's filter would decide.
    fn allows(profile: &LinuxSeccomp, name: &str, argument: u64) -> bool {
        profile.syscalls().iter().flatten().filter(|rule| rule.names().iter().any(|n| n == name)).any(|rule| {
            let matches = |arg: &LinuxSeccompArg| match arg.op() {
                LinuxSeccompOperator::ScmpCmpEq => argument == arg.value(),
                LinuxSeccompOperator::ScmpCmpMaskedEq => argument & arg.value() == arg.value_two().unwrap_or(0),
                other => panic!("unexpected operator {other}"),
            };
            rule.action() == LinuxSeccompAction::ScmpActAllow && rule.args().iter().flatten().all(matches)
        })
    }

    #[test]
    fn only_the_kernels_crypto_and_vsock_families_are_denied() {
        let profile = profile(&[]);
        for family in 0..64 {
            assert_eq!(allows(&profile, "socket", family), family != 38 && family != 40, "{family}");
            // The kernel truncates to 32 bits; the filter must not be fooled by the upper ones.
            assert_eq!(allows(&profile, "socket", family | 1 << 32), family != 38 && family != 40, "{family}");
        }
    }

    #[test]
    fn namespaces_need_sys_admin() {
        let plain = profile(&[]);
        assert!(allows(&plain, "clone", 0x0012_0011 & !0x2_0000));
        for bit in [0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert!(!allows(&plain, "clone", 0x11 | bit), "{bit:#x}");
        }
        for name in ["unshare", "setns", "mount", "clone3", "bpf"] {
            assert!(!allows(&plain, name, 0), "{name}");
            assert!(allows(&profile(&[Capability::SysAdmin]), name, 0), "{name}");
        }
        let clone3 = plain.syscalls().iter().flatten().find(|rule| rule.names() == &["clone3"]).unwrap().clone();
        assert_eq!(clone3.errno_ret(), Some(ENOSYS));
    }

    #[test]
    fn dangerous_calls_are_denied_and_common_ones_are_not() {
        let all: Capabilities = BY_CAPABILITY.iter().map(|(capability, _)| *capability).collect();
        for name in ["io_uring_setup", "kexec_load", "userfaultfd", "swapon", "nfsservctl", "pivot_root", "keyctl"] {
            assert!(!allows(&profile(&[]), name, 0), "{name}");
        }
        for name in ["kexec_load", "swapon"] {
            assert!(!allows(&default_profile(&all, "x86_64"), name, 0), "{name}");
        }
        for name in ["read", "execve", "futex", "openat2", "arch_prctl", "chroot", "fchmodat2", "rseq"] {
            assert!(allows(&profile(&[]), name, 0), "{name}");
        }
        assert!(allows(&profile(&[]), "personality", 8) && !allows(&profile(&[]), "personality", 0x40_0000));
        assert!(!allows(&default_profile(&all, "aarch64"), "arch_prctl", 0));
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut seen = std::collections::HashSet::new();
        for name in UNCONDITIONAL.iter().flat_map(|group| group.iter()) {
            assert!(seen.insert(name), "{name}");
            assert!(!["clone", "clone3", "socket", "personality"].contains(name));
        }
    }
}
