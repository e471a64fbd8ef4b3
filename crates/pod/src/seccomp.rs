//! Compiled seccomp programs: one for each profile, kept in memory as sealed files.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cricket_model::ErrorKind;
use cricket_oci::oci_spec::runtime::Spec;
use cricket_wire::exec_config::SeccompConfig;
use cricket_wire::helper::FIRST_EXTRA_FD;

use crate::error::{Error, Result};
use crate::view::Live;

/// The program of a running container's specification.
///
/// # Errors
/// When the profile does not compile.
pub(crate) fn of_live(live: &Live) -> Result<Option<Arc<Program>>> {
    if let Some(known) = live.seccomp.get() {
        return Ok(known.clone());
    }
    let program = program(&live.spec)?;
    Ok(live.seccomp.get_or_init(|| program).clone())
}

/// The file of a profile of the node.
///
/// # Errors
/// When it is no file, or longer than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::error::Error| {
        Error::caused(ErrorKind::InvalidArgument, format_args!("read seccomp profile {}", path.display()), e)
    };
    let meta = std::fs::metadata(path).map_err(|e| failed(&e))?;
    if !meta.is_file() || meta.len() > limit {
        return Err(Error::invalid(format_args!(
            "seccomp profile {} is no file of at most {limit} bytes",
            path.display()
        )));
    }
    std::fs::read(path).map_err(|e| failed(&e))
}

/// A program to load with seccomp(2).
#[derive(Debug)]
pub(crate) struct Program {
    /// The instructions, in a sealed memfd.
    pub(crate) fd: OwnedFd,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(crate) flags: u32,
}

/// Programs by the hash of their profile, each with the profile itself.
type Known = HashMap<u64, (String, Arc<Program>)>;

/// Programs kept at most; beyond that all are dropped and compiled anew when asked for.
const KEPT: usize = 256;

/// The program of a specification's profile; compiled at its first use.
///
/// # Errors
/// When the profile does not compile.
pub(crate) fn program(spec: &Spec) -> Result<Option<Arc<Program>>> {
    static PROGRAMS: OnceLock<Mutex<Known>> = OnceLock::new();
    let Some(profile) = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()) else { return Ok(None) };
    let text = serde_json::to_string(profile).map_err(|e| Error::internal("encode the seccomp profile", &e))?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let key = hasher.finish();
    let programs = PROGRAMS.get_or_init(Mutex::default);
    if let Some((known, program)) = programs.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
        && *known == text
    {
        return Ok(Some(program.clone()));
    }
    let compiled = compile(&text)?;
    let fd = cricket_process::memfd::config(compiled.0.as_bytes())
        .map_err(|e| Error::internal("keep the seccomp program", &e))?;
    let program = Arc::new(Program { fd, flags: compiled.1 });
    let mut programs = programs.lock().unwrap_or_else(PoisonError::into_inner);
    if programs.len() >= KEPT {
        programs.clear();
    }
    programs.insert(key, (text, program.clone()));
    Ok(Some(program))
}

fn compile(profile: &str) -> Result<(cricket_process::seccomp::Program, u32)> {
    let profile = serde_json::from_str(profile).map_err(|e| Error::internal("read the seccomp profile", &e))?;
    cricket_process::seccomp::compile(&profile).map_err(|e| Error::from_kinded("seccomp profile", &e))
}

/// The program as the launch helper gets it: its first extra descriptor.
pub(crate) fn for_launch(spec: &Spec) -> Result<(Option<SeccompConfig>, Vec<OwnedFd>)> {
    let Some(program) = program(spec)? else { return Ok((None, Vec::new())) };
    let fd =
        program.fd.as_fd().try_clone_to_owned().map_err(|e| Error::internal("duplicate the seccomp program", &e))?;
    Ok((Some(SeccompConfig { program_fd: FIRST_EXTRA_FD, flags: program.flags }), vec![fd]))
}
