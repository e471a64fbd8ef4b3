//! CreateContainer: record, root file system, specification. No process is made before the start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_cri_api::v1;
use cricket_image::Image;
use cricket_model::{ContainerId, ErrorKind};
use cricket_oci::selinux::SelinuxLabels;
use cricket_oci::{AnonymousVolume, ContainerInput, ContainerSpec, ImageDefaults, NamespacePaths, SpecOptions};
use cricket_process::fault::point;

use super::flight::Done;
use super::{Driver, Reply, discard_container, images};
use crate::error::{Error, Result};
use crate::host::LivePaths;
use crate::record::{ContainerRecord, ContainerState, ImageFacts, Poststop, Stored};
use crate::sandbox::sandbox_files;
use crate::shared::{EventKind, Shared, blocking, now};
use crate::stage::{self, Stage};
use crate::timeline::Timeline;

/// What a container is asked to stop with when nobody says otherwise.
const SIGTERM: i32 = 15;

/// Most bytes read of an image's passwd or group file, or of a seccomp profile.
const FILE_LIMIT: u64 = 10 << 20;

/// What a create has found out.
pub(crate) struct Made {
    user: v1::LinuxContainerUser,
    stop_signal: i32,
    make_dirs: Vec<PathBuf>,
    /// With what plugins made of them.
    resources: v1::LinuxContainerResources,
    poststop: Poststop,
}

impl Driver {
    /// Records the intent and begins; `reply` is answered when the container is made, or nothing of it is left.
    pub(super) fn begin_create(
        &mut self,
        config: v1::ContainerConfig,
        sandbox: v1::PodSandboxConfig,
        stage: Stage,
        reply: Reply<ContainerId>,
    ) {
        let id = ContainerId::generate();
        match self.intend(&id, config, sandbox) {
            Ok((image, input)) => {
                let done = {
                    let id = id.clone();
                    move |made| Done::Made(id, reply, made)
                };
                self.flights.begin(id, None, stage, make(image, input), done);
            }
            Err(e) => {
                if self.position(&id).is_ok() {
                    // There has been no effect.
                    self.record.containers.retain(|c| c.id != id);
                    self.save_or_warn();
                }
                let _ = reply.send(Err(e));
            }
        }
    }

