//! The assembly of a container's specification. Every field is set here or explicitly left out: the types' own
//! defaults (a hostname, no new privileges, other masked paths) are not this crate's.

use std::path::PathBuf;

use cricket_cri_api::v1;
use oci_spec::runtime::{Linux, LinuxResources, Process, Root, Spec, User};

use crate::error::{Error, Result};
use crate::input::ContainerInput;
use crate::output::{ContainerSpec, ResolvedUser};
use crate::paths::clean_absolute;
use crate::{
    annotations, args, caps, devices, env, limits, mounts, namespaces, resources, seccomp, security, user, userns,
};

/// The version of the runtime specification that the result follows.
pub(crate) const OCI_VERSION: &str = "1.1.0";
/// Files are made with the modes that programs ask for, but for writing by others.
const UMASK: u32 = 0o022;

/// The specification of a container.
///
/// # Errors
/// When the request or the image is malformed, or asks for what this host or handler cannot enforce.
pub fn container_spec(input: &ContainerInput<'_>) -> Result<ContainerSpec> {
    let context = input.config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default();
    crate::validate_container(input.config, input.sandbox)?;
    let files = user::Files { passwd: input.passwd, group: input.group };
    let user = user::resolve(&context, &input.image.user, &files)?;
    let mut mounted = mounts::mounts(input, context.privileged, context.readonly_rootfs)?;
    if let Some(maps) = namespaces::sandbox_user_namespace(input.sandbox)? {
        userns::check_user(maps, &user)?;
        userns::fit_terminals(maps, &mut mounted.mounts);
        if namespaces::sandbox_modes(input.sandbox)?.network == v1::NamespaceMode::Node {
            userns::bind_sysfs(&mut mounted.mounts);
        }
    }
    let stop_signal = crate::stop_signal(input.config, input.image)?;

    let mut root = Root::default();
    root.set_path(input.rootfs.to_owned()).set_readonly(Some(context.readonly_rootfs));
    let base = input.handler.base_spec.as_ref();
    let process = process(input, &context, &user)?;
    let id = |value: &Option<v1::Int64Value>| value.as_ref().and_then(|value| u32::try_from(value.value).ok());
    let owner = devices::Owner { uid: id(&context.run_as_user), gid: id(&context.run_as_group) };
    let devices = devices::devices(input, context.privileged, owner)?;
    mounts::bind_devices(&mut mounted.mounts, &devices.binds);
    let linux = linux(input, &context, &process, devices, mounted.rootfs_propagation)?;

    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_mounts(Some(mounted.mounts))
        .set_process(Some(process))
        // Never set: the sandbox's UTS namespace already has the pod's name, and the host's must keep its own.
        .set_hostname(None)
        .set_domainname(None)
        .set_hooks(base.and_then(|base| base.hooks().clone()))
        .set_annotations(Some(annotations::annotations(input)))
        .set_linux(Some(linux));
    Ok(ContainerSpec { spec, user, mounts_to_create: mounted.create, stop_signal })
}

