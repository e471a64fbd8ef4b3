//! The process of an exec in a running container: everything the container's own process has, so never more.

use oci_spec::runtime::{Process, Spec};

use crate::args::check_strings;
use crate::error::{Error, Result};

/// The process of an exec in the container that `spec` describes: its environment, user, capabilities, working
/// directory, limits and profiles, with `command` as its arguments; with `tty` a terminal, and TERM if there is none.
///
/// # Errors
/// When `command` is empty or no execve(2) would take it, or `spec` has no process.
pub fn exec_process(spec: &Spec, command: &[String], tty: bool) -> Result<Process> {
    if command.is_empty() {
        return Err(Error::invalid("cmd", "is empty"));
    }
    check_strings("cmd", command)?;
    let mut process = spec.process().clone().ok_or(Error::Missing("the process of the container's specification"))?;
    if tty {
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        process.set_env(Some(env));
    }
    process.set_args(Some(command.to_vec())).set_terminal(Some(tty)).set_console_size(None);
    Ok(process)
}
