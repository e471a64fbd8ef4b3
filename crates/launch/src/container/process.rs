//! In the init: who the command is and what it may, from the host's rights down to execve.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cricket_process::rlimits::{self, Limits};
use cricket_process::seccomp::Program;
use cricket_process::{identity, keyring, oom, signals};
use cricket_wire::launch_config::YoukiConfig;
use libcontainer::oci_spec::runtime::{LinuxPersonality, Process as SpecProcess, Spec};
use rustix::fs::{FileType, Mode, Uid, fchown, fstat};

use super::lsm::Labels;
use super::privileges::{self, CapSets};
use super::spaces::User;
use super::{command, cwd, schedule};
use crate::error::Error;
use crate::sys;

/// Everything about the process that the command becomes.
#[derive(Debug)]
pub(super) struct Process {
    args: Vec<String>,
    env: Vec<String>,
    cwd: PathBuf,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: u32,
    rlimits: Vec<(String, Limits)>,
    oom_score_adj: Option<i32>,
    no_new_privileges: bool,
    capabilities: CapSets,
    seccomp: Option<(Program, u32)>,
    pub(super) apparmor: Option<String>,
    pub(super) selinux: Option<String>,
    personality: Option<LinuxPersonality>,
    scheduling: schedule::Schedule,
}

/// The command, found.
#[derive(Debug)]
pub(super) struct Found(PathBuf);

