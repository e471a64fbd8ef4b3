//! Merges what plugins answer, in the order of their indices, and finds those that contradict each other.
//!
//! Every field has an owner, by container: the plugin that set it first. Who sets what has an owner is in conflict with
//! it, unless it removed the entry before in the same or an earlier answer (`-name`). Each plugin is asked with the
//! container as the plugins before it left it.
//!
//! This is what the Go adaptation does, but for three requests that it loses: removing an environment variable or a
//! device that the container had from the beginning (it passes on removals of mounts, annotations, namespaces, sysctls and network
//! devices), and the PID limit of an update.

mod adjust;
mod owners;
mod resources;
mod update;

pub use adjust::Creating;
pub use owners::MergeError;
pub use update::Updating;
pub(crate) use update::overlay;

/// `-name` is the mark that removes `name`.
pub(crate) fn removal(key: &str) -> Option<&str> {
    key.strip_prefix('-')
}

/// Marks `name` for removal.
pub(crate) fn marked(key: &str) -> String {
    format!("-{key}")
}
