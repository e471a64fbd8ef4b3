//! The kernel's count of processes it killed for want of memory.

use crate::hierarchy::Version;
use crate::{Cgroup, Result, files};

impl Cgroup {
    /// How many processes of this cgroup the kernel has killed for want of memory, be it this cgroup's, an
    /// ancestor's or the host's (v1 `memory.oom_control`, v2 `memory.events`: `oom_kill`). `None` without a memory
    /// controller, or when the cgroup is gone. Read it at exit, before the cgroup goes.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        let Some((dir, version)) = self.controller("memory") else { return Ok(None) };
        let file = match version {
            Version::V1 => dir.join("memory.oom_control"),
            // The container's own leaves have no memory controller, so the hierarchical count is the container's.
            Version::V2 => dir.join("memory.events"),
        };
        Ok(files::read_if_there(&file)?.and_then(|text| files::keyed(&text, "oom_kill")))
    }
}
