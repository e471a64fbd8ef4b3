//! Compiles a profile with libseccomp.

use std::fs::File;
use std::io::{self, Read, Seek};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

use super::prologue::{self, Newer};
use super::{Arg, Profile, Program, Syscalls};
use crate::error::{Doing, Error, Result};

/// Compiles `profile` for this machine's architecture and those it lists, as a binary tree. Returns the program and
/// the flags for [`Program::load`].
///
/// Calls that neither this release nor the system's libseccomp knows are left to the default action, as the OCI
/// specification's implementations do; calls newer than the library answer `ENOSYS` unless the profile names them, so
/// that programs fall back to older ones. Takes milliseconds for each architecture: compile once and keep the program.
pub fn compile(profile: &Profile) -> Result<(Program, u32)> {
    let action = || "compile a seccomp profile";
    if profile.listener_path.as_ref().is_some_and(|path| !path.is_empty()) {
        return Err(Error::invalid(action(), "notifications (listenerPath) are not supported"));
    }
    let default = parse_action(&profile.default_action, profile.default_errno_ret)?;
    let mut filter = ScmpFilterContext::new(default).map_err(library).doing(action)?;
    add_architectures(&mut filter, profile)?;
    let mut newer = Newer::default();
    for (index, rule) in profile.syscalls.iter().enumerate() {
        add_rule(&mut filter, &mut newer, default, rule).map_err(|error| {
            Error::new(format!("compile rule {index} of a seccomp profile"), io::Error::other(error.to_line()))
        })?;
    }
    // Loading is not done by the library, so no_new_privs is not its business either.
    filter.set_ctl_nnp(false).and_then(|filter| filter.set_ctl_optimize(2)).map_err(library).doing(action)?;
    let bytes = export(&filter).doing(action)?;
    let bytes = match default {
        ScmpAction::Errno(_) | ScmpAction::KillThread | ScmpAction::KillProcess | ScmpAction::Trap => {
            prologue::prepend(bytes, &newer)
        }
        _ => bytes,
    };
    Ok((Program::from_bytes(bytes)?, flags(&profile.flags)?))
}

fn add_architectures(filter: &mut ScmpFilterContext, profile: &Profile) -> Result<()> {
    for name in &profile.architectures {
        let action = || format!("add the architecture {name} to a seccomp filter");
        let architecture: ScmpArch = name.parse().map_err(library).doing(action)?;
        filter.add_arch(architecture).map_err(library).doing(action)?;
    }
    Ok(())
}

fn add_rule(filter: &mut ScmpFilterContext, newer: &mut Newer, default: ScmpAction, rule: &Syscalls) -> Result<()> {
    let action = parse_action(&rule.action, rule.errno_ret)?;
    let alternatives = conditions(&rule.args)?;
    for name in &rule.names {
        let Ok(call) = ScmpSyscall::from_name(name) else {
            if rule.args.is_empty() {
                newer.add(name, kernel_action(action));
            }
            continue;
        };
        if action == default {
            // The library refuses rules that say what happens anyway.
            continue;
        }
        for conditions in &alternatives {
            let added = match conditions.is_empty() {
                true => filter.add_rule(action, call),
                false => filter.add_rule_conditional(action, call, conditions),
            };
            added.map_err(library).doing(|| format!("add {name} to a seccomp filter"))?;
        }
    }
    Ok(())
}

/// Each alternative's conditions. The library takes one condition for each argument: where a rule has several on one
/// argument, every condition is an alternative of its own.
fn conditions(args: &[Arg]) -> Result<Vec<Vec<ScmpArgCompare>>> {
    let compares: Vec<_> = args.iter().map(condition).collect::<Result<_>>()?;
    let repeated = args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|other| other.index == arg.index));
    Ok(match repeated {
        true => compares.into_iter().map(|compare| vec![compare]).collect(),
        false => vec![compares],
    })
}

