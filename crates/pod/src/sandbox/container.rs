//! The pod's first container, for handlers that build the pod out of one (`Handler::needs_sandbox_container`): no image, but
//! cricket's own init in a file system of that one file, which all pods share.
//!
//! It has the pod's ID, a bundle of its own in the pod's folder, and the cgroup that the init of a shared PID namespace has
//! elsewhere. The monitor and the record know it as the pod's init: when it ends, the pod has.

use std::fs::Permissions;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cricket_cgroup::Resources;
use cricket_oci::{NamespacePaths, SandboxInput};
use cricket_runtime::handlers::{LaunchInput, POD_ROOT, SANDBOX_BUNDLE};
use cricket_runtime::monitor::{RunRequest, Supervised};

use super::{INIT, files, host_ipc, make_dir};
use crate::cgroups::{self, Made};
use crate::driver::Held;
use crate::error::{Error, Result};
use crate::record::SandboxRecord;
use crate::shared::{Shared, blocking};

/// What runs in it: the exec helper under this name, told that it is alone.
const PROGRAM: [&str; 2] = ["cricket-init", "alone"];

/// Makes what all pods share of it, where a handler will want it: each pod tries again what fails now. Blocks briefly.
pub(crate) fn prepare(shared: &Shared) {
    if shared.handlers.iter().any(|handler| handler.needs_sandbox_container())
        && let Err(e) = root(shared)
    {
        tracing::warn!(error = %e, "nothing to build pods out of");
    }
}

/// Where the bundle is.
pub(crate) fn bundle(shared: &Shared, sandbox: &SandboxRecord) -> PathBuf {
    shared.pod_dir(&sandbox.id).join(SANDBOX_BUNDLE)
}

/// What the monitor has to run as the pod's first container, in a cgroup to be released when it runs.
pub(crate) async fn request(
    shared: &Arc<Shared>,
    sandbox: &SandboxRecord,
    held: &[Held],
) -> Result<(RunRequest, Made)> {
    let path = shared.cgroups.leaf(&shared.cgroups.parent(&sandbox.config.0), sandbox.id.as_str());
    let held = |name: &str| held.iter().find(|h| h.name == name).map(|h| h.path.clone());
    let namespaces =
        NamespacePaths { network: sandbox.netns.clone(), ipc: held("ipc"), uts: held("uts"), pid: None, user: None };
    let bundle = bundle(shared, sandbox);
    {
        let (shared, sandbox, bundle, path) = (shared.clone(), sandbox.clone(), bundle.clone(), path.clone());
        blocking("make the sandbox's bundle", move || write(&shared, &sandbox, &bundle, &path, namespaces)).await?;
    }
    let handler = shared.handlers.get(&sandbox.handler).map_err(|e| Error::from_kinded("runtime handler", &e))?;
    let made = cgroups::make(shared, &path, &Resources::default(), None).await?;
    let launch = handler.launch_config(&LaunchInput {
        id: sandbox.id.as_str(),
        bundle: &bundle,
        state: &shared.config.state,
        terminal: false,
        cgroup: &made.cgroup,
        seccomp: None,
        sandbox: true,
    });
    let request = RunRequest {
        container: Supervised {
            container: INIT.to_owned(),
            cgroup: Some(crate::driver::monitor_cgroup(&made.cgroup)),
            ..Supervised::default()
        },
        helper: shared.helpers.launch().map_err(|e| Error::internal("duplicate the launcher", &e))?,
        args: vec!["cricket-launch".into(), sandbox.id.to_string()],
        config: crate::exec::memfd_json(&launch)?,
        extra: Vec::new(),
    };
    Ok((request, made))
}

/// What runtimes leave mounted in the pod's folder: gVisor a network namespace without anything.
pub(super) fn unmount_left(pod_dir: &Path) -> Result<()> {
    super::unmount(&pod_dir.join(POD_ROOT).join("null-netns"))
}

/// Has the runtime forget the pod's first container, where there was one; whatever runs of it is killed.
pub(crate) async fn delete(shared: &Arc<Shared>, sandbox: &SandboxRecord) -> Result<()> {
    let bundle = bundle(shared, sandbox);
    // A handler that is not configured any more has nothing that could be asked.
    let Ok(handler) = shared.handlers.get(&sandbox.handler) else { return Ok(()) };
    let Some(order) = handler.delete_config(sandbox.id.as_str(), &bundle, &shared.config.state) else { return Ok(()) };
    if !bundle.join("config.json").exists() {
        return Ok(());
    }
    let shared = shared.clone();
    blocking("delete the sandbox's container", move || crate::oneshot::run(&shared, &order)).await
}

fn write(
    shared: &Shared,
    sandbox: &SandboxRecord,
    bundle: &Path,
    cgroup: &str,
    namespaces: NamespacePaths,
) -> Result<()> {
    let config = &sandbox.config.0;
    let rootfs = root(shared)?;
    let shm = (!host_ipc(config)).then(|| files::shm(&shared.pod_dir(&sandbox.id)));
    let handler = shared.handlers.get(&sandbox.handler).map_err(|e| Error::from_kinded("runtime handler", &e))?;
    let spec = cricket_oci::sandbox_spec(&SandboxInput {
        id: &sandbox.id,
        sandbox: config,
        rootfs: &rootfs,
        args: &PROGRAM,
        hostname: &files::hostname(config, &shared.host.name),
        shm: shm.as_deref(),
        namespaces,
        cgroups_path: cgroup,
        host: &shared.host.facts,
        handler: handler.spec_options(),
    })
    .map_err(|e| Error::from_kinded("the sandbox's container", &e))?;
    make_dir(bundle, 0o700)?;
    crate::bundle::write(bundle, &spec)
}

/// The root file system of all these containers, with the init of this daemon: it is put there once, in place of an
/// earlier daemon's, which its containers keep.
fn root(shared: &Shared) -> Result<PathBuf> {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    let root = shared.config.state.join("sandbox-root");
    if DONE.get() == Some(&root) {
        return Ok(root);
    }
    for name in ["dev/shm", "proc", "sys"] {
        make_dir(&root.join(name), 0o755)?;
    }
    let (program, fresh) = (root.join(PROGRAM[0]), root.join(format!(".{}", uuid::Uuid::new_v4().simple())));
    let helper = format!("/proc/self/fd/{}", shared.helpers.exec.as_raw_fd());
    let copied = std::fs::copy(helper, &fresh)
        .and_then(|_| std::fs::set_permissions(&fresh, Permissions::from_mode(0o755)))
        .and_then(|()| std::fs::rename(&fresh, &program));
    if copied.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    copied.map_err(|e| Error::internal(format_args!("write {}", program.display()), &e))?;
    let _ = DONE.set(root.clone());
    Ok(root)
}
