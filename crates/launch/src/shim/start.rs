//! The start of a pod's shim. What says where it listens, in the bundle of the pod's first container, is there before the
//! shim is, empty: one whose start was cut off is found again by starting it again, which answers with the one there is.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use cricket_shim::messages::{Any, RuncOptions, RuntimeOptions};
use cricket_shim::{Bootstrap, MAX_ANSWER, Place};
use cricket_wire::launch_config::{SHIM_BOOTSTRAP, SYSTEM_PATH, ShimOptions};

use super::told::Told;
use super::{Shim, TIMEOUT, failed};
use crate::command::wait;
use crate::error::Error;

/// containerd's namespace of all that Kubernetes runs; shims know it by this name.
const NAMESPACE: &str = "k8s.io";
/// Newest version of the task service that is spoken.
const MAX_VERSION: &str = "3";
/// `start` boots what a sandbox is.
const START_TIMEOUT: Duration = Duration::from_secs(60);

impl Shim<'_> {
    /// Runs `start`, and keeps what it answers; and what hears the shim from then on.
    pub(super) fn start(&self) -> Result<(Bootstrap, Told), Error> {
        let bundle = &self.config.bundle;
        let io = |e: std::io::Error| Error::io(format!("prepare {} for a shim", bundle.display()), e);
        let told = Told::prepare(bundle).map_err(io)?;
        fs::write(self.bootstrap_path(), "").map_err(io)?;
        match self.run_start(START_TIMEOUT) {
            Ok(shim) => Ok((shim, told)),
            Err((error, left)) => {
                if !left {
                    let _ = fs::remove_file(self.bootstrap_path());
                }
                Err(error)
            }
        }
    }

    /// Where the pod's shim listens; of one whose start was cut off, too.
    pub(super) fn find(&self) -> Result<Bootstrap, Error> {
        let path = self.bootstrap_path();
        if !self.is_first() || !fs::metadata(&path).is_ok_and(|meta| meta.len() == 0) {
            return self.bootstrap();
        }
        // A shim opens its log when it starts, and waits for somebody who reads it.
        let told =
            Told::prepare(&self.config.bundle).map_err(|e| Error::io(format!("start {} again", path.display()), e));
        told.and_then(|_told| self.run_start(TIMEOUT).map_err(|(error, _)| error))
    }

    /// Where the pod's shim listens.
    pub(super) fn bootstrap(&self) -> Result<Bootstrap, Error> {
        let path = self.bootstrap_path();
        let answer = fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
        Bootstrap::parse(&answer).map_err(failed)
    }

    fn bootstrap_path(&self) -> PathBuf {
        self.config.sandbox.join(SHIM_BOOTSTRAP)
    }

    /// With an error: whether there may be a shim all the same.
    fn run_start(&self, limit: Duration) -> Result<Bootstrap, (Error, bool)> {
        let name = self.binary.display();
        let io = |e: std::io::Error| (Error::io(format!("run {name}"), e), true);
        let (mut answer, mut complaint) = (memory("answer").map_err(io)?, memory("complaint").map_err(io)?);
        let mut start = self.with_environment(self.place().start());
        start.stdin(self.input().map_err(io)?);
        start.stdout(answer.try_clone().map_err(io)?).stderr(complaint.try_clone().map_err(io)?);
        match wait(start, limit).map_err(io)? {
            Some(status) if status.success() => {}
            Some(status) => {
                let said = read_back(&mut complaint).map_err(io)?;
                let said = String::from_utf8_lossy(&said);
                return Err((Error::host(format!("{name} start: {status}: {}", said.trim())), false));
            }
            None => {
                return Err((Error::host(format!("{name} start: not done in {} s, killed", limit.as_secs())), true));
            }
        }
        let shim = Bootstrap::parse(&read_back(&mut answer).map_err(io)?).map_err(|e| (failed(e), true))?;
        let (path, fresh) = (self.bootstrap_path(), self.config.sandbox.join(".shim.json"));
        fs::write(&fresh, shim.to_json()).and_then(|()| fs::rename(&fresh, path)).map_err(io)?;
        Ok(shim)
    }

    fn input(&self) -> std::io::Result<Stdio> {
        let mut file = memory("input")?;
        file.write_all(&self.place().input(self.options()))?;
        std::io::Seek::rewind(&mut file)?;
        Ok(file.into())
    }

    /// Runs `delete`: the shim does not answer.
    pub(super) fn clean_up(&self) -> Result<(), Error> {
        let name = self.binary.display();
        let io = |e| Error::io(format!("run {name}"), e);
        let mut complaint = memory("complaint").map_err(io)?;
        let mut delete = self.with_environment(self.place().delete());
        // Shims look for the bundle beside their working directory, under the container's ID.
        let named = self.config.bundle.with_file_name(&self.config.id);
        if named != self.config.bundle {
            match std::os::unix::fs::symlink(&self.config.bundle, &named) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(e)),
                _ => delete.current_dir(&named).env("PWD", &named),
            };
        }
        delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaint.try_clone().map_err(io)?);
        let ended = wait(delete, TIMEOUT).map_err(io)?;
        let said = read_back(&mut complaint).map_err(io)?;
        let said = String::from_utf8_lossy(&said);
        match ended {
            Some(status) if status.success() => {}
            Some(status) => return Err(Error::host(format!("{name} delete: {status}: {}", said.trim()))),
            None => return Err(Error::host(format!("{name} delete: not done in {} s, killed", TIMEOUT.as_secs()))),
        }
        if self.is_first()
            && let Ok(shim) = self.bootstrap()
        {
            super::remove_socket(&shim);
        }
        Ok(())
    }

    fn place(&self) -> Place<'_> {
        Place {
            binary: self.binary.as_os_str(),
            namespace: NAMESPACE,
            address: &self.config.address,
            events: self.events.as_deref(),
            publish: "/bin/true".as_ref(),
            id: &self.config.id,
            bundle: &self.config.bundle,
        }
    }

    fn with_environment(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", SYSTEM_PATH.join(":")).env("MAX_SHIM_VERSION", MAX_VERSION);
        if let Some(events) = &self.events {
            command.env("TTRPC_ADDRESS", events);
        }
        command
    }

    pub(super) fn options(&self) -> Option<Any> {
        match &self.config.options {
            ShimOptions::None => None,
            ShimOptions::Runc { binary, root } => Some(Any::runc(&RuncOptions {
                binary_name: binary.clone(),
                root: root.display().to_string(),
                systemd_cgroup: false,
            })),
            ShimOptions::Runtime { type_url, path, body } => Some(Any::runtime(&RuntimeOptions {
                type_url: type_url.clone(),
                config_path: path.clone(),
                config_body: body.clone().into_bytes(),
            })),
        }
    }
}

fn memory(name: &str) -> std::io::Result<File> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

/// What a command wrote, as far as it is read.
fn read_back(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Seek::rewind(file)?;
    file.take(MAX_ANSWER as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