fn process(
    input: &ContainerInput<'_>,
    context: &v1::LinuxContainerSecurityContext,
    user: &ResolvedUser,
) -> Result<Process> {
    let base = input.handler.base_spec.as_ref().and_then(|base| base.process().as_ref());
    let base_env = base.and_then(|base| base.env().clone()).unwrap_or_default();
    let base_rlimits = base.and_then(|base| base.rlimits().clone()).unwrap_or_default();
    // A new UTS namespace begins with the host's name, and so does a pod on the host's network.
    let hostname = if input.sandbox.hostname.is_empty() { input.host_name } else { &input.sandbox.hostname };
    let defaults = env::Defaults { hostname, home: &user.home, tty: input.config.tty };
    let default_caps = input.handler.default_capabilities.as_deref();
    let score = input.config.linux.as_ref().and_then(|linux| linux.resources.as_ref()).map_or(0, |r| r.oom_score_adj);

    let mut credentials = User::default();
    credentials
        .set_uid(user.uid)
        .set_gid(user.gid)
        .set_umask(Some(UMASK))
        .set_additional_gids(Some(user.additional_gids.clone()))
        .set_username(None);
    let mut process = Process::default();
    process
        .set_terminal(Some(input.config.tty))
        .set_console_size(None)
        .set_user(credentials)
        .set_args(Some(args::command_line(input.config, input.image)?))
        .set_command_line(None)
        .set_env(Some(env::environment(input.config, input.image, &base_env, &defaults)?))
        .set_cwd(working_dir(input)?)
        .set_capabilities(Some(caps::capabilities(context, default_caps, &input.host.bounding)?))
        .set_rlimits(Some(limits::rlimits(input.host, &base_rlimits)))
        // An explicit false is an error to some runtimes.
        .set_no_new_privileges(context.no_new_privs.then_some(true))
        .set_apparmor_profile(security::apparmor(context, input.host)?)
        .set_oom_score_adj(Some(limits::oom_score_adj(score, input.host)?))
        .set_selinux_label(security::selinux(context, input.selinux)?.0)
        .set_io_priority(base.and_then(|base| *base.io_priority()))
        .set_scheduler(base.and_then(|base| base.scheduler().clone()))
        .set_exec_cpu_affinity(base.and_then(|base| base.exec_cpu_affinity().clone()));
    Ok(process)
}

/// The request's, the image's, or the root. An image's `..` stays in the root.
fn working_dir(input: &ContainerInput<'_>) -> Result<PathBuf> {
    match (input.config.working_dir.as_str(), input.image.working_dir.as_str()) {
        ("", "") => Ok(PathBuf::from("/")),
        // Docker takes a relative WORKDIR as one below the root.
        ("", image) => clean_absolute("WORKDIR", &format!("/{image}")).map_err(|error| Error::image(error.to_string())),
        (own, _) => clean_absolute("working_dir", own),
    }
}

fn linux(
    input: &ContainerInput<'_>,
    context: &v1::LinuxContainerSecurityContext,
    process: &Process,
    devices: devices::Devices,
    rootfs_propagation: Option<String>,
) -> Result<Linux> {
    let base = input.handler.base_spec.as_ref().and_then(|base| base.linux().as_ref());
    let mut resources = match input.config.linux.as_ref().and_then(|linux| linux.resources.as_ref()) {
        Some(asked) => resources::linux_resources(asked, input.host)?,
        None => LinuxResources::default(),
    };
    let base_resources = base.and_then(|base| base.resources().as_ref());
    resources
        .set_devices(Some(devices.rules))
        .set_pids(base_resources.and_then(|base| *base.pids()))
        .set_block_io(base_resources.and_then(|base| base.block_io().clone()))
        .set_network(base_resources.and_then(|base| base.network().clone()))
        .set_rdma(base_resources.and_then(|base| base.rdma().clone()));
    let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone()).unwrap_or_default();
    let (masked, readonly) = security::hidden_paths(context)?;

    let ids = namespaces::sandbox_user_namespace(input.sandbox)?.map(userns::mappings).transpose()?;
    let (users, groups) = ids.unzip();

    let mut linux = Linux::default();
    linux
        .set_net_devices(None)
        .set_uid_mappings(users)
        .set_gid_mappings(groups)
        // They are the namespaces', and the sandbox has set them.
        .set_sysctl(None)
        .set_resources(Some(resources))
        .set_cgroups_path(Some(PathBuf::from(&input.cgroups_path)))
        .set_namespaces(Some(namespaces::namespaces(input, context.privileged)?))
        .set_devices(Some(devices.nodes))
        .set_seccomp(seccomp::filter(input, &bounding)?)
        .set_rootfs_propagation(rootfs_propagation)
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(readonly))
        .set_mount_label(security::selinux(context, input.selinux)?.1)
        .set_intel_rdt(base.and_then(|base| base.intel_rdt().clone()))
        .set_memory_policy(base.and_then(|base| base.memory_policy().clone()))
        .set_personality(base.and_then(|base| base.personality().clone()))
        .set_time_offsets(None);
    Ok(linux)
}