    /// Everything up to the record that says CREATING.
    fn intend(
        &mut self,
        id: &ContainerId,
        config: v1::ContainerConfig,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<(Arc<Image>, SpecInput)> {
        self.require_ready()?;
        self.check_target(&config)?;
        let image = self.image(&config)?;
        let sandbox_record = &self.record.sandbox;
        let selinux = self.shared.selinux.of_container(&sandbox_record.id, sandbox_record.selinux.as_ref(), &config)?;
        let parent = self.shared.cgroups.parent(&self.record.sandbox.config.0);
        let defaults = images::defaults(&image);
        let volumes = self.volumes(id, &config, &defaults)?;
        let images = images::wanted(&self.shared.images, &config)?;
        let facts = image_facts(&config, &image);
        let bundle = self.shared.bundle(&self.record.sandbox.id, id);
        let cgroup = self.shared.cgroups.leaf(&parent, id.as_str());
        let record = Arc::new(ContainerRecord {
            id: id.clone(),
            image: facts,
            created_at: now(),
            state: ContainerState::Creating,
            timeline: Timeline::default(),
            cgroup: cgroup.clone(),
            log_path: log_path(&sandbox, &config),
            stop_signal: SIGTERM,
            user: Stored::default(),
            resources: Stored(resources(&config)),
            volumes: volumes.iter().map(|v| v.source.clone()).collect(),
            images: images::facts(&images),
            make_dirs: Vec::new(),
            poststop: Poststop::Absent,
            config: Stored(config.clone()),
        });
        let input = SpecInput {
            shared: self.shared.clone(),
            id: id.clone(),
            record: self.record.sandbox.clone(),
            cgroup,
            config,
            sandbox,
            defaults,
            image_name: record.image.name.clone(),
            rootfs: bundle.join("rootfs"),
            volumes,
            images,
            selinux,
            places: BTreeMap::new(),
            bundle,
            container: record.clone(),
        };
        self.record.containers.push(record);
        self.save()?;
        point("container.recorded");
        Ok((image, input))
    }

    /// A container whose processes another one is to see is one of this pod.
    fn check_target(&self, config: &v1::ContainerConfig) -> Result<()> {
        let security = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
        let Some(options) = security.and_then(|s| s.namespace_options.as_ref()) else { return Ok(()) };
        let meant = |c: &Arc<ContainerRecord>| c.id.as_str().starts_with(&options.target_id) && c.listed();
        if options.pid() != v1::NamespaceMode::Target || self.record.containers.iter().any(meant) {
            return Ok(());
        }
        let field = "linux.security_context.namespace_options.target_id";
        Err(Error::invalid(format_args!("{field}: {:?} is no container of this pod", options.target_id)))
    }

    /// The image that the kubelet names, which it has pulled before.
    fn image(&self, config: &v1::ContainerConfig) -> Result<Arc<Image>> {
        let name = config.image.as_ref().map(|i| i.image.as_str()).unwrap_or_default();
        if name.is_empty() {
            return Err(Error::invalid("the container's image is not named"));
        }
        let found = self.shared.images.find(name).map_err(|e| Error::from_kinded("find image", &e))?;
        found.ok_or_else(|| Error::not_found("image", name))
    }

    /// Places for the image's VOLUMEs that no mount covers.
    fn volumes(
        &self,
        id: &ContainerId,
        config: &v1::ContainerConfig,
        defaults: &ImageDefaults,
    ) -> Result<Vec<AnonymousVolume>> {
        let wanted = cricket_oci::image_volumes(defaults, &config.mounts)
            .map_err(|e| Error::from_kinded("image volumes", &e))?;
        let folder = self.shared.volumes(id);
        let place =
            |(n, destination): (usize, PathBuf)| AnonymousVolume { destination, source: folder.join(n.to_string()) };
        Ok(wanted.into_iter().enumerate().map(place).collect())
    }

    /// The create's effects are there, or it failed.
    pub(super) fn made(&mut self, id: ContainerId, reply: Reply<ContainerId>, made: Result<Made>) {
        let steps = self.flights.get_mut(&id).map(|flight| flight.log.taken()).unwrap_or_default();
        let created = made.and_then(|made| {
            self.edit(&id, |c| {
                c.timeline.add(steps);
                c.user = Stored(made.user);
                c.stop_signal = made.stop_signal;
                c.make_dirs = made.make_dirs;
                (c.resources, c.poststop) = (Stored(made.resources), made.poststop);
                c.state = ContainerState::Created;
            })?;
            self.save().inspect_err(|_| {
                let _ = self.edit(&id, |c| c.state = ContainerState::Creating);
                self.publish();
                if let Ok(record) = self.container(&id) {
                    self.shared.nri.undo(&self.record.sandbox, record);
                }
            })
        });
        match created {
            Ok(()) => {
                point("container.created");
                self.tell(id.as_str(), EventKind::Created);
                if let Ok(record) = self.container(&id) {
                    self.shared.nri.created(&self.record.sandbox, record);
                }
                self.flights.end(&id);
                let _ = reply.send(Ok(id));
            }
            Err(e) => self.undo(id, reply, e),
        }
    }

    /// Rolls a create back.
    fn undo(&mut self, id: ContainerId, reply: Reply<ContainerId>, error: Error) {
        let Ok(record) = self.container(&id).cloned() else { return };
        let (shared, sandbox) = (self.shared.clone(), self.record.sandbox.clone());
        let discard = async move { discard_container(&shared, &sandbox, &record).await };
        let done = {
            let id = id.clone();
            move |undone| Done::Undone(id, reply, error, undone)
        };
        self.flights.succeed(id, discard, done);
    }

    /// What cannot be undone now stays recorded as being removed.
    pub(super) fn undone(&mut self, id: &ContainerId, reply: Reply<ContainerId>, error: Error, undone: Result<()>) {
        match undone {
            Ok(()) => self.record.containers.retain(|c| &c.id != id),
            Err(e) => {
                tracing::warn!(container = %id, error = %e, "create not rolled back, to be gone on with");
                let _ = self.edit(id, |c| c.state = ContainerState::Removing);
            }
        }
        self.save_or_warn();
        self.flights.end(id);
        let _ = reply.send(Err(error));
    }
}

/// Everything between the record that says CREATING and the one that says CREATED.
async fn make(image: Arc<Image>, input: SpecInput) -> Result<Made> {
    let mut input = blocking("make the bundle", move || make_bundle(&input).map(|()| input)).await?;
    let (store, id, rootfs) = (input.shared.images.clone(), input.id.clone(), input.rootfs.clone());
    let maps = crate::sandbox::user_namespace(&input.record.config.0)?;
    let at = stage::enter("make the root file system");
    store.create_rootfs(&id, &image, maps).await.map_err(|e| Error::from_kinded("make the root file system", &e))?;
    let label = input.selinux.as_ref().map(|labels| labels.files.to_string());
    let label = label.as_deref();
    store.mount_rootfs(&id, &rootfs, label).await.map_err(|e| Error::from_kinded("mount the root file system", &e))?;
    drop(at);
    point("container.mounted");
    for volume in &input.volumes {
        let directory = volume.source.clone();
        let owner = crate::sandbox::root_of(&input.record.config.0)?;
        blocking("make a volume", move || make_volume(&directory, owner)).await?;
        store
            .copy_up_volume(&rootfs, &volume.destination.to_string_lossy(), &volume.source)
            .await
            .map_err(|e| Error::from_kinded(format_args!("fill volume {}", volume.destination.display()), &e))?;
    }
    input.places = images::mount(&store, &id, &input.bundle, &input.images, maps, label).await?;
    let (mut spec, input) = blocking("make the specification", move || Ok((make_spec(&input)?, input))).await?;
    let at = stage::enter("ask plugins");
    let (nri, handlers) = (&input.shared.nri, &input.shared.handlers);
    let handler = handlers.get(&input.record.handler).map_err(|e| Error::from_kinded("runtime handler", &e))?;
    let resources = nri.create(&input.shared, &input.record, &input.container, handler, &mut spec.spec).await?;
    drop(at);
    let groups = spec.spec.process().as_ref().and_then(|process| process.user().additional_gids().clone());
    let poststop = super::poststop::of(&spec.spec, handler.as_ref());
    let (bundle, whole) = (input.bundle, spec.spec);
    let written = blocking("write the specification", move || {
        crate::apparmor::check(&whole)?;
        crate::bundle::write(&bundle, &whole)
    });
    written.await.inspect_err(|_| nri.undo(&input.record, &input.container))?;
    let user = v1::LinuxContainerUser {
        uid: i64::from(spec.user.uid),
        gid: i64::from(spec.user.gid),
        supplemental_groups: groups.iter().flatten().map(|g| i64::from(*g)).collect(),
    };
    Ok(Made { user, stop_signal: spec.stop_signal, make_dirs: spec.mounts_to_create, resources, poststop })
}

/// The bundle's folder, for a container that may be made.
fn make_bundle(input: &SpecInput) -> Result<()> {
    if input.selinux.is_some() {
        crate::selinux::check_volumes(&input.config)?;
    }
    let folder = &input.rootfs;
    crate::bundle::folder(folder).map_err(|e| Error::internal(format_args!("make {}", folder.display()), &e))
}

/// An empty directory of the container's root: what the image has there brings owners of its own.
fn make_volume(directory: &Path, owner: (u32, u32)) -> Result<()> {
    crate::sandbox::make_dir(directory, 0o755)?;
    std::os::unix::fs::chown(directory, Some(owner.0), Some(owner.1))
        .map_err(|e| Error::internal(format_args!("change the owner of {}", directory.display()), &e))
}

/// What the specification is made of, owned, for the blocking thread.
struct SpecInput {
    shared: Arc<Shared>,
    id: ContainerId,
    record: crate::record::SandboxRecord,
    cgroup: String,
    config: v1::ContainerConfig,
    sandbox: v1::PodSandboxConfig,
    defaults: ImageDefaults,
    image_name: String,
    rootfs: PathBuf,
    volumes: Vec<AnonymousVolume>,
    images: images::Wanted,
    selinux: Option<SelinuxLabels>,
    /// Where they are, once they are mounted.
    places: BTreeMap<usize, PathBuf>,
    bundle: PathBuf,
    container: Arc<ContainerRecord>,
}

/// Makes the specification.
fn make_spec(input: &SpecInput) -> Result<ContainerSpec> {
    let shared = &input.shared;
    // The root file system was made for the sandbox as it is.
    let asked = crate::sandbox::user_namespace(&input.sandbox)?;
    if asked != crate::sandbox::user_namespace(&input.record.config.0)? {
        return Err(Error::invalid("sandbox_config: userns_options are not those of the sandbox"));
    }
    let read = |path: &str| cricket_process::rooted::read_in_root(&input.rootfs, Path::new(path), FILE_LIMIT);
    let optional = |path: &str| match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::caused(ErrorKind::InvalidArgument, format_args!("read {path} of the image"), &e)),
    };
    let (passwd, group) = (optional("etc/passwd")?, optional("etc/group")?);
    let handler = shared.handlers.get(&input.record.handler).map_err(|e| Error::from_kinded("runtime handler", &e))?;
    let profile = cricket_oci::localhost_seccomp_path(&input.config, &shared.config.unset_seccomp_profile)
        .map_err(|e| Error::from_kinded("seccomp profile", &e))?
        .map(|path| crate::seccomp::read(&path, FILE_LIMIT))
        .transpose()?;
    // What the configuration says for all handlers.
    let options = SpecOptions {
        unset_seccomp_profile: shared.config.unset_seccomp_profile.clone(),
        device_ownership_from_security_context: shared.config.device_ownership_from_security_context,
        ..handler.spec_options().clone()
    };
    let pod_dir = shared.pod_dir(&input.record.id);
    let mut spec = cricket_oci::container_spec(&ContainerInput {
        id: &input.id,
        sandbox_id: &input.record.id,
        config: &input.config,
        sandbox: &input.sandbox,
        image: &input.defaults,
        image_name: &input.image_name,
        rootfs: &input.rootfs,
        passwd: passwd.as_deref(),
        group: group.as_deref(),
        files: sandbox_files(&pod_dir, &input.sandbox),
        volumes: input.volumes.clone(),
        images: input.places.clone(),
        selinux: input.selinux.as_ref(),
        namespaces: placeholders(&input.record),
        cgroups_path: input.cgroup.clone(),
        host_name: &shared.host.name,
        host: &shared.host.facts_for(&input.config),
        handler: &options,
        localhost_seccomp: profile.as_deref(),
        mounts: &LivePaths,
    })
    .map_err(|e| Error::from_kinded(format_args!("container {}", input.id), &e))?;
    crate::cdi::inject(shared, handler.as_ref(), &input.config, &mut spec.spec)?;
    Ok(spec)
}

