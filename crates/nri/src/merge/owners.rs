//! Who set what.

use crate::api::{Field, FieldOwners, OwningPlugins};

use super::{marked, removal};

/// Why answers cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Two plugins set the same.
    #[error("plugins {plugin} and {other} both set {}{}", field.as_str_name(), entry.as_ref().map(|e| format!(" {e}")).unwrap_or_default())]
    Conflict {
        /// The later one.
        plugin: String,
        /// The one whose it was.
        other: String,
        /// What.
        field: Field,
        /// Which entry of it.
        entry: Option<String>,
    },
    /// A plugin answered to a creation with an update of the container that is being created.
    #[error("plugin {plugin} asked to update container {container} while it is created")]
    UpdatesCreated {
        /// The plugin.
        plugin: String,
        /// The container.
        container: String,
    },
}

/// The owners of one container's fields. A name with the removal mark stands for whoever removed the entry.
#[derive(Debug, Default)]
pub(crate) struct Owners(OwningPlugins);

impl Owners {
    pub(crate) fn into_inner(self) -> OwningPlugins {
        self.0
    }

    fn of(&mut self, id: &str) -> &mut FieldOwners {
        self.0.owners.entry(id.to_owned()).or_default()
    }

    /// Makes `plugin` the owner of a field.
    pub(crate) fn claim(&mut self, id: &str, field: Field, plugin: &str) -> Result<(), MergeError> {
        let owner = self.of(id).simple.entry(field.into());
        settle(owner, plugin).map_err(|other| conflict(plugin, other, field, None))
    }

    /// Makes `plugin` the owner of one entry of a field.
    pub(crate) fn claim_entry(&mut self, id: &str, field: Field, entry: &str, plugin: &str) -> Result<(), MergeError> {
        let owners = &mut self.of(id).compound.entry(field.into()).or_default().owners;
        settle(owners.entry(entry.to_owned()), plugin).map_err(|other| conflict(plugin, other, field, Some(entry)))
    }

    /// Takes a field from its owner: `plugin` alone may set it now.
    pub(crate) fn clear(&mut self, id: &str, field: Field, plugin: &str) {
        self.of(id).simple.insert(field.into(), marked(plugin));
    }

    /// Takes an entry from its owner.
    pub(crate) fn clear_entry(&mut self, id: &str, field: Field, entry: &str, plugin: &str) {
        let owners = &mut self.of(id).compound.entry(field.into()).or_default().owners;
        owners.insert(entry.to_owned(), marked(plugin));
    }

    /// Adds `plugin` to the owners of a field that many may set.
    pub(crate) fn join(&mut self, id: &str, field: Field, plugin: &str) {
        let owner = self.of(id).simple.entry(field.into()).or_default();
        if !owner.is_empty() {
            owner.push(',');
        }
        owner.push_str(plugin);
    }
}

type Entry<'a, K> = std::collections::btree_map::Entry<'a, K, String>;

fn settle<K: Ord>(entry: Entry<'_, K>, plugin: &str) -> Result<(), String> {
    match entry {
        Entry::Vacant(free) => drop(free.insert(plugin.to_owned())),
        Entry::Occupied(mut owner) => match removal(owner.get()) {
            Some(remover) if remover == plugin => drop(owner.insert(plugin.to_owned())),
            Some(remover) => return Err(remover.to_owned()),
            None => return Err(owner.get().clone()),
        },
    }
    Ok(())
}

fn conflict(plugin: &str, other: String, field: Field, entry: Option<&str>) -> MergeError {
    MergeError::Conflict { plugin: plugin.to_owned(), other, field, entry: entry.map(str::to_owned) }
}
