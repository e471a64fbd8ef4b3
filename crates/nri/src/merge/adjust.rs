//! Adjustments of a container that is being created.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{
    Container, ContainerAdjustment, ContainerUpdate, CreateContainerResponse, Field, Hooks, KeyValue, LinuxContainer,
    LinuxContainerAdjustment, LinuxCpu, LinuxDevice, LinuxMemory, LinuxNamespace, LinuxNetDevice, LinuxRdt,
    LinuxResources, Mount, OwningPlugins, PosixRlimit,
};

use super::owners::{MergeError, Owners};
use super::resources::Claim;
use super::{marked, removal, update};

/// A container on its way through the plugins.
#[derive(Debug)]
pub struct Creating {
    container: Container,
    adjust: ContainerAdjustment,
    updates: Vec<ContainerUpdate>,
    owners: Owners,
}

/// One plugin's adjustment, as it is merged.
struct Step<'a> {
    id: &'a str,
    plugin: &'a str,
    owners: &'a mut Owners,
}

impl Creating {
    /// Begins with the container as the runtime would make it.
    pub fn new(mut container: Container) -> Self {
        container.hooks.get_or_insert_default();
        let linux = container.linux.get_or_insert_default();
        let resources = linux.resources.get_or_insert_default();
        resources.memory.get_or_insert_default();
        resources.cpu.get_or_insert_default();
        let resources = LinuxResources {
            memory: Some(LinuxMemory::default()),
            cpu: Some(LinuxCpu::default()),
            ..LinuxResources::default()
        };
        let linux = LinuxContainerAdjustment { resources: Some(resources), ..LinuxContainerAdjustment::default() };
        let adjust =
            ContainerAdjustment { hooks: Some(Hooks::default()), linux: Some(linux), ..ContainerAdjustment::default() };
        Self { container, adjust, updates: Vec::new(), owners: Owners::default() }
    }

    /// The container as the next plugin sees it.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// What all of them ask for: adjustments, updates of other containers, and who asked for what.
    pub fn finish(self) -> (ContainerAdjustment, Vec<ContainerUpdate>, OwningPlugins) {
        (self.adjust, self.updates, self.owners.into_inner())
    }