fn condition(arg: &Arg) -> Result<ScmpArgCompare> {
    let action = || format!("take a condition on argument {}", arg.index);
    if arg.index > 5 {
        return Err(Error::invalid(action(), "a call has six arguments"));
    }
    let compare = match arg.op.as_str() {
        "SCMP_CMP_NE" => ScmpCompareOp::NotEqual,
        "SCMP_CMP_LT" => ScmpCompareOp::Less,
        "SCMP_CMP_LE" => ScmpCompareOp::LessOrEqual,
        "SCMP_CMP_EQ" => ScmpCompareOp::Equal,
        "SCMP_CMP_GE" => ScmpCompareOp::GreaterEqual,
        "SCMP_CMP_GT" => ScmpCompareOp::Greater,
        "SCMP_CMP_MASKED_EQ" => {
            return Ok(ScmpArgCompare::new(arg.index, ScmpCompareOp::MaskedEqual(arg.value), arg.value_two));
        }
        other => return Err(Error::invalid(action(), format!("unknown comparison {other:?}"))),
    };
    Ok(ScmpArgCompare::new(arg.index, compare, arg.value))
}

fn parse_action(name: &str, value: Option<u32>) -> Result<ScmpAction> {
    let action = || format!("take the seccomp action {name:?}");
    if name == "SCMP_ACT_NOTIFY" {
        return Err(Error::invalid(action(), "notifications are not supported"));
    }
    // The kernel keeps 16 bits of data, and no error number is above 4095.
    let limit = if name == "SCMP_ACT_ERRNO" { 4095 } else { u32::from(u16::MAX) };
    let value = value.unwrap_or(libc::EPERM as u32);
    if value > limit {
        return Err(Error::invalid(action(), format!("the value {value} is above {limit}")));
    }
    ScmpAction::from_str(name, Some(value as i32)).map_err(library).doing(action)
}

/// The value that a filter returns for it (`SECCOMP_RET_*`).
fn kernel_action(action: ScmpAction) -> u32 {
    match action {
        ScmpAction::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        ScmpAction::Trap => libc::SECCOMP_RET_TRAP,
        ScmpAction::Errno(value) => libc::SECCOMP_RET_ERRNO | value as u32,
        ScmpAction::Trace(value) => libc::SECCOMP_RET_TRACE | u32::from(value),
        ScmpAction::Log => libc::SECCOMP_RET_LOG,
        ScmpAction::Allow => libc::SECCOMP_RET_ALLOW,
        // Among them what later versions of the library add: the strictest answer.
        _ => libc::SECCOMP_RET_KILL_THREAD,
    }
}

fn flags(names: &[String]) -> Result<u32> {
    names.iter().try_fold(0, |flags, name| {
        let flag = match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            _ => return Err(Error::invalid(format!("take the seccomp flag {name:?}"), "unknown")),
        };
        Ok(flags | flag as u32)
    })
}

