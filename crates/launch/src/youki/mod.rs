//! A container by libcontainer.
//!
//! ```text
//! check rootfs ─ adapt spec ─ build() ─ report the PID ─ start() ─ wait until the command is executed ─ clean up
//!                               └─▶ init: namespaces, mounts, pivot, user ─ [executor] ─ wait ─ [executor] ─ execve
//! ```
//!
//! libcontainer does the namespaces and mounts. Working directory, capabilities, seccomp and the command itself are
//! the [`executor`]'s, which runs in the init: libcontainer compiles the seccomp profile in every init, takes a command
//! that others may not execute for one that nobody may, ignores a failure to set `no_new_privs`, and asks NSS, and so
//! the image's libraries, for HOME.

mod adapt;
mod command;
mod cwd;
mod devices;
mod executor;
mod late;
mod outcome;
mod privileges;
mod terminal;

pub(crate) use terminal::Console;

use std::fs;
use std::path::Path;

use cricket_process::{Pidfd, keyring, rooted};
use cricket_wire::launch_config::YoukiConfig;
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;

use crate::error::Error;
use crate::report::Reporter;
use adapt::Adapted;
use executor::CricketExecutor;

/// SIGKILL.
const KILL: i32 = 9;

pub(crate) fn run(config: &YoukiConfig, reporter: &mut Reporter) -> Result<(), Error> {
    check_id(&config.id)?;
    let mut spec = load_spec(&config.bundle)?;
    let rootfs = adapt::absolute_rootfs(&mut spec, &config.bundle)?;
    check_rootfs(&rootfs)?;
    cwd::make_in_rootfs(&spec, &rootfs)?;
    join_cgroups(&config.cgroup.tasks_files)?;
    if let Some(directory) = &config.cgroup.v2_directory {
        let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
        let rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
        devices::restrict(directory, rules)?;
    }
    keyring::new_session().map_err(|e| Error::host(e.to_line()))?;
    let program = privileges::read_program(config.seccomp.as_ref())?;
    let (outcome, teller) = outcome::pair()?;
    let executor = {
        let late_mounts = late::take(&mut spec)?;
        late_mounts.iter().try_for_each(|mount| mount.prepare(&rootfs))?;
        CricketExecutor::new(&spec, late_mounts, program, teller)?
    };
    // Both directories are removed again when these go.
    let adapted = Adapted::write(spec, config)?;
    let state = StateDir(config.root.join(&config.id));
    let console = config.terminal.then(|| Console::listen(adapted.dir())).transpose()?;
    let mut container = match build(config, &adapted, console.as_ref(), executor) {
        Ok(container) => container,
        // The executor's own words say more than libcontainer's about it.
        Err(error) => return Err(outcome.failure().unwrap_or(error)),
    };
    let pid = container.pid().ok_or_else(|| Error::host("libcontainer reports no pid"))?.as_raw();
    let init = Pidfd::open(pid).map_err(|e| Error::host(e.to_line()))?;
    let started = (|| {
        let master = console.map(|c| c.receive()).transpose()?;
        reporter.made(pid, master)?;
        container.start().map_err(|e| Error::chain("start the container", &e))?;
        outcome.wait()
    })();
    if started.is_err() {
        let _ = init.send_signal(KILL);
    }
    drop((state, adapted));
    started
}

/// The ID becomes the name of a directory.
fn check_id(id: &str) -> Result<(), Error> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"_-+.".contains(&b);
    if id.is_empty() || id.len() > 128 || id == "." || id == ".." || !id.bytes().all(ok) {
        return Err(Error::host(format!("invalid container id {id:?}")));
    }
    Ok(())
}

fn load_spec(bundle: &Path) -> Result<Spec, Error> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
    serde_json::from_slice(&text).map_err(|e| Error::host(format!("parse {}: {e}", path.display())))
}

/// libcontainer makes devices and links in these by path, also when they are links that lead out of the root file
/// system (CVE-2025-54867 and its like): so they have to be directories, and are made where missing.
fn check_rootfs(rootfs: &Path) -> Result<(), Error> {
    let names = ["dev", "proc", "sys"];
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotADirectory => {
            Error::content(format!("the image's root file system: {e}; nothing can be mounted there safely"))
        }
        _ => Error::io(format!("look at {}", rootfs.display()), e),
    };
    rooted::check_plain_dirs(rootfs, &names).map_err(failed)?;
    for name in names {
        match rooted::mkdir_in_root(rootfs, Path::new(name)) {
            Err(e) if e.raw_os_error() != Some(libc::EROFS) => return Err(failed(e)),
            _ => {}
        }
    }
    rooted::check_plain_dirs(rootfs, &names).map_err(failed)
}

/// Joins the hierarchies that libcontainer leaves out; children inherit that.
fn join_cgroups(tasks_files: &[std::path::PathBuf]) -> Result<(), Error> {
    for file in tasks_files {
        fs::write(file, "0").map_err(|e| Error::io(format!("join {}", file.display()), e))?;
    }
    Ok(())
}

fn build(
    config: &YoukiConfig,
    adapted: &Adapted,
    console: Option<&Console>,
    executor: CricketExecutor,
) -> Result<Container, Error> {
    let failed = |e: libcontainer::error::LibcontainerError| Error::chain("make the container", &e);
    ContainerBuilder::new(config.id.clone(), SyscallType::default())
        .with_root_path(&config.root)
        .map_err(failed)?
        .with_console_socket(console.map(Console::path))
        .with_executor(executor)
        .as_init(adapted.dir())
        .with_systemd(false)
        .as_sibling(true)
        .with_no_pivot(config.no_pivot)
        .build()
        .map_err(failed)
}

/// libcontainer's state of the container, of which nobody needs anything once it runs.
struct StateDir(std::path::PathBuf);

impl Drop for StateDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