    /// Adds one plugin's answer.
    pub fn apply(&mut self, answer: &CreateContainerResponse, plugin: &str) -> Result<(), MergeError> {
        if let Some(asked) = &answer.adjust {
            self.adjust(asked, plugin)?;
        }
        for asked in &answer.update {
            if asked.container_id == self.container.id {
                let container = asked.container_id.clone();
                return Err(MergeError::UpdatesCreated { plugin: plugin.to_owned(), container });
            }
            match update::other(&mut self.owners, &mut self.updates, asked, plugin) {
                Err(e) if !asked.ignore_failure => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn adjust(&mut self, asked: &ContainerAdjustment, plugin: &str) -> Result<(), MergeError> {
        let Self { container, adjust, owners, .. } = self;
        let id = container.id.clone();
        let mut step = Step { id: &id, plugin, owners };
        step.map(
            Field::Annotations,
            &asked.annotations,
            &mut container.annotations,
            &mut adjust.annotations,
            String::new,
        )?;
        step.mounts(&asked.mounts, &mut container.mounts, &mut adjust.mounts)?;
        step.env(&asked.env, &mut container.env, &mut adjust.env)?;
        step.args(&asked.args, &mut container.args, &mut adjust.args)?;
        if let Some(hooks) = &asked.hooks {
            step.hooks(hooks, container.hooks.get_or_insert_default(), adjust.hooks.get_or_insert_default());
        }
        if let Some(linux) = &asked.linux {
            step.linux(linux, container.linux.get_or_insert_default(), adjust.linux.get_or_insert_default())?;
        }
        step.rlimits(&asked.rlimits, &mut container.rlimits, &mut adjust.rlimits)?;
        for device in &asked.cdi_devices {
            step.claim_entry(Field::CdiDevices, &device.name)?;
            adjust.cdi_devices.push(device.clone());
        }
        Ok(())
    }
}

impl Step<'_> {
    fn claim(&mut self, field: Field) -> Result<(), MergeError> {
        self.owners.claim(self.id, field, self.plugin)
    }

    fn claim_entry(&mut self, field: Field, entry: &str) -> Result<(), MergeError> {
        self.owners.claim_entry(self.id, field, entry, self.plugin)
    }

    /// Annotations, sysctls, network devices: `-name` removes.
    fn map<V: Clone>(
        &mut self,
        field: Field,
        asked: &BTreeMap<String, V>,
        container: &mut BTreeMap<String, V>,
        adjust: &mut BTreeMap<String, V>,
        nothing: fn() -> V,
    ) -> Result<(), MergeError> {
        let removed: BTreeSet<&str> = asked.keys().filter_map(|key| removal(key)).collect();
        for (key, value) in asked.iter().filter(|(key, _)| removal(key).is_none()) {
            if removed.contains(key.as_str()) {
                self.owners.clear_entry(self.id, field, key, self.plugin);
            }
            self.claim_entry(field, key)?;
            container.insert(key.clone(), value.clone());
            adjust.insert(key.clone(), value.clone());
        }
        for key in removed {
            if !asked.contains_key(key) {
                container.remove(key);
                adjust.remove(key);
            }
            adjust.insert(marked(key), nothing());
        }
        Ok(())
    }

    /// Entries of a list, of which one with the same key replaces and a marked one removes.
    fn list<T: Clone>(
        &mut self,
        field: Field,
        key: fn(&T) -> &str,
        asked: &[T],
        adjust: &mut Vec<T>,
    ) -> Result<(BTreeSet<String>, Vec<T>), MergeError> {
        let removed: BTreeMap<&str, &T> =
            asked.iter().filter_map(|entry| Some((removal(key(entry))?, entry))).collect();
        let added: Vec<T> = asked.iter().filter(|entry| removal(key(entry)).is_none()).cloned().collect();
        adjust.retain(|entry| {
            let keep = !removed.contains_key(key(entry));
            if !keep {
                self.owners.clear_entry(self.id, field, key(entry), self.plugin);
            }
            keep
        });
        for entry in &added {
            self.claim_entry(field, key(entry))?;
            adjust.push(entry.clone());
        }
        let set: BTreeSet<&str> = added.iter().map(key).collect();
        // Who sets it as well replaces it: nothing is left to be removed.
        adjust.extend(removed.iter().filter(|(name, _)| !set.contains(*name)).map(|(_, entry)| (*entry).clone()));
        let gone = removed.keys().copied().chain(set).map(str::to_owned).collect();
        Ok((gone, added))
    }

    fn mounts(
        &mut self,
        asked: &[Mount],
        container: &mut Vec<Mount>,
        adjust: &mut Vec<Mount>,
    ) -> Result<(), MergeError> {
        let (gone, added) = self.list(Field::Mounts, |mount| &mount.destination, asked, adjust)?;
        container.retain(|mount| !gone.contains(&mount.destination));
        container.extend(added);
        Ok(())
    }

    fn devices(
        &mut self,
        asked: &[LinuxDevice],
        container: &mut Vec<LinuxDevice>,
        adjust: &mut Vec<LinuxDevice>,
    ) -> Result<(), MergeError> {
        let (gone, added) = self.list(Field::Devices, |device| &device.path, asked, adjust)?;
        container.retain(|device| !gone.contains(&device.path));
        container.extend(added);
        Ok(())
    }

    fn env(
        &mut self,
        asked: &[KeyValue],
        container: &mut Vec<String>,
        adjust: &mut Vec<KeyValue>,
    ) -> Result<(), MergeError> {
        let (gone, added) = self.list(Field::Env, |variable| &variable.key, asked, adjust)?;
        container.retain(|variable| !gone.contains(variable.split('=').next().unwrap_or_default()));
        container.extend(added.into_iter().map(|variable| format!("{}={}", variable.key, variable.value)));
        Ok(())
    }

    /// An empty first argument allows to replace what another plugin set.
    fn args(
        &mut self,
        asked: &[String],
        container: &mut Vec<String>,
        adjust: &mut Vec<String>,
    ) -> Result<(), MergeError> {
        let Some((first, rest)) = asked.split_first() else { return Ok(()) };
        let args = if first.is_empty() {
            self.owners.clear(self.id, Field::Args, self.plugin);
            rest
        } else {
            asked
        };
        self.claim(Field::Args)?;
        *container = args.to_vec();
        *adjust = args.to_vec();
        Ok(())
    }

    /// Hooks of all plugins add up.
    fn hooks(&mut self, asked: &Hooks, container: &mut Hooks, adjust: &mut Hooks) {
        if *asked == Hooks::default() {
            return;
        }
        for target in [container, adjust] {
            target.prestart.extend_from_slice(&asked.prestart);
            target.create_runtime.extend_from_slice(&asked.create_runtime);
            target.create_container.extend_from_slice(&asked.create_container);
            target.start_container.extend_from_slice(&asked.start_container);
            target.poststart.extend_from_slice(&asked.poststart);
            target.poststop.extend_from_slice(&asked.poststop);
        }
        self.owners.join(self.id, Field::OciHooks, self.plugin);
    }

    fn rlimits(
        &mut self,
        asked: &[PosixRlimit],
        container: &mut Vec<PosixRlimit>,
        adjust: &mut Vec<PosixRlimit>,
    ) -> Result<(), MergeError> {
        for limit in asked {
            self.claim_entry(Field::Rlimits, &limit.r#type)?;
            container.push(limit.clone());
            adjust.push(limit.clone());
        }
        Ok(())
    }

    fn linux(
        &mut self,
        asked: &LinuxContainerAdjustment,
        container: &mut LinuxContainer,
        adjust: &mut LinuxContainerAdjustment,
    ) -> Result<(), MergeError> {
        macro_rules! whole {
            ($name:ident, $field:ident) => {
                if asked.$name.is_some() {
                    self.claim(Field::$field)?;
                    container.$name.clone_from(&asked.$name);
                    adjust.$name.clone_from(&asked.$name);
                }
            };
        }
        self.devices(&asked.devices, &mut container.devices, &mut adjust.devices)?;
        if let Some(resources) = &asked.resources {
            let targets = [&mut container.resources, &mut adjust.resources].map(Option::get_or_insert_default);
            let mut targets = targets;
            Claim { owners: self.owners, id: self.id, plugin: self.plugin }.apply(resources, &mut targets)?;
            targets.into_iter().for_each(|target| target.devices.extend_from_slice(&resources.devices));
        }
        if !asked.cgroups_path.is_empty() {
            self.claim(Field::CgroupsPath)?;
            container.cgroups_path.clone_from(&asked.cgroups_path);
            adjust.cgroups_path.clone_from(&asked.cgroups_path);
        }
        whole!(oom_score_adj, OomScoreAdj);
        whole!(io_priority, IoPriority);
        whole!(seccomp_policy, SeccompPolicy);
        self.namespaces(&asked.namespaces, &mut container.namespaces, &mut adjust.namespaces)?;
        self.map(Field::Sysctl, &asked.sysctl, &mut container.sysctl, &mut adjust.sysctl, String::new)?;
        let nothing = LinuxNetDevice::default;
        self.map(
            Field::LinuxNetDevices,
            &asked.net_devices,
            &mut container.net_devices,
            &mut adjust.net_devices,
            nothing,
        )?;
        whole!(scheduler, LinuxSched);
        self.rdt(asked.rdt.as_ref(), adjust.rdt.get_or_insert_default())?;
        if asked.memory_policy.is_some() {
            self.claim(Field::MemoryPolicy)?;
            adjust.memory_policy.clone_from(&asked.memory_policy);
        }
        Ok(())
    }

    fn namespaces(
        &mut self,
        asked: &[LinuxNamespace],
        container: &mut Vec<LinuxNamespace>,
        adjust: &mut Vec<LinuxNamespace>,
    ) -> Result<(), MergeError> {
        for namespace in asked {
            let (kind, removed) = match removal(&namespace.r#type) {
                Some(kind) => (kind, true),
                None => (namespace.r#type.as_str(), false),
            };
            self.claim_entry(Field::Namespace, kind)?;
            container.retain(|other| other.r#type != kind);
            if !removed {
                container.push(namespace.clone());
            }
            adjust.push(namespace.clone());
        }
        Ok(())
    }

    fn rdt(&mut self, asked: Option<&LinuxRdt>, adjust: &mut LinuxRdt) -> Result<(), MergeError> {
        let Some(asked) = asked else { return Ok(()) };
        if asked.remove {
            for field in [Field::RdtClosId, Field::RdtSchemata, Field::RdtEnableMonitoring] {
                self.owners.clear(self.id, field, self.plugin);
            }
            *adjust = LinuxRdt { remove: true, ..LinuxRdt::default() };
        }
        macro_rules! set {
            ($name:ident, $field:ident) => {
                if asked.$name.is_some() {
                    self.claim(Field::$field)?;
                    adjust.$name.clone_from(&asked.$name);
                    adjust.remove = false;
                }
            };
        }
        set!(clos_id, RdtClosId);
        set!(schemata, RdtSchemata);
        set!(enable_monitoring, RdtEnableMonitoring);
        Ok(())
    }
}
