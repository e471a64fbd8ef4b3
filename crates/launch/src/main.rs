//! Makes a container from an OCI bundle: with libcontainer, or with an OCI runtime's binary.
//!
//! A short-lived, single-threaded helper of a pod's monitor; `cricket_wire::helper` says what it finds when it starts
//! and how it reports. It is the only program that links libcontainer, which clones and runs Rust code in the child
//! without exec, changes its caller, and reads the environment: none of that may happen in the daemon or a monitor.
//!
//! Invariants: nothing is read from the environment (but for the name of [`keep`]); every descriptor above 2 is close-on-exec before anything else
//! happens; what the helper makes for itself is removed before it ends, however it ends but by SIGKILL. A parent whose
//! helper did not exit with 0 kills the container's control group: an init that waits for its start may be in it. It
//! dies with its parent, so that nothing enters that group after such a kill; but for poststop hooks, which enter none.

mod command;
mod console;
mod container;
mod error;
mod keep;
mod oci_cli;
mod poststop;
mod report;
mod shim;
mod sys;

use std::fs::File;
use std::io::Read;
use std::process::ExitCode;

use cricket_wire::helper::{CONFIG_FD, REPORT_FD};
use cricket_wire::launch_config::LaunchConfig;

use error::Error;
use report::Reporter;

/// Largest configuration.
const MAX_CONFIG: u64 = 1 << 20;

fn main() -> ExitCode {
    if keep::is_meant() {
        return keep::run();
    }
    if shim::keep::is_meant() {
        return shim::keep::run();
    }
    // Before anything is opened: descriptors of the protocol must never reach a container.
    let inherited = sys::protect_descriptors();
    let Some(socket) = inherited.ok().and_then(|()| sys::take(REPORT_FD)) else {
        return ExitCode::from(2);
    };
    if sys::end_with_parent(&socket).is_err() {
        return ExitCode::from(2);
    }
    let mut reporter = Reporter::new(socket);
    match read_config().and_then(|config| run(config, &mut reporter)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            reporter.failure(error.into_failure());
            ExitCode::FAILURE
        }
    }
}

fn read_config() -> Result<LaunchConfig, Error> {
    let fd = sys::take(CONFIG_FD).ok_or_else(|| Error::host("no configuration was given"))?;
    let mut text = String::new();
    let file = File::from(fd);
    file.take(MAX_CONFIG).read_to_string(&mut text).map_err(|e| Error::io("read the configuration", e))?;
    serde_json::from_str(&text).map_err(|e| Error::host(format!("parse the configuration: {e}")))
}

fn run(config: LaunchConfig, reporter: &mut Reporter) -> Result<(), Error> {
    match config {
        LaunchConfig::Youki(config) => container::run(&config, reporter),
        LaunchConfig::OciCli(config) => oci_cli::run(&config, reporter),
        LaunchConfig::Shim(config) => shim::run(&config, reporter),
        LaunchConfig::Poststop(config) => poststop::run(&config),
    }
}