/// Paths of namespaces that only the start knows: the monitor that holds them may be another by then.
fn placeholders(sandbox: &crate::record::SandboxRecord) -> NamespacePaths {
    let later = || Some(PathBuf::from(crate::bundle::LATER));
    NamespacePaths { network: sandbox.netns.clone(), ipc: later(), uts: later(), pid: later(), user: later() }
}

fn resources(config: &v1::ContainerConfig) -> v1::LinuxContainerResources {
    config.linux.as_ref().and_then(|l| l.resources.clone()).unwrap_or_default()
}

fn log_path(sandbox: &v1::PodSandboxConfig, config: &v1::ContainerConfig) -> String {
    if sandbox.log_directory.is_empty() || config.log_path.is_empty() {
        return String::new();
    }
    format!("{}/{}", sandbox.log_directory.trim_end_matches('/'), config.log_path)
}

/// Names of the image for the container's status: kept, since the image may go before the container.
fn image_facts(config: &v1::ContainerConfig, image: &Image) -> ImageFacts {
    let asked = config.image.clone().unwrap_or_default();
    let user = if asked.user_specified_image.is_empty() { &asked.image } else { &asked.user_specified_image };
    // The tag that was asked for where it is one of the image's, else the first.
    let tag = cricket_image::reference::Reference::parse(user).ok().map(|r| r.canonical());
    let tag = tag.filter(|t| image.tags.contains(t)).or_else(|| image.tags.first().cloned());
    ImageFacts {
        name: tag.unwrap_or_else(|| asked.image.clone()),
        user_specified: asked.user_specified_image.clone(),
        reference: image.reference_for(user),
        id: image.id.to_string(),
    }
}