impl Process {
    pub(super) fn of(spec: &Spec, config: &YoukiConfig) -> Result<Self, Error> {
        let process = spec.process().as_ref().ok_or_else(|| Error::host("config.json has no process"))?;
        let linux = spec.linux().as_ref();
        let args = process.args().clone().unwrap_or_default();
        if args.is_empty() {
            return Err(Error::command("no command specified", command::NOT_FOUND));
        }
        let seccomp = privileges::read_program(config.seccomp.as_ref())?;
        if seccomp.is_none() && linux.is_some_and(|l| l.seccomp().is_some()) {
            return Err(Error::host("config.json has a seccomp profile, and no compiled program came with it"));
        }
        let user = process.user();
        Ok(Self {
            args,
            env: process.env().clone().unwrap_or_default(),
            cwd: process.cwd().clone(),
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0o022),
            rlimits: limits(process),
            oom_score_adj: process.oom_score_adj(),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            capabilities: CapSets::of(process.capabilities().as_ref()),
            seccomp,
            apparmor: process.apparmor_profile().clone().filter(|name| !name.is_empty()),
            selinux: process.selinux_label().clone().filter(|label| !label.is_empty()),
            personality: linux.and_then(|l| l.personality().clone()),
            scheduling: schedule::Schedule::of(process)?,
        })
    }

    /// Who owns the terminal.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Raises limits that are to be higher than this process's own, which only the host's rights allow. The others are
    /// set last: the init may take more than what the command may have.
    fn raise_limits(&self) -> Result<(), Error> {
        let failed = |e: cricket_process::Error| Error::host(e.to_line());
        for (name, wanted) in &self.rlimits {
            let now = rlimits::get(name).map_err(failed)?;
            let raised = Limits { soft: now.soft.max(wanted.soft), hard: now.hard.max(wanted.hard) };
            if raised != now {
                rlimits::set(name, raised).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Sets limits as they are to be; nothing is raised any more.
    fn limit_resources(&self) -> Result<(), Error> {
        self.rlimits
            .iter()
            .try_for_each(|(name, limits)| rlimits::set(name, *limits).map(drop).map_err(|e| Error::host(e.to_line())))
    }

    /// What takes the host's rights: limits, the score, scheduling, the quota of keys of the host's root, stdio.
    pub(super) fn prepare(&self, user: Option<&User>) -> Result<(), Error> {
        self.raise_limits()?;
        if let Some(score) = self.oom_score_adj {
            let path = "/proc/self/oom_score_adj";
            let file = File::options().read(true).write(true).open(path);
            let mut file = file.map_err(|e| Error::io(format!("open {path}"), e))?;
            oom::set(&mut file, score).map_err(|e| Error::host(e.to_line()))?;
        }
        self.scheduling.apply()?;
        keyring::new_session(self.selinux.as_deref()).map_err(|e| Error::host(e.to_line()))?;
        self.own_pipes(user)
    }

    /// Pipes belong to the user of the command, who may open `/dev/stdout`.
    fn own_pipes(&self, user: Option<&User>) -> Result<(), Error> {
        let owner = user.map_or(Some(self.uid), |user| user.host_user(self.uid));
        let Some(owner) = owner.filter(|owner| *owner != 0) else { return Ok(()) };
        for number in 0..=2 {
            let pipe = sys::stdio(number);
            let stat = fstat(pipe).map_err(|e| Error::io("look at stdio", e))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
                fchown(pipe, Some(Uid::from_raw(owner)), None).map_err(|e| Error::io("give stdio to the user", e))?;
            }
        }
        Ok(())
    }

    /// Enters the working directory, as root: it may have to be made, or be in directories that the user may not enter.
    /// False: root may not enter it (NFS), and the user has to try.
    pub(super) fn enter_cwd(&self) -> Result<bool, Error> {
        cwd::enter(&self.cwd, (self.uid, self.gid))
    }

    /// Becomes the user and finds the command, with what the user may. All permitted capabilities are still there.
    pub(super) fn become_user(&self, entered: bool) -> Result<Found, Error> {
        if let Some(personality) = &self.personality {
            schedule::set_personality(personality)?;
        }
        rustix::process::umask(Mode::from_raw_mode(self.umask));
        identity::change(self.uid, self.gid, &self.groups).map_err(|e| Error::host(e.to_line()))?;
        privileges::raise()?;
        if !entered && !self.capabilities.with_effective(|| self.enter_cwd())?? {
            let words = format!("the working directory {}: permission denied", self.cwd.display());
            return Err(Error::content(words));
        }
        let path = self.env.iter().rev().find_map(|e| e.strip_prefix("PATH="));
        let found = self.capabilities.with_effective(|| command::find(&self.args[0], path))??;
        Ok(Found(found))
    }

    /// Becomes the command. Nothing after the filter but execve; without no_new_privs loading it takes a capability, so
    /// that it goes first.
    pub(super) fn execute(&self, found: &Found, labels: &Labels) -> Result<Infallible, Error> {
        let file = c_string(found.0.as_os_str().as_bytes())?;
        let args = self.args.iter().map(|a| c_string(a.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        let env = self.env.iter().map(|e| c_string(e.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(|e| Error::io("set no_new_privs", e))?;
        }
        if let (Some(file), Some(profile)) = (&labels.apparmor, &self.apparmor) {
            write(file, &format!("exec {profile}"), "enter the AppArmor profile", profile)?;
        }
        if let (Some(file), Some(label)) = (&labels.selinux, &self.selinux) {
            write(file, label, "take the SELinux label", label)?;
        }
        self.limit_resources()?;
        signals::reset().map_err(|e| Error::io("reset signals", e))?;
        let load = || match &self.seccomp {
            Some((program, flags)) => program.load(*flags).map_err(|e| Error::host(e.to_line())),
            None => Ok(()),
        };
        if self.no_new_privileges {
            self.capabilities.apply()?;
            load()?;
        } else {
            load()?;
            self.capabilities.apply()?;
        }
        let error = sys::execve(&file, &args, &env);
        Err(command::not_executed(&found.0, &error))
    }
}

fn limits(process: &SpecProcess) -> Vec<(String, Limits)> {
    let limits = process.rlimits().iter().flatten();
    limits.map(|l| (l.typ().to_string(), Limits { soft: l.soft(), hard: l.hard() })).collect()
}

fn write(file: &OwnedFd, text: &str, action: &str, name: &str) -> Result<(), Error> {
    rustix::io::write(file, text.as_bytes()).map(drop).map_err(|e| Error::io(format!("{action} {name:?}"), e))
}

fn c_string(bytes: &[u8]) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::content("an argument or environment variable holds a NUL"))
}
