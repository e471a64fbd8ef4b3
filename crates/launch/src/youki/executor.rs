//! What runs in the container's init between libcontainer's work and the command.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use cricket_process::seccomp::Program;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};

use super::late::{self, LateMount};
use super::outcome::Teller;
use super::privileges::CapSets;
use super::{command, cwd};
use crate::error::Error;
use crate::sys;

/// Everything the init needs, taken from the daemon's specification before libcontainer's adapted one is made.
#[derive(Debug, Clone)]
pub(super) struct CricketExecutor(Rc<Order>);

#[derive(Debug)]
struct Order {
    late_mounts: Vec<LateMount>,
    private: Vec<PathBuf>,
    args: Vec<String>,
    env: Vec<String>,
    cwd: PathBuf,
    owner: (u32, u32),
    no_new_privileges: bool,
    capabilities: CapSets,
    seccomp: Option<(Program, u32)>,
    teller: Teller,
}

impl CricketExecutor {
    pub(super) fn new(
        spec: &Spec,
        late_mounts: Vec<LateMount>,
        seccomp: Option<(Program, u32)>,
        teller: Teller,
    ) -> Result<Self, Error> {
        let process = spec.process().as_ref().ok_or_else(|| Error::host("config.json has no process"))?;
        let args = process.args().clone().unwrap_or_default();
        if args.is_empty() {
            return Err(Error::command("no command specified", command::NOT_FOUND));
        }
        Ok(Self(Rc::new(Order {
            late_mounts,
            private: late::private(spec),
            args,
            env: process.env().clone().unwrap_or_default(),
            cwd: process.cwd().clone(),
            owner: (process.user().uid(), process.user().gid()),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            capabilities: CapSets::of(process.capabilities().as_ref()),
            seccomp,
            teller,
        })))
    }
}

impl Order {
    /// Before the container counts as made: the user is set, and all capabilities are still there.
    fn prepare(&self) -> Result<(), Error> {
        late::make_private(&self.private)?;
        self.late_mounts.iter().try_for_each(LateMount::make)?;
        cwd::enter(&self.cwd, self.owner)?;
        let set = rustix::thread::no_new_privs().map_err(|e| Error::io("read no_new_privs", e))?;
        if self.no_new_privileges && !set {
            return Err(Error::host("no_new_privs is not set although it was asked for"));
        }
        self.capabilities.with_effective(|| self.find())?.map(drop)
    }

    fn find(&self) -> Result<PathBuf, Error> {
        let path = self.env.iter().rev().find_map(|e| e.strip_prefix("PATH="));
        command::find(&self.args[0], path)
    }

    /// Becomes the command. Nothing after the filter but execve; without no_new_privs loading it takes a capability,
    /// so that it goes first.
    fn execute(&self) -> Result<std::convert::Infallible, Error> {
        let load = || match &self.seccomp {
            Some((program, flags)) => program.load(*flags).map_err(|e| Error::host(e.to_line())),
            None => Ok(()),
        };
        let path = self.capabilities.with_effective(|| self.find())??;
        let file = c_string(path.as_os_str().as_bytes())?;
        let args = self.args.iter().map(|a| c_string(a.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        let env = self.env.iter().map(|e| c_string(e.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        sys::reset_signals();
        if self.no_new_privileges {
            self.capabilities.apply()?;
            load()?;
        } else {
            load()?;
            self.capabilities.apply()?;
        }
        let error = sys::execve(&file, &args, &env);
        Err(command::not_executed(&path, &error))
    }
}

fn c_string(bytes: &[u8]) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::content("an argument or environment variable holds a NUL"))
}

impl Executor for CricketExecutor {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        self.0.prepare().map_err(|error| {
            let message = error.to_string();
            self.0.teller.tell(error);
            ExecutorValidationError::ArgValidationError(message)
        })
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // execve gets the environment as it is in the specification, order and all.
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let Err(error) = self.0.execute();
        let message = error.to_string();
        self.0.teller.tell(error);
        Err(ExecutorError::Other(message))
    }
}
