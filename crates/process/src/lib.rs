//! Processes, namespaces, pidfds, capabilities, seccomp and mounts: the kernel's interfaces that need unsafe code or
//! particular care, one module a noun.
//!
//! Everything works in a process with threads unless it says otherwise, nothing blocks on other processes, and every
//! descriptor is made close-on-exec. There is no runtime and no state here: static helpers link it.

pub mod attr;
pub mod caps;
pub mod detached;
mod error;
pub mod fault;
mod features;
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod keyring;
pub mod memfd;
pub mod memory;
pub mod mounts;
pub mod namespaces;
pub mod oom;
mod pidfd;
pub mod pin;
pub mod rlimits;
pub mod rooted;
pub mod seccomp;
pub mod signals;
mod spawn;
pub mod sysctl;
pub mod userns;

pub use error::{Doing, Error, Result};
pub use features::KernelFeatures;
pub use pidfd::{ExitStatus, Pidfd, ProcessIdentity};
pub use spawn::{Child, Spawn};
