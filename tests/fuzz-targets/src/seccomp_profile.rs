//! Seccomp profiles of the node: OCI's form and Docker's.

use cricket_oci::fuzzing::seccomp;
use cricket_oci::oci_spec::runtime::{Capability, LinuxSeccomp, LinuxSeccompAction};
use cricket_process::seccomp::{Profile, compile};

/// Nothing that would hang a container is let through, what was read survives the specification, and what can be
/// compiled is a program that the kernel takes the size of. The first byte says which capabilities and kernel there are.
pub fn run(data: &[u8]) {
    let (choice, json) = data.split_first().unwrap_or((&0, &[]));
    let all = [Capability::SysAdmin, Capability::SysPtrace, Capability::NetRaw, Capability::SysTime];
    let held = all.into_iter().enumerate().filter(|(i, _)| choice & 1 << i != 0).map(|(_, c)| c).collect();
    let kernel = if choice & 16 != 0 { (5, 14) } else { (0, 0) };
    let Ok(profile) = seccomp(json, &held, kernel) else { return };
    assert!(profile.default_action() != LinuxSeccompAction::ScmpActNotify && profile.listener_path().is_none());
    for rule in profile.syscalls().iter().flatten() {
        assert!(!rule.names().is_empty() && rule.action() != LinuxSeccompAction::ScmpActNotify);
        assert!(rule.args().iter().flatten().all(|arg| arg.index() <= 5));
    }
    let text = serde_json::to_string(&profile).expect("JSON");
    assert_eq!(serde_json::from_str::<LinuxSeccomp>(&text).ok().as_ref(), Some(&profile));
    let Ok(profile) = serde_json::from_str::<Profile>(&text) else { panic!("the compiler reads another form: {text}") };
    // Compiling thousands of names takes the library seconds.
    let names: usize = profile.syscalls.iter().map(|rule| rule.names.len()).sum();
    if names <= 64
        && profile.architectures.len() <= 4
        && let Ok((program, _)) = compile(&profile)
    {
        assert!((1..=4096).contains(&(program.as_bytes().len() / 8)) && program.as_bytes().len().is_multiple_of(8));
    }
}
