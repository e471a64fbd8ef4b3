//! The seccomp policy.

use std::path::PathBuf;

use cricket_oci::oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

use crate::api;
use crate::error::Result;

use super::{named, part};

const FIELD: &str = "seccomp policy";

pub(super) fn seccomp(asked: &api::LinuxSeccomp) -> Result<LinuxSeccomp> {
    let mut policy = LinuxSeccomp::default();
    policy
        .set_default_action(named(FIELD, &asked.default_action)?)
        .set_default_errno_ret(asked.default_errno.map(|errno| errno.value))
        .set_architectures(Some(all(&asked.architectures)?))
        .set_flags((!asked.flags.is_empty()).then(|| all(&asked.flags)).transpose()?)
        .set_listener_path((!asked.listener_path.is_empty()).then(|| PathBuf::from(&asked.listener_path)))
        .set_listener_metadata((!asked.listener_metadata.is_empty()).then(|| asked.listener_metadata.clone()))
        .set_syscalls(Some(asked.syscalls.iter().map(syscall).collect::<Result<_>>()?));
    Ok(policy)
}

fn all<T: serde::de::DeserializeOwned>(names: &[String]) -> Result<Vec<T>> {
    names.iter().map(|name| named(FIELD, name)).collect()
}

fn syscall(asked: &api::LinuxSyscall) -> Result<LinuxSyscall> {
    let arg = |arg: &api::LinuxSeccompArg| {
        let (index, value, value_two, op) = (arg.index, arg.value, arg.value_two, &arg.op);
        part(FIELD, serde_json::json!({ "index": index, "value": value, "valueTwo": value_two, "op": op }))
    };
    let args = asked.args.iter().map(arg).collect::<Result<Vec<LinuxSeccompArg>>>()?;
    let mut syscall = LinuxSyscall::default();
    syscall
        .set_names(asked.names.clone())
        .set_action(named(FIELD, &asked.action)?)
        .set_errno_ret(asked.errno_ret.map(|errno| errno.value))
        .set_args((!args.is_empty()).then_some(args));
    Ok(syscall)
}
