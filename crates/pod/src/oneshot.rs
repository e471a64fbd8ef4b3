//! Orders to the launch helper that make no process: what an OCI runtime keeps of a container is deleted with its binary,
//! and poststop hooks are run.

use std::os::fd::OwnedFd;

use cricket_model::ErrorKind;
use cricket_process::Spawn;
use cricket_wire::helper::{CONFIG_FD, MAX_REPORT, REPORT_FD, Report};
use cricket_wire::launch_config::LaunchConfig;
use prost::Message as _;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use crate::error::{Error, Result};
use crate::exec::memfd_json;
use crate::shared::Shared;

/// Runs the launch helper with this order and waits for it. Blocks.
///
/// # Errors
/// What the helper reported.
pub(crate) fn run(shared: &Shared, order: &LaunchConfig) -> Result<()> {
    let config = memfd_json(order)?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null: OwnedFd = null.map_err(|e| Error::internal("open /dev/null", &e))?.into();
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| Error::internal("make a socket pair", &e))?;
    let what = match order {
        LaunchConfig::Poststop(_) => "poststop",
        _ => "order",
    };
    let child = Spawn::new(&shared.helpers.launch, ["cricket-launch", what])
        .fd(0, &null)
        .fd(1, &null)
        .fd(2, &null)
        .fd(REPORT_FD, &theirs)
        .fd(CONFIG_FD, &config)
        .spawn();
    let mut child = child.map_err(|e| Error::internal("start the launch helper", &e))?;
    drop(theirs);
    let status = child.wait().map_err(|e| Error::internal("wait for the launch helper", &e))?;
    let mut buffer = vec![0u8; MAX_REPORT];
    let length = rustix::net::recv(&ours, &mut buffer[..], RecvFlags::DONTWAIT).map_or(0, |(_, length)| length);
    let report = Report::decode(&buffer[..length.min(MAX_REPORT)]).unwrap_or_default();
    match (report.error, status.shell_code()) {
        (None, 0) => Ok(()),
        (Some(failure), _) => Err(Error::new(ErrorKind::Internal, failure.message)),
        (None, code) => Err(Error::new(ErrorKind::Internal, format_args!("the launch helper ended with {code}"))),
    }
}
