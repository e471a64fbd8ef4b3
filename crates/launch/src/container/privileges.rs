//! The init's last step before the command: capabilities and seccomp.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use cricket_process::caps::{self, Set};
use cricket_process::seccomp::Program;
use cricket_wire::exec_config::SeccompConfig;
use libcontainer::oci_spec::runtime::{Capabilities, LinuxCapabilities};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set, set_capabilities,
};

use crate::error::Error;
use crate::sys;

/// Largest program: `BPF_MAXINSNS` instructions of eight bytes.
const MAX_PROGRAM: usize = 4096 * 8;

/// The sets that a container's process has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CapSets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl CapSets {
    /// The sets of a specification; a set that is not given is empty.
    pub(super) fn of(spec: Option<&LinuxCapabilities>) -> Self {
        let Some(spec) = spec else { return Self::default() };
        let bits = |set: &Option<Capabilities>| {
            let names = set.iter().flatten().map(|c| format!("CAP_{}", c.to_string().trim_start_matches("CAP_")));
            Set::from_names(names).0.bits()
        };
        Self {
            bounding: bits(spec.bounding()),
            effective: bits(spec.effective()),
            permitted: bits(spec.permitted()),
            inheritable: bits(spec.inheritable()),
            ambient: bits(spec.ambient()),
        }
    }

    /// Takes the effective set for as long as `look` runs: what the command may, no more.
    pub(super) fn with_effective<T>(&self, look: impl FnOnce() -> T) -> Result<T, Error> {
        let failed = |e| Error::io("change the effective capabilities", e);
        let now = rustix::thread::capabilities(None).map_err(failed)?;
        let wanted = CapabilitySet::from_bits_retain(self.effective) & now.permitted;
        set_capabilities(None, CapabilitySets { effective: wanted, ..now }).map_err(failed)?;
        let result = look();
        set_capabilities(None, now).map_err(failed)?;
        Ok(result)
    }

    /// Gives everything else up for good.
    pub(super) fn apply(&self) -> Result<(), Error> {
        caps::limit_bounding(Set::from_bits(self.bounding)).map_err(|e| Error::host(e.to_line()))?;
        clear_ambient_capability_set().map_err(|e| Error::io("clear the ambient capabilities", e))?;
        let sets = CapabilitySets {
            effective: CapabilitySet::from_bits_retain(self.effective),
            permitted: CapabilitySet::from_bits_retain(self.permitted),
            inheritable: CapabilitySet::from_bits_retain(self.inheritable),
        };
        set_capabilities(None, sets).map_err(|e| Error::io("set the capabilities", e))?;
        for number in (0..64).filter(|n| self.ambient & (1 << n) != 0) {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            configure_capability_in_ambient_set(capability, true)
                .map_err(|e| Error::io(format!("raise ambient capability {number}"), e))?;
        }
        Ok(())
    }
}

/// Makes every permitted capability effective again: becoming a user who is not root took that away.
pub(super) fn raise() -> Result<(), Error> {
    let failed = |e| Error::io("change the effective capabilities", e);
    let now = rustix::thread::capabilities(None).map_err(failed)?;
    set_capabilities(None, CapabilitySets { effective: now.permitted, ..now }).map_err(failed)
}

/// Reads the compiled profile that came with the configuration.
pub(super) fn read_program(config: Option<&SeccompConfig>) -> Result<Option<(Program, u32)>, Error> {
    let Some(config) = config else { return Ok(None) };
    let missing = || Error::host(format!("no seccomp program in descriptor {}", config.program_fd));
    let file = File::from(sys::take(config.program_fd).ok_or_else(missing)?);
    let mut bytes = vec![0; MAX_PROGRAM + 1];
    let mut length = 0;
    // By position: the descriptor's own offset is shared with every launch that uses the same program.
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(e) => return Err(Error::io("read the seccomp program", e)),
        }
    }
    bytes.truncate(length);
    let program = Program::from_bytes(bytes).map_err(|e| Error::host(e.to_line()))?;
    Ok(Some((program, config.flags)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_a_specification() {
        let spec: LinuxCapabilities =
            serde_json::from_str(r#"{"bounding":["CAP_KILL","CAP_CHOWN"],"permitted":["CAP_KILL"]}"#).expect("parses");
        let sets = CapSets::of(Some(&spec));
        assert_eq!((sets.bounding, sets.permitted, sets.inheritable), (0b100001, 0b100000, 0));
        assert_eq!(CapSets::of(None), CapSets::default());
    }
}