fn export(filter: &ScmpFilterContext) -> io::Result<Vec<u8>> {
    let mut file = File::from(rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC)?);
    filter.export_bpf(&file).map_err(library)?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn library(error: SeccompError) -> io::Error {
    match error.errno() {
        Some(errno) => io::Error::from_raw_os_error(errno as i32),
        None => io::Error::new(io::ErrorKind::InvalidInput, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(names: &[&str], action: &str) -> Syscalls {
        Syscalls { names: names.iter().map(|n| (*n).to_owned()).collect(), action: action.into(), ..Default::default() }
    }

    fn denying(syscalls: Vec<Syscalls>) -> Profile {
        Profile { default_action: "SCMP_ACT_ALLOW".into(), syscalls, ..Default::default() }
    }

    /// The errno of a call under a profile, on a thread of its own; 0: it worked.
    fn errno_under(profile: &Profile, call: impl FnOnce() -> i64 + Send + 'static) -> i32 {
        let (program, flags) = compile(profile).expect("compile");
        std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).expect("no_new_privs");
            program.load(flags).expect("load");
            if call() == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
        })
        .join()
        .expect("join")
    }

    fn number(call: libc::c_long) -> impl FnOnce() -> i64 + Send + 'static {
        // SAFETY: calls of the tests take no pointers.
        move || unsafe { libc::syscall(call, 0, 0, 0, 0, 0, 0) }
    }

    #[test]
    fn rules_conditions_and_errnos() {
        let mut denied = rule(&["getppid", "no_such_call_of_any_kernel"], "SCMP_ACT_ERRNO");
        denied.errno_ret = Some(77);
        assert_eq!(errno_under(&denying(vec![denied.clone()]), number(libc::SYS_getppid)), 77);
        assert_eq!(errno_under(&denying(vec![denied]), number(libc::SYS_gettid)), 0);

        let on = |index, value, op: &str| Arg { index, value, value_two: 0, op: op.into() };
        let mut personality = rule(&["personality"], "SCMP_ACT_ERRNO");
        personality.args = vec![on(0, 7, "SCMP_CMP_EQ"), on(0, 8, "SCMP_CMP_EQ")];
        // SAFETY: an integer argument; an unknown persona changes nothing that is looked at.
        let persona = |value: u64| move || unsafe { libc::syscall(libc::SYS_personality, value) };
        assert_eq!(errno_under(&denying(vec![personality.clone()]), persona(8)), libc::EPERM);
        assert_eq!(errno_under(&denying(vec![personality]), persona(0)), 0);
    }

    #[test]
    fn newer_calls_than_the_library_knows_are_missing_rather_than_forbidden() {
        let all: Vec<String> = (0..prologue::FIRST_KNOWN_NAME as i32)
            .filter_map(|number| ScmpSyscall::from(number).get_name().ok())
            .collect();
        let allow: Vec<&str> = all.iter().map(String::as_str).filter(|name| *name != "getppid").collect();
        let mut profile = Profile {
            default_action: "SCMP_ACT_ERRNO".into(),
            architectures: vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()],
            syscalls: vec![rule(&allow, "SCMP_ACT_ALLOW")],
            ..Default::default()
        };
        if !cfg!(target_arch = "x86_64") {
            profile.architectures.clear();
        }
        assert_eq!(errno_under(&profile, number(libc::SYS_getppid)), libc::EPERM);
        assert_eq!(errno_under(&profile, number(600)), libc::ENOSYS);
        assert_eq!(errno_under(&profile, number(libc::SYS_gettid)), 0);
        // A call of the table that the profile allows reaches the kernel, even if the library is too old for it.
        let unnamed = if ScmpSyscall::from_name("mseal").is_ok() { libc::EPERM } else { libc::ENOSYS };
        assert_eq!(errno_under(&profile, number(462)), unnamed);
        profile.syscalls.push(rule(&["mseal"], "SCMP_ACT_ALLOW"));
        // An unaligned address is the kernel's own answer, EINVAL; a kernel without it says ENOSYS.
        // SAFETY: nothing is sealed: the address is not a page's.
        let answer = errno_under(&profile, || unsafe { libc::syscall(462, 1, 0, 0) });
        let own = std::thread::spawn(|| {
            // SAFETY: as above.
            unsafe { libc::syscall(462, 1, 0, 0) };
            io::Error::last_os_error().raw_os_error()
        });
        assert_eq!(Some(answer), own.join().expect("join"));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let mut profile = denying(vec![rule(&["getppid"], "SCMP_ACT_NOTIFY")]);
        assert!(compile(&profile).is_err());
        profile.syscalls = vec![rule(&["getppid"], "SCMP_ACT_FLY")];
        assert!(compile(&profile).is_err());
        profile.syscalls[0].action = "SCMP_ACT_ERRNO".into();
        profile.syscalls[0].errno_ret = Some(5000);
        assert!(compile(&profile).is_err());
        profile.syscalls.clear();
        profile.listener_path = Some("/run/x".into());
        assert!(compile(&profile).is_err());
        profile.listener_path = None;
        profile.flags = vec!["SECCOMP_FILTER_FLAG_FLY".into()];
        assert!(compile(&profile).is_err());
        profile.flags = vec!["SECCOMP_FILTER_FLAG_LOG".into()];
        profile.architectures = vec!["SCMP_ARCH_ABACUS".into()];
        assert!(compile(&profile).is_err());
        profile.architectures.clear();
        assert_eq!(compile(&profile).expect("compile").1, 2);
    }

    #[test]
    fn profiles_are_read_as_the_specification_writes_them() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW",
                         "args":[{"index":1,"value":2,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let profile: Profile = serde_json::from_str(text).expect("parse");
        assert_eq!(profile.default_errno_ret, Some(38));
        assert_eq!(profile.syscalls[0].args[0].value_two, 3);
    }
}
